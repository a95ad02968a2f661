"""Ranks of targets over the whole catalogue, computed in blocks of users and items."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

USERS = 512  # users a block
ITEMS = 8192  # items a block: a score block is USERS x ITEMS, whatever the catalogue
TIE = 1e-6  # relative difference of float32 scores below which two items are tied

ScoreBlock = Callable[[slice, slice], Tensor]


def rank_targets(
    score: ScoreBlock,
    targets: np.ndarray,
    histories: Sequence[np.ndarray],
    n_items: int,
    *,
    mask_history: bool = True,
    users: int = USERS,
    items: int = ITEMS,
) -> np.ndarray:
    """Rank each user's target among all items: 1 + strictly better ones + half of the tied ones.

    Splitting ties is what keeps a collapsed model, which gives one score to all items, from looking perfect.

    Args:
        score: gives scores ``[users, items]`` for a slice of users and one of items.
        targets: ``[U]`` item indices.
        histories: the items of each user's history, which ``mask_history`` takes out of the ranking, the target
            excepted.
        n_items: size V of the catalogue.
        mask_history: whether items of the history are left out.
        users: users a block. Blocks set memory and speed, not the result.
        items: items a block.

    Returns:
        float64 ``[U]``; a rank is a multiple of a half.
    """
    out = np.empty(len(targets))
    for start in range(0, len(targets), users):
        rows = slice(start, min(start + users, len(targets)))
        better, tied = _counts(score, rows, targets[rows], histories[rows] if mask_history else [], n_items, items)
        out[rows] = (1 + better.double() + tied.double() / 2).cpu().numpy()
    return out


def _counts(
    score: ScoreBlock,
    rows: slice,
    targets: np.ndarray,
    histories: Sequence[np.ndarray],
    n_items: int,
    items: int,
) -> tuple[Tensor, Tensor]:
    """Count the items above and beside the target for one block of users."""
    blocks = [slice(at, min(at + items, n_items)) for at in range(0, n_items, items)]
    n = rows.stop - rows.start
    own = np.full(n, np.nan, dtype=np.float32)
    for block in blocks:
        inside = np.flatnonzero((targets >= block.start) & (targets < block.stop))
        if len(inside):
            scores = score(rows, block)
            own[inside] = scores[inside, targets[inside] - block.start].float().cpu().numpy()
    better = tied = torch.zeros(())
    for block in blocks:
        scores = score(rows, block)
        target = torch.from_numpy(own).to(scores.device)[:, None]
        margin = TIE * target.abs().clamp(min=1e-3)
        ignored_rows, ignored_items = _ignored(targets, histories, block)
        scores[ignored_rows, ignored_items] = -torch.inf
        # Not better is what has to be shown: a model that diverged to NaN would else rank every target first.
        better = better + (~(scores <= target + margin)).sum(1)
        tied = tied + ((scores - target).abs() <= margin).sum(1)
    return better, tied


def _ignored(targets: np.ndarray, histories: Sequence[np.ndarray], block: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of a score block that do not count: the target itself and the masked history."""
    rows = np.arange(len(targets))
    if histories:
        rows = np.concatenate([rows, np.repeat(rows, [len(history) for history in histories])])
        items = np.concatenate([targets, *histories])
    else:
        items = targets
    inside = (items >= block.start) & (items < block.stop)
    return rows[inside], items[inside] - block.start
