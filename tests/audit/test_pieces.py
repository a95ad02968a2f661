import itertools
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foster.audit.pieces import (
    NEAR,
    by_popularity,
    by_transitions,
    describe,
    overlaps,
    references,
    shared_runs,
)
from foster.data.histories import Histories

lists = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=5)


def arrays(sequences):
    return [np.array(sequence) for sequence in sequences]


def runs_of(sequence, n):
    return {tuple(sequence[start : start + n]) for start in range(len(sequence) - n + 1)}


@given(lists, lists)
def test_runs_are_those_that_a_plain_search_finds(sequences, histories):
    found = shared_runs(arrays(sequences), Histories.of(arrays(histories)), 5)
    alone = [0] * len(histories)
    longest = [0] * len(histories)
    for n in range(1, 6):
        visible = set().union(*(runs_of(sequence, n) for sequence in sequences))
        holders = {run: [u for u, history in enumerate(histories) if run in runs_of(history, n)] for run in visible}
        for user in set(itertools.chain(*holders.values())):
            longest[user] = n
        if n > 1:
            assert Counter(found.holders[n - 2].tolist()) == Counter(len(users) for users in holders.values())
            for users in holders.values():
                if len(users) == 1 and alone[users[0]] == 0:
                    alone[users[0]] = n
    assert found.longest.tolist() == longest
    assert found.alone.tolist() == alone


@given(lists, lists)
def test_overlaps_are_those_of_sets(sequences, histories):
    found = overlaps(arrays(sequences), Histories.of(arrays(histories)), 3)
    windows = [s[start : start + 3] for s in sequences for start in range(max(len(s) - 3, 0) + 1)]
    shared = [[len(set(window) & set(history)) for history in histories] for window in windows]
    assert found.most.tolist() == [max(column) for column in zip(*shared, strict=True)]
    wanted = [sum(count >= NEAR * len(set(w)) for count in row) for w, row in zip(windows, shared, strict=True)]
    assert found.near.tolist() == wanted


def test_a_copied_history_is_found_and_pointed_at():
    rng = np.random.default_rng(0)
    histories = Histories.of([rng.integers(50, size=20) for _ in range(30)])
    found = describe([histories[4][3:15]], histories)
    assert found["longest_run"] == 12 and found["near_one"] > 0
    by_length = {row["n"]: row for row in found["runs"]}
    assert by_length[6]["found"] == by_length[6]["one_user"] == 1
    assert by_length[12]["users_with_run"] == 1 <= by_length[12]["users_alone"]
    assert by_length[13]["runs"] == by_length[13]["found"] == 0


def test_references_are_copied_from_nobody():
    rng = np.random.default_rng(0)
    histories = Histories.of([rng.integers(50, size=20) for _ in range(30)])
    like = [histories[0], histories[1][:7]]
    pairs = set().union(*(runs_of(history.tolist(), 2) for history in histories))
    for draw in (by_popularity, by_transitions):
        made = draw(like, histories, rng)
        assert [len(sequence) for sequence in made] == [20, 7]
    walked = runs_of(made[0].tolist(), 2)
    assert len(walked & pairs) > len(walked) / 2  # but where nobody went on
    found = references(like, histories, 0)
    four = {name: part["runs"][2]["found"] for name, part in found.items()}
    assert four["popularity"] <= four["transitions"] < describe(like, histories)["runs"][2]["found"] == 1
