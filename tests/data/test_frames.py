"""Frames of Python objects give what the same table gives through CSV."""

import datetime as dt
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from foster.data.readers import open_table
from foster.errors import InputError


def words(value):
    return open_table(pd.DataFrame({"a": pd.Series([value, "x"], dtype=object)})).read()["a"][0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1984, "1984"),
        (np.int64(1984), "1984"),
        (1.5, "1.5"),
        (True, "True"),
        (None, None),
        (float("nan"), None),
        (pd.NA, None),
        (pd.NaT, None),
        (Decimal("2.50"), "2.50"),
        (b"ab", "ab"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (dt.datetime(2020, 9, 13, 12), "2020-09-13 12:00:00"),
        (["a", 1, 1.5, None], '["a", 1, 1.5, null]'),
        (np.array(["a", "b"]), '["a", "b"]'),
        (("a", ["b"]), '["a", ["b"]]'),
        ({"b", "a"}, '["a", "b"]'),
        ({"k": "v"}, '{"k": "v"}'),
    ],
)
def test_objects_are_words(value, expected):
    assert words(value) == expected


def test_objects_of_polars_are_words():
    frame = pl.DataFrame({"a": pl.Series([uuid.UUID(int=1), None], dtype=pl.Object)})
    assert open_table(frame).read()["a"].to_list() == ["00000000-0000-0000-0000-000000000001", None]
    assert open_table(frame.lazy()).read()["a"].to_list() == ["00000000-0000-0000-0000-000000000001", None]


def test_a_named_index_of_pandas_is_a_column():
    frame = pd.DataFrame({"item_id": ["a", "b"], "title": ["x", "y"]}).set_index("item_id")
    assert open_table(frame).read().rows() == [("a", "x"), ("b", "y")]
    assert open_table(pd.DataFrame({"a": [1]}, index=[7])).columns == ["a"]
    assert open_table(pd.DataFrame({"a": [1]}, index=pd.to_datetime(["2020-01-01"]))).columns == ["index", "a"]
    with pytest.raises(InputError, match="its index holds words without a name"):
        open_table(pd.DataFrame({"a": [1]}, index=["u1"]))


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(InputError, match="column 'a' holds bytes in row 2 that are not UTF-8"):
        open_table(pd.DataFrame({"a": [b"x", b"\xff\xfe"]}))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "column 'a' is there twice; rename one"),
        (
            pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]),
            "column 'a' is there twice; rename one",
        ),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "columns have several levels"),
    ],
)
def test_columns_must_have_one_name_each(frame, said):
    with pytest.raises(InputError, match=said):
        open_table(frame)


def test_columns_with_numbers_for_names_and_nullable_types():
    frame = pd.DataFrame({0: pd.array([1, None], dtype="Int64"), "b": pd.Categorical(["x", None])})
    assert open_table(frame).read().to_dict(as_series=False) == {"0": [1, None], "b": ["x", None]}
