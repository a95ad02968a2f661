"""From files and frames to one clean log and one clean item table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from narwhals.typing import IntoFrame

from foster.artefacts import kind_words, own_kind
from foster.data.columns import (
    ITEM_TABLE_NAMES,
    USER_NAMES,
    TimeColumns,
    find_column,
    find_times,
    named_times,
    pick_column,
    pick_ids,
    require_column,
    text_columns,
)
from foster.data.download import fetch, is_url
from foster.data.faults import UNIT_NAMES, look_at_times
from foster.data.ids import Ids, id_expression, number_ids
from foster.data.layouts import find_layout
from foster.data.layouts.layout import Layout
from foster.data.parquet import holds_parquet
from foster.data.readers import Table, is_table, open_table
from foster.data.reading import Reading
from foster.data.texts import check_template, render, split_field, template_fields, tidy, within
from foster.data.timestamps import SAMPLE, join_times, parse_times
from foster.errors import InputError, did_you_mean
from foster.json_text import is_unicode
from foster.wording import many

Source = str | Path | IntoFrame


INPUT_ORDER = "input order"
_STEPS = 2**20  # rows looked at together
A_FEW_ROWS = 100  # so many may well have happened at one time


@dataclass(frozen=True)
class Columns:
    """Which columns of the sources play which role; None and () are found out.

    Attributes:
        user: of the user ids.
        item: of the item ids.
        time: of the times; several separated by commas.
        time_format: how the times are written, in the terms of ``strptime``.
        input_order: whether the order of the rows counts, whatever looks like a time.
        text: the text columns; fields within objects have dots, as in ``details.Brand``.
        template: how they become one text.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    time_format: str | None = None
    input_order: bool = False
    text: tuple[str, ...] = ()
    template: str | None = None


@dataclass(frozen=True)
class Raw:
    """A log and its items as they were read: ids have numbers, times are numbers, nothing is filtered.

    Attributes:
        users: of each row of the log, in input order.
        log_items: of each row of the log.
        times: int64 or float64 [n].
        items: one row an item in input order: ``item_id`` and the tidy text columns.
        texts: one text for each row of ``items``; "" where it has none.
        log_path: the file of the log, or None for a frame.
        files: the names of the files, without their folders.
        duplicate_item_rows: rows of the item table whose id came before.
        reading: what was understood of the sources.
    """

    users: Ids
    log_items: Ids
    times: np.ndarray
    items: pl.DataFrame
    texts: pl.Series
    log_path: Path | None
    files: tuple[str, ...]
    duplicate_item_rows: int
    reading: Reading

    def without_log(self) -> Raw:
        """Return what there is beside the rows of the log, to let go of these."""
        none = np.zeros(0, dtype=np.int32)
        return replace(self, users=Ids(self.users.names, none), log_items=Ids(self.log_items.names, none), times=none)


def read_raw(source: Source | Sequence[Source], items: Source | None, columns: Columns) -> Raw:
    """Read a log and its items.

    Args:
        source: as in ``Dataset.prepare``.
        items: as there.
        columns: the roles of columns.

    Raises:
        InputError: a file or a column is missing or damaged, an id or a time is missing, or it is not clear which
            column is what.
    """
    opened = open_sources(source, items, columns.user)
    log_table, item_table, layout = opened.log, opened.items, opened.layout
    if layout is not None:
        columns = _of_layout(columns, layout)
    own_texts = item_table is None and not columns.text and columns.template is None
    user, item = pick_ids(log_table, columns.user, columns.item, own_texts)
    if user == item:
        raise InputError(f"{log_table.name}: '{user}' is named as the user and as the item; name two columns")
    time = _time_columns(log_table, (user, item), columns)
    users, log_items, times = read_log(log_table, user, item, time, columns.time_format)
    if time.names and columns.time is None and len(times) > A_FEW_ROWS and times.min() == times.max():
        raise InputError(
            f"{log_table.name}: column '{', '.join(time.names)}' holds the same time in all rows, which orders "
            "nothing; name another one by --time-column, or say --input-order if the rows are in time order"
        )

    if item_table is None:
        skip = [user, item, *time.names]
        table, item_key = log_table, item
        fields = _chosen_fields(log_table, columns) or text_columns(log_table, skip, log=True)
        if not columns.text and columns.template is None:
            _check_constant(log_table, item, fields)
        catalogue = _items_of(log_table, item, fields).select("item_id", *fields)
        repeated = 0
    else:
        table = item_table
        item_key = item if layout is None else layout.item_key
        if item_key not in table.columns:
            item_key = pick_column(table, None, ITEM_TABLE_NAMES, "item")
        fields = _chosen_fields(table, columns) or text_columns(table, [item_key])
        catalogue = _items_of(table, item_key, fields)
        repeated = int(catalogue["rows"].sum()) - catalogue.height
        catalogue = catalogue.drop("rows")
    if time.names and (same := _ties_if_newest_first(times)):
        opened.remarks.append(
            f"{log_table.name}: the rows are newest first, and {same:,} share their time with the next one: these "
            "keep the order of the rows, so that the later one counts as newer"
        )
    seen = look_at_times(times)
    for odd in seen.odd if time.names else []:
        if odd.kind in UNIT_NAMES:
            opened.remarks.append(
                f"{log_table.name}: {many(odd.count, 'time is', 'times are')} in {UNIT_NAMES[odd.kind]}, such as "
                f"{odd.example:.0f}, and others in {UNIT_NAMES[seen.unit]}, so that the order is wrong; "
                "write all in one unit"
            )
    factor = _time_factor(times, time, log_table, columns.time_format)
    used = {split_field(field, table.columns)[0] for field in fields}
    log_used = {user, item, *time.names, *(used if item_table is None else ())}
    reading = Reading(
        log=log_table.name,
        items=None if item_table is None else item_table.name,
        user=user,
        item=item,
        item_key=None if item_table is None else item_key,
        time=time.names,
        time_why=time.why,
        time_range=(time_words(times.min(), factor), time_words(times.max(), factor)) if time.names else None,
        text=tuple(fields),
        rows=len(times),
        item_rows=None if item_table is None else catalogue.height + repeated,
        unused=tuple(column for column in log_table.columns if column not in log_used),
        item_unused=()
        if item_table is None
        else tuple(column for column in table.columns if column not in {item_key, *used}),
        remarks=tuple(opened.remarks),
        time_factor=factor,
    )
    return Raw(
        users=users,
        log_items=log_items,
        times=times,
        items=catalogue,
        texts=pl.Series(render(catalogue, catalogue.columns[1:], columns.template), dtype=pl.String),
        log_path=log_table.path,
        files=tuple(path.name for path in opened.files),
        duplicate_item_rows=repeated,
        reading=reading,
    )


def read_events(source: Source, columns: Columns) -> tuple[Ids, Ids, np.ndarray]:
    """Read a log alone, without texts of items.

    Args:
        source: a table or a folder; see ``open_sources``.
        columns: the roles of columns; those of texts do not count.

    Returns:
        The users and the items of the rows in input order, and their times as [n] int64 or float64.

    Raises:
        InputError: as ``read_raw``.
    """
    opened = open_sources(source, None, columns.user)
    table = opened.log
    if opened.layout is not None:
        columns = _of_layout(columns, opened.layout)
    user, item = pick_ids(table, columns.user, columns.item)
    if user == item:
        raise InputError(f"{table.name}: '{user}' is named as the user and as the item; name two columns")
    return read_log(table, user, item, _time_columns(table, (user, item), columns), columns.time_format)


@dataclass(frozen=True)
class Opened:
    """The log and the item table, and what is known of them where they are of a public data set.

    Attributes:
        log: the log.
        items: the item table, or None where the texts are in the log.
        layout: the public data set, or None.
        remarks: on the files.
        files: those that are read, the log first.
    """

    log: Table
    items: Table | None
    layout: Layout | None
    remarks: list[str]
    files: tuple[Path, ...]


def open_sources(source: Source | Sequence[Source], items: Source | None, user_column: str | None) -> Opened:
    """Open what the caller gave: files of a public data set by their form, others by names of columns.

    Args:
        source: one table or folder, or a list of two tables in any order; http and https addresses are fetched.
        items: the item table where it is given apart.
        user_column: the user column of the log; None: known by its usual name. The table with it is the log.

    Raises:
        InputError: a file cannot be fetched or opened, a folder is foster's and no data set, or it is not clear which
            table is which.
    """
    remarks: list[str] = []
    given = [_on_disk(one, remarks) for one in (source if isinstance(source, list | tuple) else [source])]
    items = None if items is None else _on_disk(items, remarks)
    paths = [one for one in (*given, items) if one is not None]
    for path in paths:
        if isinstance(path, str | Path):
            _check_name(Path(path))
            if Path(path).is_dir() and (kind := own_kind(Path(path))) not in (None, "dataset"):
                raise InputError(f"{path}: holds {kind_words(kind)} and no log; give a data set, a log or a table")
    if user_column is None and all(isinstance(path, str | Path) for path in paths):
        layout = find_layout([Path(path) for path in paths])
        if layout is not None:
            return Opened(layout.log, layout.items, layout, [*remarks, layout.name, *layout.notes], layout.files)
    log, table = _open_tables(given, items, user_column)
    tables = [one for one in (log, table) if one is not None]
    for one in tables:
        _refuse_patterns(one)
    remarks += [f"{one.name}: {one.remark}" for one in tables if one.remark]
    return Opened(log, table, None, remarks, tuple(one.path for one in tables if one.path is not None))


def _check_name(path: Path) -> None:
    if not is_unicode(str(path)):
        raise InputError(f"{path}: its name holds bytes that are no UTF-8; rename it")
    try:
        path.lstat()  # exists says nothing of names that are too long from Python 3.14
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass  # whoever opens it says so
    except OSError as error:
        raise InputError(f"{str(path)[:80]}: is no name of a file here ({error.strerror})") from error


def _on_disk(source: Any, remarks: list[str]) -> Any:
    """Return a source with an address fetched; what there is to say of it goes to the remarks."""
    if not isinstance(source, str) or not is_url(source):
        return source
    fetched = fetch(source)
    remarks.append(f"{fetched.url}: {fetched.note}")
    return fetched.path


def _open_tables(given: list[Any], items: Source | None, user_column: str | None) -> tuple[Table, Table | None]:
    """Open tables and find out which one is the log and which holds the items.

    Returns:
        The log, and the item table or None.

    Raises:
        InputError: a file cannot be opened, or it is not clear which table is which.
    """
    if not given:
        raise InputError("no SOURCE given; name the interaction file and the item file")
    if len(given) == 1 and isinstance(given[0], str | Path) and _is_plain_folder(Path(given[0])):
        folder = Path(given[0])
        log_path, item_path = _only(folder, "interactions", ".inter"), _only(folder, "items", ".item")
        if log_path is None:
            raise InputError(
                f"{folder}: holds no interactions.csv, .parquet, .jsonl, ..., no .inter file, and not the files of a "
                "public data set that foster knows; name the log and the item table"
            )
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


def read_log(
    table: Table, user: str, item: str, time: TimeColumns, time_format: str | None
) -> tuple[Ids, Ids, np.ndarray]:
    """Read a log in input order.

    Args:
        table: the log.
        user: the column of user ids.
        item: the column of item ids.
        time: the columns of times; where there are none, the row numbers are the times.
        time_format: how times are written; None: one of the usual ways.

    Returns:
        The users and the items of the rows, and their times as [n] int64 or float64.

    Raises:
        InputError: an id or a time is missing, or is not what it should be; names the column and the row.
    """
    types = table.frame.select(user, item, *time.names).collect_schema()
    # Whole numbers that a text file holds are read as such at once; everything else as it stands.
    plain = time_format is None and len(time.names) == 1 and types[time.names[0]] == pl.String
    plain = plain and not table.sample(time.names, SAMPLE).to_series().cast(pl.Int64, strict=False).has_nulls()
    whens = [pl.col(name).cast(pl.Int64, strict=False) if plain else pl.col(name) for name in time.names]
    rows = table.select([id_expression(user, types[user]), id_expression(item, types[item]), *whens])
    if plain and rows[time.names[0]].has_nulls():
        rows = rows.with_columns(table.read(time.names))
    if not time.names:
        times: np.ndarray = np.arange(rows.height)
    elif len(time.names) == 1:
        times = parse_times(rows.drop_in_place(time.names[0]), table.name, time_format)
    else:
        times = join_times([rows.drop_in_place(name) for name in time.names], table.name)
    # A column is let go of once it has been read.
    users = number_ids(rows.drop_in_place(user), table.name)
    log_items = number_ids(rows.drop_in_place(item), table.name)
    header = np.ones(len(times), dtype=bool)
    for ids, name in ((users, user), (log_items, item)):
        place = ids.names.index_of(name)
        header &= ids.numbers == (-1 if place is None else place)
    if header.any():
        raise InputError(
            f"{table.name}: row {int(header.argmax()) + 1} is a header, as where files are put one behind the other; "
            "remove it"
        )
    return users, log_items, times


def _refuse_patterns(table: Table) -> None:
    """Raise InputError for names that polars takes for many columns."""
    for name in table.columns:
        if name == "*" or (name.startswith("^") and name.endswith("$")):
            raise InputError(f"{table.name}: column '{name}': such a name stands for other columns, too; rename it")


def _of_layout(columns: Columns, layout: Layout) -> Columns:
    """Return the roles of columns that a public data set has, where the caller does not say otherwise."""
    timed = columns.time is not None or columns.input_order
    return replace(
        columns,
        user=columns.user or layout.user,
        item=columns.item or layout.item,
        time=columns.time if timed else layout.time,
        time_format=columns.time_format if timed or columns.time_format else layout.time_format,
        input_order=columns.input_order or (not timed and layout.time is None),
        text=columns.text if columns.text or columns.template else layout.text,
    )


def _time_columns(table: Table, taken: tuple[str, str], columns: Columns) -> TimeColumns:
    if columns.input_order:
        if columns.time is not None or columns.time_format is not None:
            raise InputError(
                "--input-order: says that there is no time column; leave --time-column and --time-format out"
            )
        return TimeColumns(())
    if columns.time is not None:
        found = named_times(table, columns.time, taken)
    else:
        found = find_times(table, taken, columns.time_format)
    if columns.time_format is not None and len(found.names) != 1:
        raise InputError(f"{table.name}: --time-format: is for one column of times; name it by --time-column")
    return found


def _ties_if_newest_first(times: np.ndarray) -> int:
    """Return how many rows share their time with the next one in a log whose times never grow, 0 for others."""
    same = 0
    for start in range(0, len(times), _STEPS):
        steps = np.diff(times[start : start + _STEPS + 1])
        if (steps > 0).any():
            return 0
        same += int((steps == 0).sum())
    return same


def _time_factor(times: np.ndarray, time: TimeColumns, table: Table, time_format: str | None) -> int | None:
    """Return what a second is in the unit of times since 1970, or None where they are not that."""
    if not time.names:
        return None
    if time_format is not None or len(time.names) > 1:
        return 1
    low, high = times.min(), times.max()
    dtype = table.frame.collect_schema()[time.names[0]]
    first = table.sample(time.names, 1).to_series()
    if (dtype == pl.String and first.cast(pl.Float64, strict=False).has_nulls()) or isinstance(
        dtype, pl.Date | pl.Datetime
    ):
        factors: tuple[int, ...] = (1, 10**9)
        return next((f for f in factors if low / f > -6e10 and high / f < 2.5e11), None)
    return next((f for f in (1, 10**3, 10**6, 10**9) if 4e8 * f <= low and high <= 4.2e9 * f), None)


def time_words(time: float, factor: int | None) -> str:
    """Return a time as date and time of day, or as it is where ``factor`` is None."""
    return str(time) if factor is None else str(np.datetime64(int(time // factor), "s")).replace("T", " ")


def _chosen_fields(table: Table, columns: Columns) -> list[str]:
    """Return the text fields that the caller names, as text or in the template; [] if by neither."""
    for field in columns.text:
        if columns.text.count(field) > 1:
            raise InputError(f"--text: names '{field}' twice; name each column once")
        if split_field(field, table.columns)[0] not in table.columns:
            require_column(table, field, "--text")
    if columns.template is None:
        return list(columns.text)
    check_template(columns.template, columns.text or table.columns, exactly=bool(columns.text))
    return list(columns.text or template_fields(columns.template))


def _items_of(table: Table, item: str, fields: Sequence[str]) -> pl.DataFrame:
    """Return the items of a table in the order of their first rows, each field from the first row that has it.

    Returns:
        Columns ``item_id``, the fields (tidy) and ``rows``, how often an id is there.
    """
    places = {field: split_field(field, table.columns) for field in fields}
    sources = list(dict.fromkeys(column for column, _ in places.values()))
    if {item, "item_id"} & {*fields, *sources}:
        raise InputError(f"{table.name}: the item id is no text; name other columns with --text")
    types = table.frame.select(item, *sources).collect_schema()
    rows = table.select([id_expression(item, types[item]), *map(pl.col, sources)])
    ids = number_ids(rows[item], table.name)
    texts = [
        within(rows[column], path, field, table.name) if path else tidy(rows[column], table.name)
        for field, (column, path) in places.items()
    ]
    frame = pl.DataFrame([pl.Series("item_id", ids.numbers), *texts])
    for field, (column, path) in places.items():
        if path and frame[field].is_null().all():
            raise InputError(f"{table.name}: nothing lies at '{field}' in column '{column}'; see what its objects hold")
    found = frame.group_by("item_id", maintain_order=True).agg(
        *(pl.col(field).drop_nulls().first() for field in fields), pl.len().alias("rows")
    )
    return found.with_columns(ids.names.gather(found["item_id"]).alias("item_id"))


def _check_constant(table: Table, item: str, fields: Sequence[str]) -> None:
    """Refuse texts found in the log by name that are not of the item, such as titles of reviews."""
    texts = table.collect(
        table.frame.select(item, *fields)
        .group_by(item, maintain_order=True)
        .agg(pl.len(), pl.struct(fields).n_unique().alias("texts"))
        .filter(pl.col("len") > 1)
    )
    varied = texts.filter(pl.col("texts") > 1)
    if varied.height > texts.height / 2:
        raise InputError(
            f"{table.name}: {', '.join(fields)} differ between the rows of item '{varied[item][0]}' "
            f"and others, so they do not describe it; give the item file as well, or name the text columns with "
            f"--text; the columns are {', '.join(table.columns)}"
        )


def _tell_apart(tables: list[Table], user_column: str | None) -> tuple[Table, Table]:
    names = ", ".join(table.name for table in tables)
    if len(tables) != 2:
        raise InputError(f"{names}: {len(tables)} tables, but one log and one item table are needed")
    logs = [
        table
        for table in tables
        if (find_column(table.columns, USER_NAMES) if user_column is None else user_column in table.columns)
    ]
    listed = "; ".join(f"{table.name} has {', '.join(table.columns)}" for table in tables)
    if not logs:
        hint = "" if user_column is None else did_you_mean(user_column, [c for t in tables for c in t.columns])
        raise InputError(
            f"{names}: neither has a user column{hint}, so neither is the log; name it with --user-column ({listed})"
        )
    if len(logs) == 2:
        raise InputError(f"{names}: both have a user column; name the item table with --items ({listed})")
    log = logs[0]
    return log, tables[1] if tables[0] is log else tables[0]


def _is_plain_folder(path: Path) -> bool:
    """Whether a folder holds tables, and is not one table of several parts."""
    if not path.is_dir() or is_table(path):
        return False
    named = any(_only(path, stem, suffix) for stem, suffix in (("interactions", ".inter"), ("items", ".item")))
    return named or not holds_parquet(path)


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
