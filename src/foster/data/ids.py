"""Ids of users and items: words, each with a number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from foster.data.texts import plain_numbers
from foster.errors import InputError

# What programs write where an id is missing. As an id it would make one user of all strangers.
NO_IDS = (
    "", "nan", "NaN", "NAN", "None", "null", "Null", "NULL", "<NA>", "NaT", r"\N", "N/A", "n/a", "#N/A", "undefined",
    "(not set)", "inf", "-inf",
)  # fmt: skip
_LOST_DIGITS = r"^-?\d\.\d+[eE]\+\d{2,}$"


@dataclass(frozen=True)
class Ids:
    """A column of ids.

    Attributes:
        names: the distinct ids in the order of their first appearance.
        numbers: int32 [n], the place of each row's id in ``names``.
    """

    names: pl.Series
    numbers: np.ndarray


def id_expression(column: str, dtype: pl.DataType) -> pl.Expr:
    """Return what reads a column of ids, so that each distinct one is held once.

    Args:
        column: its name.
        dtype: its type in the table.
    """
    if dtype.is_nested() or dtype.is_temporal() or dtype.is_float() or dtype.is_decimal() or dtype == pl.Object:
        return pl.col(column)
    return pl.col(column).cast(pl.String).cast(pl.Categorical)


def number_categories(values: pl.Series) -> Ids:
    """Number the words of a column of categories as they are; a null has the number -1."""
    codes = values.to_physical()
    distinct = codes.unique(maintain_order=True)
    table = np.zeros(int(codes.max() or 0) + 2 if codes.len() else 1, dtype=np.int32)  # type: ignore[arg-type]
    known = distinct.drop_nulls().to_numpy()
    table[known] = np.arange(len(known), dtype=np.int32)
    missing = len(table) - 1
    table[missing] = -1
    numbers = table[codes.fill_null(missing).to_numpy()]
    # The first row of each code has its word.
    return Ids(values.unique(maintain_order=True).drop_nulls().cast(pl.String).alias(values.name), numbers)


def number_ids(values: pl.Series, where: str) -> Ids:
    """Number the ids of a column.

    Args:
        values: [n] of any type; words as ``id_expression`` reads them.
        where: the table, for messages.

    Raises:
        InputError: an id is missing or no id; names the column, the row and the fix.
    """
    dtype = values.dtype
    if dtype.is_nested() or dtype.is_temporal() or dtype == pl.Object:
        what = "times" if dtype.is_temporal() else "lists or objects"
        raise InputError(f"{where}: column '{values.name}' holds {what}, but ids are needed")
    if dtype.is_float() or dtype.is_decimal():
        values = _whole(values, where)
    if not isinstance(values.dtype, pl.Categorical):
        values = values.cast(pl.String).cast(pl.Categorical)
    ids = number_categories(values)
    names, numbers = ids.names, ids.numbers
    _check(names, numbers, where)
    bare = plain_numbers(names.str.strip_chars())
    if bare.n_unique() < bare.len():  # blanks beside some of them
        once = bare.unique(maintain_order=True)
        places = bare.replace_strict(once, pl.Series(range(once.len()), dtype=pl.Int32)).to_numpy()
        return Ids(once, places[numbers])
    return Ids(bare, numbers)


def _check(names: pl.Series, numbers: np.ndarray, where: str) -> None:
    """Raise InputError for the first row without an id, or with what is none."""
    column = names.name
    stripped = names.str.strip_chars()
    none = stripped.is_in(NO_IDS)
    bad = np.flatnonzero(none.to_numpy()) if none.any() else np.zeros(0, dtype=np.int64)
    row = int(np.argmax(np.isin(numbers, [-1, *bad]))) if len(bad) or (numbers < 0).any() else None
    if row is not None:
        word = names[int(numbers[row])] if numbers[row] >= 0 else ""
        said = f"holds '{word}', a word for no id," if word.strip() else "has no id"
        others = int(np.isin(numbers, [-1, *bad]).sum()) - 1
        more = f" (and in {others:,} other rows)" if others else ""
        raise InputError(f"{where}: column '{column}' {said} in row {row + 1}{more}; fill it in or remove the row")
    floats = stripped.filter(stripped.str.contains(r"^\d+\.0+$")).str.replace(r"\.0+$", "")
    if floats.len() < stripped.len() and floats.is_in(stripped.implode()).any():
        word = floats.filter(floats.is_in(stripped.implode()))[0]
        raise InputError(
            f"{where}: column '{column}' holds both '{word}' and '{word}.0'; write whole numbers in one way"
        )
    if stripped.str.contains(r"^[\[{].*[\]}]$").any():
        raise InputError(f"{where}: column '{column}' holds lists or objects, but ids are needed")
    lost = names.str.contains(_LOST_DIGITS)
    if lost.any():
        word = names.filter(lost)[0]
        raise InputError(
            f"{where}: column '{column}' holds '{word}', an id that a spreadsheet has rounded; write all its digits"
        )


def _whole(values: pl.Series, where: str) -> pl.Series:
    """Return numbers that are whole as integers.

    Raises:
        InputError: a number is not whole, or too great to have kept all its digits.
    """
    name, limit = values.name, 2**24 if values.dtype == pl.Float32 else 2**53
    exact = values.dtype.is_decimal()
    values = values if exact else values.fill_nan(None)
    values = values if exact else values.set(values.is_infinite(), None)
    bad = (values != values.round()) if exact else (values != values.round()) | (values.abs() > limit)
    if bad.any():
        row = int(bad.arg_max() or 0)
        why = "which is not whole" if values[row] != round(values[row]) else "a float that has lost its last digits"
        raise InputError(
            f"{where}: column '{name}' holds {values[row]} in row {row + 1}, {why}; ids must be words or integers"
        )
    return values.cast(pl.Int128 if exact else pl.Int64)
