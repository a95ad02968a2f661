"""Tables of separated values: CSV, TSV and RecBole files. Every field is text; an empty one is null.

Polars reads such files fast, but takes much that is malformed without a word: fields beyond the header, lines that end
early, quotation marks within a field, after which lines are read as one. All of that is looked for here. A file with
quotation marks other than around whole fields goes through Python's reader, which is slow and exact.
"""

from __future__ import annotations

import csv
import gzip
import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO

import polars as pl
from polars.exceptions import PolarsError

from foster.errors import InputError

# Columns for what stands beyond the header; no file can have these names.
EXTRA = ("\x00beyond 1", "\x00beyond 2")
_SIGNS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}


@dataclass(frozen=True)
class Delimited:
    """How a file of separated values is written, and its rows.

    Attributes:
        path: the file.
        separator: what stands between two fields.
        quotes: whether fields may stand in quotation marks.
        names: the columns, in the order of the header.
        header_lines: lines of the file before the first row.
    """

    path: Path
    separator: str
    quotes: bool
    names: tuple[str, ...]
    header_lines: int

    @classmethod
    def open(cls, path: Path, separator: str, quotes: bool | None, typed: bool = False) -> Delimited:
        """Read the header of a file.

        Args:
            path: the file.
            separator: between fields; another usual one is taken where the header has only that.
            quotes: whether fields may be quoted; None: if the file looks like it, for tab-separated values.
            typed: whether the names have types, which are cut off: ``user_id:token`` (RecBole).

        Raises:
            InputError: a header that cannot be read, or that has a name twice.
        """
        told = _told_separator(path)  # spreadsheets say so in a line before the header
        separator = told or separator
        header, lines = _header(path, separator, quotes is not False, told is not None)
        if len(header) == 1:
            for other in _SIGNS:
                parted, _ = _header(path, other, quotes is not False, told is not None)
                if len(parted) > 1:
                    header, separator = parted, other
                    break
        names = tuple(name.strip() or f"column {place}" for place, name in enumerate(header, start=1))
        if typed:
            names = tuple(name.partition(":")[0] for name in names)
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{path}: column '{name}' stands twice in the header; rename one")
        found = cls(path, separator, quotes is not False, names, lines)
        return found if quotes is not None or found._quoted_values() else replace(found, quotes=False)

    @property
    def remark(self) -> str:
        """What was found out about the file and is not plain from its name, or ""."""
        usual = "\t" if self.path.name.lower().removesuffix(".gz").endswith((".tsv", ".inter", ".item")) else ","
        remarks = [f"separated by {_SIGNS.get(self.separator, self.separator)}"] if self.separator != usual else []
        return ", ".join(remarks + (["fields in quotation marks"] if usual == "\t" and self.quotes else []))

    def scan(self) -> pl.LazyFrame:
        """Return the rows, without those that hold nothing; columns ``EXTRA`` hold what stands beyond the header.

        Raises:
            InputError: quotation marks do not fit together, or a line does not have as many fields as the header.
        """
        if self.quotes and self._has(b'"') and not self._well_quoted:
            return self._read_exactly().lazy()
        rows = pl.scan_csv(
            self.path.absolute(),
            has_header=False,
            skip_lines=self.header_lines,
            schema=dict.fromkeys((*self.names, *EXTRA), pl.String),
            separator=self.separator,
            quote_char='"' if self.quotes else None,
            missing_columns="insert",
            raise_if_empty=False,
            glob=False,
        )
        nothing = self.separator.encode() * (len(self.names) - 1)
        end = b"\r\n" if next(binary_lines(self.path)).endswith(b"\r\n") else b"\n"
        if self._has(end + end, end + nothing + end):
            rows = rows.filter(~pl.all_horizontal(pl.all().is_null()))
        return rows

    def check(self, beyond: bool, last_missing: bool) -> None:
        """See to it that every line has as many fields as the header.

        Args:
            beyond: whether a column of ``EXTRA`` holds anything.
            last_missing: whether the last column misses a value, so that lines may have ended early.

        Raises:
            InputError: names the first line with more or fewer fields.
        """
        if beyond or (last_missing and self._ends_early):
            raise InputError(f"{self.path}: {self.fault() or 'lines have more or fewer fields than the header'}")

    def fault(self) -> str | None:
        """Return what is wrong with the first malformed line, or None."""
        try:
            for _ in self._exact_rows():
                pass
        except InputError as error:
            return str(error).removeprefix(f"{self.path}: ")
        return None

    def _read_exactly(self) -> pl.DataFrame:
        columns: list[list[str | None]] = [[] for _ in self.names]
        for row in self._exact_rows():
            for column, value in zip(columns, row, strict=True):
                column.append(value or None)
        return pl.DataFrame(dict(zip(self.names, columns, strict=True)), schema=dict.fromkeys(self.names, pl.String))

    def _exact_rows(self) -> Iterator[list[str]]:
        """Yield the rows that hold something, as the csv module reads them."""
        width, number = len(self.names), 0
        reader = csv.reader(_text_lines(self.path), _dialect(self.separator, self.quotes))
        try:
            for row in reader:
                first, number = number + 1, reader.line_num
                if number <= self.header_lines or not any(row):
                    continue
                if len(row) > width and not any(row[width:]):
                    row = row[:width]
                if len(row) != width:
                    hint = (
                        "; put a field that holds the separator into quotation marks"
                        if len(row) > width and self.quotes
                        else ""
                    )
                    raise InputError(
                        f"{self.path}: line {first} has {len(row)} fields, but the header has {width}{hint}"
                    )
                if number > first:
                    self._check_lines(row, first, number)
                yield row
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.path}: line {reader.line_num + 1} is not UTF-8 text; save the file as UTF-8 "
                "(in Excel: CSV UTF-8)"
            ) from error
        except csv.Error as error:
            reason = {"unexpected end of data": "a quotation mark is never closed"}.get(str(error), str(error))
            raise InputError(
                f"{self.path}: line {number + 1} cannot be read ({reason}); double the quotation marks in a field, and "
                "put quotation marks around it"
            ) from error
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                f"{self.path}: cannot be unpacked after line {reader.line_num} ({error}); fetch the file again"
            ) from error

    def _check_lines(self, row: list[str], first: int, last: int) -> None:
        """Refuse a field whose lines hold as many separators each as they would have as rows of their own.

        A comma before a blank is of a text, where other fields do not begin with one.
        """
        width, end = len(row), self.separator
        spaced = any(value.startswith(" ") for value in row[1:])
        for column, (name, value) in enumerate(zip(self.names, row, strict=True)):
            lines = value.split("\n")
            found = [line.count(end) - (0 if spaced else line.count(f"{end} ")) for line in lines]
            if len(lines) > 1 < width and found == [width - 1 - column, *[width - 1] * (len(lines) - 2), column]:
                raise InputError(
                    f"{self.path}: a quotation mark makes lines {first} to {last} one row, and whole rows a part of "
                    f"its '{name}'; double the quotation marks in a field, and put quotation marks around it"
                )

    def _has(self, *patterns: bytes) -> bool:
        """Whether the unpacked file holds any of these bytes."""
        if _packed(self.path):
            try:
                blocks = _blocks(self.path, max(map(len, patterns)))
                return any(pattern in block for block in blocks for pattern in patterns)
            except (OSError, EOFError, zlib.error) as error:
                raise InputError(f"{self.path}: cannot be unpacked ({error}); fetch the file again") from error
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(pattern) >= 0 for pattern in patterns)

    def _lines(self) -> pl.LazyFrame:
        return pl.scan_lines(self.path.absolute(), glob=False)

    @cached_property
    def _well_quoted(self) -> bool:
        """Whether quotation marks stand around whole fields only, none of which goes over a line's end."""
        field = f'(?:"(?:[^"]|"")*"|[^"{_escaped(self.separator)}]*)'
        form = f"^{field}(?:{_escaped(self.separator)}{field})*\r?$"
        line = pl.col("line")
        bad = self._lines().filter(line.str.contains('"', literal=True) & ~line.str.contains(form))
        return self._collected(bad.head(1)).is_empty()

    def _quoted_values(self) -> bool:
        """Whether tab-separated values are quoted as in CSV: where a mark stands, all is quoted, and marks doubled.

        Spreadsheets put just the fields with a comma into quotation marks.
        """
        if not self._has(b'""'):
            first = next(_text_lines(self.path), "")
            if not first.startswith('"'):
                return self._has(b'"') and self._well_quoted and self._commas_quoted
        return self._well_quoted

    @property
    def _commas_quoted(self) -> bool:
        """Whether the fields in quotation marks, without marks in them, are those with a comma."""
        line, ends = pl.col("line"), _escaped(self.separator)
        without = line.str.contains(f'(?:^|{ends})"[^",]*"(?:{ends}|\r?$)')
        bare = line.str.replace_all('"[^"]*"', "").str.contains(",", literal=True)
        return self._collected(self._lines().filter(without | bare).head(1)).is_empty()

    @cached_property
    def _ends_early(self) -> bool:
        """Whether a line that is not empty has fewer fields than the header."""
        line = pl.col("line")
        bare = line.str.replace_all('"[^"]*"', "") if self.quotes else line
        short = bare.str.count_matches(self.separator, literal=True) < len(self.names) - 1
        rows = self._lines().slice(self.header_lines).filter(short & (line.str.strip_chars("\r") != ""))
        return not self._collected(rows.head(1)).is_empty()

    def _collected(self, lines: pl.LazyFrame) -> pl.DataFrame:
        try:
            return lines.collect()
        except (PolarsError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"{self.path}: {self.fault() or f'cannot be read ({reason})'}") from error


def open_unpacked(path: Path) -> IO[bytes] | gzip.GzipFile:
    """Open a file to read its bytes, unpacked if it is packed."""
    return gzip.open(path, "rb") if _packed(path) else path.open("rb")


def binary_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, unpacked if it is packed."""
    with open_unpacked(path) as file:
        yield from file


def _told_separator(path: Path) -> str | None:
    """Return the separator that the first line says, as in ``sep=;``, or None."""
    try:
        first = next(_text_lines(path), "").strip()
    except (ValueError, OSError, EOFError, zlib.error):
        return None  # reading the header says what is wrong
    return first[4] if len(first) == 5 and first.startswith("sep=") else None


def _header(path: Path, separator: str, quotes: bool, told: bool) -> tuple[list[str], int]:
    """Return the fields of the first line that is not empty, and how many lines of the file that takes.

    ``told``: whether a line before it says the separator.
    """
    reader = csv.reader(_text_lines(path), _dialect(separator, quotes))
    try:
        if "\r" in next(_text_lines(path), "").rstrip("\r\n"):
            raise InputError(f"{path}: lines end with a carriage return alone; save the file with usual line ends")
        if told:
            next(reader)
        header = next((row for row in reader if any(row)), [])
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: line {reader.line_num + 1} is not UTF-8 text; save the file as UTF-8 (in Excel: CSV UTF-8)"
        ) from error
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num} cannot be read ({error})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked ({error}); fetch the file again") from error
    if not header:
        raise InputError(f"{path}: the file is empty")
    return header, reader.line_num


def _dialect(separator: str, quotes: bool) -> type[csv.Dialect]:
    """Return how the csv module reads a file, strictly."""

    class Written(csv.excel):
        delimiter = separator
        quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        skipinitialspace = quotes  # a, "b": else the marks would be of the field
        strict = True

    return Written


def _text_lines(path: Path) -> Iterator[str]:
    for number, line in enumerate(binary_lines(path)):
        yield line.decode("utf-8" if number else "utf-8-sig")


def _blocks(path: Path, overlap: int) -> Iterator[bytes]:
    """Yield the unpacked content in blocks that share ``overlap`` bytes."""
    kept = b""
    with open_unpacked(path) as file:
        while block := file.read(1 << 22):
            yield kept + block
            kept = block[-overlap:]


def _packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _escaped(separator: str) -> str:
    return {"\t": "\\t", "|": "\\|"}.get(separator, separator)
