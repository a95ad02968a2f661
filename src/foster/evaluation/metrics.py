"""Metrics of full ranking: functions of one rank a target."""

from __future__ import annotations

import numpy as np

CUTOFFS = (5, 10, 20, 50)


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
