"""Metrics as functions of ranks, against an independent implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foster.evaluation.metrics import GROUPS, metrics_of, ndcg_by_group, ndcg_of_ranks, noise
from foster.evaluation.ranks import rank_targets


def test_one_user_by_hand():
    metrics = metrics_of(np.array([3.0]))
    assert metrics["recall@5"] == 1.0
    assert metrics["ndcg@10"] == pytest.approx(1 / math.log2(4))
    assert metrics["mrr@10"] == pytest.approx(1 / 3)
    assert metrics_of(np.array([6.0]))["recall@5"] == 0.0


def test_agrees_with_trec_eval():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    import torch

    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(200, dtype=np.float32), (40, 1)), axis=1)
    targets = rng.integers(0, 200, 40)
    ranks = rank_targets(lambda rows: torch.from_numpy(scores[rows].copy()), targets, [np.array([], int)] * 40, 200)
    ours = metrics_of(ranks)
    judge = pytrec_eval.RelevanceEvaluator(
        {str(u): {str(t): 1} for u, t in enumerate(targets)}, {"recall.5,10,20,50", "ndcg_cut.5,10,20,50", "recip_rank"}
    )
    theirs = judge.evaluate({str(u): {str(i): float(s) for i, s in enumerate(row)} for u, row in enumerate(scores)})
    for k in (5, 10, 20, 50):
        assert ours[f"recall@{k}"] == pytest.approx(np.mean([x[f"recall_{k}"] for x in theirs.values()]))
        assert ours[f"ndcg@{k}"] == pytest.approx(np.mean([x[f"ndcg_cut_{k}"] for x in theirs.values()]))
        mrr = np.mean([x["recip_rank"] if x["recip_rank"] >= 1 / k - 1e-9 else 0.0 for x in theirs.values()])
        assert ours[f"mrr@{k}"] == pytest.approx(mrr)


def test_ties_are_split_and_history_is_masked():
    import torch

    flat = lambda rows: torch.zeros(rows.stop - rows.start, 11)  # noqa: E731
    targets, none = np.array([4, 0]), [np.array([], int)] * 2
    assert rank_targets(flat, targets, none, 11).tolist() == [6.0, 6.0]
    masked = [np.array([1, 2, 4]), np.array([3])]
    assert rank_targets(flat, targets, masked, 11).tolist() == [5.0, 5.5]


def test_a_diverged_model_is_last_and_not_first():
    import torch

    lost = lambda rows: torch.full((rows.stop - rows.start, 100), torch.nan)  # noqa: E731
    ranks = rank_targets(lost, np.array([4, 0]), [np.array([], int)] * 2, 100)
    assert metrics_of(ranks)["recall@50"] == 0.0


@pytest.mark.parametrize("users", [1, 3, 64])
def test_blocks_do_not_change_ranks(users):
    import torch

    rng = np.random.default_rng(1)
    states, table = torch.randn(10, 8), torch.randn(30, 8)
    table[7] = table[3]
    targets = rng.integers(0, 30, 10)
    targets[0] = 3
    histories = [rng.integers(0, 30, 4) for _ in range(10)]
    whole = rank_targets(lambda r: states[r] @ table.T, targets, histories, 30)
    assert whole[0] % 1 == (0.0 if 7 in histories[0] else 0.5)
    blocks = rank_targets(lambda r: states[r] @ table.T, targets, histories, 30, users=users)
    assert np.array_equal(whole, blocks)


def test_groups_of_users_make_up_the_whole():
    rng = np.random.default_rng(0)
    ranks, users = rng.integers(1, 30, 5_000).astype(float), np.sort(rng.integers(0, 2_000, 5_000))
    groups = ndcg_by_group(ranks, users)
    assert len(groups) == GROUPS and sum(groups) == pytest.approx(metrics_of(ranks)["ndcg@10"])
    # All targets of a user are in one group.
    alone = ndcg_by_group(np.where(users == users[0], 1.0, 99.0), users)
    assert np.count_nonzero(alone) == 1 and sum(alone) == pytest.approx((users == users[0]).mean())


def test_noise_of_few_users_is_that_of_their_differences():
    rng = np.random.default_rng(0)
    first, second, users = rng.integers(1, 30, 60).astype(float), rng.integers(1, 30, 60).astype(float), np.arange(60)
    difference = ndcg_of_ranks(first) - ndcg_of_ranks(second)
    expected = 2 * difference.std(ddof=1) / math.sqrt(60)
    assert noise(ndcg_by_group(first, users), ndcg_by_group(second, users)) == pytest.approx(expected)
    assert noise(ndcg_by_group(first[:1], users[:1]), ndcg_by_group(second[:1], users[:1])) is None
    assert noise(ndcg_by_group(first[:0], users[:0]), ndcg_by_group(second[:0], users[:0])) is None
    assert noise(ndcg_by_group(first, users), ndcg_by_group(first, users)) == 0


def test_two_standard_errors_hold_the_true_difference_in_95_of_100_draws_of_users():
    rng, held = np.random.default_rng(0), 0
    levels = np.array([1.0, 3.0, 8.0, 99.0])
    hard, easy = np.array([0.1, 0.2, 0.2, 0.5]), np.array([0.3, 0.2, 0.2, 0.3])
    gains = ndcg_of_ranks(levels)
    true = 0.3 * gains @ (easy - hard)  # of a second model that is better for three users of ten
    for _ in range(400):
        first = levels[rng.choice(4, 3_000, p=hard)]
        second = np.where(rng.random(3_000) < 0.3, levels[rng.choice(4, 3_000, p=easy)], first)
        two = noise(ndcg_by_group(second, np.arange(3_000)), ndcg_by_group(first, np.arange(3_000)))
        difference = (ndcg_of_ranks(second) - ndcg_of_ranks(first)).mean()
        held += abs(difference - true) <= two
    assert 0.92 <= held / 400 <= 0.98
