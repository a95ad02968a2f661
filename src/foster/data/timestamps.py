"""Times of interactions: what a column could be, and its values as numbers that can be ordered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from foster.errors import InputError
from foster.panics import refused

DAY_SECONDS = 86_400
# The years 1 to 9999 without their first and last day, which a time zone could push beyond, in seconds since 1970.
_CALENDAR = (-62_135_510_400, 253_402_214_399)
_A_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}
# So many values show which form a column of words has; then all of them are read in this form.
SAMPLE = 1_000

Form = tuple[str, ...]
"""Formats of one way to write times; a column may mix them."""

# %.f also matches no fraction at all.
_ISO: Form = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M:%S%.f%z",
    "%Y-%m-%d %H:%M%z",
    "%Y-%m-%d %I:%M:%S %p",
    "%Y-%m-%d %I:%M %p",
)
_CLOCKS = ("", " %H:%M:%S%.f", " %H:%M", " %I:%M:%S %p", " %I:%M %p")
# These can be read in one way only.
_FORMS: tuple[Form, ...] = (
    _ISO,
    tuple("%m %d, %Y" + clock for clock in _CLOCKS),
    tuple(f"{month} %d, %Y" + clock for month in ("%b", "%B") for clock in _CLOCKS),
    tuple(f"{month} %d %Y" + clock for month in ("%b", "%B") for clock in _CLOCKS),
    tuple(f"%d{sign}{month}{sign}%Y" + clock for month in ("%b", "%B") for sign in " -" for clock in _CLOCKS),
    tuple("%d-%b-%y" + clock for clock in _CLOCKS),
    ("%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z"),
    tuple(f"%d.%m.{year}" + clock for year in ("%Y", "%y") for clock in _CLOCKS),
)
# Of these the day, the month or the year may stand first; the values must show which.
_READINGS: tuple[tuple[Form, ...], ...] = tuple(
    tuple(tuple(date + clock for clock in _CLOCKS) for date in dates)
    for dates in (
        ("%d/%m/%Y", "%m/%d/%Y"),
        ("%d-%m-%Y", "%m-%d-%Y"),
        ("%d/%m/%y", "%m/%d/%y", "%y/%m/%d"),
        ("%d-%m-%y", "%m-%d-%y", "%y-%m-%d"),
    )
)
_ALL_FORMS = (*_FORMS, *(form for readings in _READINGS for form in readings))
_YEAR_1000 = -30_610_224_000 * 10**6  # microseconds since 1970
_CLOCK = r"^\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: [AP]M)?$"
_ZONE = r":\d{2}(?:\.\d+)?[+-]\d{2}:\d{2}$"
_CLOCK_FORMATS = ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
# Long numbers that a spreadsheet has rounded, such as 1.6E+09.
_ROUNDED = r"^-?\d(?:\.\d{1,6})?[eE]\+\d+$"

# Words with a year, and with more of a date or a time of day: dates in a form that we do not know.
_YEAR = r"(?:\b|[_A-Za-z])(?:19|20)\d{2}|\b\d{1,2}[./-]\d{1,2}[./-]\d{2}\b"
_MORE = (
    r"(?i)\d{1,2}[:h]\d{2}|\d{1,2}[./-]\d{1,2}|\d{8}|月|"
    r"\b(?:jan|feb|m[aä]r|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])"
)
_OBJECT_TIME = r'"(?:\$date|(?:\w+_)?(?:date|time|timestamp|datetime|ts|at))"\s*:'

# Numbers in this range are times since 1970, of 1985 to 2100, in one of these units.
_SINCE_1970 = (473_385_600, 4_102_444_800)
_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}

# Dates that are written as numbers.
_WRITTEN = {"yyyymmdd": "%Y%m%d", "yyyymmddhhmm": "%Y%m%d%H%M", "yyyymmddhhmmss": "%Y%m%d%H%M%S"}

Kind = Literal["instant", "day", "clock", "part", "suspect", "unreadable", "none"]

HALF_DAY = "AM or PM"
PARTS = ("year", "month", "day", "hour", "minute", "second")
_PART_LIMITS = {"year": 2200, "month": 12, "day": 31, "hour": 24, "minute": 60, "second": 60}
# They say nothing of the order, alone or with others.
_LOOSE_PARTS = {"week", "weekday", "quarter", "dow", "dayofweek", "dayofyear", "weekofyear", "season"}
_TIME_WORDS = {
    "time", "times", "timestamp", "timestamps", "ts", "date", "dates", "datetime", "dt", "dat", "day", "days", "when",
    "stamp", "epoch", "unix", "created", "occurred", "moment", "t", "hourmin", "hhmm", "hour", "clock",
}  # fmt: skip
# Numbers that are no times since 1970 are times under such names only, or if the last word says timestamp.
_PLAIN_TIMES = {
    "time", "timestamp", "ts", "t", "day", "date", "dt", "datetime", "eventtime", "unixtime", "timestep", "uts",
    "unixreviewtime",
}  # fmt: skip
# They may be the only order that there is.
_ORDER_WORDS = {"sequence", "seq", "step", "position", "order", "turn", "rank", "index"}
_HALF_DAYS = ("AM", "PM", "A.M.", "P.M.")
_DAYS_SINCE_1900 = (30_000, 60_000)  # as spreadsheets count, of 1982 to 2064; the time of day is the fraction
# How long something took is no time at which it happened.
_LENGTH_WORDS = {
    "play", "played", "playing", "playtime", "watch", "watched", "watching", "dwell", "stay", "duration", "spent",
    "elapsed", "runtime", "lifetime", "length", "len", "delta", "gap", "lag", "ago", "since", "timezone", "tz",
    "offset", "zone", "uptime", "downtime", "overtime",
}  # fmt: skip
_NO_TIMES = {"candidate", "update", "mandate", "validate", "sometimes", "anytime"}


@dataclass(frozen=True)
class Look:
    """What a column could be.

    Attributes:
        kind: "instant" (a time), "day" (a date without a time of day), "clock" (a time of day without a date), "part"
            (a year, an hour, ...), "suspect" (values like times under a name that says nothing), "unreadable" (a
            name of times and values that we cannot read) or "none".
        part: which part it is, one of ``PARTS`` or ``HALF_DAY``, or "" for one that orders nothing, such as a weekday.
    """

    kind: Kind
    part: str = ""


def name_words(name: str) -> list[str]:
    """Return the words of a column's name in lower case: of "unixReviewTime", "t_dat" or "time-ms" two or three."""
    parted = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return [word for word in re.split(r"[\W_]+", parted.casefold()) if word]


def named_like_time(name: str) -> bool:
    """Whether a name says that its column holds times."""
    words = name_words(name)
    plain = "".join(words)
    if not words or plain in _NO_TIMES:
        return False
    return (
        bool(set(words) & _TIME_WORDS)
        or words[-1] == "at"
        or plain.endswith(("time", "date", "stamp", "timems", "datetime"))
        or plain.startswith(("time", "date", "unix"))
    )


def look_at(values: pl.Series) -> Look:
    """Judge what a column could be by its name, its type and a sample of its values."""
    dtype, name = values.dtype, values.name
    values = values.drop_nulls()
    unread = Look("unreadable" if named_like_time(name) and dtype != pl.Boolean else "none")
    if values.is_empty() or beyond_calendar(values) is not None:
        return unread
    if isinstance(dtype, pl.Date):
        return Look("day")
    if isinstance(dtype, pl.Datetime):
        local = values if dtype.time_zone is None else values.dt.replace_time_zone(None)
        return Look("day" if _one_clock(local.dt.epoch("us")) else "instant")
    if isinstance(dtype, pl.Time):
        return Look("clock")
    if isinstance(dtype, pl.Duration):
        seconds = values.dt.total_seconds()
        of_a_day = named_like_time(name) and bool(((seconds >= 0) & (seconds < DAY_SECONDS)).all())
        return Look("clock" if of_a_day else "suspect")
    if dtype.is_numeric():
        return _look_at_numbers(name, values.cast(pl.Float64))
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    if isinstance(inner, pl.Struct):
        timed = any(field.name == "$date" or named_like_time(field.name) for field in inner.fields)
        return Look("suspect") if timed else unread
    if not isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return unread
    words = values.cast(pl.String).str.strip_chars()
    words = words.filter(words != "")
    if words.is_empty():
        return unread
    numbers = words.cast(pl.Float64, strict=False)
    if not numbers.has_nulls():
        return _look_at_numbers(name, numbers)
    few = len(words) / 10  # so many may be damaged
    if numbers.null_count() <= few and _look_at_numbers(name, numbers.drop_nulls()).kind != "none":
        return Look("unreadable")
    if _plain_clocks(words).str.contains(_CLOCK).all():
        return Look("clock")
    if words.str.to_uppercase().is_in(_HALF_DAYS).all():
        return Look("unreadable", HALF_DAY)
    plain = _plain_words(words)
    for form in _ALL_FORMS:
        times = _microseconds(plain, form)
        if 0 < times.null_count() <= few:
            return Look("unreadable")
        if not times.has_nulls():
            clock = (
                words.str.contains(r"\d:\d").any() and not words.str.contains(r"[ T]0?0:00(?::00(?:\.0+)?)?\b").all()
            )
            return Look("instant" if clock and not _one_clock(times) else "day")
    dated = words.str.contains(_YEAR) & words.str.contains(_MORE) & (words.str.len_chars() <= 40)
    if (unread.kind == "none" and (dated.mean() or 0) >= 0.9) or words.str.contains(_OBJECT_TIME).all():  # type: ignore[operator]
        return Look("suspect")
    return unread


def parse_times(values: pl.Series, where: str, time_format: str | None = None) -> np.ndarray:
    """Return the times of all rows as numbers.

    Numbers keep their unit (seconds, milliseconds, days), as only their order counts. Dates and words become
    seconds since 1970; without a time zone they are read as UTC.

    Args:
        values: [n] integers, floats, decimals, dates, datetimes, durations, or strings that hold one of these.
        where: the file, for messages.
        time_format: how strings are written, in the terms of ``strptime``; None: one of the usual ways.

    Returns:
        [n] int64 where all values are whole numbers, else float64.

    Raises:
        InputError: a value is missing or is no time; names the column, the row and the value. Or values are rounded
            so that they lost their order, or can be read in two ways.
    """
    times = _numbers(values, where) if time_format is None else _formatted(values, where, time_format)
    bad = times.is_null() | times.is_nan() | times.is_infinite() if times.dtype.is_float() else times.is_null()
    if bad.any():
        row = int(bad.arg_max() or 0)
        with refused(f"{where}: column '{values.name}'"):
            value = values[row].to_list() if isinstance(values[row], pl.Series) else values[row]
        known = "neither a number nor a date of a known form" if time_format is None else f"not of {time_format!r}"
        said = "is missing" if value is None else f"holds '{value}', which is {known},"
        fix = "correct the row or remove it" + ("" if time_format else ", or describe all rows by --time-format")
        raise InputError(f"{where}: column '{values.name}' {said} in row {row + 1}; {fix}")
    return whole_numbers(times.to_numpy())


def beyond_calendar(values: pl.Series) -> int | None:
    """Return the first row that holds a date or time beyond the years 1 to 9999, or a length of time as great; or None.

    Such values come from other calendars, wrong units and damaged files. Polars panics when it reads them.
    """
    dtype = values.dtype
    if not dtype.is_temporal():
        return None
    numbers, low, high = values.to_physical(), *_CALENDAR
    if isinstance(dtype, pl.Datetime | pl.Duration):
        unit = _A_SECOND[dtype.time_unit]
        low, high = max(low * unit, -(2**63)), min(high * unit, 2**63 - 1)
    elif isinstance(dtype, pl.Date):
        low, high = low // DAY_SECONDS, high // DAY_SECONDS
    else:
        low, high = 0, DAY_SECONDS * 10**9 - 1
    bad = (numbers < low) | (numbers > high)
    return bad.arg_max() if bad.any() else None


def whole_numbers(numbers: np.ndarray) -> np.ndarray:
    """Return numbers as int64 where all of them are whole, else as they are."""
    if numbers.dtype != np.int64 and np.all(numbers == np.rint(numbers)) and np.all(np.abs(numbers) < 2**62):
        return numbers.astype(np.int64)
    return numbers


def join_times(columns: Sequence[pl.Series], where: str) -> np.ndarray:
    """Return the times that several columns say together, as seconds: a day and a time of day, or all its parts.

    Args:
        columns: a day (a date, a number of days, or year, month and day) and what there is of the time of day:
            a clock (12:26, or 1226), or hour, minute and second; [n] each.
        where: the file, for messages.

    Returns:
        [n] seconds, int64 or float64.

    Raises:
        InputError: the columns are not of these kinds, or a value is missing or none of these.
    """
    looks = {column.name: look_at(column.head(SAMPLE)) for column in columns}
    seconds = np.zeros(len(columns[0]), dtype=np.float64)
    parts: dict[str, np.ndarray] = {}
    days = clocks = 0
    for column in columns:
        look = looks[column.name]
        if look.kind == "day":
            seconds += _day_seconds(column, where)
            days += 1
        elif look.kind == "clock":
            seconds += _clock_seconds(column, where)
            clocks += 1
        elif look.kind == "part" and look.part and look.part not in parts:
            parts[look.part] = parse_times(column, where)
        else:
            raise _no_whole(columns, where)
    dated = {"year", "month", "day"} & parts.keys()
    if days + (len(dated) == 3) != 1 or len(dated) not in (0, 3) or clocks + ("hour" in parts) > 1:
        raise _no_whole(columns, where)
    if dated:
        frame = pl.DataFrame({part: parts[part] for part in ("year", "month", "day")})
        dates = frame.select(pl.format("{}-{}-{}", "year", "month", "day").str.to_date("%Y-%m-%d", strict=False))
        if dates.to_series().has_nulls():
            row = int(dates.to_series().is_null().arg_max() or 0)
            said = "-".join(str(parts[part][row]) for part in ("year", "month", "day"))
            raise InputError(f"{where}: {said} in row {row + 1} is no date; correct the row or remove it")
        seconds += _day_seconds(dates.to_series().alias(columns[0].name), where)
    for part, unit in (("hour", 3_600), ("minute", 60), ("second", 1)):
        seconds += unit * parts.get(part, np.zeros(1))
    return whole_numbers(seconds)


def unit_of(numbers: pl.Series) -> str | None:
    """Return the unit of times since 1970, "yyyymmdd" (or with hours, minutes, seconds) for dates, or None."""
    if numbers.is_empty():
        return None
    low, high = float(numbers.min() or 0), float(numbers.max() or 0)  # type: ignore[arg-type]
    for unit, factor in _UNITS.items():
        if _SINCE_1970[0] * factor <= low and high <= _SINCE_1970[1] * factor:
            return unit
    for unit, form in _WRITTEN.items():
        zeros = 10 ** (len(unit) - len("yyyymmdd"))
        if 19_000_101 * zeros <= low and high < 21_001_232 * zeros and _holds_dates(numbers, form):
            return unit
    return None


def _look_at_numbers(name: str, numbers: pl.Series) -> Look:
    """Judge a column of numbers."""
    words, named, unit = name_words(name), named_like_time(name), unit_of(numbers)
    whole, low, high = bool((numbers == numbers.round()).all()), float(numbers.min()), float(numbers.max())  # type: ignore[arg-type]
    if words[-1:] == ["id"] or not words:
        return Look("none")
    if not whole and low >= _DAYS_SINCE_1900[0] and high <= _DAYS_SINCE_1900[1]:
        return Look("instant" if named else "suspect")
    if unit is None and set(words) & _LENGTH_WORDS:
        return Look("none")
    if set(words) & _LOOSE_PARTS or "".join(words) in _LOOSE_PARTS:
        return Look("part")
    part = next((part for part in PARTS if words[-1:] in ([part], [part + "s"]) or words == [part[:3]]), None)
    if part and whole and low >= 0 and high <= _PART_LIMITS[part]:
        return Look("part", part)
    if unit in _UNITS:
        day = bool(((numbers / _UNITS[unit]) % DAY_SECONDS).n_unique() == 1) and numbers.n_unique() > 1
        return Look(("day" if day else "instant") if named else "suspect")
    if unit is not None:
        return Look(("day" if unit == "yyyymmdd" else "instant") if named else "suspect")
    sure = words[-1] in ("timestamp", "timestamps", "ts", "stamp", "epoch")
    if (
        named
        and not sure
        and words[-1] not in ("day", "days", "date", "dates", "dat")
        and whole
        and _holds_clocks(numbers)
    ):
        return Look("clock")
    if "".join(words) in _PLAIN_TIMES or sure:
        dated = words[-1] in ("date", "dt") and high > 10**6  # 13092020 and the like
        return Look("suspect" if dated else "day" if words[-1] in ("day", "date") else "instant")
    return Look("suspect" if named or set(words) & _ORDER_WORDS else "none")


def _holds_dates(numbers: pl.Series, form: str) -> bool:
    dates = numbers.cast(pl.Int64).cast(pl.String).str.to_datetime(form, strict=False, time_unit="us")
    return bool((numbers == numbers.round()).all()) and not dates.has_nulls()


def _holds_clocks(numbers: pl.Series) -> bool:
    """Whether whole numbers look like 1226 for 12:26 (or 122640): counts would not stop at 59 everywhere."""
    low, high = float(numbers.min()), float(numbers.max())  # type: ignore[arg-type]
    if low < 0 or high < 100 or high > 235_959 or numbers.n_unique() < 5:
        return False
    minutes = numbers % 100 < 60
    return bool(minutes.all()) and (high <= 2_359 or bool((numbers // 100 % 100 < 60).all()))


def _numbers(values: pl.Series, where: str) -> pl.Series:
    """Return int64 or float64, null where a value is no time."""
    dtype = values.dtype
    if (row := beyond_calendar(values)) is not None:
        raise InputError(
            f"{where}: column '{values.name}' holds a time beyond the years 1 to 9999 in row {row + 1}; correct the "
            "row or remove it"
        )
    if isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns":
        nanoseconds = values.dt.epoch("ns")
        if bool((nanoseconds % 1000 != 0).any()):
            return nanoseconds
    if isinstance(dtype, pl.Date | pl.Datetime):
        return _seconds(values.cast(pl.Datetime("us", dtype.time_zone if isinstance(dtype, pl.Datetime) else None)))
    if isinstance(dtype, pl.Duration):
        return values.dt.total_microseconds().cast(pl.Float64) / 1e6
    if isinstance(dtype, pl.Time):
        raise InputError(
            f"{where}: column '{values.name}' holds times of day without a date; name both, as in "
            f"--time-column date,{values.name}"
        )
    if isinstance(dtype, pl.Float32) and (values.abs().max() or 0) >= 2**24:  # type: ignore[operator]
        raise InputError(
            f"{where}: column '{values.name}' holds times as 32-bit floats, which cannot tell seconds apart; "
            "write them as integers or 64-bit floats"
        )
    if dtype.is_integer():
        return values.cast(pl.Int64, strict=False)
    if dtype.is_numeric():
        return values.cast(pl.Float64)
    if not isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return pl.Series(values.name, [None] * values.len(), dtype=pl.Int64)
    words = values.cast(pl.String).str.strip_chars()
    for number in (pl.Int64, pl.Float64):
        numbers = words.cast(number, strict=False)
        if not numbers.has_nulls():
            if number is pl.Float64 and words.len() > 1 and words.str.contains(_ROUNDED).all():
                raise InputError(
                    f"{where}: column '{values.name}' holds rounded numbers such as '{words[0]}', which have lost the "
                    "order; write them in full"
                )
            return numbers
    # The first value says what the column holds, so that a stray date among numbers is an error, and the
    # reverse.
    if numbers[0] is not None:
        return numbers
    return _read_words(words, where).cast(pl.Float64) / 1e6


def _read_words(words: pl.Series, where: str) -> pl.Series:
    """Return microseconds since 1970, null where a value does not have the form of the others."""
    plain = _plain_words(words)
    zoned = plain.str.contains(_ZONE)
    if zoned.any() and not zoned.all() and (plain.filter(zoned).str.tail(6) != "+00:00").any():
        raise InputError(
            f"{where}: column '{words.name}' holds times with a zone, such as '{words.filter(zoned)[0]}', and without "
            f"one, such as '{words.filter(~zoned)[0]}', which cannot be put in order; write the zone of all"
        )
    sample = plain.drop_nulls().head(SAMPLE)
    fitting: list[tuple[Form, ...]] = [(form,) for form in _FORMS if not _microseconds(sample, form).has_nulls()]
    for readings in _READINGS:
        forms = tuple(form for form in readings if not _microseconds(sample, form).has_nulls())
        fitting += [forms] if forms else []
    best = pl.Series(words.name, [None] * words.len(), dtype=pl.Int64)
    for forms in fitting:
        read = [_microseconds(plain, form) for form in forms]
        whole = [(form, times) for form, times in zip(forms, read, strict=True) if not times.has_nulls()]
        if any(not times.equals(whole[0][1]) for _, times in whole[1:]):
            formats = " or ".join(repr(form[0]) for form, _ in whole)
            raise InputError(
                f"{where}: column '{words.name}' can be read with the day or the month first, as in '{words[0]}'; say "
                f"which by --time-format {formats} (and the time of day, if there is one)"
            )
        if whole:
            return whole[0][1]
        best = min([best, *read], key=pl.Series.null_count)
    if fitting:
        return best
    return _microseconds(plain, min(_ALL_FORMS, key=lambda form: _microseconds(sample, form).null_count()))


def _plain_words(words: pl.Series) -> pl.Series:
    """Return times in words with one way to write what ISO 8601, shops and logs write in several."""
    plain = (
        pl.col("words")
        .str.replace_all("[\u202f\u00a0]", " ")
        .str.replace(r"^(\d{4})[/.](\d{1,2})[/.](\d{1,2})", "$1-$2-$3")
        .str.replace(r"^(\d{4})(\d{2})(\d{2})[Tt ](\d{2}):?(\d{2}):?(\d{2})", "$1-$2-$3 $4:$5:$6")
        .str.replace(r"^(\d{1,2}[./]\d{1,2}[./]\d{2,4}|.*\d{4}), (\d{1,2}:)", "$1 $2")
        .str.replace(r"(\d)([AaPp][Mm])$", "$1 $2")
        .str.replace(r"(\d) (?:UTC|GMT) (\d{4})$", "$1 +0000 $2")
        .str.replace(r"^(\d{4}-\d{1,2}-\d{1,2})[Tt]", "$1 ")
        .str.replace(r"(:\d{2}),(\d+)", "$1.$2")
        .str.replace(r"(?: \+00:?00)? ?(?:[Zz]|UTC|GMT)$", "+00:00")
        .str.replace(r"(:\d{2}(?:\.\d+)?) ?([+-]\d{2})(?::?(\d{2}))?$", "$1$2:${3}")
        .str.replace(r"([+-]\d{2}:)$", "${1}00")
        .str.replace(r"^(\w{3}, .*\d)\+00:00$", "$1 +0000")
    )
    return words.to_frame("words").select(plain).to_series().alias(words.name)


def _plain_clocks(words: pl.Series) -> pl.Series:
    """Return times of day in words with one way to write what is written in several."""
    return (
        words.str.to_uppercase()
        .str.replace_all("[\u202f\u00a0]", " ")
        .str.replace(r"^(?:T|0 DAYS? )", "")
        .str.replace(r"(?:Z| ?UTC| ?GMT|[+-]\d{2}:?\d{2})$", "")
        .str.replace(r"(:\d{2}),(\d+)$", "$1.$2")
        .str.replace(r"^(\d{1,2})[H.](\d{2})(?:[M.](\d{2})S?)?$", "$1:$2:0$3")
        .str.replace(r":0(\d{2})$", ":$1")
        .str.replace(r":0$", "")
        .str.replace(r" ?([AP])\.?M\.?$", " ${1}M")
        .str.replace(r"^(\d{1,2}) ([AP]M)$", "$1:00 $2")
    )


def _microseconds(words: pl.Series, form: Form) -> pl.Series:
    """Return microseconds since 1970, null where no format of the form fits."""
    found = pl.Series(words.name, [None] * words.len(), dtype=pl.Int64)
    frame = words.to_frame("words")
    for time_format in form:
        read = pl.col("words").str.to_datetime(time_format, strict=False, time_unit="us")
        times = frame.select(read.dt.epoch("us")).to_series()
        # %Y takes "10" for the year 10.
        times = times.set(times < _YEAR_1000, None)
        found = found.zip_with(found.is_not_null(), times)
        if found.null_count() == words.null_count():
            break
    return found


def _formatted(values: pl.Series, where: str, time_format: str) -> pl.Series:
    """Return the seconds of times that are written in the format which the user gives."""
    if isinstance(values.dtype, pl.Date | pl.Datetime | pl.Time | pl.Duration) or values.dtype.is_nested():
        raise InputError(f"{where}: column '{values.name}' holds no words; leave --time-format out")
    dated = all(re.search(rf"%[-_0]?[{signs}DFcxvs+]", time_format) for signs in ("dej", "YyGC"))
    if not dated or "%Z" in time_format:
        what = "names a zone, which is not read (%z reads +0200)" if dated else "says no day of a year"
        raise InputError(f"--time-format {time_format!r}: {what}; write it like '%d.%m.%Y %H:%M'")
    time_format = time_format.replace(".%f", "%.f")
    try:
        words = values.cast(pl.String).str.strip_chars()
    except PolarsError as error:  # types of Arrow that have names of their own
        raise InputError(f"{where}: column '{values.name}' holds no words; leave --time-format out") from error
    try:
        return _seconds(words.str.to_datetime(time_format, strict=False, time_unit="us"))
    except PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--time-format {time_format!r}: {reason}; write it like '%d.%m.%Y %H:%M'") from error


def _day_seconds(days: pl.Series, where: str) -> np.ndarray:
    """Return the seconds of midnight of days: dates, dates written as 20200913, or numbers of days."""
    numbers = parse_times(days, where)
    if days.dtype.is_temporal():
        return numbers
    plain = pl.Series(days.name, numbers)
    unit = unit_of(plain.cast(pl.Float64))
    if unit == "yyyymmdd":
        return _seconds(plain.cast(pl.String).str.to_datetime("%Y%m%d")).to_numpy()
    return numbers if unit == "seconds" else numbers * DAY_SECONDS


def _clock_seconds(clocks: pl.Series, where: str) -> np.ndarray:
    """Return seconds since midnight of times of day: 12:26, 12:26:40, 1226 or 122640."""
    if isinstance(clocks.dtype, pl.Duration):
        return parse_times(clocks, where)
    if isinstance(clocks.dtype, pl.Time):
        times = clocks
    else:
        words = _plain_clocks(clocks.cast(pl.String).str.strip_chars())
        words = words.str.replace(r"^(\d+)\.0+$", "$1")
        if not words.cast(pl.Int64, strict=False).drop_nulls().is_empty():
            numbers = parse_times(clocks, where)
            seconds = numbers if numbers.max() > 2_359 else numbers * 100
            out: np.ndarray = seconds // 10_000 * 3_600 + seconds // 100 % 100 * 60 + seconds % 100
            return out
        read = [words.str.to_time(form, strict=False).alias(form) for form in _CLOCK_FORMATS]
        times = pl.DataFrame(read).select(pl.coalesce(pl.all())).to_series()
    if times.has_nulls():
        row = int(times.is_null().arg_max() or 0)
        said = "is missing" if clocks[row] is None else f"holds '{clocks[row]}', which is no time of day,"
        raise InputError(f"{where}: column '{clocks.name}' {said} in row {row + 1}; correct the row or remove it")
    return (times.cast(pl.Int64) / 1e9).to_numpy()


def _no_whole(columns: Sequence[pl.Series], where: str) -> InputError:
    names = ",".join(column.name for column in columns)
    return InputError(
        f"{where}: --time-column {names}: these columns do not make a whole time; give a date and a time of day, "
        "year, month and day, or one column"
    )


def _one_clock(microseconds: pl.Series) -> bool:
    """Whether all times have one time of day, such as midnight, so that they say the day alone."""
    clocks = microseconds % (DAY_SECONDS * 10**6)
    return bool((clocks == 0).all()) or (clocks.n_unique() == 1 and microseconds.n_unique() > 1)


def _seconds(times: pl.Series) -> pl.Series:
    return times.dt.epoch("us").cast(pl.Float64) / 1e6
