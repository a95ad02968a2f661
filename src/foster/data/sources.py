"""From files and frames to one clean log and one clean item table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from narwhals.typing import IntoFrame

from foster.data.columns import (
    ITEM_NAMES,
    ITEM_TABLE_NAMES,
    TIME_NAMES,
    USER_NAMES,
    find_column,
    other_text_columns,
    pick_column,
    require_column,
    usual_text_columns,
)
from foster.data.readers import Table, is_table, open_table
from foster.data.texts import check_template, render, template_fields, tidy
from foster.data.timestamps import parse_times
from foster.errors import InputError

Source = str | Path | IntoFrame


INPUT_ORDER = "input order"


@dataclass(frozen=True)
class Raw:
    """A log and its items as they were read: ids are there, times are numbers, nothing is filtered.

    Attributes:
        log: in input order: ``user_id``, ``item_id`` (strings) and ``timestamp`` (int64 or float64).
        items: one row an item in input order: ``item_id`` and the tidy text columns.
        texts: one text for each row of ``items``; "" where it has none.
        log_name: the name of the log in messages.
        items_name: the name of the table that holds the texts.
        log_path: the file of the log, or None for a frame.
        files: the names of the files, without their folders.
        time: the time column, or ``INPUT_ORDER``.
        duplicate_item_rows: rows of the item table that were left out because their id came before.
    """

    log: pl.DataFrame
    items: pl.DataFrame
    texts: pl.Series
    log_name: str
    items_name: str
    log_path: Path | None
    files: tuple[str, ...]
    time: str
    duplicate_item_rows: int


def read_raw(
    source: Source | Sequence[Source],
    items: Source | None,
    *,
    user_column: str | None,
    item_column: str | None,
    time_column: str | None,
    text: str | Sequence[str] | None,
    template: str | None,
) -> Raw:
    """Read a log and its items; the arguments are those of ``Dataset.prepare``.

    Raises:
        InputError: a file or a column is missing or damaged, or an id or a time is missing.
    """
    log_table, item_table = open_sources(source, items, user_column)
    user_column = pick_column(log_table, user_column, USER_NAMES, "user")
    log_item_column = pick_column(log_table, item_column, ITEM_NAMES, "item")
    if time_column is None:
        time_column = find_column(log_table.columns, TIME_NAMES)
    else:
        require_column(log_table, time_column, "--time-column")
    log = read_log(log_table, user_column, log_item_column, time_column)

    if isinstance(text, str):
        text = [column.strip() for column in text.split(",")]
    if item_table is None:
        skip = [user_column, log_item_column, time_column or ""]
        texts_of = log_table
        catalogue, duplicates = _items_of_log(log_table, log_item_column, skip, text, template), 0
    else:
        texts_of = item_table
        catalogue, duplicates = _items_of_table(item_table, log_item_column, text, template)
    return Raw(
        log=log,
        items=catalogue,
        texts=pl.Series(render(catalogue, catalogue.columns[1:], template), dtype=pl.String),
        log_name=log_table.name,
        items_name=texts_of.name,
        log_path=log_table.path,
        files=tuple(table.path.name for table in (log_table, item_table) if table is not None and table.path),
        time=time_column or INPUT_ORDER,
        duplicate_item_rows=duplicates,
    )


def open_sources(
    source: Source | Sequence[Source], items: Source | None, user_column: str | None
) -> tuple[Table, Table | None]:
    """Open what the caller gave and find out which table is the log and which holds the items.

    Args:
        source: one table or folder, or a list of two tables in any order.
        items: the item table where it is given apart.
        user_column: the user column of the log; None: known by its usual name. The table with it is the log.

    Returns:
        The log, and the item table or None.

    Raises:
        InputError: a file cannot be opened, or it is not clear which table is which.
    """
    given: list[Any] = list(source) if isinstance(source, list | tuple) else [source]
    if not given:
        raise InputError("no SOURCE given; name the interaction file and the item file")
    if len(given) == 1 and isinstance(given[0], str | Path) and _is_plain_folder(Path(given[0])):
        folder = Path(given[0])
        log_path, item_path = _only(folder, "interactions", ".inter"), _only(folder, "items", ".item")
        if log_path is None:
            raise InputError(f"{folder}: holds no interactions.csv, .parquet, .jsonl, ... and no .inter file")
        log, found = open_table(log_path), None if item_path is None else open_table(item_path)
    elif len(given) == 1:
        log, found = open_table(given[0]), None
    else:
        log, found = _tell_apart([open_table(one) for one in given], user_column)
    if items is None:
        return log, found
    if found is not None:
        raise InputError(f"{found.name}: two item tables given; give one, in SOURCE or by --items")
    return log, open_table(items)


def read_log(table: Table, user_column: str, item_column: str, time_column: str | None) -> pl.DataFrame:
    """Read a log in input order.

    Returns:
        Columns ``user_id`` and ``item_id`` (strings) and ``timestamp`` (int64 or float64; the row number
        where there is no time column).

    Raises:
        InputError: an id or a time is missing, or is not what it should be; names the column and the row.
    """
    columns = [user_column, item_column] + ([time_column] if time_column is not None else [])
    rows = table.read(columns)
    if time_column is None:
        times = pl.Series("timestamp", range(rows.height), dtype=pl.Int64)
    else:
        times = pl.Series("timestamp", parse_times(rows[time_column], table.name))
    users, items = (_ids(rows[column], table.name) for column in (user_column, item_column))
    return pl.DataFrame([users.alias("user_id"), items.alias("item_id"), times])


def _items_of_table(
    table: Table, item_column: str, text: Sequence[str] | None, template: str | None
) -> tuple[pl.DataFrame, int]:
    """Read the item table: its first row of each id, and the number of its other rows."""
    if item_column not in table.columns:
        item_column = pick_column(table, None, ITEM_TABLE_NAMES, "item")
    fields = _chosen_columns(table, text, template)
    if not fields:
        fields = usual_text_columns(table.columns) or other_text_columns(table.read(), item_column)
    if not fields:
        raise InputError(f"{table.name}: no text column among {', '.join(table.columns)}; name it with --text")
    rows = _tidy_rows(table, item_column, fields)
    first = rows.unique("item_id", keep="first", maintain_order=True)
    return first, rows.height - first.height


def _items_of_log(
    table: Table, item_column: str, skip: Sequence[str], text: Sequence[str] | None, template: str | None
) -> pl.DataFrame:
    """Read the texts of the items from the first row of each item in the log."""
    fields = _chosen_columns(table, text, template)
    guessed = not fields
    if guessed:
        fields = usual_text_columns([column for column in table.columns if column not in skip])
    if not fields:
        raise InputError(
            f"{table.name}: no item texts among {', '.join(table.columns)}; give the item file as well, "
            "or name the text columns with --text"
        )
    rows = _tidy_rows(table, item_column, fields)
    if guessed:
        _check_constant(rows, fields, table.name)
    return rows.unique("item_id", keep="first", maintain_order=True)


def _chosen_columns(table: Table, text: Sequence[str] | None, template: str | None) -> list[str]:
    """Return the text columns that the caller names, by ``text`` or in the template; [] if by neither."""
    for field in text or ():
        require_column(table, field, "--text")
    if template is None:
        return list(dict.fromkeys(text or ()))
    check_template(template, text or table.columns)
    return list(dict.fromkeys(text or template_fields(template)))


def _tidy_rows(table: Table, item_column: str, fields: Sequence[str]) -> pl.DataFrame:
    if {item_column, "item_id"} & set(fields):
        raise InputError(f"{table.name}: the item id is no text; name other columns with --text")
    rows = table.read([item_column, *fields])
    ids = _ids(rows[item_column], table.name).alias("item_id")
    return pl.DataFrame([ids, *(tidy(rows[field]) for field in fields)])


def _check_constant(rows: pl.DataFrame, fields: Sequence[str], name: str) -> None:
    """Refuse texts found in the log by name that are not of the item, such as titles of reviews."""
    texts = rows.group_by("item_id", maintain_order=True).agg(pl.len(), pl.struct(fields).n_unique().alias("texts"))
    repeated = texts.filter(pl.col("len") > 1)
    varied = repeated.filter(pl.col("texts") > 1)
    if varied.height > repeated.height / 2:
        raise InputError(
            f"{name}: {', '.join(fields)} differ between the rows of item '{varied['item_id'][0]}' "
            "and others, so they do not describe it; give the item file as well, or name the text columns "
            "with --text"
        )


def _ids(values: pl.Series, where: str) -> pl.Series:
    """Return ids as strings."""
    if values.dtype.is_nested():
        raise InputError(f"{where}: column '{values.name}' holds lists or objects, but ids are needed")
    if values.dtype.is_float():
        values = values.fill_nan(None)
    ids = values.cast(pl.String)
    missing = ids.is_null() | (ids == "").fill_null(False)
    if missing.any():
        row = int(missing.arg_max() or 0) + 1
        raise InputError(f"{where}: column '{values.name}' has no id in row {row}; fill it in or remove the row")
    return ids


def _tell_apart(tables: list[Table], user_column: str | None) -> tuple[Table, Table]:
    names = ", ".join(table.name for table in tables)
    if len(tables) != 2:
        raise InputError(f"{names}: {len(tables)} tables, but one log and one item table are needed")
    logs = [
        table
        for table in tables
        if (find_column(table.columns, USER_NAMES) if user_column is None else user_column in table.columns)
    ]
    if not logs:
        raise InputError(f"{names}: neither has a user column, so neither is the log; name it with --user-column")
    if len(logs) == 2:
        raise InputError(f"{names}: both have a user column; name the item table with --items")
    log = logs[0]
    return log, tables[1] if tables[0] is log else tables[0]


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not is_table(path)


def _only(folder: Path, stem: str, recbole_suffix: str) -> Path | None:
    """Return the one table in a folder with a name of its kind, or None."""
    found = sorted(
        path
        for path in folder.iterdir()
        if is_table(path) and (path.name.split(".")[0] == stem or path.suffix == recbole_suffix)
    )
    if len(found) > 1:
        raise InputError(f"{folder}: holds both {found[0].name} and {found[1].name}; name the files instead")
    return found[0] if found else None
