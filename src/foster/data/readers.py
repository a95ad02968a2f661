"""Tables from files (CSV, TSV, Parquet, JSON lines, RecBole) and from frames (pandas, Polars, Arrow).

Text formats are read as text, column by column, and typed later by what a column is for. So an id such as
``0012`` keeps its zeros, and the same content gives the same data set from every format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from narwhals.typing import IntoFrame
from polars.exceptions import PanicException, PolarsError

from foster.data.delimited import EXTRA, Delimited
from foster.data.frames import from_frame
from foster.data.json_lines import read_objects, scan_json_lines
from foster.data.parquet import holds_parquet, scan_parquet_folder
from foster.errors import InputError
from foster.panics import hushed

_BEYOND, _MISSING = "\x00beyond", "\x00missing"


@dataclass(frozen=True)
class Table:
    """A table that is opened but not read: reading takes only the columns that are asked for.

    Attributes:
        name: the path as it was given, or a few words for a frame; for messages.
        frame: the rows in input order.
        columns: the names of its columns.
        path: the file, or None for a frame in memory.
        remark: what was found out about the file and is not plain from its name, or "".
        delimited: how a file of separated values is written, or None.
    """

    name: str
    frame: pl.LazyFrame
    columns: list[str]
    path: Path | None = None
    remark: str = ""
    delimited: Delimited | None = None

    def read(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read the rows in input order.

        Args:
            columns: the columns to read; None reads all.

        Raises:
            InputError: the file is damaged or holds no rows.
        """
        wanted = self.columns if columns is None else list(dict.fromkeys(columns))
        return self.select([pl.col(column) for column in wanted])

    def select(self, expressions: Sequence[pl.Expr]) -> pl.DataFrame:
        """Read the rows in input order, each column turned into something else on the way.

        Args:
            expressions: element-wise, one a column that comes out; a column that is as large as the file need not
                be held in memory as it stands there.

        Raises:
            InputError: the file is damaged or holds no rows.
        """
        guards = []
        if self.delimited is not None and EXTRA[0] in self.frame.collect_schema():
            guards = [
                pl.any_horizontal(pl.col(EXTRA).is_not_null()).alias(_BEYOND),
                pl.col(self.columns[-1]).is_null().alias(_MISSING),
            ]
        rows = self.collect(self.frame.select(*expressions, *guards))
        if self.delimited is not None and guards:
            self.delimited.check(bool(rows[_BEYOND].any()), bool(rows[_MISSING].any()))
            rows = rows.drop(_BEYOND, _MISSING)
        if rows.height == 0:
            raise InputError(f"{self.name}: holds no rows")
        return rows

    def sample(self, columns: Sequence[str], rows: int) -> pl.DataFrame:
        """Read the first rows of some columns, to see what they hold."""
        return self.collect(self.frame.select(columns).head(rows))

    def count_distinct(self, column: str, others: Sequence[str]) -> dict[str, int]:
        """Count the rows (under ""), the values of a column, and its pairs with the values of each other column."""
        counts = [pl.len().alias(""), pl.col(column).n_unique()]
        counts += [pl.struct(column, other).n_unique().alias(other) for other in others]
        return self.collect(self.frame.select(counts)).row(0, named=True)

    def collect(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """Compute what was made of ``frame``.

        Raises:
            InputError: the file is damaged.
        """
        try:
            with hushed():
                return frame.collect(engine="streaming")
        except (PolarsError, OSError, PanicException) as error:  # a panic of polars is no Exception
            raise _unreadable(self.path or self.name, error) from error


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
        name = f"the {type(source).__name__}"
        rows = from_frame(source, name)
        return Table(name, rows, rows.collect_schema().names())
    path = Path(source)
    try:
        empty = path.is_file() and path.stat().st_size == 0
    except OSError as error:
        raise _unreadable(path, error) from error
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if empty:
        raise InputError(f"{path}: the file is empty")
    if not path.is_file() and not path.is_dir():
        raise InputError(f"{path}: is a pipe or a device; write its content to a file, and name that")
    kind = FORMATS.get(_suffix(path))
    if kind is None and path.is_dir() and holds_parquet(path):
        kind = "parquet"
    if kind is None:
        raise InputError(f"{path}: unknown format; the name must end in one of {', '.join(FORMATS)}")
    try:
        if kind in _SEPARATED:
            file = Delimited.open(path, *_SEPARATED[kind])
            return Table(str(path), file.scan(), list(file.names), path, file.remark, file)
        frame = scan_json_lines(path) if kind == "json" else _scan_parquet(path)
        return Table(str(path), frame, frame.collect_schema().names(), path)
    except (PolarsError, OSError) as error:
        raise _unreadable(path, error) from error


def is_table(path: Path) -> bool:
    """Whether the name of a file (or of a folder of Parquet parts) says that we can read it."""
    return _suffix(path) in FORMATS


def _scan_parquet(path: Path) -> pl.LazyFrame:
    return scan_parquet_folder(path) if path.is_dir() else pl.scan_parquet(path.absolute(), glob=False)


FORMATS = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
    ".inter": "recbole",
    ".item": "recbole",
    ".jsonl": "json",
    ".jsonl.gz": "json",
    ".ndjson": "json",
    ".json": "json",
    ".json.gz": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
# Separated values: between fields, whether these may be quoted (None: see), whether names in the header have types.
_SEPARATED: dict[str, tuple[str, bool | None, bool]] = {
    "csv": (",", True, False),
    "tsv": ("\t", None, False),
    "recbole": ("\t", False, True),
}


def _suffix(path: Path) -> str:
    ends = [end.lower() for end in path.suffixes]
    return "".join(ends[-2:]) if ends[-1:] == [".gz"] else "".join(ends[-1:])


def _unreadable(source: Path | str, error: BaseException) -> InputError:
    """Return the one-line error for a table that cannot be read, with the line number if we find it."""
    fault = None
    if isinstance(source, Path) and isinstance(error, PolarsError):
        kind = FORMATS.get(_suffix(source))
        try:
            if kind == "json":
                for _ in read_objects(source):
                    pass
            elif kind in _SEPARATED:
                fault = Delimited.open(source, *_SEPARATED[kind]).fault()
        except InputError as found:
            return found
    if fault is None:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        fault = f"cannot be read ({reason.strip().splitlines()[0]})"
    return InputError(f"{source}: {fault}")
