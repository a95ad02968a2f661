import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foster.data import core
from foster.data.core import count_numbers, k_core_mask

logs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60)


def brute_force(log, k):
    """Drop one row at a time as long as its user or item has fewer than k rows."""
    rows = list(range(len(log)))
    while True:
        users = [log[row][0] for row in rows]
        items = [log[row][1] for row in rows]
        bad = [row for row in rows if users.count(log[row][0]) < k or items.count(log[row][1]) < k]
        if not bad:
            return rows
        rows.remove(bad[0])


def masked(log, k):
    users, items = np.array(log, dtype=np.int64).reshape(-1, 2).T
    return np.flatnonzero(k_core_mask(users, items, k)).tolist()


@given(logs, st.integers(0, 5))
def test_equals_brute_force(log, k):
    assert masked(log, k) == brute_force(log, k)


@given(logs, st.integers(1, 4))
def test_the_core_of_a_core_is_itself(log, k):
    core = [log[row] for row in masked(log, k)]
    assert masked(core, k) == list(range(len(core)))


def test_a_chain_is_followed_to_its_end():
    # User 0 is too short; without it item 1 is, then user 1, then item 2, and so on.
    chain = [(n, n) for n in range(50)] + [(n, n + 1) for n in range(49)]
    assert masked(chain, 2) == []


def test_0_and_1_keep_everything():
    log = [(0, 0), (1, 2)]
    assert masked(log, 0) == masked(log, 1) == [0, 1]


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 12))
def test_numbers_are_counted_as_numpy_does(numbers, minlength):
    numbers = np.array(numbers, dtype=np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "_CHUNK", 4)
        assert count_numbers(numbers, minlength).tolist() == np.bincount(numbers, minlength=minlength).tolist()


def test_counting_copies_no_log():
    numbers = np.zeros(5 * core._CHUNK, dtype=np.int32)
    tracemalloc.start()
    try:
        assert count_numbers(numbers).tolist() == [len(numbers)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * 8 * core._CHUNK  # numpy makes int64 of what it counts
