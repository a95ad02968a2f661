"""Herding and K-Center against their definitions and, on small sets, against the optimum."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from foster.coresets.geometric import herd, herding, kcenter, kcenter_greedy
from foster.coresets.pool import Pool
from foster.data.histories import Histories
from foster.engine import Engine
from small_models import small_recommender


def points(n: int, seed: int, d: int = 3) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def radius(x: torch.Tensor, picks: list[int]) -> float:
    return (x[:, None] - x[None, picks]).norm(dim=-1).min(1).values.max().item()


@pytest.mark.parametrize("seed", range(5))
def test_herding_follows_its_formula(seed):
    x = points(30, seed)
    rows, mean, expected = x.double().numpy(), x.double().mean(0).numpy(), []
    for i in range(30):
        total = rows[expected].sum(0)
        gaps = {j: np.linalg.norm((i + 1) * mean - total - rows[j]) for j in range(30) if j not in expected}
        expected.append(min(gaps, key=gaps.get))
    assert herd(x, 30).tolist() == expected


def test_herding_keeps_the_mean_better_than_chance():
    x, rng = points(200, 0, d=8), np.random.default_rng(0)

    def gap(picks):
        return (x[picks].mean(0) - x.mean(0)).norm().item()

    chance = [gap(rng.choice(200, 10, replace=False)) for _ in range(100)]
    assert gap(herd(x, 10)) < min(chance)


@pytest.mark.parametrize("budget", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_kcenter_is_within_twice_the_optimum(seed, budget):
    x = points(12, seed)
    best = min(radius(x, list(picks)) for picks in combinations(range(12), budget))
    assert radius(x, kcenter_greedy(x, budget).tolist()) <= 2 * best + 1e-6


def test_kcenter_starts_in_the_middle_and_goes_on_with_the_farthest():
    x = torch.tensor([[0.0], [10.0], [4.0], [5.0]])  # mean 4.75
    assert kcenter_greedy(x, 4).tolist() == [3, 0, 1, 2]
    assert kcenter_greedy(x - 100, 4).tolist() == [3, 0, 1, 2]


@pytest.mark.parametrize("method", [herd, kcenter_greedy])
def test_equal_rows_are_picked_once_each(method):
    picks = method(points(3, 0).repeat(4, 1), 12)
    assert picks.dtype == np.int64
    assert sorted(picks.tolist()) == list(range(12))


@pytest.mark.parametrize(("method", "rule"), [(herding, herd), (kcenter, kcenter_greedy)])
def test_features_are_the_normalised_states_of_the_teacher(method, rule):
    model, rng = small_recommender(), np.random.default_rng(3)
    with torch.no_grad():  # as made, the last norm gives all states the same length
        model.backbone.norm.bias.normal_(generator=torch.Generator().manual_seed(0))
    histories = [rng.integers(0, 40, rng.integers(2, 11)) for _ in range(50)]
    pool = Pool(None, Histories.of(histories), 6, rng, 0, model.encoder, model.options, Engine("cpu"), model)
    states = torch.stack([model.last_states([history], model.item_table())[0] for history in histories])
    assert method(pool).tolist() == rule(states / states.norm(dim=1, keepdim=True), 6).tolist()
