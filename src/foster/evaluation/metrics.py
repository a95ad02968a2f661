"""Metrics of full ranking: functions of one rank a target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CUTOFFS = (5, 10, 20, 50)
GROUPS = 100  # of users: a standard error from so many is known to 7 %


def metrics_of(ranks: np.ndarray, cutoffs: tuple[int, ...] = CUTOFFS) -> dict[str, float]:
    """Return Recall@K, NDCG@K and MRR@K, averaged over targets.

    With one target a ranking, Recall@K is the hit rate, the ideal DCG is 1, so that NDCG@K is ``1 / log2(rank + 1)``
    for a rank
    within K and 0 otherwise, and MRR@K is ``1 / rank`` in the same way.

    Args:
        ranks: ``[targets]``, the target's rank counted from 1; a half where ties are split.
        cutoffs: the values of K.

    Returns:
        ``{"recall@5": .., "ndcg@5": .., "mrr@5": .., ...}``; zeros for no targets.
    """
    ranks = np.asarray(ranks, dtype=np.float64)
    out: dict[str, float] = {}
    for k in cutoffs:
        hit = ranks <= k
        gains = {"recall": hit * 1.0, "ndcg": ndcg_of_ranks(ranks, k), "mrr": hit / ranks}
        out |= {f"{name}@{k}": float(gain.mean()) if len(ranks) else 0.0 for name, gain in gains.items()}
    return out


def ndcg_of_ranks(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    """Return each target's NDCG@k, ``[targets]``: ``1 / log2(rank + 1)``, or 0 beyond rank k."""
    out: np.ndarray = (ranks <= k) / np.log2(ranks + 1)
    return out


def ndcg_by_group(ranks: np.ndarray, users: np.ndarray, k: int = 10) -> list[float]:
    """Return what each of ``GROUPS`` random groups of users gives to NDCG@k: their sum is NDCG@k.

    With them models are compared without the rank of every user at hand; see ``noise``. Users are dealt to the groups
    by chance, always in the same way, as evenly as can be. Of fewer users each is a group.

    Args:
        ranks: ``[targets]``, as of ``metrics_of``.
        users: ``[targets]``, the user of each.
        k: the cutoff.
    """
    distinct, user = np.unique(users, return_inverse=True)
    group = np.random.default_rng(0).permutation(len(distinct)) % GROUPS
    gains = np.bincount(group[user], ndcg_of_ranks(ranks, k), minlength=min(GROUPS, len(distinct)))
    out: list[float] = (gains / max(len(ranks), 1)).tolist()
    return out


def noise(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return two standard errors, over users, of the difference in NDCG of two models; None of fewer than two groups.

    By the method of random groups (Wolter, Introduction to Variance Estimation, 2007, chapter 2): the groups are
    independent draws of one another's size, so that their variance is that of their sum, divided by their number.

    Args:
        first: of one model, what ``ndcg_by_group`` returns.
        second: of the other, for the same targets.
    """
    if len(first) < 2:
        return None
    difference = np.subtract(first, second)
    return float(2 * np.sqrt(len(difference) * difference.var(ddof=1)))
