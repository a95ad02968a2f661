"""Tables of JSON objects: one a line, or an array of them. Numbers are read as text, lists and objects as JSON text.

Polars reads them fast. What it cannot read (NaN, as Python's json writes it; a byte order mark; an array) or reads in
another way (half a surrogate pair; a backslash in a list or an object) goes through Python's json, which is slow and
exact.
"""

from __future__ import annotations

import glob
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError
from polars.io.plugins import register_io_source

from foster.data.delimited import binary_lines
from foster.data.texts import float_word
from foster.errors import InputError

# So many objects go through Python's json in any case, which refuses more than polars: one program wrote them all.
_LOOKED_AT = 1_000
_MANY_NAMES = 200
_BATCH = 10_000
_BOM = b"\xef\xbb\xbf"
_KEY = r'"(?:[^"\\]|\\.)*"\s*:'
_PAIR = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = r"\\u[dD][89a-fA-F]"
# Escapes that polars drops when it writes lists and objects as text: backslashes, and quotation marks in names.
_LOST = r'\\\\|\\u005[cC]|\\(?:"|u0022)(?:[^"\\]|\\.)*"\s*:'
_LOOKED_FOR = 10_000  # lines with such escapes; more go through Python's json in any case


def scan_json_lines(path: Path) -> pl.LazyFrame:
    """Return one row an object; every name that any of the objects has is a column of strings.

    Raises:
        InputError: a line that is no JSON object, or a name that stands twice in one.
    """
    for _ in islice(read_objects(path), _LOOKED_AT):
        pass
    names = _names(path)
    if names is not None:
        return pl.scan_ndjson(_literal(path), schema=dict.fromkeys(names, pl.String))
    found: dict[str, None] = {}
    for one in read_objects(path):
        found |= dict.fromkeys(one)
    return scan_objects(path, read_objects, list(found), _text)


def read_objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file.

    Raises:
        InputError: names the line that is not one JSON object, is not UTF-8, or has a name twice.
    """
    number, any_line = 0, False
    try:
        for number, raw in enumerate(binary_lines(path), start=1):
            line = (raw.removeprefix(_BOM) if number == 1 else raw).decode("utf-8").strip()
            if not line:
                continue
            if not any_line and line.startswith("["):
                yield from _array(path)
                return
            any_line = True
            content = json.loads(line, object_pairs_hook=_once)
            if not isinstance(content, dict):
                raise InputError(f"{path}: line {number} is not a JSON object; one object a line is needed")
            yield content
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: line {number} is not UTF-8 text; save the file as UTF-8") from error
    except _TwiceError as error:
        raise InputError(f"{path}: line {number} has the name '{error}' twice; rename or remove one") from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits are a ValueError
        reason = _reason(error)
        raise InputError(f"{path}: line {number} is not valid JSON ({reason}); one object a line is needed") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked after line {number} ({error}); fetch the file again") from error
    if not any_line:
        raise InputError(f"{path}: the file is empty")


def _reason(error: ValueError | RecursionError) -> str:
    """Say why a text is no JSON, as far as it can be said to people."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error).split(":")[0]


class _TwiceError(ValueError):
    """A name stands twice in an object."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return content


def _array(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file that is one array, over several lines."""
    text = b"".join(binary_lines(path)).removeprefix(_BOM).decode("utf-8")
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except _TwiceError:
        raise
    except (ValueError, RecursionError) as error:
        line = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "the array"
        raise InputError(
            f"{path}: {line} is not valid JSON ({_reason(error)}); one object a line, or one array of objects, is "
            "needed"
        ) from error
    for place, one in enumerate(content, start=1):
        if not isinstance(one, dict):
            raise InputError(f"{path}: entry {place} of the array is not a JSON object")
        yield one


def _names(path: Path) -> list[str] | None:
    """Return the names that objects of a file have, or None where polars would not read it exactly."""
    line = pl.col("line")
    lines = pl.scan_lines(path.absolute(), glob=False)
    keys = line.str.extract_all(_KEY).list.explode(keep_nulls=False, empty_as_null=False).unique().implode()
    half = line.str.contains(r"\u", literal=True) & line.str.replace_all(_PAIR, "").str.contains(_HALF)
    try:
        keys_found, halves = (
            lines.select(keys.alias("keys"), half.any().alias("half")).collect(engine="streaming").row(0)
        )
        if halves or len(keys_found) > _MANY_NAMES:
            return None
        names = list(dict.fromkeys(json.loads(key.rstrip(":").rstrip()) for key in keys_found))
        frame = pl.scan_ndjson(_literal(path), schema=dict.fromkeys(names, pl.String))
        filled = frame.select(pl.all().count()).collect(engine="streaming").row(0)
        often = [line.str.count_matches(rf'"{re.escape(name)}"\s*:').max() > 1 for name in names]
        twice = lines.select(pl.any_horizontal(often)).collect(engine="streaming").item()
        escaped = lines.filter(line.str.contains(_LOST)).head(_LOOKED_FOR + 1).collect(engine="streaming")["line"]
        if escaped.len() > _LOOKED_FOR or any(map(_loses_escapes, escaped)):
            return None
    except (PolarsError, ValueError):
        return None
    # A name that stands twice in a line may be of an inner object, or a fault: then each line is looked at.
    if twice:
        for _ in read_objects(path):
            pass
    first = next(read_objects(path))
    there = {name for name, count in zip(names, filled, strict=True) if count} | first.keys()
    # In the order of the first object, as far as it goes.
    return [*first, *sorted(there - first.keys())]


def _loses_escapes(line: str) -> bool:
    """Whether a list or an object in a line holds what polars would write as other JSON, or as none."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return True  # Python's json says what is wrong
    return not isinstance(content, dict) or any(map(_holds_lost, content.values()))


def _holds_lost(value: Any, inside: bool = False) -> bool:
    if isinstance(value, dict):
        return any("\\" in name or '"' in name or _holds_lost(one, True) for name, one in value.items())
    if isinstance(value, list):
        return any(_holds_lost(one, True) for one in value)
    return inside and isinstance(value, str) and "\\" in value


def scan_objects(
    path: Path,
    read: Callable[[Path], Iterator[dict[str, Any]]],
    names: Sequence[str],
    text: Callable[[Any], str | None],
) -> pl.LazyFrame:
    """Return one row an object as Python reads them, in batches, only the columns that are asked for.

    Args:
        path: the file.
        read: yields its objects.
        names: the columns.
        text: turns a value into what the column of strings holds.

    Raises:
        InputError: when the rows are read: as ``read``, or a text that is no Unicode.
    """

    def batches(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = list(names) if with_columns is None else with_columns
        objects = islice(read(path), n_rows)
        number = 0
        while batch := list(islice(objects, batch_size or _BATCH)):
            columns = {name: [text(one.get(name)) for one in batch] for name in wanted}
            try:
                rows = pl.DataFrame(columns, schema=dict.fromkeys(wanted, pl.String), height=len(batch))
            except UnicodeEncodeError as error:
                raise InputError(
                    f"{path}: among the objects {number + 1} to {number + len(batch)} is half a surrogate pair, which "
                    f"is no character ({error.object[error.start : error.end]!a}); correct or remove it"
                ) from error
            number += len(batch)
            yield rows if predicate is None else rows.filter(predicate)

    return register_io_source(batches, schema=dict.fromkeys(names, pl.String), validate_schema=True)


def _text(value: Any) -> str | None:
    """Return a JSON value as polars reads it into a column of strings."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_word(value)
    if isinstance(value, int):
        return str(value)
    return json.dumps(_without_nan(value), ensure_ascii=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    return value


def _literal(path: Path) -> str:
    """Return a path whose brackets, stars and question marks are names for polars, not patterns."""
    return glob.escape(str(path.absolute()))
