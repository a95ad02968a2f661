"""Soft labels: the teacher's predictions after each step, as codes over its item vectors."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from foster.models.item_tower import IDS
from foster.models.recommender import TextRecommender
from foster.training.condensed import Condensed, by_window, drawn_items
from foster.training.options import STUDENT


def label_windows(length: int, window: int) -> tuple[tuple[int, int], ...]:
    """Return the whole sequence and, unless ``window`` is 0, windows of that many steps that begin at every step."""
    if window == 0 or window >= length:
        return ((0, length),)
    return ((0, length), *((start, start + window) for start in range(length - window + 1)))


@torch.no_grad()
def with_soft_labels(
    sequences: Condensed,
    teacher: TextRecommender,
    windows: tuple[tuple[int, int], ...],
    generator: torch.Generator | None = None,
    counts: Tensor | None = None,
) -> Condensed:
    """Label every step with the teacher's predictions, and set the recipe of students that learn from such labels.

    With a frozen encoder the teacher's adapter is stored, from which item vectors follow. Otherwise these vectors are,
    as ``keys``: a least-squares map of public features to them loses half of a tuned teacher's quality
    (benchmarks/research.md, 30). Students learn by ``ScoreMatching``.

    Args:
        sequences: without labels.
        teacher: the model whose predictions are labels.
        windows: first step and end of each window that gets labels of its own, see ``label_windows``.
        generator: of the draw of one item for each step of each window among its k stored ones; None for the mixtures
            of the steps.
        counts: ``[V]``, how often items are in the log; draws follow them, plus one. None for uniform draws.
    """
    items, weights = sequences.items.to(teacher.device), sequences.weights.to(teacher.device)
    table, draws = teacher.item_table(), None
    adapter = teacher.tower.item_map()
    if generator is None:
        mixed = torch.einsum("mlkd,mlk->mld", table[items], weights)
        contexts = [mixed[:, start:end] for start, end in windows]
    else:
        # Of similar items, those that users take more often make contexts that are more like theirs.
        chances = torch.ones(sequences.items.shape) if counts is None else counts.float()[sequences.items] + 1
        steps = torch.cat([torch.arange(start, end) for start, end in windows])
        flat = torch.multinomial(chances[:, steps].flatten(0, 1), 1, generator=generator)
        draws = flat.view(len(items), len(steps))
        parts = by_window(draws.to(items.device), windows)
        contexts = [
            table[drawn_items(items[:, start:end], part)] for (start, end), part in zip(windows, parts, strict=True)
        ]
    unit = torch.eye(teacher.options.dim, device=table.device)
    derived = sequences.info["from_real_data"]
    if adapter is None:
        labels = "the teacher's states and item vectors (codes, keys)"
    else:
        own = "" if IDS not in adapter else " and what items have of their own"
        labels = f"the teacher's states and adapter{own} (codes, adapter), with which students of such an adapter start"
    drawn = "" if counts is None else "; their contexts hold items as often as the log does (draws)"
    return replace(
        sequences,
        codes=torch.cat([teacher.scores(teacher.backbone(context), unit) for context in contexts], dim=1).cpu(),
        adapter=None if adapter is None else {name: weights.cpu() for name, weights in adapter.items()},
        keys=table.cpu() if adapter is None else None,
        windows=windows,
        draws=draws,
        # Soft labels leave little to over-fit: on validation students do best without dropout.
        model=sequences.model.model_copy(update={"dropout": 0.0}),
        recipe=STUDENT,
        info={**sequences.info, "from_real_data": f"{derived}; soft labels: {labels}{drawn}"},
    )
