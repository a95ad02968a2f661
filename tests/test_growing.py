"""Tables that grow: what is appended to one is seen by no other."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch

from foster.growing import GrowingRows


def test_tables_share_rows_but_not_what_is_appended():
    first = GrowingRows(torch.zeros(4, 2))
    second = first.appended(torch.ones(1, 2))
    third = second.appended(torch.full((2, 2), 2.0))
    branch = second.appended(torch.full((1, 2), 7.0))
    assert [len(table) for table in (first, second, third, branch)] == [4, 5, 7, 6]
    assert third.rows[:, 0].tolist() == [0, 0, 0, 0, 1, 2, 2]
    assert branch.rows[:, 0].tolist() == [0, 0, 0, 0, 1, 7]
    assert second.rows[:, 0].tolist() == [0, 0, 0, 0, 1]
    assert copy.deepcopy(third) is third


def test_appending_does_not_write_behind_a_part_of_the_callers_tensor():
    whole = torch.zeros(4, 2)
    assert GrowingRows(whole[:3]).appended(torch.ones(1, 2)).rows.sum() == 2
    assert whole.sum() == 0


def test_rows_are_copied_a_few_times_only_however_many_come():
    table, places = GrowingRows(torch.zeros(10, 3)), []
    for number in range(1000):
        table = table.appended(torch.full((1, 3), float(number)))
        places.append(table.rows.untyped_storage().data_ptr())
    assert table.rows[10:, 0].tolist() == list(range(1000))
    assert sum(a != b for a, b in pairwise(places)) <= 12


def test_rows_take_the_number_type_of_the_table():
    table = GrowingRows(torch.zeros(2, 3, dtype=torch.float16)).appended(torch.ones(1, 3))
    assert table.rows.dtype == torch.float16 and table.rows.sum() == 3
