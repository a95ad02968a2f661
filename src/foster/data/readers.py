"""Tables from files (CSV, TSV, Parquet, JSON lines, RecBole) and from frames (pandas, Polars, Arrow).

Text formats are read as text, column by column, and typed later by what a column is for. So an id such as
``0012`` keeps its zeros, and the same content gives the same data set from every format.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl
from narwhals.typing import IntoFrame
from polars.exceptions import PolarsError

from foster.errors import InputError

# Field names are taken from this many JSON lines. Real files leave fields out of single lines, not of
# thousands.
JSON_NAME_LINES = 10_000


@dataclass(frozen=True)
class Table:
    """A table that is opened but not read: reading takes only the columns that are asked for.

    Attributes:
        name: the path as it was given, or a few words for a frame; for messages.
        frame: the rows in input order.
        columns: the names of its columns.
        path: the file, or None for a frame in memory.
    """

    name: str
    frame: pl.LazyFrame
    columns: list[str]
    path: Path | None = None

    def read(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read the rows in input order.

        Args:
            columns: the columns to read; None reads all.

        Raises:
            InputError: the file is damaged or holds no rows.
        """
        wanted = self.columns if columns is None else list(dict.fromkeys(columns))
        try:
            rows = self.frame.select(wanted).collect()
        except (PolarsError, OSError) as error:
            raise _unreadable(self.path or self.name, error) from error
        if rows.height == 0:
            raise InputError(f"{self.name}: holds no rows")
        return rows


def read_table(path: str | Path) -> pl.DataFrame:
    """Read a whole file; its format follows from its name (see ``FORMATS``).

    Raises:
        InputError: no such file, an unknown format, an empty or a damaged file.
    """
    return open_table(path).read()


def open_table(source: str | Path | IntoFrame) -> Table:
    """Open a file or wrap a frame.

    Args:
        source: a path, or any frame that narwhals knows (pandas, Polars, Arrow, ...).

    Raises:
        InputError: no such file, an unknown format, an empty or a damaged file, or not a frame.
    """
    if not isinstance(source, str | Path):
        return _frame_table(source)
    path = Path(source)
    try:
        empty = path.is_file() and path.stat().st_size == 0
    except OSError as error:
        raise _unreadable(path, error) from error
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if empty:
        raise InputError(f"{path}: the file is empty")
    try:
        frame = _scanner(path)(path)
        columns = frame.collect_schema().names()
    except (PolarsError, OSError) as error:
        raise _unreadable(path, error) from error
    return Table(str(path), frame, columns, path)


def is_table(path: Path) -> bool:
    """Whether the name of a file (or of a folder of Parquet parts) says that we can read it."""
    return _suffix(path) in FORMATS


def scan_csv(path: Path) -> pl.LazyFrame:
    """Comma-separated values with a header; every column is text, an empty field is null."""
    return pl.scan_csv(path, infer_schema=False)


def scan_tsv(path: Path) -> pl.LazyFrame:
    """Tab-separated values with a header; every column is text, an empty field is null."""
    return pl.scan_csv(path, separator="\t", infer_schema=False)


def scan_recbole(path: Path) -> pl.LazyFrame:
    """A RecBole file: tab-separated, no quotes, a header such as ``user_id:token``; the types are cut off."""
    frame = pl.scan_csv(path, separator="\t", infer_schema=False, quote_char=None)
    return frame.rename(lambda name: name.partition(":")[0])


def scan_jsonl(path: Path) -> pl.LazyFrame:
    """One JSON object a line; numbers are read as text, lists as JSON text (see ``foster.data.texts``)."""
    names = pl.scan_ndjson(path, infer_schema_length=JSON_NAME_LINES).collect_schema().names()
    return pl.scan_ndjson(path, schema=dict.fromkeys(names, pl.String))


def scan_parquet(path: Path) -> pl.LazyFrame:
    """A Parquet file, or a folder of parts as Spark and Ray write it (in the order of their names)."""
    return pl.scan_parquet(path / "*.parquet" if path.is_dir() else path)


FORMATS: dict[str, Callable[[Path], pl.LazyFrame]] = {
    ".csv": scan_csv,
    ".csv.gz": scan_csv,
    ".tsv": scan_tsv,
    ".tsv.gz": scan_tsv,
    ".inter": scan_recbole,
    ".item": scan_recbole,
    ".jsonl": scan_jsonl,
    ".jsonl.gz": scan_jsonl,
    ".ndjson": scan_jsonl,
    ".json": scan_jsonl,
    ".json.gz": scan_jsonl,
    ".parquet": scan_parquet,
    ".pq": scan_parquet,
}


def _suffix(path: Path) -> str:
    ends = [end.lower() for end in path.suffixes]
    return "".join(ends[-2:]) if ends[-1:] == [".gz"] else "".join(ends[-1:])


def _scanner(path: Path) -> Callable[[Path], pl.LazyFrame]:
    scan = FORMATS.get(_suffix(path))
    if scan is None:
        raise InputError(f"{path}: unknown format; the name must end in one of {', '.join(FORMATS)}")
    return scan


def _frame_table(source: IntoFrame) -> Table:
    name = f"the {type(source).__name__}"
    try:
        frame = nw.from_native(source)
    except TypeError as error:
        raise InputError(f"{name}: neither a path nor a data frame") from error
    if isinstance(source, pl.LazyFrame):
        rows = source
    else:
        eager: nw.DataFrame[Any] = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        rows = eager.to_polars().lazy()
    return Table(name, rows, rows.collect_schema().names())


def _unreadable(source: Path | str, error: Exception) -> InputError:
    """Return the one-line error for a table that cannot be read, with the line number if we find it."""
    fault = None
    if isinstance(source, Path) and isinstance(error, PolarsError):
        scan = FORMATS[_suffix(source)]
        if scan is scan_jsonl:
            fault = _jsonl_fault(source)
        elif scan in (scan_csv, scan_tsv):
            fault = _csv_fault(source, "," if scan is scan_csv else "\t")
    if fault is None:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        fault = f"cannot be read ({reason.strip().splitlines()[0]})"
    return InputError(f"{source}: {fault}")


def _jsonl_fault(path: Path) -> str | None:
    number = 0
    try:
        for number, line in enumerate(_binary_lines(path), start=1):
            if line.strip() and not isinstance(json.loads(line), dict):
                return f"line {number} is not a JSON object; one object a line is needed"
    except ValueError as error:
        return f"line {number} is not valid JSON ({error}); one object a line is needed"
    except (OSError, EOFError) as error:
        return f"cannot be unpacked after line {number} ({error}); fetch the file again"
    return None if number else "the file is empty"


def _csv_fault(path: Path, delimiter: str) -> str | None:
    reader = csv.reader((line.decode("utf-8-sig") for line in _binary_lines(path)), delimiter=delimiter)
    try:
        header = next(reader, [])
        for row in reader:
            if len(row) > len(header):
                return f"line {reader.line_num} has {len(row)} fields, but the header has {len(header)}"
    except UnicodeDecodeError:
        return f"line {reader.line_num + 1} is not UTF-8 text; save the file as UTF-8"
    except csv.Error as error:
        return f"line {reader.line_num} cannot be read ({error})"
    except (OSError, EOFError) as error:
        return f"cannot be unpacked after line {reader.line_num} ({error}); fetch the file again"
    return None if header else "the file is empty"


def _binary_lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        yield from file
