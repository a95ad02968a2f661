"""Histories as places in one flat array."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from foster.data.batches import pad
from foster.data.histories import Histories

ITEMS = np.arange(10, 22, dtype=np.int32)
HISTORIES = Histories(ITEMS, np.array([0, 3, 3, 4, 8]), np.array([3, 3, 4, 8, 12]))
LISTS = [[10, 11, 12], [], [13], [14, 15, 16, 17], [18, 19, 20, 21]]


def lists(histories) -> list[list[int]]:
    return [history.tolist() for history in histories]


def test_a_history_is_a_view_and_several_are_histories():
    assert len(HISTORIES) == 5 and HISTORIES and not HISTORIES[:0]
    assert lists(HISTORIES) == LISTS == lists(HISTORIES[row] for row in range(5))
    assert HISTORIES[3].base is ITEMS and HISTORIES[np.int64(-1)].tolist() == LISTS[-1]
    assert HISTORIES.lengths.tolist() == [3, 0, 1, 4, 4]
    with pytest.raises(IndexError):
        HISTORIES[5]
    chosen = {(1, 4): slice(1, 5, 3), (4, 0, 4): np.array([4, 0, 4]), (0, 3, 4): HISTORIES.lengths > 2}
    for rows, index in chosen.items():
        some = HISTORIES[index]
        assert some.items is ITEMS and lists(some) == [LISTS[row] for row in rows]


def test_cut_joined_and_renumbered():
    assert lists(HISTORIES.latest(2)) == [entries[-2:] for entries in LISTS]
    assert lists(HISTORIES.latest(99)) == LISTS
    order = np.array([4, 1, 0])
    assert HISTORIES[order].joined().tolist() == LISTS[4] + LISTS[0]
    assert HISTORIES[:0].joined().tolist() == []
    numbers = np.arange(22) * 3
    assert lists(HISTORIES[order].renumbered(numbers)) == [[item * 3 for item in LISTS[row]] for row in order]


@pytest.mark.parametrize("length", [1, 3, 9])
def test_a_batch_is_padded_as_arrays_are(length):
    for histories in (HISTORIES, HISTORIES[np.array([2, 0])], HISTORIES[1:2], HISTORIES[:0]):
        padded, one_by_one = pad(histories, length), pad(list(histories), length)
        assert padded.dtype == one_by_one.dtype and torch.equal(padded, one_by_one)


def test_memory_is_three_arrays_however_many_users():
    ends = np.arange(3, 300_001, 3)
    items = np.zeros(300_000, dtype=np.int32)
    tracemalloc.start()
    try:
        histories = Histories(items, ends - 3, ends).latest(2)
        kept = histories[histories.lengths > 1]
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(kept) == 100_000 and held < 40 * len(kept)  # a list of views takes 120 bytes each
