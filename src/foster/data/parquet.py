"""Folders of Parquet files: parts that Spark and Ray number, data sets of the Hugging Face hub, and hive folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
from polars.exceptions import PolarsError

from foster.data.texts import shortened
from foster.errors import InputError

_SUFFIXES = (".parquet", ".pq")
_OTHER_FORMATS = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".xlsx", ".feather", ".arrow", ".gz", ".zip")
_COUNTED = re.compile(r"(.+)-(\d+)-of-(\d+)", re.DOTALL)
# The names of splits in the order of time, as far as they have one.
_SPLITS = {
    name: place
    for place, names in enumerate((("train",), ("validation", "valid", "val", "dev"), ("test",)))
    for name in names
}
# Spark's name of a folder for rows without a key.
_NO_KEY = "__HIVE_DEFAULT_PARTITION__"


def has_schema(path: Path, schema: Mapping[str, Any]) -> bool:
    """Whether a file is Parquet with just these columns of these types, in this order."""
    try:
        with path.open("rb") as file:
            return pl.read_parquet_schema(file) == schema
    except (PolarsError, OSError):
        return False


def check_parquet_name(path: Path, flag: str) -> None:
    """Raise InputError where the name of a file to make says another format than Parquet."""
    if path.suffix.lower() in _OTHER_FORMATS:
        raise InputError(f"{flag} {path}: would be Parquet, whatever its name says; give a name that ends in .parquet")


def holds_parquet(folder: Path) -> bool:
    """Whether there is a Parquet file in a folder, or in the folders in it."""
    return next(_parquet_files(folder), None) is not None


def parquet_parts(folder: Path) -> list[Path]:
    """Return all Parquet files in a folder and in the folders in it, in order.

    Numbers in names are compared as numbers: ``part-10`` follows ``part-9``. Of the splits of a data set train comes
    before validation, and test last. Files and folders whose names begin with ``.`` or ``_`` are no data.

    Raises:
        InputError: there is none, or of parts such as ``train-00000-of-00002`` some are missing.
    """
    parts = sorted(_parquet_files(folder), key=lambda path: _order(path.relative_to(folder)))
    if not parts:
        raise InputError(f"{folder}: holds no .parquet file")
    counted: dict[tuple[Path, str, int], set[int]] = {}
    for path in parts:
        if found := _COUNTED.fullmatch(path.stem):
            counted.setdefault((path.parent, found[1], int(found[3])), set()).add(int(found[2]))
    for (place, stem, total), numbers in counted.items():
        if missing := sorted(set(range(total)) - numbers):
            name = f"{stem}-{missing[0]:05d}-of-{total:05d}"
            more = f" and {len(missing) - 1} more parts are" if len(missing) > 1 else " is"
            raise InputError(f"{place}: {name}{more} missing, of {total}; fetch the folder again")
    return parts


def scan_parquet_folder(folder: Path) -> pl.LazyFrame:
    """Open all Parquet files in a folder as one table, in the order of ``parquet_parts``.

    The keys of hive folders such as ``day=2020-01-01`` become columns of strings. Names are names, never patterns.

    Raises:
        InputError: as ``parquet_parts``; a part cannot be read; or its columns are not those of the first part.
    """
    frames = []
    first: tuple[Path, pl.Schema] | None = None
    for path in parquet_parts(folder):
        try:
            frame = pl.scan_parquet(path, glob=False, hive_partitioning=False)
            schema = frame.collect_schema()
        except (PolarsError, OSError) as error:
            raise InputError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})") from error
        keys = {name: value for name, value in _hive_keys(path.relative_to(folder)) if name not in schema}
        frame = frame.with_columns(pl.lit(value, dtype=pl.String).alias(name) for name, value in keys.items())
        schema = frame.collect_schema()
        if first is None:
            first = path, schema
        elif schema != first[1]:
            if difference := _difference(schema, first[1]):
                raise InputError(
                    f"{path}: {difference} in {first[0].relative_to(folder)}; a folder is one table: give the log and "
                    "the item table as two files or folders"
                )
            frame = frame.select(first[1].names())
        frames.append(frame)
    return pl.concat(frames, how="vertical")


def _parquet_files(folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
    try:
        state = folder.stat()
        paths = list(folder.iterdir())
        folders = {path for path in paths if path.is_dir()}
    except OSError as error:
        raise InputError(f"{shortened(str(folder), 200)}: cannot be read ({error.strerror})") from error
    here = (state.st_dev, state.st_ino)
    if here in above:
        raise InputError(f"{folder}: is a link to a folder that it lies in; remove it, or name a folder of a table")
    for path in paths:
        if path.name.startswith((".", "_")):
            continue
        if path in folders:
            yield from _parquet_files(path, (*above, here))
        elif path.suffix.lower() in _SUFFIXES:
            yield path


def _order(path: Path) -> list[tuple[int, list[tuple[int, int, str]]]]:
    """Return a key that sorts splits by time and numbers as numbers, one entry for each part of the path."""
    key = []
    for name in (*path.parts[:-1], path.stem):
        pieces = re.split(r"(\d+)", name)
        numbered = [(0, int(piece), "") if piece.isascii() and piece.isdigit() else (1, 0, piece) for piece in pieces]
        key.append((_SPLITS.get(re.split(r"[-._\d]", name)[0].lower(), -1), numbered))
    return key


def _hive_keys(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield the keys in the names of the folders of a path that is relative to the folder of the table."""
    for name in path.parts[:-1]:
        key, equals, value = name.partition("=")
        if equals and key:
            yield unquote(key), None if value == _NO_KEY else unquote(value)


def _difference(schema: pl.Schema, first: pl.Schema) -> str:
    """Say how a part differs from the first one; "" where only the order of the columns does."""
    if more := [name for name in schema if name not in first]:
        return f"has a column '{more[0]}', which is not"
    if less := [name for name in first if name not in schema]:
        return f"has no column '{less[0]}', which is"
    for name, dtype in schema.items():
        if dtype != first[name]:
            return f"column '{name}' is {dtype} here, but {first[name]}"
    return ""
