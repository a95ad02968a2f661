"""Numbers in few bits: soft labels in one, two or four, and the weights of a map of items in one or two."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from foster.models.kernels import widened

WHOLE_BITS = 16  # of a number in half precision, which is not packed
LEVELS: dict[int, tuple[float, ...]] = {1: (1.0,), 2: (0.3, 1.0), 4: tuple(float(level) for level in range(8))}
"""What a number can be, in units of its row's scale, on either side of zero. Those of two bits are the best ones for a
normal distribution (Max, IRE Transactions on Information Theory 6, 1960), those of four are even, and zero is one."""
SCALES = {1: 0.8, 2: 1.51}  # of a normal row with those levels, in standard deviations: the best ones again
SWEEPS = 3  # over the numbers of a label; more change nothing


def levels_of(bits: int) -> Tensor:
    """Return all levels of ``bits`` bits, ascending; a stored number is an index into these."""
    above = LEVELS[bits]
    return torch.tensor([-level for level in reversed(above) if level] + list(above))


def rounded(values: Tensor, bits: int) -> Tensor:
    """Return values ``[..., r]`` rounded to levels, each row with a scale of its own, as ``pack`` keeps them."""
    return _levelled(values, _scale(values, bits), bits)[0]


def rounded_for_scores(labels: Tensor, bits: int, covariance: Tensor) -> Tensor:
    """Round labels such that the *scores* that they give change little.

    A label ``y`` scores item v as ``<y, k_v>``, so that an error ``e`` counts as ``e C e``, C the covariance of the
    keys. Numbers are rounded one after another, each given all others (coordinate descent), which has half of the
    error of rounding each by itself (benchmarks/research.md, 68).

    Args:
        labels: ``[n, r]``.
        bits: of a number, 1 or 2.
        covariance: C, ``[r, r]``.

    Returns:
        ``[n, r]``, as ``pack`` keeps them.
    """
    scale, levels = _scale(labels, bits)[:, None], levels_of(bits).to(labels)
    index = _nearest(labels / scale, levels)
    for _ in range(SWEEPS):
        gradient = (scale * levels[index] - labels) @ covariance
        for place in range(labels.shape[1]):
            own = covariance[place, place]
            if own <= 0:
                continue
            before = levels[index[:, place]]
            index[:, place] = _nearest(before - gradient[:, place] / (own * scale[:, 0]), levels)
            gradient += ((levels[index[:, place]] - before) * scale[:, 0])[:, None] * covariance[place]
        found = levels[index] @ covariance
        best = (found * labels).sum(1) / (found * levels[index]).sum(1).clamp(min=torch.finfo(labels.dtype).tiny)
        scale = torch.where(best[:, None] > 0, best[:, None], scale)
    return levels[index] * _half(scale)


def pack(values: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Pack rows ``[..., r]`` into bits; of rows that were rounded to so many nothing is lost.

    Returns:
        uint8 ``[..., ceil(r * bits / 8)]``, and float16 ``[...]``, the scales.
    """
    largest = values.abs().amax(-1)
    index = _levelled(values, largest / LEVELS[bits][-1], bits)[1].to(torch.uint8)
    each = 8 // bits
    index = F.pad(index, (0, -index.shape[-1] % each)).unflatten(-1, (-1, each))
    packed = torch.zeros(index.shape[:-1], dtype=torch.uint8, device=values.device)
    for place in range(each):
        packed |= index[..., place] << (bits * place)
    return packed, _half(largest / LEVELS[bits][-1]).half()


def unpack(packed: Tensor, scales: Tensor, bits: int, width: int) -> Tensor:
    """Return the float rows ``[..., width]`` that ``pack`` was given."""
    places = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    index = (packed[..., None] >> places) & (2**bits - 1)
    levels = levels_of(bits).to(packed.device)
    index = index.flatten(-2)[..., :width].long()
    return levels[index] * widened(scales)[..., None]


def is_packed(packed: Tensor, bits: int, width: int) -> bool:
    """Return whether bytes can be what ``pack`` gives for rows ``[..., width]``.

    They are as many as that takes, what is behind a row is zero, and of four bits one index is never written.
    """
    each = 8 // bits
    if packed.shape[-1] != -(-width // each):
        return False
    behind = packed[..., -1] >> (bits * (width % each)) if width % each else torch.zeros(1)
    return not behind.any() and (bits != 4 or bool((packed & 15).max() < 15 and (packed >> 4).max() < 15))


def _scale(values: Tensor, bits: int) -> Tensor:
    """Return the scale of each row of values ``[..., r]``."""
    if bits in SCALES:
        return values.square().mean(-1).sqrt() * SCALES[bits]
    return values.abs().amax(-1) / LEVELS[bits][-1]


def _levelled(values: Tensor, scale: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return rows rounded with their scales, and the index of each number among the levels."""
    scale, levels = _half(scale)[..., None], levels_of(bits).to(values)
    index = _nearest(values / scale, levels)
    return levels[index] * scale, index


def _half(scale: Tensor) -> Tensor:
    """Return scales as half precision keeps them, none of them zero."""
    return scale.clamp(min=torch.finfo(torch.float16).tiny).half().to(scale)


def _nearest(values: Tensor, levels: Tensor) -> Tensor:
    """Return the index of the nearest of ascending levels."""
    return torch.bucketize(values.contiguous(), (levels[1:] + levels[:-1]) / 2)
