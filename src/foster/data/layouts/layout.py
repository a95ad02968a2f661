"""What a layout is, and how the files that a user gave are looked at."""

from __future__ import annotations

import ast
import csv
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from foster.data.delimited import open_unpacked
from foster.data.readers import Table, open_table
from foster.errors import InputError

# A first line longer than this is that of no file that we know. Products with hundreds of "also bought" have 100 kB.
_LONGEST_LINE = 1 << 24
# Files of a published folder may lie in a folder of this name in it.
_INNER = "data"
# What stands for a missing value.
_NOTHING = {"": None, "\\N": None}


@dataclass(frozen=True)
class Layout:
    """A public data set by the true form of its files.

    Attributes:
        name: what it is, in words.
        log: the interactions; all columns are strings, a missing field is null.
        items: the item table, likewise; None: the texts are in the log.
        user: the user column of the log.
        item: the item column of the log.
        item_key: the id column of the item table (of the log where there is none).
        time: the time column of the log; None: the log has none, and its rows are in order.
        time_format: how times are written, as polars' ``str.to_datetime`` takes it; None: numbers or ISO dates.
        text: the text columns to use by default: title, brand or author, category; (): by their usual names.
        notes: what was left out or decided, one short sentence each.
        files: all files that are read, the log first.
    """

    name: str
    log: Table
    items: Table | None
    user: str
    item: str
    item_key: str
    time: str | None
    time_format: str | None
    text: tuple[str, ...]
    notes: tuple[str, ...]
    files: tuple[Path, ...]


class Files:
    """The files that a user gave: those of one folder, or those that are named.

    Args:
        paths: one folder, or files.

    Attributes:
        folder: the folder, or None.
        paths: the files, sorted by name where a folder was given.
        name: the folder or the files, for messages.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.folder: Path | None = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
        self.paths: list[Path] = list(paths) if self.folder is None else _files_of(self.folder)
        self.name: str = ", ".join(str(path) for path in paths)
        self._looks: dict[Path, _Look] = {}

    def named(self, pattern: str) -> list[Path]:
        """Return the files whose whole name fits a regular expression, whatever its case."""
        return [path for path in self.paths if re.fullmatch(pattern, path.name, re.IGNORECASE)]

    def look(self, path: Path) -> _Look:
        """Return what the beginning of a file says."""
        if path not in self._looks:
            self._looks[path] = _Look(path)
        return self._looks[path]

    def objects(self, pattern: str, keys: Iterable[str], without: Iterable[str] = ()) -> list[Path]:
        """Return the files of objects, one a line, whose first one has all of ``keys`` and none of ``without``."""
        found = []
        for path in self.named(pattern):
            first = self.look(path).object
            if first is not None and set(keys) <= first.keys() and not set(without) & first.keys():
                found.append(path)
        return found

    def tables(self, pattern: str, columns: Iterable[str], also: Iterable[str] | None = None) -> list[Path]:
        """Return the comma-separated files whose header has all of ``columns``, and none but ``also`` if that is given.

        A table of a user's own may have the columns of a known one and texts beside them.
        """
        needed = set(columns)
        found = []
        for path in self.named(pattern):
            header = set(self.look(path).header)
            if needed <= header and (also is None or header <= needed | set(also)):
                found.append(path)
        return found

    def one(self, found: Sequence[Path]) -> Path | None:
        """Return the only one of the files found, or None.

        Raises:
            InputError: there are several.
        """
        if len(found) > 1:
            raise InputError(
                f"{self.name}: holds both {found[0].name} and {found[1].name}; "
                "name the one log and the one item file that you want"
            )
        return found[0] if found else None

    def both(
        self, layout: str, log: Path | None, items: Path | None, names: tuple[str, str], source: str
    ) -> tuple[Path, Path] | None:
        """Return the log and the item file of a data set, or None if neither is there.

        Args:
            layout: the data set.
            log: the log that was found.
            items: the item file that was found.
            names: how the two are called.
            source: where they come from.

        Raises:
            InputError: only one of them is there, as ``incomplete`` says.
        """
        if log is not None and items is not None:
            return log, items
        if log is not None:
            self.incomplete(layout, log, names[1], source)
        if items is not None:
            self.incomplete(layout, items, names[0], source)
        return None

    def incomplete(self, layout: str, have: Path, missing: str, source: str) -> None:
        """Refuse a data set of which a part is missing.

        Returns:
            None where the user names other files beside ``have``: these may be the missing part in a form of his own.

        Raises:
            InputError: says what is missing and where such files come from.
        """
        if self.folder is None and len(self.paths) > 1:
            return
        raise InputError(
            f"{self.name}: {have.name} is of {layout}, but {missing} is missing; get it from {source} and "
            f"{'put it into the folder' if self.folder else 'name both files'}"
        )


class _Look:
    """What the first line of a file says; nothing where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def lines(self) -> list[str]:
        """The first two lines without their ends."""
        if not self.path.is_file():  # a pipe would let us wait for who writes into it
            return ["", ""]
        try:
            with open_unpacked(self.path) as file:
                lines = [file.readline(_LONGEST_LINE), file.readline(_LONGEST_LINE)]
        except (OSError, EOFError, zlib.error):
            return ["", ""]
        try:
            words = [line.decode("utf-8-sig") for line in lines]
        except UnicodeDecodeError:
            words = [line.decode("iso-8859-1") for line in lines]
        return [line.rstrip("\r\n") for line in words]

    @cached_property
    def object(self) -> dict[str, Any] | None:
        """The object in the first line, JSON or Python's own notation; None if there is none."""
        if not self.lines[0].lstrip().startswith("{"):
            return None
        try:
            found = parse_object(self.lines[0])
        except ValueError:
            return None
        return found

    @cached_property
    def is_json(self) -> bool:
        """Whether the object in the first line is JSON."""
        try:
            return isinstance(json.loads(self.lines[0]), dict)
        except (ValueError, RecursionError):
            return False

    @cached_property
    def header(self) -> list[str]:
        """The comma-separated fields of the first line."""
        return self.fields(",")

    def fields(self, separator: str, line: int = 0) -> list[str]:
        """Return the fields of a line; quotes count with commas only."""
        if separator != ",":
            return self.lines[line].split(separator)
        try:
            return next(csv.reader([self.lines[line]]), [])
        except csv.Error:
            return []


def parse_object(line: str) -> dict[str, Any]:
    """Return the object in a line of JSON, or of Python's notation (``{'asin': u'...'}``).

    Raises:
        ValueError: the line is neither, or holds no object.
    """
    try:
        if line.startswith('{"'):
            return _checked(json.loads(line))
    except (ValueError, RecursionError):
        pass  # a key with an apostrophe is written so by Python as well
    try:
        return _checked(ast.literal_eval(line))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("is neither a JSON object nor one in Python's notation") from error


def open_frame(path: Path, frame: pl.LazyFrame) -> Table:
    r"""Return a table of a lazy frame of strings; empty fields and ``\N`` become null."""
    columns = frame.collect_schema().names()
    return Table(
        name=str(path), frame=frame.with_columns(pl.col(columns).replace(_NOTHING)), columns=columns, path=path
    )


def open_file(path: Path, *changes: pl.Expr) -> Table:
    r"""Open a file as any table of text, and change some of its columns; empty fields and ``\N`` become null.

    The checks of the reader stay with the table.

    Raises:
        InputError: as ``open_table``.
    """
    table = open_table(path)
    return replace(table, frame=table.frame.with_columns(pl.col(table.columns).replace(_NOTHING)).with_columns(changes))


def open_files(paths: Sequence[Path], kept: pl.Expr | None = None) -> Table:
    """Open files of the same columns as one table, in the order that is given.

    Args:
        paths: the files, one or more.
        kept: which rows of each are kept; None keeps all.

    Raises:
        InputError: as ``open_table``, or a file has other columns than the first.
    """
    tables = [open_file(path) for path in paths]
    first = tables[0]
    for table in tables[1:]:
        if table.columns != first.columns:
            raise InputError(
                f"{table.name}: its columns are {', '.join(table.columns)}, but those of {paths[0].name} are "
                f"{', '.join(first.columns)}; leave one out"
            )
    if kept is not None:
        tables = [replace(table, frame=table.frame.filter(kept)) for table in tables]
    if len(tables) == 1:
        return tables[0]
    return _Tables(
        name=", ".join(table.name for table in tables),
        frame=pl.concat([table.frame.select(first.columns) for table in tables]),
        columns=first.columns,
        path=first.path,
        parts=tuple(tables),
    )


@dataclass(frozen=True)
class _Tables(Table):
    """Several files that are one table; each is read, and checked, as the file that it is."""

    parts: tuple[Table, ...] = ()

    def select(self, expressions: Sequence[pl.Expr]) -> pl.DataFrame:
        return pl.concat([part.select(expressions) for part in self.parts])


def _checked(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError("no object")
    return value


def _files_of(folder: Path) -> list[Path]:
    """Return the files in a folder and in its folder ``data``; of a lone folder in it where it has no files."""
    for _ in range(2):
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
        files = [path for path in inside if path.is_file()]
        folders = [path for path in inside if path.is_dir()]
        if inner := [path for path in folders if path.name == _INNER]:
            files += sorted(path for path in inner[0].iterdir() if path.is_file() and not path.name.startswith("."))
        if files or len(folders) != 1:
            return files
        folder = folders[0]
    return files
