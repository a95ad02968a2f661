"""Files that no reader of tables knows: lines of Python dictionaries, and fields between separators without quotes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from foster.data.delimited import binary_lines
from foster.data.json_lines import scan_objects
from foster.data.layouts.layout import Files, open_file, open_frame, parse_object
from foster.data.readers import Table
from foster.errors import InputError

# Keys are looked for in this many lines; a documented key counts wherever it first stands.
_KEY_LINES = 10_000
# Stands in no text: the whole line is then one field for polars.
_NO_SEPARATOR = "\x00"


def object_table(files: Files, path: Path, keys: Sequence[str]) -> Table:
    """Open a file of objects, one a line, in JSON or in Python's notation; nested values become JSON text.

    Args:
        files: where the file is from.
        path: the file, packed with gzip or not.
        keys: the documented keys, which are columns even where no line has them. In Python's notation another key is
            one only if one of the first 10,000 lines has it.

    Raises:
        InputError: a line is no object; with the number of the line. In Python's notation, later lines are read, and
            complained of, only when the table is.
    """
    if files.look(path).is_json:
        table = open_file(path)
        absent = [key for key in keys if key not in table.columns]
        nothing = [pl.lit(None, dtype=pl.String).alias(key) for key in absent]
        return replace(table, frame=table.frame.with_columns(nothing), columns=[*table.columns, *absent])
    columns = list(dict.fromkeys([key for row in islice(_rows(path), _KEY_LINES) for key in row] + list(keys)))
    return open_frame(path, scan_objects(path, _rows, columns, _as_text))


def separated_table(path: Path, separator: str, columns: Sequence[str]) -> Table:
    """Open a UTF-8 file without a header and without quotes, in which each line has the same number of fields.

    Raises:
        InputError: a line has another number of fields, the file is no UTF-8 text or cannot be read.
    """
    lines = pl.scan_csv(
        path,
        has_header=False,
        new_columns=["line"],
        separator=_NO_SEPARATOR,
        quote_char=None,
        infer_schema=False,
        glob=False,
        row_index_name="number",
        row_index_offset=1,
    )
    return open_frame(path, _split(path, lines, separator, columns))


def latin_table(path: Path, separator: str, columns: Sequence[str]) -> Table:
    """Open a small file as ``separated_table`` does, in UTF-8 or else in ISO-8859-1.

    Raises:
        InputError: a line has another number of fields, or the file cannot be read.
    """
    lines = pl.LazyFrame({"line": latin_lines(path)}, schema={"line": pl.String}).with_row_index("number", offset=1)
    return open_frame(path, _split(path, lines, separator, columns))


def latin_lines(path: Path) -> list[str]:
    """Return the lines of a small file in UTF-8 or else in ISO-8859-1.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Words in ISO-8859-1 with a letter beyond ASCII are no valid UTF-8, but for the rarest ones.
        text = content.decode("iso-8859-1")
    return [line.removesuffix("\r") for line in text.split("\n")]


def _split(path: Path, lines: pl.LazyFrame, separator: str, columns: Sequence[str]) -> pl.LazyFrame:
    lines = lines.filter(pl.col("line").fill_null("") != "")
    fields = pl.col("line").str.count_matches(separator, literal=True) + 1
    try:
        bad = lines.filter(fields != len(columns)).select("number", fields=fields).head(1).collect()
    except (PolarsError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        if "utf" in reason.lower():
            reason = "it is no UTF-8 text"
        raise InputError(f"{path}: cannot be read ({reason}); fetch the file again") from error
    if bad.height:
        number, count = bad.row(0)
        raise InputError(f"{path}: line {number} has {count} fields, but {len(columns)} are needed; correct the line")
    split = pl.col("line").str.split_exact(separator, len(columns) - 1).struct.rename_fields(list(columns))
    return lines.select(split).unnest("line")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file.

    Raises:
        InputError: a line is no object, or the file is damaged.
    """
    number = 0
    try:
        for number, line in enumerate(binary_lines(path), start=1):  # noqa: B007 (errors name it)
            if word := line.decode("utf-8-sig").strip():
                yield parse_object(word)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: line {number} is no UTF-8 text; fetch the file again") from error
    except ValueError as error:
        raise InputError(f"{path}: line {number} {error}; one object a line is needed") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked after line {number} ({error}); fetch the file again") from error


def _as_text(value: Any) -> str | None:
    """Return a value as readers of JSON lines do: words as they are, other values as JSON."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Builds of Python 2 wrote a sign beyond 16 bits as two halves.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
