"""Which column is the user, the item, the time, the text: named by the caller, or known by name and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from polars.exceptions import PanicException

from foster.data.readers import Table
from foster.data.timestamps import (
    HALF_DAY,
    PARTS,
    SAMPLE,
    Look,
    join_times,
    look_at,
    name_words,
    named_like_time,
    parse_times,
)
from foster.errors import InputError, did_you_mean
from foster.panics import hushed

# Usual names in order of preference, compared without case, "_", "-", "." and blanks.
USER_NAMES = (
    "userid", "user", "uid", "reviewerid", "customerid", "customer", "visitorid", "householdid", "profileid",
    "memberid", "accountid", "clientid", "buyerid", "username", "customerno", "customernumber", "member",
    "kundennummer", "email", "sessionid",
)  # fmt: skip
# Amazon 2023 reviews hold both asin (the variant) and parent_asin (the product, which the metadata describe).
ITEM_NAMES = (
    "itemid", "item", "iid", "parentasin", "asin", "businessid", "productid", "product", "sku", "stockcode", "movieid",
    "bookid", "recipeid", "gmapid", "trackid", "songid", "newsid", "articleid", "videoid", "gameid", "appid",
    "productcode", "itemno", "article", "articlenumber", "artikelnummer", "lineitemsku",
)  # fmt: skip
# A bare "id" says which item only in a table of items.
ITEM_TABLE_NAMES = (*ITEM_NAMES, "id")
# At most one column of each line is taken by default: what it is, who makes it, of which kind it is.
TEXT_NAMES = (
    ("title", "itemtitle", "name", "itemname", "productname", "producttitle", "movietitle", "lineitemname"),
    ("brand", "brandname", "store", "manufacturer", "author", "artist"),
    ("category", "categories", "categoryname", "genre", "genres", "class", "maincategory", "maincat", "tags"),
)
# A name ends with one of these, as track_name and artist_name do. The maker's and the kind's words come first.
_MAKER_WORDS = {"brand", "artist", "author", "authors", "artists", "maker", "manufacturer", "publisher", "developer"}
_KIND_WORDS = {"category", "categories", "genre", "genres", "tags", "department"}
_TITLE_WORDS = {"title", "name", "titles", "names"}
# Names of other things than the item.
_OTHER_WORDS = {"user", "file", "path", "image", "picture", "url", "link", "reviewer", "customer", "store", "shop"}

TIME_FIX = "name the time by --time-column, or say --input-order if the rows are in time order"


@dataclass(frozen=True)
class TimeColumns:
    """What orders the interactions.

    Attributes:
        names: the columns: none (the order of the rows counts), one, or several that make a whole time together.
        why: how it was found, where that is not plain; "" otherwise.
    """

    names: tuple[str, ...]
    why: str = ""


def find_column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the column whose name comes first in ``names``, or None."""
    plain = {_plain(column): column for column in reversed(columns)}
    return next((plain[name] for name in names if name in plain), None)


def pick_column(table: Table, wanted: str | None, names: Sequence[str], role: str) -> str:
    """Return the column of a table that plays a role.

    Args:
        table: the table to look at.
        wanted: the column that the caller names, or None to go by the usual names.
        names: the usual names, most usual first.
        role: "user" or "item"; the option that names the column is ``--<role>-column``.

    Raises:
        InputError: the column is not there, or none has a usual name.
    """
    if wanted is not None:
        require_column(table, wanted, f"--{role}-column")
        return wanted
    found = find_column(table.columns, names)
    if found is None:
        raise InputError(
            f"{table.name}: no {role} column found among {', '.join(table.columns)}; name it with --{role}-column"
            f"{_header_hint(table)}"
        )
    return found


def pick_ids(table: Table, user: str | None, item: str | None, own_texts: bool = False) -> tuple[str, str]:
    """Return the columns of user ids and of item ids of a log; all that are missing are in one error.

    Args:
        table: the log.
        user: the column that the caller names, or None to go by the usual names.
        item: the same of the items.
        own_texts: texts are to be found by their names in the log, too; where a column of ids is missing, a missing
            text is in the same error.

    Raises:
        InputError: a column is not there, or none has a usual name.
    """
    usual = {"user": (user, USER_NAMES), "item": (item, ITEM_NAMES)}
    found = [find_column(table.columns, names) if wanted is None else wanted for wanted, names in usual.values()]
    missing = {role: f"--{role}-column" for role, column in zip(usual, found, strict=True) if column is None}
    if missing and own_texts:
        try:
            text_columns(table, [column for column in found if column is not None], log=True)
        except InputError:
            missing["text"] = "--text"
    if len(missing) > 1:
        *roles, last = missing
        *flags, last_flag = missing.values()
        raise InputError(
            f"{table.name}: no {', '.join(roles)} or {last} column found among {', '.join(table.columns)}; name them "
            f"with {', '.join(flags)} and {last_flag}{_header_hint(table)}"
        )
    picked = [pick_column(table, wanted, names, role) for role, (wanted, names) in usual.items()]
    return picked[0], picked[1]


def _header_hint(table: Table) -> str:
    return "; is the first line no header?" if all(_is_value(column) for column in table.columns) else ""


def require_column(table: Table, column: str, option: str) -> None:
    """Raise InputError where a table lacks a column that an option names."""
    if column not in table.columns:
        raise InputError(
            f"{table.name}: no column '{column}'{did_you_mean(column, table.columns)} for {option}; "
            f"the columns are {', '.join(table.columns)}"
        )


def named_times(table: Table, wanted: str, taken: Sequence[str]) -> TimeColumns:
    """Return the time columns that the caller names: one, or several separated by commas.

    Raises:
        InputError: a column is not there, stands twice, or has another role.
    """
    names = [wanted] if wanted in table.columns else [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        require_column(table, name, "--time-column")
        if name in taken:
            raise InputError(f"{table.name}: --time-column {wanted}: '{name}' is the column of the users or items, too")
        if names.count(name) > 1:
            raise InputError(f"{table.name}: --time-column {wanted}: names '{name}' twice; name each column once")
    if not names:
        raise InputError(f"{table.name}: --time-column names no column; the columns are {', '.join(table.columns)}")
    return TimeColumns(tuple(names))


def find_times(table: Table, taken: Sequence[str], time_format: str | None = None) -> TimeColumns:
    """Find what orders the interactions by names, types and values; nothing doubtful is taken.

    Args:
        table: the log.
        taken: the columns of users and items.
        time_format: how the times are written, if that was said: then one column with a name of times is looked for.

    Returns:
        The finest column of whole times, a day with a time of day, or no column where nothing looks like a time.

    Raises:
        InputError: columns look like times, but it is not clear which one orders the rows.
    """
    others = [column for column in table.columns if column not in taken]
    sample = table.sample(others, SAMPLE) if others else pl.DataFrame()
    looks = {column: look for column in others if (look := look_at(sample[column])).kind != "none"}
    if time_format is not None:
        named = [column for column in others if named_like_time(column)]
        if len(named) != 1:
            listed = ", ".join(named or others)
            raise InputError(f"{table.name}: --time-format: say of which column by --time-column; there are {listed}")
        return TimeColumns((named[0],))
    whole = [column for column, look in looks.items() if look.kind in ("instant", "day")]
    if len(whole) > 1 or (whole and not _usual_time(whole[0])):
        events = _of_events(table, whole, taken)
        if not events:
            raise InputError(
                f"{table.name}: {', '.join(whole)}: one value an item or user, so it orders no events; {TIME_FIX}"
            )
        looks = {column: look for column, look in looks.items() if column in events or column not in whole}
        whole = events
    if whole:
        finest, why = _finest(table, whole, looks) if len(whole) > 1 else (whole[0], "")
        halves = [column for column, look in looks.items() if look.part == HALF_DAY]
        if halves:
            raise _unclear(table, {column: looks[column] for column in (finest, *halves)})
        if looks[finest].kind == "day":
            left = [c for c, look in looks.items() if look.kind in ("unreadable", "suspect", "instant") and c != finest]
            if left:  # one of them may say the time of day
                raise _unclear(table, {column: looks[column] for column in (finest, *left)})
            return _with_clock(table, finest, looks, why)
        return TimeColumns((finest,), why)
    return _of_parts(table, looks)


def text_columns(table: Table, skip: Sequence[str], log: bool = False) -> list[str]:
    """Return the columns that describe an item, by usual names: title, brand, category.

    Args:
        table: the item table, or the log.
        skip: columns that have another role.
        log: whether it is the log, in which an only column of words need not describe the items.

    Returns:
        The columns.

    Raises:
        InputError: there is none; or no name is usual, or only that of a brand or a category, and there are other
            columns of words.
    """
    columns = [column for column in table.columns if column not in skip]
    found = [find_column(columns, names) for names in TEXT_NAMES]
    words = (_TITLE_WORDS, _MAKER_WORDS, _KIND_WORDS)
    for place in (1, 2, 0):
        if found[place] is None:
            free = [column for column in columns if column not in found]
            close = [column for column in free if _names_what(column, words, place)]
            if place == 0 and len(close) > 1:
                raise _no_text(table, skip, f"several columns could be the title: {', '.join(close)}")
            found[place] = close[0] if close else None
    if found[0] is None and any(found):
        other = word_columns(table, [*skip, *(column for column in found if column is not None)])
        if other:
            raise _no_text(table, skip, "no column is known as the title")
    if any(found):
        return [column for column in found if column is not None]
    words_there = word_columns(table, skip)
    if log or len(words_there) != 1:
        raise _no_text(table, skip, "no column is known as a text")
    return words_there


def word_columns(table: Table, skip: Sequence[str]) -> list[str]:
    """Return all columns of words or lists in file order, without ids, and numbers and times written as words."""
    columns = [c for c in table.columns if c not in skip and not _plain(c).endswith(("id", "url"))]
    sample = table.sample(columns, SAMPLE) if columns else pl.DataFrame()
    return [column for column in columns if _holds_words(sample[column])]


def _no_text(table: Table, skip: Sequence[str], what: str) -> InputError:
    words = word_columns(table, skip)
    if not words:
        return InputError(
            f"{table.name}: no item texts among {', '.join(table.columns)}; give the item file as well, or name the "
            "text columns with --text"
        )
    sample = table.sample(words, SAMPLE)
    shown = ", ".join(f"{column} ({_example(sample[column])})" for column in words[:12])
    return InputError(f"{table.name}: {what}; choose by --text, as in --text {words[0]}; columns of words are {shown}")


def _example(values: pl.Series) -> str:
    filled = values.drop_nulls()
    if filled.is_empty():
        return "empty"
    try:
        with hushed():
            value = filled[0]
            word = str(value.to_list() if isinstance(value, pl.Series) else value)
    except (PanicException, OverflowError):  # times within it that no calendar has
        return "unreadable"
    return f"such as '{word[:40]}'"


def _names_what(column: str, words: tuple[set[str], ...], place: int) -> bool:
    """Whether a column's name says that it holds the title (place 0), the maker (1) or the kind (2) of an item."""
    parts = name_words(column)
    if not parts or set(parts) & _OTHER_WORDS or parts[-1] == "id":
        return False
    if place:
        return parts[-1] in words[place] or (parts[0] in words[place] and parts[1:] in (["name"], ["names"]))
    return parts[-1] in words[0] and not set(parts) & (words[1] | words[2] | {"type", "group", "section", "colour"})


def _usual_time(column: str) -> bool:
    return _plain(column) in ("timestamp", "unixreviewtime", "unixtime", "datetime", "time", "date", "ts", "eventtime")


def _of_events(table: Table, columns: list[str], taken: Sequence[str]) -> list[str]:
    """Leave out columns with one value for each item or user, such as a date of release or of birth."""
    for owner in taken:
        counts = table.count_distinct(owner, columns)
        if counts[""] - counts[owner] >= 10:  # else too few come twice
            columns = [column for column in columns if counts[column] > counts[owner]]
    return columns


def _finest(table: Table, columns: list[str], looks: dict[str, Look]) -> tuple[str, str]:
    """Return the column that orders as all the others do, and finer, and a word on it.

    Columns that miss a value do not count where another one, no coarser, has all.

    Raises:
        InputError: there is none, so that orders contradict each other, or the finest one is damaged.
    """
    times: dict[str, np.ndarray] = {}
    faults: dict[str, InputError] = {}
    for column in columns:
        try:
            times[column] = parse_times(table.read([column])[column], table.name)
        except InputError as error:
            faults[column] = error
    if not times:
        raise next(iter(faults.values()))
    ranks = pl.DataFrame(times).select(pl.all().rank("dense"))
    distinct = {column: ranks[column].n_unique() for column in times}
    finest, *coarser = sorted(times, key=lambda column: (-distinct[column], not _usual_time(column)))
    if looks[finest].kind == "day":
        for column, fault in faults.items():
            if looks[column].kind == "instant":
                raise fault
    ordered = ranks.sort(finest)
    for column in coarser:
        if not ordered[column].is_sorted() or ranks.select(finest, column).n_unique() > distinct[finest]:
            raise InputError(
                f"{table.name}: {' and '.join(times)} could each be the time, and order the rows differently; name one "
                "by --time-column"
            )
    return finest, f"beside it: {', '.join(column for column in columns if column != finest)}"


def _with_clock(table: Table, day: str, looks: dict[str, Look], why: str) -> TimeColumns:
    """Join a day with the time of day beside it, if there is one."""
    clocks = [column for column, look in looks.items() if look.kind == "clock"]
    parts = [c for c, look in looks.items() if look.kind == "part" and look.part in ("hour", "minute", "second")]
    if not clocks and not parts:
        return TimeColumns((day,), why)
    joined = (day, *(clocks or sorted(parts, key=lambda column: PARTS.index(looks[column].part))))
    stems = [set(name_words(column)) - _CLOCK_WORDS for column in (day, *clocks)]
    try:
        if len(clocks) > 1 or (clocks and stems[0] and stems[1] and stems[0] != stems[1]):
            raise InputError("not the time of that day")
        if parts and not clocks and not any(looks[column].part == "hour" for column in parts):
            raise InputError("no hour")
        join_times(table.sample(list(joined), SAMPLE).get_columns(), table.name)
    except InputError as error:
        raise InputError(
            f"{table.name}: the time seems to be in several columns, {', '.join(joined)}; {TIME_FIX}"
        ) from error
    return TimeColumns(joined, "a day and a time of day")


def _of_parts(table: Table, looks: dict[str, Look]) -> TimeColumns:
    """Return the parts that make a whole time, or nothing where nothing looks like a time.

    Raises:
        InputError: something does, but not clearly.
    """
    if not looks:
        return TimeColumns(())
    if [look.kind for look in looks.values()] == ["unreadable"]:
        return TimeColumns(tuple(looks))  # reading it says which row is wrong
    parts = {look.part: column for column, look in looks.items() if look.kind == "part" and look.part}
    twice = len(parts) < sum(look.kind == "part" and bool(look.part) for look in looks.values())
    other = any(look.kind in ("unreadable", "suspect") for look in looks.values())
    clocks = [column for column, look in looks.items() if look.kind == "clock"]
    if {"year", "month", "day"} <= parts.keys() and len(clocks) < 2 and not twice and not other:
        names = [parts[part] for part in PARTS if part in parts and (part not in PARTS[3:] or not clocks)] + clocks
        return TimeColumns(tuple(names), "parts of a time")
    raise _unclear(table, looks)


def _unclear(table: Table, looks: dict[str, Look]) -> InputError:
    described = ", ".join(f"{column} ({_LOOKS[look.kind]})" for column, look in looks.items())
    return InputError(f"{table.name}: it is not clear what orders the rows: {described}; {TIME_FIX}")


_LOOKS = {
    "clock": "a time of day", "part": "a part of a time", "suspect": "values like times",
    "unreadable": "no time of a known form, see --time-format", "instant": "a time", "day": "a day",
}  # fmt: skip
_CLOCK_WORDS = {"date", "time", "day", "datetime", "hour", "clock", "of", "at", "the", "hms", "hhmm", "trans"}


def _holds_words(values: pl.Series) -> bool:
    if isinstance(values.dtype, pl.List | pl.Array):
        return True
    if not isinstance(values.dtype, pl.String | pl.Categorical | pl.Enum):
        return False
    filled = values.cast(pl.String).drop_nulls()
    if not filled.cast(pl.Float64, strict=False).has_nulls():
        return False
    return look_at(filled.alias(values.name)).kind not in ("instant", "day", "clock") and not bool(
        filled.str.contains(r"^(?:https?://|\d*$)").all()
    )


def _is_value(column: str) -> bool:
    """Whether the name of a column looks like a value, since the file has no header."""
    return any(character.isdigit() for character in column)


def _plain(name: str) -> str:
    return name.casefold().translate(str.maketrans("", "", "_-. "))
