"""Draws of real histories."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from foster.data.histories import Histories
from foster.data.sampling import packed_histories, shared_walks


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


def test_walks_go_where_many_users_went():
    rng = np.random.default_rng(0)
    histories = Histories.of([rng.integers(12, size=15) for _ in range(25)])
    makers: dict[tuple[int, int], set[int]] = {}
    for user, history in enumerate(histories):
        for pair in itertools.pairwise(history.tolist()):
            makers.setdefault(pair, set()).add(user)
    shared = {pair for pair, users in makers.items() if len(users) >= 5}
    walks = shared_walks(histories, 40, 20, 3, 5, np.random.default_rng(1)).ravel().tolist()
    walk, lengths = [walks[0]], []
    for item in walks[1:]:
        follows = {other for one, other in shared if one == walk[-1]} - set(walk)
        if len(walk) < 3 and follows:
            assert item in follows
            walk.append(item)
        else:  # anything may begin the next walk
            lengths.append(len(walk))
            walk = [item]
    assert max(lengths) == 3 and min(lengths) < 3
    with pytest.raises(ValueError, match="no item has 26 users"):
        shared_walks(histories, 1, 5, 5, 26, rng)


def test_users_count_and_not_how_often_one_of_them_did_it():
    histories = Histories.of([np.array([0, 1, 0, 1, 0, 1]), np.array([0, 2]), np.array([1, 0, 2, 9])])
    walks = shared_walks(histories, 30, 10, 10, 2, np.random.default_rng(0)).ravel().tolist()
    pairs = set(itertools.pairwise(walks))
    assert pairs == {(1, 0), (0, 2), (2, 0), (2, 1), (2, 2)}
