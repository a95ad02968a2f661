"""Data frames in memory (pandas, Polars, Arrow, ...) as Polars frames.

Columns of Python objects come out as they would through a CSV file: numbers and words side by side are words, lists and
dictionaries are JSON text.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl
from narwhals.typing import IntoFrame
from polars.exceptions import PanicException

from foster.errors import InputError
from foster.panics import hushed, refused


def from_frame(source: IntoFrame, name: str) -> pl.LazyFrame:
    """Return the rows of a frame; a named index of pandas becomes columns.

    Args:
        source: any frame that narwhals knows.
        name: what to call it in messages.

    Raises:
        InputError: not a frame, or a column stands twice in it.
    """
    if isinstance(source, pl.LazyFrame):
        if pl.Object not in source.collect_schema().dtypes():
            return source
        source = source.collect()
    if nw.dependencies.is_pandas_dataframe(source):
        return _from_pandas(source, name).lazy()
    if nw.dependencies.is_pyarrow_table(source):
        _once(source.column_names, name)
    try:
        frame = nw.from_native(source)
    except TypeError as error:
        raise InputError(f"{name}: neither a path nor a data frame") from error
    eager: nw.DataFrame[Any] = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
    try:
        with refused(name):
            rows = eager.to_polars()
    except InputError:
        raise
    except Exception as error:  # what the libraries raise has no class in common
        raise InputError(f"{name}: {_unreadable(eager)} of a type that cannot be read ({error}); convert it") from error
    return rows.with_columns(
        _words(column, rows[column].to_list()) for column in rows.columns if rows[column].dtype == pl.Object
    ).lazy()


def _from_pandas(source: Any, name: str) -> pl.DataFrame:
    if source.columns.nlevels > 1:
        raise InputError(f"{name}: its columns have several levels; give them one name each")
    indexes = [level for level in source.index.names if level is not None and level not in source.columns]
    try:
        if indexes:
            source = source.reset_index(level=[level for level in source.index.names if level in indexes])
        elif str(source.index.dtype).startswith("datetime"):
            source = source.rename_axis("index").reset_index()
    except ValueError as error:  # a name that stands twice
        raise InputError(f"{name}: its index cannot become columns ({error}); name it, or drop it") from error
    if not indexes and source.index.name is None and source.index.dtype.kind not in "iu" and len(source):
        raise InputError(f"{name}: its index holds words without a name; make it a column, or drop it (reset_index)")
    names = [str(column) for column in source.columns]
    _once(names, name)
    return pl.DataFrame([_from_pandas_column(source.iloc[:, place], column) for place, column in enumerate(names)])


def _from_pandas_column(values: Any, name: str) -> pl.Series:
    if values.dtype != object:
        # One column at a time, since one that Arrow does not know would hide the others.
        try:
            return nw.from_native(values, series_only=True).to_polars().alias(name)
        except Exception:
            pass
    return _words(name, list(values))


def _words(name: str, values: list[Any]) -> pl.Series:
    words: list[str | None] = []
    for row, value in enumerate(values, start=1):
        try:
            word = _from_object(value)
            words.append(word)
            if word is not None and not word.isascii():
                word.encode()
        except UnicodeDecodeError as error:
            raise InputError(f"column '{name}' holds bytes in row {row} that are not UTF-8; decode them") from error
        except UnicodeEncodeError as error:
            raise InputError(
                f"column '{name}' holds half a surrogate pair in row {row}, which is no character; correct or remove it"
            ) from error
        except Exception as error:  # an object's own code may raise anything; lists may hold themselves
            raise InputError(
                f"column '{name}' holds a {type(value).__name__} in row {row} that cannot be read ({error}); write it "
                "as text"
            ) from error
    return pl.Series(name, words, dtype=pl.String)


def _unreadable(frame: nw.DataFrame[Any]) -> str:
    """Return the column of a frame that cannot be converted, in words."""
    for name in frame.columns:
        try:
            with hushed():
                frame.select(name).to_polars()
        except (Exception, PanicException):
            return f"column '{name}' is"
    return "a column is"


def _from_object(value: Any) -> str | None:
    """Return a Python value as CSV would hold it, or None where it is missing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray | set | frozenset | tuple | list | dict):
        return json.dumps(_plain(value), ensure_ascii=False)
    if isinstance(value, float | Decimal) and math.isnan(value):
        return None
    # pandas has two more ways to say that a value is missing: NA and NaT, which differ from themselves.
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return value.isoformat(sep=" ") if isinstance(value, dt.datetime) else str(value)


def _plain(value: Any) -> Any:
    """Return lists and dictionaries of what JSON knows."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    number = isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    return value if number else _from_object(value)


def _once(names: list[str], where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{where}: column '{name}' is there twice; rename one")
