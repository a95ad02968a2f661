"""Draws of real histories."""

from __future__ import annotations

import numpy as np

from foster.data.histories import Histories
from foster.data.sampling import packed_histories


def test_packed_sequences_are_made_of_pieces_of_histories():
    histories = [np.arange(100 * user, 100 * user + length) for user, length in enumerate([2, 30, 5, 1, 9, 4])]
    packed = packed_histories(Histories.of(histories), 3, 20, 6, np.random.default_rng(0))
    assert packed.shape == (3, 20)
    flat = packed.ravel()
    assert 300 not in flat  # a history of one item says nothing of what follows
    cuts = np.flatnonzero(np.diff(flat) != 1) + 1
    pieces = np.split(flat, cuts)
    for piece in pieces:
        assert len(set(piece // 100)) == 1
    assert max(map(len, pieces)) <= 6


def test_every_history_is_used_before_one_comes_again():
    histories = [np.array([2 * user, 2 * user + 1]) for user in range(50)]
    packed = packed_histories(Histories.of(histories), 10, 10, 5, np.random.default_rng(1))
    assert sorted(packed.ravel()) == list(range(100))


def test_a_log_shorter_than_the_sequences_is_repeated():
    packed = packed_histories(Histories.of([[7], [8]]), 2, 5, 3, np.random.default_rng(2))
    assert packed.shape == (2, 5)
    assert set(packed.ravel()) == {7, 8}
