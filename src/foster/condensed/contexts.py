"""Contexts: the windows of sequences, and what the steps in a window are."""

from __future__ import annotations

import torch
from torch import Tensor

Windows = tuple[tuple[int, int], ...]
"""First step and end of each window. All have one length, but that the first one may be the whole sequence."""

Steps = tuple[slice | Tensor, slice | Tensor]
"""Where steps are: an index into the first two dimensions, sequence and step."""


def label_windows(length: int, window: int) -> Windows:
    """Return the whole sequence and, unless ``window`` is 0, windows of that many steps that begin at every step."""
    if window == 0 or window >= length:
        return ((0, length),)
    return ((0, length), *((start, start + window) for start in range(length - window + 1)))


def tiles(length: int, window: int) -> Windows:
    """Return windows of so many steps one after another, which share none; ``window`` divides ``length``."""
    return tuple((start, start + window) for start in range(0, length, window))


def short_windows(windows: Windows, length: int) -> Windows:
    """Return the windows of sequences of ``length`` steps without that of the whole, if there is one."""
    return windows[1:] if windows[:1] == ((0, length),) else windows


def by_window(values: Tensor, windows: Windows) -> tuple[Tensor, ...]:
    """Split values ``[M, P, ...]`` of the labels into those of each window."""
    return values.split([end - start for start, end in windows], dim=1)


def drawn_items(items: Tensor, draws: Tensor) -> Tensor:
    """Return one item of each step, ``[m, l]``: that which ``draws`` ``[m, l]`` names in ``items`` ``[m, l, k]``."""
    return items.gather(-1, draws[..., None])[..., 0]


def window_items(items: Tensor, draws: Tensor, windows: Windows) -> list[Tensor]:
    """Return the items ``[M, W]`` that were drawn for the steps of each window.

    Args:
        items: ``[M, L, k]`` of the sequences.
        draws: ``[M, P]``, which of its k items each step of the windows one after another is.
        windows: of the draws.
    """
    parts = by_window(draws, windows)
    return [drawn_items(items[:, start:end], part) for (start, end), part in zip(windows, parts, strict=True)]


def mixtures(vectors: Tensor, weights: Tensor) -> Tensor:
    """Return the mixture of each step's items, ``[m, l, d]``, of their vectors ``[m, l, k, d]`` and ``[m, l, k]``."""
    return torch.einsum("mlkd,mlk->mld", vectors, weights)
