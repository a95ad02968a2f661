"""Stratified random selection."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from foster.coresets.pool import Pool
from foster.coresets.random import history_means, stratified_histories
from foster.data.histories import Histories
from foster.engine import Engine
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions


def pool_of(n: int, budget: int, seed: int = 0) -> Pool:
    """Histories 0, 1, ... of which each is more popular than the one before, in a shuffled order of items."""
    items = np.random.default_rng(5).permutation(2 * n)
    counts = np.empty(2 * n, dtype=np.int64)
    counts[items] = np.arange(2 * n) // 2 + 1
    data = SimpleNamespace(item_counts=lambda: counts)
    rng = np.random.default_rng(seed)
    return Pool(
        data, Histories.of(items.reshape(n, 2)), budget, rng, seed, EncoderOptions(), ModelOptions(), Engine("cpu")
    )


@pytest.mark.parametrize("budget", [1, 2, 7, 10, 13, 20, 59, 60, 62, 63])
@pytest.mark.parametrize("seed", range(3))
def test_budget_is_met_with_distinct_rows(budget, seed):
    rows = stratified_histories(pool_of(63, budget, seed))
    assert rows.dtype == np.int64
    assert len(rows) == len(set(rows.tolist())) == budget
    assert set(rows.tolist()) <= set(range(63))


@pytest.mark.parametrize(("budget", "strata"), [(20, 10), (23, 10), (10, 10), (4, 4)])
def test_quantiles_of_popularity_share_the_budget(budget, strata):
    taken = np.bincount(stratified_histories(pool_of(100, budget)) // (100 // strata), minlength=strata)
    assert taken.min() == budget // strata
    assert taken.max() == -(-budget // strata)


def test_remainders_and_rows_are_drawn():
    drawn = {tuple(sorted(stratified_histories(pool_of(100, 23, seed)) // 10)) for seed in range(5)}
    assert len(drawn) > 1
    assert stratified_histories(pool_of(100, 23, 1)).tolist() == stratified_histories(pool_of(100, 23, 1)).tolist()


def test_popularity_is_the_mean_logarithm_of_the_counts():
    """By the mean count, the history of one bestseller and one rare item would be in the upper stratum."""
    counts = np.array([1, 100, 20, 20])
    data = SimpleNamespace(item_counts=lambda: counts)
    histories = Histories.of([[2, 3], [0, 1]] * 2)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        pool = Pool(data, histories, 2, rng, seed, EncoderOptions(), ModelOptions(), Engine("cpu"))
        low, high = stratified_histories(pool)
        assert low in (1, 3)
        assert high in (0, 2)


def test_the_means_of_histories_have_the_digits_of_one_by_one():
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=500)
    histories = Histories.of([rng.integers(0, 500, length) for length in rng.integers(2, 300, 400)])
    assert history_means(histories, values).tolist() == [values[history].mean() for history in histories]
