"""Item numbers as a folder keeps them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from foster.condensed.packed_items import MOST, numbers_of, pack_items, unpack_items


def some_items(count: int, n_items: int) -> torch.Tensor:
    """Return items of which few are frequent, and many follow the same ones."""
    rng = np.random.default_rng(0)
    frequent = rng.integers(n_items, size=200)
    return torch.from_numpy(np.concatenate([frequent[start : start + 5] for start in rng.integers(195, size=count)]))


@pytest.mark.parametrize("n_items", [1000, 2**16, 2**16 + 1, 3_000_000])
def test_packed_items_are_smaller_and_the_same(n_items):
    items = some_items(400, n_items)
    packed = pack_items(items, n_items)
    assert packed.dtype == torch.uint8 and packed.ndim == 1
    assert len(packed) < 0.8 * len(items) * numbers_of(n_items).itemsize
    assert torch.equal(unpack_items(packed, len(items), n_items), items)


@pytest.mark.parametrize("items", [torch.arange(3), torch.zeros(100_000, dtype=torch.int64)])
def test_items_that_gain_nothing_or_are_all_alike_stay_as_they_are(items):
    packed = pack_items(items, 10)
    assert packed.dtype == torch.uint16 and torch.equal(packed.long(), items)


def test_packed_items_of_another_number_or_damaged_ones_are_refused():
    items = some_items(400, 1000)
    packed = pack_items(items, 1000)
    for count in (len(items) - 1, len(items) + 1, 2 * len(items), MOST * len(packed) + 1):
        with pytest.raises(ValueError, match=re.escape(f"'items' are not {count} numbers")):
            unpack_items(packed, count, 1000)
    with pytest.raises(ValueError, match="'items' are not"):
        unpack_items(packed[: len(packed) // 2], len(items), 1000)
    for more in (packed[:-5], torch.cat([packed, torch.zeros(8, dtype=torch.uint8)]), torch.cat([packed, packed])):
        with pytest.raises(ValueError, match="'items' are not"):
            unpack_items(more, len(items), 1000)
    other = packed.clone()
    other[0] ^= 255
    with pytest.raises(ValueError, match="'items' cannot be unpacked"):
        unpack_items(other, len(items), 1000)
