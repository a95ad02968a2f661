"""Times of interactions: numbers as they are, dates and ISO strings as seconds since 1970 (UTC)."""

from __future__ import annotations

import numpy as np
import polars as pl

from foster.errors import InputError

# %.f also matches no fraction at all.
_NAIVE_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d", "%Y-%m-%d %H:%M")
_ZONED_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M%z")


def parse_times(values: pl.Series, where: str) -> np.ndarray:
    """Return the times of all rows as numbers.

    Numbers keep their unit (seconds, milliseconds, days), as only their order counts. Dates and ISO 8601
    strings become seconds; without a time zone they are read as UTC.

    Args:
        values: [n] integers, floats, dates, datetimes, or strings that hold one of these.
        where: the file, for messages.

    Returns:
        [n] int64 where all values are whole numbers, else float64.

    Raises:
        InputError: a value is missing or is no time; names the column, the row and the value.
    """
    times = _numbers(values)
    bad = times.is_null() | times.is_nan() | times.is_infinite() if times.dtype.is_float() else times.is_null()
    if bad.any():
        row = int(bad.arg_max() or 0)
        value = values[row]
        said = "is missing" if value is None else f"holds '{value}', which is neither a number nor an ISO date"
        raise InputError(f"{where}: column '{values.name}' {said} in row {row + 1}; correct the row or remove it")
    numbers = times.to_numpy()
    if numbers.dtype != np.int64 and np.all(numbers == np.rint(numbers)) and np.all(np.abs(numbers) < 2**62):
        return numbers.astype(np.int64)
    return numbers


def _numbers(values: pl.Series) -> pl.Series:
    """Return int64 or float64, null where a value is no time."""
    dtype = values.dtype
    if isinstance(dtype, pl.Date | pl.Datetime):
        return _seconds(values.cast(pl.Datetime("us", dtype.time_zone if isinstance(dtype, pl.Datetime) else None)))
    if dtype.is_integer():
        return values.cast(pl.Int64, strict=False)
    if dtype.is_numeric():
        return values.cast(pl.Float64)
    if not isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return pl.Series(values.name, [None] * values.len(), dtype=pl.Int64)
    words = values.cast(pl.String).str.strip_chars()
    for number in (pl.Int64, pl.Float64):
        numbers = words.cast(number, strict=False)
        if numbers.null_count() == 0:
            return numbers
    # The first value says what the column holds, so that a stray date among numbers is an error, and the
    # reverse.
    if numbers[0] is not None:
        return numbers
    return _iso_seconds(words)


def _iso_seconds(words: pl.Series) -> pl.Series:
    iso = words.str.replace("[Tt]", " ").str.replace("[Zz]$", "+00:00")
    naive = [iso.str.to_datetime(form, strict=False, time_unit="us") for form in _NAIVE_FORMATS]
    zoned = [iso.str.to_datetime(form, strict=False, time_unit="us") for form in _ZONED_FORMATS]
    times = [_seconds(parsed).alias(str(i)) for i, parsed in enumerate(naive + zoned)]
    return pl.DataFrame(times).select(pl.coalesce(pl.all())).to_series()


def _seconds(times: pl.Series) -> pl.Series:
    return times.dt.epoch("us").cast(pl.Float64) / 1e6
