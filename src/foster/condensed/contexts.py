"""Contexts: the windows of sequences, and what the steps in a window are."""

from __future__ import annotations

import torch
from torch import Tensor

Windows = tuple[tuple[int, int], ...]
"""First step and end of each window; the first one is the whole sequence, the others have one length."""

Steps = tuple[slice | Tensor, slice | Tensor]
"""Where steps are: an index into the first two dimensions, sequence and step."""


def label_windows(length: int, window: int) -> Windows:
    """Return the whole sequence and, unless ``window`` is 0, windows of that many steps that begin at every step."""
    if window == 0 or window >= length:
        return ((0, length),)
    return ((0, length), *((start, start + window) for start in range(length - window + 1)))


def by_window(values: Tensor, windows: Windows) -> tuple[Tensor, ...]:
    """Split values ``[M, P, ...]`` of the labels into those of each window."""
    return values.split([end - start for start, end in windows], dim=1)


def drawn_items(items: Tensor, draws: Tensor) -> Tensor:
    """Return one item of each step, ``[m, l]``: that which ``draws`` ``[m, l]`` names in ``items`` ``[m, l, k]``."""
    return items.gather(-1, draws[..., None])[..., 0]


def step_vectors(table: Tensor, items: Tensor, weights: Tensor, draws: Tensor | None = None) -> Tensor:
    """Return what a model with fixed item vectors reads of steps, ``[m, l, d]``.

    Of each step that is the vector of the item that was drawn for it or, without draws, the mixture of its items. The
    labeller and the student both ask here.

    Args:
        table: item vectors ``[V, d]``.
        items: ``[m, l, k]`` item indices.
        weights: ``[m, l, k]``, summing to 1.
        draws: ``[m, l]``, which of its k items each step is.
    """
    if draws is not None:
        return table[drawn_items(items, draws)]
    return torch.einsum("mlkd,mlk->mld", table[items], weights)
