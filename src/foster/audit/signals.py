"""What a model, or a folder of soft labels, says of a user's history: the scores that tell members from others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from foster.condensed.contexts import mixtures, window_items
from foster.condensed.labeller import LabelMaker
from foster.condensed.labels import label_keys
from foster.condensed.sequences import Condensed
from foster.data.batches import pad
from foster.data.histories import Histories
from foster.models.recommender import TextRecommender

SCORES = 2**24  # held at once
SHARPNESS = 0.05  # temperature of the cosine by which contexts are likened to an item


@torch.no_grad()
def model_scores(model: TextRecommender, histories: Histories) -> np.ndarray:
    """Return the mean log-odds that a model gives the items of each history after those before them: float64 ``[H]``.

    Args:
        model: a recommender in evaluation mode.
        histories: two items or more each; the last ``max_length + 1`` are read.
    """
    table = model.item_table()

    def scores(items: Tensor, there: Tensor) -> Tensor:
        return model.scores(model.backbone(table[items])[there], table[: model.n_known])

    return _after_each(scores, histories, model.options.max_length, model.n_known, model.device)


def _after_each(
    scores: Callable[[Tensor, Tensor], Tensor], histories: Histories, length: int, known: int, device: torch.device
) -> np.ndarray:
    """Return the mean log-odds of the items of each history after those before them, by what scores them.

    Args:
        scores: of the ``known`` items after those steps of histories ``[n, l]`` of which a mask of that shape is true.
        histories: two items or more each.
        length: the last so many items of each, and what comes after them, are read.
        known: how many items are scored.
        device: of the histories.
    """
    out = np.empty(len(histories))
    order = np.argsort(histories.lengths, kind="stable")
    block = max(1, SCORES // (known * (length + 1)))
    for start in range(0, len(order), block):
        rows = order[start : start + block]
        items = pad(histories[rows], length + 1).to(device)
        there = items[:, 1:] >= 0
        odds = _log_odds(scores(items[:, :-1].clamp(min=0), there), items[:, 1:][there])
        out[rows] = _means(odds, there.sum(1))
    return out


@torch.no_grad()
def label_scores(data: Condensed, model: TextRecommender, histories: Histories) -> np.ndarray | None:
    """Return the mean log-odds that soft labels give the items of each history after the one before: float64 ``[H]``.

    No training: what is expected after an item is the mean of the labels of all contexts whose last item is like it, by
    the cosine of the item vectors that the labels refer to. Where a sequence model makes the labels, it is asked for
    those of the history itself.

    Args:
        data: sequences; None is returned for those without soft labels.
        model: any model of the same items, for its text features.
        histories: two items or more each.
    """
    if not data.labelled:
        return None
    keys = label_keys(data, model).cpu()
    if data.labeller is not None:
        return _by_labeller(data, keys, model.n_known, histories)
    return _by_contexts(data, keys[: model.n_known], histories)


def _by_labeller(data: Condensed, keys: Tensor, known: int, histories: Histories) -> np.ndarray:
    labeller = LabelMaker(data, keys)

    def scores(items: Tensor, there: Tensor) -> Tensor:
        return labeller.labels(keys[items])[there] @ keys[:known].T

    return _after_each(scores, histories, data.model.max_length, known, keys.device)


def _by_contexts(data: Condensed, keys: Tensor, histories: Histories) -> np.ndarray:
    assert data.codes is not None
    at = torch.cat([torch.arange(start, end) for start, end in data.windows])
    if data.draws is None:
        read = mixtures(keys[data.items], data.weights)[:, at]
    else:
        read = keys[torch.cat(window_items(data.items, data.draws, data.windows), dim=1)]
    there = data.valid[:, at]
    contexts, codes = F.normalize(read[there], dim=-1), data.codes[there]
    kept = histories.latest(data.model.max_length + 1)
    items, lengths = torch.from_numpy(kept.joined().astype(np.int64)), kept.lengths
    firsts = torch.ones(len(items), dtype=torch.bool)
    firsts[torch.from_numpy(np.cumsum(lengths)) - 1] = False
    before = items[firsts]
    after = items[firsts.nonzero()[:, 0] + 1]
    odds = torch.empty(len(before))
    order = before.argsort(stable=True)
    distinct, counts = before[order].unique_consecutive(return_counts=True)
    place = 0
    block = max(1, SCORES // max(len(contexts), len(keys)))
    for some, many in zip(distinct.split(block), counts.split(block), strict=True):
        near = torch.softmax(F.normalize(keys[some], dim=-1) @ contexts.T / SHARPNESS, -1)
        scores = (near @ codes) @ keys.T
        rows = order[place : place + int(many.sum())]
        which = torch.repeat_interleave(torch.arange(len(some)), many)
        odds[rows] = _log_odds(scores, after[rows], which)
        place += len(rows)
    return _means(odds, torch.from_numpy(lengths - 1))


def _log_odds(scores: Tensor, targets: Tensor, rows: Tensor | None = None) -> Tensor:
    """Return ``log p / (1 - p)`` of targets ``[n]``, each in its row of scores; row n by default."""
    rows = torch.arange(len(targets), device=scores.device) if rows is None else rows
    total = scores.logsumexp(-1)[rows]
    log = scores[rows, targets].sub(total).clamp(max=-1e-6)
    return log - torch.log(-torch.expm1(log))


def _means(values: Tensor, lengths: Tensor) -> np.ndarray:
    """Return the mean of each of several stretches of values."""
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    sums = torch.zeros(len(lengths), dtype=torch.float64, device=values.device).index_add_(0, rows, values.double())
    out: np.ndarray = (sums / lengths.clamp(min=1)).cpu().numpy()
    return out
