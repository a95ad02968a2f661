"""Soft labels in four bits a number."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 7  # on either side of zero, of the numbers of a stored soft label


def to_four_bits(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Round codes ``[..., r]`` to 15 levels, two numbers a byte: on validation, more labels beat more exact ones.

    Returns:
        uint8 ``[..., ceil(r / 2)]``, and float16 ``[...]``, the step between levels.
    """
    least = torch.finfo(torch.float16).tiny
    scales = (codes.abs().amax(-1) / LEVELS).clamp(min=least).half()
    levels = (codes / scales[..., None].float()).round().clamp(-LEVELS, LEVELS).to(torch.int16) + LEVELS
    levels = F.pad(levels, (0, levels.shape[-1] % 2))
    return (levels[..., ::2] + 16 * levels[..., 1::2]).to(torch.uint8), scales


def from_four_bits(packed: Tensor, scales: Tensor) -> Tensor:
    """Return float codes ``[..., 2 * bytes]`` of what ``to_four_bits`` gave; the last of an odd width is padding."""
    levels = torch.stack([packed % 16, packed // 16], dim=-1).flatten(-2)
    return (levels.float() - LEVELS) * scales[..., None].float()


def is_four_bits(packed: Tensor) -> bool:
    """Return whether bytes are those of levels that ``to_four_bits`` gives."""
    return bool((packed % 16).max() <= 2 * LEVELS and (packed // 16).max() <= 2 * LEVELS)
