"""One evaluator for many models: what it prepares once must give what each evaluation by itself gives."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from foster.data.catalogue import Catalogue
from foster.data.dataset import Dataset
from foster.data.histories import Histories
from foster.data.new_items import withhold
from foster.engine import Engine
from foster.errors import InputError
from foster.evaluation import evaluate as module
from foster.evaluation.evaluate import Evaluator, evaluate, evaluate_popularity
from foster.evaluation.ranks import users_at_once
from foster.models.item_tower import FrozenFeatures
from foster.models.recommender import TextRecommender
from foster.training.loop import LogSource, validation_users, validator
from foster.training.options import TrainOptions
from small_models import small_recommender


def log(items: int = 40) -> Dataset:
    """Return 50 users with six of the items each; the last three items are in no training history."""
    rows = [(f"u{u}", str((3 * u + 5 * t) % (items - 3)), t) for u in range(50) for t in range(6)]
    rows += [("rare", str(i), t) for t, i in enumerate((0, 1, items - 3, items - 2))]
    rows += [("rarer", str(i), t) for t, i in enumerate((2, 1, 0, items - 1))]
    table = pl.DataFrame({"item_id": [str(i) for i in range(items)], "title": [f"item {i}" for i in range(items)]})
    return Dataset.prepare(pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row"), table, k_core=0)


def other_order(model: TextRecommender) -> TextRecommender:
    """Return the same model with its items the other way round."""
    catalogue = Catalogue(model.catalogue.ids[::-1], model.catalogue.texts[::-1])
    features = FrozenFeatures.of(model.tower.features.vectors.flip(0))
    other = TextRecommender(catalogue, model.encoder, model.options, features, model.whitening)
    other.load_trained_state(model.trained_state())
    return other.eval()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_one_evaluator_ranks_any_model_as_an_evaluation_by_itself(split):
    data, first, second = log(), small_recommender(), small_recommender(seed=3)
    evaluator = Evaluator(data, split, users=np.arange(10, 52))
    for model in (first, second, other_order(first), first):
        alone = evaluate(model, data, split, users=np.arange(10, 52))
        np.testing.assert_array_equal(evaluator.ranks(model), alone.ranks)
        assert evaluator.evaluate(model).as_dict() == alone.as_dict()
    np.testing.assert_array_equal(evaluator.ranks(other_order(first)), evaluator.ranks(first))


def test_cold_targets_are_those_of_no_training_history():
    cold = Evaluator(log()).evaluate(small_recommender()).cold
    assert np.flatnonzero(cold).tolist() == [50, 51]


def test_the_data_are_prepared_once_for_all_models_of_a_catalogue(monkeypatch):
    calls = []
    real = module.item_mapping
    monkeypatch.setattr(module, "item_mapping", lambda *arguments: calls.append(1) or real(*arguments))
    data, model = log(), small_recommender()
    check = validator(data, 20, Engine("cpu"))
    values = [check(model), check(model.fresh(5).eval()), check(model)]
    assert len(calls) == 1 and values[0] == values[2] != values[1]
    users = validation_users(data, 20)
    assert values[0] == evaluate(model, data, "validation", users=users).metrics["ndcg@10"]
    assert sum(check.by_group) == pytest.approx(values[2]) and len(check.by_group) == len(users)


def test_users_are_not_gone_through_one_by_one(monkeypatch):
    plain = Histories.__getitem__

    def several(self, index):
        assert not isinstance(index, int | np.integer)
        return plain(self, index)

    monkeypatch.setattr(Histories, "__iter__", None)
    monkeypatch.setattr(Histories, "__getitem__", several)
    data, model = log(), small_recommender()
    source = LogSource(data, TrainOptions(batch_size=16), 5, 0, Engine("cpu"))
    assert source.batch().shape[0] > 1
    for masked in (True, False):
        assert len(Evaluator(data, mask_history=masked).ranks(model)) == data.n_users
    evaluate_popularity(data)
    known, new = withhold(data, 0.2)
    assert 0 < len(new.histories) <= data.n_users and known.n_items < data.n_items


def test_items_that_a_model_learns_of_are_ranked_from_then_on(monkeypatch):
    model, data = small_recommender(), log()
    monkeypatch.setattr(TextRecommender, "_text_features", lambda self, texts: torch.full((len(texts), 12), 9.0))
    evaluator = Evaluator(data)
    before = evaluator.evaluate(model)
    model.add_items(["a text", "another"], ["new", "newer"])
    after = evaluator.evaluate(model)
    assert (before.n_items, after.n_items) == (40, 42)
    np.testing.assert_array_equal(after.ranks, evaluate(model, data).ranks)
    assert (after.ranks >= before.ranks).all() and (after.ranks > before.ranks).any()


def test_items_that_the_model_does_not_know_are_an_error():
    with pytest.raises(InputError, match="2 items are unknown to the model, item_id '40' first"):
        Evaluator(log(42)).ranks(small_recommender())


def test_blocks_of_users_keep_within_memory():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for n_items in (10, 20_000, 10**6, 10**9):
        assert 1 <= users_at_once(n_items, cpu) <= max(1, 2**22 // n_items)
        assert 1 <= users_at_once(n_items, gpu) <= max(1, 2**27 // n_items)
    assert users_at_once(10**6, gpu) > 100
