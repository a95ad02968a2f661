"""Coverage, novelty, diversity and popularity of lists, beside their definitions computed one list after another."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import polars as pl
import pytest
import torch

from foster.data.dataset import Dataset
from foster.evaluation.evaluate import evaluate
from foster.evaluation.lists import ListMetrics, seen_shares
from small_models import small_recommender


def test_definitions_by_hand():
    table = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [1.0, 1.0]])
    metrics = ListMetrics(table, np.array([0.5, 0.25, 0.0, 1.0]), np.array([10, 5, 0, 20]), cutoffs=(1, 2, 3))
    metrics.add(torch.tensor([[0, 1, 2], [0, 2, -1]]))
    metrics.add(torch.tensor([[1, -1, -1], [-1, -1, -1]]))  # a short list, and one with nothing
    found = metrics.metrics()
    assert found["coverage@1"] == 2 / 4 and found["coverage@2"] == found["coverage@3"] == 3 / 4
    assert found["novelty@1"] == pytest.approx((0.5 + 0.5 + 0.75) / 3)
    assert found["novelty@3"] == pytest.approx((2.25 / 3 + 1.5 / 2 + 0.75) / 3)
    assert found["popularity@3"] == pytest.approx((5 + 5 + 5) / 3)
    # Distances: 0-1 are 1 apart, 0-2 are 2, 1-2 are 1. A list of one item has no pair.
    assert found["diversity@1"] == 0.0
    assert found["diversity@2"] == pytest.approx((1 + 2) / 2)
    assert found["diversity@3"] == pytest.approx((4 / 3 + 2) / 2)


def test_shares_count_a_user_once():
    users, items = np.array([0, 0, 0, 1, 2]), np.array([1, 1, 2, 1, 0])
    np.testing.assert_allclose(seen_shares(users, items, 4, 4), [1 / 4, 2 / 4, 1 / 4, 0])


@pytest.mark.parametrize("masked", [True, False])
def test_lists_of_an_evaluation_are_those_that_are_recommended(masked):
    rows = [(f"u{u}", str((3 * u + 5 * t) % 37), t) for u in range(20) for t in range(6)]
    items = pl.DataFrame({"item_id": [str(i) for i in range(40)], "title": [f"item {i}" for i in range(40)]})
    log = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")
    data, model = Dataset.prepare(log, items, k_core=0), small_recommender()
    found = evaluate(model, data, mask_history=masked, lists=True)
    assert found.as_dict()["lists"] == found.lists and "lists" not in evaluate(model, data).as_dict()
    histories = [[data.item_ids[i] for i in history] for history in data.histories("test")]
    lists = [[i for i, _ in one] for one in model.recommend(histories, 10, exclude_history=masked)]
    assert found.lists["coverage@10"] == pytest.approx(len({i for one in lists for i in one}) / 40)
    train = [{data.item_ids[i] for i in history} for history in data.histories("train")]
    share = {i: sum(i in own for own in train) / 20 for i in model.catalogue.ids}
    assert found.lists["novelty@10"] == pytest.approx(np.mean([1 - share[i] for one in lists for i in one]))
    counts = dict(zip(data.item_ids, data.item_counts(), strict=True))
    assert found.lists["popularity@10"] == pytest.approx(np.mean([counts.get(i, 0) for one in lists for i in one]))
    unit = torch.nn.functional.normalize(model.item_table(), dim=1)
    distances = [1 - float(unit[int(i)] @ unit[int(j)]) for one in lists for i, j in combinations(one, 2)]
    assert found.lists["diversity@10"] == pytest.approx(np.mean(distances), abs=1e-5)
    assert set(found.lists) == {f"{n}@{k}" for n in ("coverage", "novelty", "diversity", "popularity")
                                for k in (5, 10, 20, 50)}  # fmt: skip
