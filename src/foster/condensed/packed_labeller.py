"""A sequence model in a bit a weight, which makes the labels of sequences: how a folder keeps it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from foster.condensed.codes import is_packed, pack, unpack
from foster.condensed.packed_map import FINE
from foster.models.backbones import backbone_of
from foster.models.options import ModelOptions

Labeller = dict[str, Tensor]
"""Weights of a sequence model by name; ``SCALE``, what its item vectors are multiplied with to be the stored ones,
``[1]``; and of a linear map ``OFFSET``, what is added to every vector that it reads, ``[d]``."""

SCALE, OFFSET = "scale", "offset"
OF_BITS = {1: "matrices", FINE: "places"}
PARTS = (*OF_BITS.values(), "scales", "rest")
OF_KIND = ("backbone", "layers")
"""Options of its shape that may differ from those of students."""
SMALLEST: dict[str, str | int] = {"backbone": "hstu", "layers": 1}
"""Of all sequence models; a unit of HSTU has five matrices, a block of SASRec twelve (benchmarks/research.md, 100)."""
LABELLERS = ("sasrec", "hstu", "ligr")
"""Backbones that are learned well in a bit a weight; a mean has no weights, and GRU4Rec's are not those of layers."""


def rounded_parts(backbone: nn.Module) -> Iterator[tuple[str, nn.Module, str, int]]:
    """Yield what of a sequence model is rounded: name and module, its parameter, and the bits of each weight.

    Matrices of layers have a bit a weight, and what belongs to places or heads has four; the rest stays as it is.
    """
    for name, module in backbone.named_modules():
        for parameter, weights in module.named_parameters(recurse=False):
            if weights.ndim > 1:
                yield name, module, parameter, 1 if isinstance(module, nn.Linear) else FINE


def _bits_and_shapes(options: ModelOptions) -> dict[str, tuple[int | None, torch.Size]]:
    """Return of each weight of a sequence model its bits, None for what is kept as it is, and its shape."""
    with torch.device("meta"):
        backbone = backbone_of(options)
    bits = {f"{name}.{parameter}".removeprefix("."): own for name, _, parameter, own in rounded_parts(backbone)}
    return {name: (bits.get(name), weights.shape) for name, weights in backbone.state_dict().items()}


def labeller_of(backbone: nn.Module, options: ModelOptions) -> Labeller:
    """Return the weights of a sequence model for one that reads no more items than ``options`` says: places are cut.

    Args:
        backbone: the sequence model.
        options: its shape but for ``max_length``, which may be less.
    """
    shapes = {name: shape for name, (_, shape) in _bits_and_shapes(options).items()}
    weights = backbone.state_dict()
    return {name: weights[name][tuple(map(slice, shape))].cpu().clone() for name, shape in shapes.items()}


def pack_labeller(labeller: Labeller, options: ModelOptions) -> dict[str, Tensor]:
    """Return what a folder stores of a labeller that was rounded: few tensors, since each name takes bytes.

    Args:
        labeller: its weights.
        options: its shape.

    Returns:
        ``PARTS``: numbers of a bit, numbers of four, the scales of rows of both, all else in half precision, each one
        weight after another in the order of the model's state; ``SCALE`` and, of a linear map, ``OFFSET``.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in PARTS}
    for name, (bits, _) in _bits_and_shapes(options).items():
        if bits is None:
            parts["rest"].append(labeller[name].half().flatten())
            continue
        packed, scales = pack(labeller[name], bits)
        parts[OF_BITS[bits]].append(packed.flatten())
        parts["scales"].append(scales.flatten())
    more = {OFFSET: labeller[OFFSET].half()} if options.adapter == "linear" else {}
    return {name: torch.cat(found) for name, found in parts.items()} | {SCALE: labeller[SCALE].float()} | more


def unpack_labeller(stored: dict[str, Tensor], options: ModelOptions) -> Labeller:
    """Return the labeller that was packed.

    Raises:
        ValueError: the parts are not those of such a model.
    """
    linear = options.adapter == "linear"
    if other := sorted(stored.keys() ^ {SCALE, *PARTS, *((OFFSET,) if linear else ())}):
        raise ValueError(f"'{other[0]}' of the labeller is {'unknown' if other[0] in stored else 'missing'}")
    scale = stored[SCALE]
    if scale.shape != (1,) or not 0 < float(scale) < float("inf"):
        raise ValueError(f"'{SCALE}' of the labeller is no scale")
    if not ((stored["scales"] >= 0) & stored["scales"].isfinite()).all():
        raise ValueError("'scales' of the labeller are no scales")
    if folded := [name for name in PARTS if stored[name].ndim != 1]:
        raise ValueError(f"'{folded[0]}' of the labeller are no row of numbers")
    left = {name: stored[name] for name in PARTS}

    def take(name: str, shape: tuple[int, ...]) -> Tensor:
        size = math.prod(shape)
        if len(left[name]) < size:
            raise misfit(name)
        out, left[name] = left[name][:size].view(shape), left[name][size:]
        return out

    def misfit(name: str) -> ValueError:
        return ValueError(f"'{name}' of the labeller are not those of {options.backbone} of such a shape")

    out = {SCALE: scale}
    if linear:
        out[OFFSET] = stored[OFFSET].float()
        if out[OFFSET].shape != (options.dim,) or not out[OFFSET].isfinite().all():
            raise misfit(OFFSET)
    for name, (bits, shape) in _bits_and_shapes(options).items():
        if bits is None:
            out[name] = take("rest", shape).float()
            continue
        packed = take(OF_BITS[bits], (*shape[:-1], -(-shape[-1] * bits // 8)))
        if not is_packed(packed, bits, shape[-1]):
            raise misfit(OF_BITS[bits])
        out[name] = unpack(packed, take("scales", shape[:-1]), bits, shape[-1])
    for name, rest in left.items():
        if len(rest):
            raise misfit(name)
    return out
