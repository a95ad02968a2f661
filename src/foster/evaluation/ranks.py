"""Ranks of targets over the whole catalogue, computed in blocks of users."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from foster.data.histories import Histories

USERS = 512  # the most users a block
SCORES = 2**22  # scores held at once, few enough for a cache: with a larger catalogue a block has fewer users
SCORES_OF_ACCELERATORS = 2**27  # half a GiB: they need much work at once, and have no cache of that kind to spare
TIE = 1e-6  # relative difference of float32 scores below which two items are tied

ScoreBlock = Callable[[slice], Tensor]


def users_at_once(n_items: int, device: torch.device) -> int:
    """Return how many users are ranked at once among ``n_items``, at least one; memory is that of their scores, twice.

    On a CPU a block fits into a cache; on an accelerator it is as large as half a GiB.
    """
    if device.type == "cpu":
        return max(1, min(USERS, SCORES // n_items))
    return max(1, SCORES_OF_ACCELERATORS // n_items)


def rank_targets(
    score: ScoreBlock,
    targets: np.ndarray,
    histories: Sequence[np.ndarray],
    n_items: int,
    *,
    mask_history: bool = True,
    users: int | None = None,
) -> np.ndarray:
    """Rank each user's target among all items: 1 + strictly better ones + half of the tied ones.

    Splitting ties is what keeps a collapsed model, which gives one score to all items, from looking perfect.

    Args:
        score: gives new scores ``[users, V]`` for a slice of users.
        targets: ``[U]`` item indices.
        histories: the items of each user's history, which ``mask_history`` takes out of the ranking, the target
            excepted.
        n_items: size V of the catalogue.
        mask_history: whether items of the history are left out.
        users: users a block, which sets memory and speed, not the result; by default as on a CPU.

    Returns:
        float64 ``[U]``; a rank is a multiple of a half.
    """
    users = users or users_at_once(n_items, torch.device("cpu"))
    nothing = np.zeros(len(targets), dtype=np.int64)
    ignored = Histories.of(histories) if mask_history else Histories(nothing, nothing, nothing)
    out = np.empty(len(targets))
    for start in range(0, len(targets), users):
        rows = slice(start, min(start + users, len(targets)))
        out[rows] = _ranks(score(rows), targets[rows], ignored[rows])
    return out


def _ranks(scores: Tensor, targets: np.ndarray, masked: Histories) -> np.ndarray:
    """Rank the targets ``[n]`` in scores ``[n, V]``, which are overwritten where items do not count."""
    rows = np.arange(len(targets))
    target = scores[rows, targets][:, None]
    margin = TIE * target.abs().clamp(min=1e-3)
    ignored_rows = np.concatenate([rows, np.repeat(rows, masked.lengths)])
    scores[ignored_rows, np.concatenate([targets, masked.joined()])] = -torch.inf
    # Counting what is not above keeps a model that diverged to NaN from ranking every target first.
    # Ones and zeros as floats are summed twice as fast as booleans, exactly up to 2^24 items.
    ones = torch.empty(scores.shape, device=scores.device)
    not_better = torch.le(scores, target + margin, out=ones).sum(1)
    worse = torch.lt(scores, target - margin, out=ones).sum(1)
    return (1 + scores.shape[1] - (not_better + worse).cpu().double() / 2).numpy()
