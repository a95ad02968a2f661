"""Coresets that cover the states of the teacher: herding and K-Center."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from foster.coresets.pool import Pool


def herding(pool: Pool) -> np.ndarray:
    """Choose histories whose mean state is near that of all; int64 ``[budget]`` row numbers. See ``herd``."""
    return herd(_features(pool), pool.budget)


def kcenter(pool: Pool) -> np.ndarray:
    """Choose histories to one of which each state is near; int64 ``[budget]`` row numbers. See ``kcenter_greedy``."""
    return kcenter_greedy(_features(pool), pool.budget)


def herd(features: Tensor, budget: int) -> np.ndarray:
    """Pick rows one by one so that their sum stays nearest to as many times the mean of all (Welling, ICML 2009).

    The rule is DeepCore's (Guo et al., arXiv 2204.08499): with mu the mean and S the rows picked so far, the next is
    ``argmin_j || (|S| + 1) mu - sum_{s in S} x_s - x_j ||`` among the others.

    Args:
        features: ``[U, d]``.
        budget: M, rows to pick, no more than U.

    Returns:
        int64 ``[M]`` distinct row numbers, in the order of the picks.
    """
    mean = features.mean(0)
    missing = torch.zeros_like(mean)
    free = torch.ones(len(features), dtype=torch.bool, device=features.device)
    picks: list[int] = []
    for _ in range(budget):
        missing = missing + mean
        distance = (features - missing).norm(dim=1).masked_fill(~free, torch.inf)
        pick = int(distance.argmin())
        free[pick] = False
        missing = missing - features[pick]
        picks.append(pick)
    return np.array(picks)


def kcenter_greedy(features: Tensor, budget: int) -> np.ndarray:
    """Pick rows one by one, each the farthest from those picked so far (Gonzalez, 1985; Sener and Savarese, ICLR 2018).

    The largest distance of a row to its nearest pick is at most twice the least that is possible with as many picks.
    DeepCore starts at a random row and keeps all M x U distances; this starts at the row nearest to the mean and keeps
    the smallest distance of each row. The time is O(M U d).

    Args:
        features: ``[U, d]``.
        budget: M, rows to pick, no more than U.

    Returns:
        int64 ``[M]`` distinct row numbers, in the order of the picks.
    """
    pick = int((features - features.mean(0)).norm(dim=1).argmin())
    nearest = torch.full((len(features),), torch.inf, device=features.device)
    picks = [pick]
    while len(picks) < budget:
        nearest = torch.minimum(nearest, (features - features[pick]).norm(dim=1))
        nearest[pick] = -1.0  # below every distance: among equal rows none is picked twice
        pick = int(nearest.argmax())
        picks.append(pick)
    return np.array(picks)


def _features(pool: Pool) -> Tensor:
    """Return the teacher's state after each history, L2-normalised, ``[U, d]``."""
    return F.normalize(pool.teacher.states(pool.histories), dim=1)
