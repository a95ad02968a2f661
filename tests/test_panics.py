"""Panics of polars, which are no Exceptions, end in one line."""

import polars as pl
import pytest
from polars.exceptions import PanicException

from foster.artefacts import read_parquet
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
