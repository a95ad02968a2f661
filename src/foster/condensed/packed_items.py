"""Item numbers of histories, compressed: how a folder keeps them."""

from __future__ import annotations

import lzma
from typing import Any

import numpy as np
import torch
from torch import Tensor

SMALL = 2**16  # items that two bytes can tell apart
MOST = 64  # numbers that a packed byte stands for at most: a damaged folder cannot fill the memory
MEMORY = 2**27  # bytes with which they can be unpacked
LEAST_WINDOW, MOST_WINDOW = 2**12, 2**26  # bytes in which xz looks for what came before


def numbers_of(n_items: int) -> torch.dtype:
    """Return the type in which a folder stores numbers of so many items."""
    return torch.uint16 if n_items <= SMALL else torch.int32


def pack_items(items: Tensor, n_items: int) -> Tensor:
    """Return item numbers ``[n]`` as a folder stores them: compressed by xz, uint8 ``[bytes]``, where that is smaller.

    Args:
        items: the numbers.
        n_items: of the catalogue.
    """
    numbers = _as_bytes(n_items)
    content = items.numpy().astype(numbers).tobytes()
    filters = _filters(numbers.itemsize, len(content))
    # Checksums stand in the manifest.
    packed = lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=filters)
    if len(packed) >= len(content) or len(items) > MOST * len(packed):
        return items.to(numbers_of(n_items))
    return torch.frombuffer(bytearray(packed), dtype=torch.uint8)


def unpack_items(packed: Tensor, count: int, n_items: int) -> Tensor:
    """Return the item numbers that were packed, int64 ``[count]``.

    No more is unpacked than so many take.

    Args:
        packed: as ``pack_items`` returned it.
        count: how many there are.
        n_items: of the catalogue.

    Raises:
        ValueError: they are no others than so many.
    """
    numbers = _as_bytes(n_items)
    size = count * numbers.itemsize
    if count > MOST * len(packed):
        raise ValueError(f"'items' are not {count} numbers")
    reader = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MEMORY)
    try:
        content = reader.decompress(packed.numpy().tobytes(), max_length=size + 1)
    except lzma.LZMAError as error:
        raise ValueError(f"'items' cannot be unpacked ({error})") from error
    if len(content) != size or not reader.eof or reader.unused_data:
        raise ValueError(f"'items' are not {count} numbers")
    return torch.from_numpy(np.frombuffer(content, dtype=numbers).astype(np.int64))


def _as_bytes(n_items: int) -> np.dtype[Any]:
    """Return how each number is written before it is compressed: as it is stored, the lowest byte first."""
    return np.dtype("<u2" if numbers_of(n_items) is torch.uint16 else "<i4")


def _filters(width: int, size: int) -> list[dict[str, Any]]:
    """Return the filters of xz for numbers of so many bytes, of which there are ``size`` bytes.

    Which byte of its number it is says more of a byte than the one before it does, as the manual of xz has it for such
    data: that saves 2 to 3 % of histories.
    """
    place = width.bit_length() - 1
    window = min(max(1 << size.bit_length(), LEAST_WINDOW), MOST_WINDOW)
    preset = 9 | lzma.PRESET_EXTREME
    return [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": window, "lc": 0, "lp": place, "pb": place}]
