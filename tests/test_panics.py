"""Panics of polars, which are no Exceptions, end in one line."""

import polars as pl
import pytest
from polars.exceptions import PanicException

from foster.artefacts import read_parquet
from foster.data.dataset import Dataset
from foster.data.readers import open_table
from foster.errors import InputError


def test_a_panic_of_polars_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": ["a"], "item_id": ["b"], "timestamp": [1]}).write_parquet(path)
    table = open_table(path)

    def panic(*args, **more):
        raise PanicException("assertion failed\nstack backtrace")

    monkeypatch.setattr(pl.LazyFrame, "collect", panic)
    with pytest.raises(InputError, match=r"log.parquet: not readable \(assertion failed\); the folder is damaged"):
        read_parquet(path, ["user_id"])
    with pytest.raises(InputError, match=r"log\.parquet: .*assertion failed") as error:
        table.count_distinct("user_id", [])
    assert "\n" not in str(error.value)


# Of no calendar: Polars panics when it hands them on, and Python has no such lengths of time.
DATES = pl.Series([2**31 - 1] * 3, dtype=pl.Int32).cast(pl.Date)
LENGTHS = pl.Series([2**63 - 1] * 3).cast(pl.Duration("ms"))
WITHIN = {
    f"{what} in {where}": column
    for what, values in {"dates": DATES, "lengths": LENGTHS}.items()
    for where, column in {
        "lists": values.to_frame("a").select(pl.concat_list("a")).to_series(),
        "objects": values.to_frame("b").to_struct("a"),
    }.items()
}


@pytest.mark.parametrize("kind", WITHIN)
@pytest.mark.parametrize(
    ("column", "more", "said"),
    [
        ("time", {}, "column 'time': holds values that cannot be read"),
        ("maker", {"text": "maker"}, "column 'maker': holds values that cannot be read"),
        ("maker", {"text": "maker.b"}, "column 'maker': holds values that cannot be read"),
        ("maker", {}, "column 'maker': holds values that cannot be read"),
        ("more", {}, r"no item texts among|columns of words are more \(unreadable\)"),
    ],
)
def test_times_of_no_calendar_within_lists_and_objects_are_one_line(kind, column, more, said, capfd):
    rows = {"user_id": ["u0", "u1", "u1"], "item_id": ["i0", "i0", "i1"], "time": [1, 2, 3], column: WITHIN[kind]}
    with pytest.raises(InputError, match=said) as error:
        Dataset.prepare(pl.DataFrame(rows), k_core=0, **more)
    assert "\n" not in str(error.value)
    assert not capfd.readouterr().err
