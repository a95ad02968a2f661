"""Faults of ids, texts and times that nothing stops at and that models suffer from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import polars as pl

# What stands for "nothing" as a whole field, in any case.
_NOTHING = (
    "nan", "none", "null", "nil", r"\n", "n/a", "#n/a", "<na>", "<null>", "nat", "undefined", "(not set)", "(null)",
    "(none)", "[]", "{}", "[null]", "[none]", "['']", '[""]', "[nan]", "{none}", "''", '""',
)  # fmt: skip
# The same if it recurs in a column; once, it may be a real name, such as the film "Unknown".
_MAYBE_NOTHING = (
    "unknown", "-", "--", "---", "–", "—", ".", "..", "...", "?", "??", "???", "_", "/", "*", "na", "n.a.", "tbd",
    "tba", "missing", "empty", "blank", "untitled", "no title", "no name", "no description", "no category", "no brand",
    "not available", "not specified", "not applicable", "unspecified", "unavailable",
)  # fmt: skip
# One part of a joined list; only spellings that programs write.
_NOTHING_PART = r"(?:^|, )(nan|NaN|NAN|None|null|NULL|\\N|N/A|#N/A|<NA>|undefined)(?:, |$)"

_ENTITY = (
    r"&(?:amp|lt|gt|quot|apos|nbsp|reg|trade|copy|[lr][sd]quo|[nm]dash|hellip|bull|deg"
    r"|[a-zA-Z]{1,2}(?:acute|uml|grave|circ|tilde|cedil)|#\d{1,6}|#[xX][0-9a-fA-F]{1,5});"
)
_TAG = (
    r"</?(?i:a|b|br|i|u|p|em|li|ol|ul|td|tr|div|img|sub|sup|font|span|table|strong|script|style|h[1-6])"
    r"(?:\s[^<>]*)?/?>"
)
# UTF-8 that was read as Latin-1 or Windows-1252: a lead byte as a letter, then bytes of the upper half as signs. Some
# of these signs may follow a letter in sound text, too: quotes, dashes, dots.
_SIGN = r"\x{80}-\x{BF}€‚ƒ„†‡ˆ‰Š‹ŒŽ˜™š›œžŸ"
_ANY_SIGN = f"[{_SIGN}…‘’“”•–—]"
_MOJIBAKE = (
    rf"\x{{FFFD}}|Ã[{_SIGN}]|Â[\x{{A0}}-\x{{BF}}]|â[€‚„\x{{80}}\x{{82}}\x{{84}}]|ðŸ|ï»¿|ï¿½"
    rf"|(?:[ÐÑØÙ]{_ANY_SIGN}){{2}}|(?:[ã-é]{_ANY_SIGN}{{2}}){{2}}"
)

_YEAR = r"[(\[]\d{4}[)\]]$"
YEAR = "(YEAR)"
# From this share of a column's different texts on, words are common to "most" of them.
MOST = 0.5
# From this share of a column's values on, a value is that of all.
_ALL = 0.9
# A column of fewer different values is a choice of classes, whose names may well be alike.
_CLASSES = 10
_MOST_WORDS = 8

# A plausible time lies between 1990 and tomorrow; in any unit, as the ranges of units are a factor of 1,000 apart.
_YEAR_1990 = 631_152_000
_YEAR_2100 = 4_102_444_800
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_DAY = 86_400


@dataclass(frozen=True)
class Fault:
    """Values of a column that share a fault.

    Attributes:
        column: a text column, ``user_id`` or ``item_id``.
        count: how many items have it; for ids the interactions.
        example: one of the values, or the part of it that shows the fault.
    """

    column: str
    count: int
    example: str


@dataclass(frozen=True)
class SharedWords:
    """Words that most of a column's different texts begin or end with.

    Attributes:
        column: the text column.
        place: "start", "end", or "all" where the words are the whole value.
        words: the words; ``YEAR`` for any year in brackets.
        share: the share of the column's different texts that have them; for "all" the share of its values.
        example: one of these texts.
    """

    column: str
    place: Literal["start", "end", "all"]
    words: str
    share: float
    example: str


@dataclass(frozen=True)
class OddTimes:
    """Times that do not go with the others.

    Attributes:
        kind: "s", "ms", "us" or "ns" for times in another unit, "early" before 1990, "future" more than a day ahead.
        count: how many.
        example: one of the values.
    """

    kind: str
    count: int
    example: float


@dataclass(frozen=True)
class Times:
    """What the numbers in the time column look like.

    Attributes:
        unit: "s", "ms", "us" or "ns", the most frequent of the units since 1970 in which values are times from 1990 to
            2100; "" if no more than half of the values are such times, as for days, years and steps.
        first: the day of the first plausible time in this unit, as in "2015-01-31"; "" without a unit.
        last: the day of the last one.
        odd: times that do not go with these.
        equal: whether all values are equal.
    """

    unit: str
    first: str
    last: str
    odd: list[OddTimes]
    equal: bool


def words_for_nothing(values: Mapping[str, pl.Series]) -> list[Fault]:
    """Find "nan", "None", "<NA>" and the like among texts: whole values, and parts of joined lists.

    Args:
        values: [n] strings or nulls of each text column.

    Returns:
        One fault for each column and word, in the order of the columns, the most frequent word first.
    """
    found = []
    for column, series in values.items():
        plain = _plain(series)
        counts = plain.filter(plain.is_in([*_NOTHING, *_MAYBE_NOTHING])).value_counts(name="count")
        for word, count in counts.sort(["count", "word"], descending=[True, False]).iter_rows():
            if word in _NOTHING or count > 1:
                found.append(Fault(column, count, str(series.filter(plain == word)[0])))
        found += matches({column: series.filter(~plain.is_in(_NOTHING))}, _NOTHING_PART)
    return found


def ids_for_nothing(column: str, ids: pl.Series, counts: np.ndarray) -> list[Fault]:
    """Find ids that say "nan", "None" and the like, which make one user or item of several.

    Args:
        column: ``user_id`` or ``item_id``.
        ids: [n] different ids.
        counts: [n] their interactions.
    """
    nothing = _plain(ids).is_in([*_NOTHING, *_MAYBE_NOTHING]).arg_true().to_list()
    return [Fault(column, int(counts[place]), str(ids[place])) for place in nothing]


def _plain(series: pl.Series) -> pl.Series:
    return series.alias("word").str.strip_chars().str.to_lowercase()


def matches(values: Mapping[str, pl.Series], pattern: str) -> list[Fault]:
    """Return for each column that has any how many values hold a pattern, and the first of them around it."""
    around = f"(.{{0,30}}(?:{pattern}).{{0,30}})"
    hits = {column: series.str.extract(around).drop_nulls() for column, series in values.items()}
    return [Fault(column, found.len(), str(found[0])) for column, found in hits.items() if found.len()]


def markup(values: Mapping[str, pl.Series]) -> list[Fault]:
    """Find HTML entities and tags."""
    return matches(values, f"{_ENTITY}|{_TAG}")


def mojibake(values: Mapping[str, pl.Series]) -> list[Fault]:
    """Find UTF-8 that was read as another encoding, and characters that were lost."""
    return matches(values, _MOJIBAKE)


def shared_words(values: Mapping[str, pl.Series]) -> list[SharedWords]:
    """Find a value that a whole column shares, and words or years that most of its texts begin or end with."""
    found = []
    for column, series in values.items():
        filled = series.drop_nulls()
        if filled.len() < 2:
            continue
        value, count = _most_frequent(filled)
        if count >= _ALL * filled.len():
            found.append(SharedWords(column, "all", value, count / filled.len(), value))
            continue
        texts = filled.unique(maintain_order=True)
        if texts.len() < _CLASSES:
            continue
        words = texts.str.split(" ")
        found += _common(column, texts, words, "start")
        years = texts.filter(texts.str.contains(_YEAR))
        if years.len() >= MOST * texts.len():
            found.append(SharedWords(column, "end", YEAR, years.len() / texts.len(), years[0]))
        else:
            found += _common(column, texts, words, "end")
    return found


def _most_frequent(values: pl.Series) -> tuple[str, int]:
    """Return the most frequent of one string or more, and how often it is there."""
    counts = values.alias("value").value_counts(name="count").sort(["count", "value"], descending=[True, False])
    value, count = counts.row(0)
    return value, count


def _common(column: str, texts: pl.Series, words: pl.Series, place: Literal["start", "end"]) -> list[SharedWords]:
    """Return the longest run of words at one end that at least half of the texts have; none or one."""
    best: list[SharedWords] = []
    for length in range(1, _MOST_WORDS + 1):
        part = words.list.head(length) if place == "start" else words.list.tail(length)
        has_part = words.list.len() >= length
        if has_part.sum() < MOST * texts.len():
            break
        ends = part.filter(has_part).list.join(" ")
        shared, count = _most_frequent(ends)
        if count < MOST * texts.len():
            break
        example = texts.filter(has_part).filter(ends == shared)[0]
        best = [SharedWords(column, place, shared, count / texts.len(), example)]
    return best


def look_at_times(times: np.ndarray, now: float | None = None) -> Times:
    """Find units that are mixed, and times that cannot be.

    Args:
        times: [n] int64 or float64, n > 0.
        now: seconds since 1970; None for the clock's.
    """
    now = time.time() if now is None else now
    inside = {unit: (times >= _YEAR_1990 * size) & (times < _YEAR_2100 * size) for unit, size in _UNITS.items()}
    counts = {unit: int(there.sum()) for unit, there in inside.items()}
    unit = max(counts, key=counts.__getitem__)
    equal = bool((times == times[0]).all())
    if 2 * sum(counts.values()) <= len(times):
        return Times("", "", "", [], equal)
    size = _UNITS[unit]
    other = np.logical_or.reduce([there for name, there in inside.items() if name != unit])
    odd = {name: there for name, there in inside.items() if name != unit}
    odd["early"] = (times < _YEAR_1990 * size) & ~other
    odd["future"] = (times > (now + _DAY) * size) & ~other
    sound = times[inside[unit] & ~odd["future"]]
    first, last = (_day(sound.min() / size), _day(sound.max() / size)) if len(sound) else ("", "")
    return Times(
        unit,
        first,
        last,
        [OddTimes(kind, int(there.sum()), times[there][0].item()) for kind, there in odd.items() if there.any()],
        equal,
    )


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(float(seconds), UTC).date().isoformat()
