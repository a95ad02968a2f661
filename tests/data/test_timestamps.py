import datetime as dt

import numpy as np
import polars as pl
import pytest

from foster.data.timestamps import parse_times
from foster.errors import InputError

DAY = 86_400


def parse(values, **kwargs):
    return parse_times(pl.Series("time", values, **kwargs), "log.csv")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 1, 2], [3, 1, 2]),
        (["3", " 1 ", "2"], [3, 1, 2]),
        ([3.0, 1.0], [3, 1]),
        (["1.5e9", "2"], [1_500_000_000, 2]),
        (["1970-01-02", "1970-01-03"], [DAY, 2 * DAY]),
        (["1970-01-02 00:00:01", "1970-01-02T00:01"], [DAY + 1, DAY + 60]),
        (["1970-01-02T00:00:00Z", "1970-01-02T02:00:00+02:00"], [DAY, DAY]),
        ([dt.date(1970, 1, 2)], [DAY]),
        ([dt.datetime(1970, 1, 2, 0, 0, 1)], [DAY + 1]),
        ([dt.datetime(1970, 1, 2, tzinfo=dt.UTC)], [DAY]),
    ],
)
def test_whole_numbers_come_out_as_int64(values, expected):
    found = parse(values)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@pytest.mark.parametrize("values", [[1.5, 2.0], ["1.5", "2"], ["1970-01-01T00:00:01.5", "1970-01-01T00:00:02"]])
def test_fractions_are_kept(values):
    found = parse(values)
    assert found.dtype == np.float64
    assert found.tolist() == [1.5, 2.0]


def test_milliseconds_keep_every_digit():
    assert parse(["1700000000123", "1700000000124"]).tolist() == [1700000000123, 1700000000124]


@pytest.mark.parametrize(
    ("values", "row", "said"),
    [
        (["1", "2", "yesterday"], 3, "holds 'yesterday'"),
        (["1", "1970-01-02"], 2, "holds '1970-01-02'"),
        (["1970-01-02", "5"], 2, "holds '5'"),
        (["soon", "1"], 1, "holds 'soon'"),
        (["1970-13-02"], 1, "holds '1970-13-02'"),
        ([1, None], 2, "is missing"),
        ([1.0, float("nan")], 2, "holds 'nan'"),
        ([1.0, float("inf")], 2, "holds 'inf'"),
        ([True, False], 1, "holds 'True'"),
    ],
)
def test_a_bad_value_is_named_with_its_row(values, row, said):
    with pytest.raises(InputError) as error:
        parse(values)
    message = str(error.value)
    assert message.startswith(f"log.csv: column 'time' {said}")
    assert f"in row {row};" in message
