import datetime as dt
from decimal import Decimal

import polars as pl
import pytest

from foster.data.ids import id_expression, number_ids
from foster.errors import InputError


def read(values, **kwargs):
    frame = pl.DataFrame({"id": pl.Series(values, **kwargs)})
    return number_ids(frame.select(id_expression("id", frame.schema["id"]))["id"], "log.csv")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["b", "a", "b"], ["b", "a"]),
        ([25, 3, 25], ["25", "3"]),
        ([25.0, 3.0, 25.0], ["25", "3"]),
        (["25.0", "3.0", "25.0"], ["25", "3"]),
        (["25.0", "x", "25.0"], ["25.0", "x"]),
        (["0012", "12", "0012"], ["0012", "12"]),
        ([Decimal("25.00"), Decimal(3), Decimal(25)], ["25", "3"]),
        (["2e14979586637155", "x", "2e14979586637155"], ["2e14979586637155", "x"]),
        ([b"u1", b"u2", b"u1"], ["u1", "u2"]),
        ([" u1", "u2 ", "u1"], ["u1", "u2"]),
    ],
)
def test_ids_are_numbered_in_the_order_of_their_first_rows(values, names):
    ids = read(values)
    assert ids.names.to_list() == names
    assert ids.numbers.tolist() == [0, 1, 0]


def test_categories_of_other_columns_do_not_matter():
    pl.Series(["z", "y", "a"], dtype=pl.Categorical)
    assert read(["b", "a", "b"], dtype=pl.Categorical).names.to_list() == ["b", "a"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["a", None], "column 'id' has no id in row 2"),
        (["a", "b", " "], "column 'id' has no id in row 3"),
        (["a", "nan"], "column 'id' holds 'nan', a word for no id, in row 2"),
        (["a", r"\N"], r"column 'id' holds '\N', a word for no id, in row 2"),
        ([1.0, float("nan")], "column 'id' has no id in row 2"),
        ([1.0, 2.5], "column 'id' holds 2.5 in row 2, which is not whole"),
        ([1.0, 1e17], "column 'id' holds 1e+17 in row 2, a float that has lost its last digits"),
        (["1.23457E+12", "1.23458E+12"], "holds '1.23457E+12', an id that a spreadsheet has rounded"),
        (["7", "7.0", "x"], "holds both '7' and '7.0'"),
        (["a", "N/A"], "holds 'N/A', a word for no id"),
        ([1.0, float("inf")], "has no id in row 2"),
        ([["a"], ["b"]], "column 'id' holds lists or objects, but ids are needed"),
        (['{"$oid": "1"}', '{"$oid": "2"}'], "column 'id' holds lists or objects, but ids are needed"),
        ([dt.date(2020, 1, 1)], "column 'id' holds times, but ids are needed"),
    ],
)
def test_what_is_no_id_is_named_with_its_row(values, said):
    with pytest.raises(InputError) as error:
        read(values)
    assert str(error.value).startswith("log.csv: ") and said in str(error.value)
