"""A map of items in one or two bits a weight, and updates of its language model in four: how a folder keeps them."""

from __future__ import annotations

import torch
from torch import Tensor

from foster.condensed.codes import is_packed, pack, rounded, unpack
from foster.models.item_tower import ItemMap
from foster.models.moe import EXPERTS, OF_EXPERTS, RANK, first_ranks, rank_of, with_rank
from foster.text.tuning import Updates
from foster.wording import many

FINE = 4  # bits of the small matrices of experts and of low-rank updates, of which fewer lose much
SCALES = ".scales"  # what the names of the scales of packed rows end with
NOISE = "noise"  # of gates in training; a map that is not trained on has no use for it


def in_words(linear: bool, bits: int, rank: int = RANK) -> str:
    """Return what is said of a map: whether it is a linear one or experts, their rank if it is a low one, and bits."""
    experts = "experts" if rank == RANK else f"experts of rank {rank}"
    return f"{'linear' if linear else experts}, {many(bits, 'bit')} a weight"


def bits_of(name: str, bits: int) -> int | None:
    """Return the bits of each weight of a part of a map of ``bits`` bits, None of one that is kept as it is."""
    if name == "shift":
        return None
    return FINE if name in ("up", "gate") else bits


def rounded_part(name: str, weights: Tensor, bits: int, rank: int = RANK) -> Tensor:
    """Return a part of a map rounded: what belongs to one number of an item vector, or of an expert, has one scale.

    Args:
        name: of the part.
        weights: of it.
        bits: of each weight.
        rank: of experts; the numbers behind it become zero.
    """
    if (own := bits_of(name, bits)) is not None:
        weights = rounded(_rows(name, weights), own)
        weights = weights if name in ("weight", "up") else weights.T
    return weights if rank == RANK else first_ranks(name, weights, rank)


def pack_map(adapter: ItemMap, bits: int) -> dict[str, Tensor]:
    """Return what a folder stores of a map that was rounded; of experts without the ranks that are zero."""
    rank, out = rank_of(adapter) if "up" in adapter else RANK, {}
    for name, whole in adapter.items():
        weights, own = with_rank(name, whole, rank), bits_of(name, bits)
        if own is None:
            out[name] = weights.half()
        elif name != NOISE:
            out[name], out[name + SCALES] = pack(_rows(name, weights), own)
    return out


def unpack_map(stored: dict[str, Tensor], bits: int, features: int) -> ItemMap:
    """Return the map that was packed.

    Args:
        stored: as ``pack_map`` returned it.
        bits: of each weight.
        features: numbers of a text's features.

    Raises:
        ValueError: the parts do not fit one another.
    """
    out: ItemMap = {}
    for name, packed in stored.items():
        own = bits_of(name, bits)
        if name.endswith(SCALES):
            if name.removesuffix(SCALES) not in stored:
                raise ValueError(f"'{name}' are of no part of a map")
            continue
        if own is None:
            out[name] = packed.float()
            continue
        columns = _columns(name, stored, features)
        scales = _scales_of(name, stored)
        if not is_packed(packed, own, columns):
            raise ValueError(f"'{name}' does not fit {columns} numbers of {own} bits")
        rows = unpack(packed, scales, own, columns)
        out[name] = rows if name in ("weight", "up") else rows.T.contiguous()
    if "gate" in out:
        out[NOISE] = torch.zeros_like(out["gate"])
    return _with_all_ranks(out)


def _with_all_ranks(adapter: ItemMap) -> ItemMap:
    """Return a map with zeros in the place of the ranks that are not stored.

    Raises:
        ValueError: the parts of experts are of no rank, or of several.
    """
    found = {name: adapter[name] for name in OF_EXPERTS if name in adapter}
    if any(part.ndim <= OF_EXPERTS[name] for name, part in found.items()):
        raise ValueError("the parts of experts have no rank")
    numbers = {part.shape[OF_EXPERTS[name]] for name, part in found.items()}
    if len(numbers) > 1 or any(n % EXPERTS or not 0 < n <= EXPERTS * RANK for n in numbers):
        raise ValueError("the parts of experts are not of one rank")
    return {**adapter, **{name: with_rank(name, part, RANK) for name, part in found.items()}}


def pack_updates(updates: Updates) -> dict[str, Tensor]:
    """Return what a folder stores of low-rank updates: four bits a number, and a scale for each of the R directions.

    A matrix of an odd width, whose end its bytes would not tell, stays in half precision.
    """
    out = {}
    for name, part in updates.items():
        rows = _directions(name, part)
        if rows.shape[1] % 2:
            out[name] = part.half()
        else:
            out[name], out[name + SCALES] = pack(rows, FINE)
    return out


def unpack_updates(stored: dict[str, Tensor]) -> Updates:
    """Return the updates that were packed.

    Raises:
        ValueError: the parts do not fit one another, or are those of an earlier version.
    """
    out: Updates = {}
    for name, part in stored.items():
        if name.endswith(SCALES):
            if name.removesuffix(SCALES) not in stored:
                raise ValueError(f"'{name}' are of no matrix")
            continue
        if part.dtype != torch.uint8:
            if part.ndim != 2 or _directions(name, part).shape[1] % 2 == 0 or name + SCALES in stored:
                raise ValueError(f"'{name}' is not of {FINE} bits, as an earlier version stored it")
            out[name] = part.float()
            continue
        scales = _scales_of(name, stored)
        if scales.min() < torch.finfo(torch.float16).tiny:  # no row is packed with less
            raise ValueError(f"'{name}' does not fit its scales")
        if not is_packed(part, FINE, width := 2 * part.shape[1]):
            raise ValueError(f"'{name}' is not of {FINE} bits")
        out[name] = _directions(name, unpack(part, scales, FINE, width)).contiguous()
    return out


def _scales_of(name: str, stored: dict[str, Tensor]) -> Tensor:
    """Return the scales of packed rows.

    Raises:
        ValueError: they are missing, or not one for each row.
    """
    packed, scales = stored[name], stored.get(name + SCALES)
    if packed.dtype != torch.uint8 or scales is None or packed.ndim != 2 or len(packed) != len(scales):
        raise ValueError(f"'{name}' does not fit its scales")
    return scales


def _directions(name: str, part: Tensor) -> Tensor:
    """Return ``[R, width]`` of a matrix that goes down to R numbers or up from them, or the matrix of that."""
    return part if "lora_A" in name else part.T


def _columns(name: str, stored: dict[str, Tensor], features: int) -> int:
    """Return how many numbers a packed row has: features of a text, but of ``up`` those of an item."""
    if name != "up":
        return features
    if "base" not in stored:
        raise ValueError("'up' is without 'base'")
    return len(stored["base"])


def _rows(name: str, weights: Tensor) -> Tensor:
    """Return a part such that what has a scale of its own is a row."""
    return weights if name in ("weight", "up") else weights.T.contiguous()
