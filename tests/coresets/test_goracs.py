"""GORACS: its cost, the two stages of its search, and the whole selection."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import polars as pl
import pytest
import torch

pytest.importorskip("ot")

from foster.coresets import goracs as module
from foster.coresets.goracs import cost_matrix, embed, exchange, exchange_scores, goracs, greedy, transport
from foster.coresets.pool import Pool
from foster.data.dataset import Dataset
from foster.data.histories import Histories
from foster.engine import Engine
from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions

SEEDS = range(10)


def random_cost(seed: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, columns)).astype(np.float32)


def best_transport(cost: np.ndarray, budget: int) -> float:
    return min(transport(cost[list(rows)])[0] for rows in itertools.combinations(range(len(cost)), budget))


@pytest.fixture
def pool(tiny_encoder) -> Pool:
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{(u + 3 * t) % 30}", t) for u in range(50) for t in range(int(rng.integers(5, 12)))]
    colours, things = ["red", "green", "blue", "dark", "light"], ["dog", "cat", "boat", "song", "tea", "game"]
    items = pl.DataFrame(
        {"item_id": [f"i{i}" for i in range(30)], "title": [f"{c} {t}" for c in colours for t in things]}
    )
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    data, model = Dataset.prepare(log, items, k_core=0), ModelOptions(dim=8, layers=1, heads=1, max_length=6)
    histories = data.training_histories().latest(model.max_length)
    encoder = EncoderOptions(encoder=str(tiny_encoder))
    return Pool(data, histories, 5, np.random.default_rng(0), 0, encoder, model, Engine("cpu"))


def test_embeddings_are_means_of_unit_length():
    features = torch.tensor([[2.0, 0.0], [0.0, 4.0], [3.0, 4.0]])
    out = embed(Histories.of([[0, 0, 1], [2]]), features)
    means = torch.tensor([[4 / 3, 4 / 3], [3.0, 4.0]])
    torch.testing.assert_close(out, means / means.norm(dim=1, keepdim=True))


def test_cost_of_a_hand_case():
    train, validation = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    half = 2**0.5 / 2  # distances 0, 2 and twice sqrt(2), over 2; less 0.1 and 0.05; from -0.1..0.9 to 0..1
    expected = [[0.0, 1.0], [half + 0.05, half + 0.05]]
    np.testing.assert_allclose(cost_matrix(train, validation, np.array([2.0, 1.0])), expected, atol=1e-6)


def test_equal_costs_are_finite():
    assert not cost_matrix(torch.ones(3, 2), torch.ones(2, 2), np.ones(3)).any()


def test_transport_is_the_best_assignment():
    cost = random_cost(0, 2, 6)
    rows = [[half.count(column) for column in range(6)] for half in itertools.combinations(range(6), 3)]
    best = min(float(cost[np.array(which), np.arange(6)].mean()) for which in rows)
    assert transport(cost)[0] == pytest.approx(best)


@pytest.mark.parametrize("seed", SEEDS)
def test_greedy_adds_the_row_that_helps_most(seed):
    cost = random_cost(seed, 6, 40)  # so many columns that every row keeps some
    chosen: list[int] = []
    for _ in range(3):
        others = [row for row in range(6) if row not in chosen]
        chosen.append(min(others, key=lambda row: cost[[*chosen, row]].min(axis=0).sum()))
    assert greedy(cost, 3).tolist() == chosen


def test_greedy_drops_a_row_that_became_useless():
    places, columns = np.array([5.0, 0.5, 9.5, -0.2]), np.array([0.0, 1.0, 9.0, 10.0])
    cost = np.abs(places[:, None] - columns)
    assert greedy(cost, 2).tolist() == [0, 1]
    assert greedy(cost, 3).tolist() == [1, 2, 3]


@pytest.mark.parametrize("budget", [1, 3, 6])
def test_greedy_fills_the_budget_with_distinct_rows(budget):
    for cost in (random_cost(0, 6, 2), np.ones((6, 4), np.float32)):
        assert len(set(greedy(cost, budget))) == budget


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_are_maxima_over_the_dual_of_a_row(seed):
    cost, chosen, duals = random_cost(seed, 9, 10), np.array([4, 0, 7]), np.array([0.1, -0.3, 0.2])
    for row, found in enumerate(exchange_scores(cost, chosen, duals)):
        gaps = cost[row] - (cost[chosen] - duals[:, None])[chosen != row].min(axis=0)
        best = max(np.minimum(gaps - y, 0).mean() + y / 3 for y in [*gaps, *np.linspace(-2, 2, 101)])
        assert found == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_of_chosen_rows_give_back_the_transport(seed):
    # Strong duality: at the optimal duals of the others, the best dual of a row makes the objective the transport.
    cost, chosen = random_cost(seed, 9, 11), np.array([4, 0, 7])
    value, duals = transport(cost[chosen])
    scores = exchange_scores(cost, chosen, duals)
    for place, row in enumerate(chosen):
        prices = np.delete(cost[chosen] - duals[:, None], place, axis=0).min(axis=0)
        others = np.delete(duals, place).sum() / 3
        assert others + prices.mean() + scores[row] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_exchanges_only_lower_the_transport(seed):
    cost = random_cost(seed, 60, 50)
    chosen, values = exchange(cost, greedy(cost, 5))
    assert all(after < before for before, after in itertools.pairwise(values))
    assert transport(cost[chosen])[0] == values[-1]
    assert len(set(chosen)) == 5


@pytest.mark.parametrize("seed", SEEDS)
def test_exchange_is_near_the_best_of_all_subsets(seed):
    cost = random_cost(seed, 9, 12)
    chosen, values = exchange(cost, np.arange(3))
    swaps = (np.array([*np.delete(chosen, place), row]) for place in range(3) for row in set(range(9)) - set(chosen))
    assert values[-1] <= min(transport(cost[rows])[0] for rows in swaps) + 1e-12
    assert values[-1] <= 1.05 * best_transport(cost, 3)


def test_the_most_promising_pair_comes_first(monkeypatch):
    cost, seen = random_cost(0, 60, 50), []

    def scores_of(cost, chosen, duals):
        np.testing.assert_array_equal(duals, transport(cost[chosen])[1])
        scores = exchange_scores(cost, chosen, duals)
        seen.append((chosen, scores))
        return scores

    monkeypatch.setattr(module, "exchange_scores", scores_of)
    monkeypatch.setattr(module, "CUT", 1)
    exchange(cost, np.arange(5))
    assert len(seen) > 2
    for (chosen, scores), (after, _) in itertools.pairwise(seen):
        others = np.setdiff1d(np.arange(60), chosen)
        assert set(chosen) - set(after) == {chosen[scores[chosen].argmax()]}
        assert set(after) - set(chosen) == {others[scores[others].argmin()]}


def test_exchange_keeps_a_single_row_and_all_rows():
    cost = random_cost(0, 6, 4)
    assert exchange(cost, greedy(cost, 1))[0].tolist() == [int(cost.sum(axis=1).argmin())]
    assert sorted(exchange(cost, np.arange(6))[0]) == list(range(6))


def test_chunks_change_nothing(monkeypatch):
    cost = random_cost(1, 50, 30)
    whole = exchange(cost, greedy(cost, 6))
    monkeypatch.setattr(module, "CHUNK", 7)
    parts = exchange(cost, greedy(cost, 6))
    assert whole[0].tolist() == parts[0].tolist()
    assert whole[1] == parts[1]


def test_selection_is_distinct_and_of_the_seed(pool):
    rows = goracs(pool)
    assert rows.shape == (5,)
    assert len(set(rows)) == 5
    assert rows.min() >= 0
    assert rows.max() < len(pool.histories)
    pool.rng = np.random.default_rng(0)
    assert goracs(pool).tolist() == rows.tolist()


def test_validation_users_come_with_their_targets(pool, monkeypatch):
    monkeypatch.setattr(module, "VALIDATION_USERS", 7)
    seen = module._validation_users(pool)
    known = {tuple(pool.data.sequence(user)[:-1][-6:]) for user in range(pool.data.n_users)}
    assert len(seen) == 7
    assert {tuple(items) for items in seen} <= known


def test_without_pot_it_says_what_to_install(pool, monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(InputError, match=r"goracs needs the package POT; run: pip install 'foster\[baselines\]'"):
        goracs(pool)
