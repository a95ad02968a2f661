"""Users and their histories, as lists of recommendations are made for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from foster.artefacts import DATASET_NAME, artefact_kind, kind_words
from foster.data.catalogue import Catalogue
from foster.data.columns import ITEM_TABLE_NAMES, USER_NAMES, find_column, pick_column
from foster.data.dataset import Dataset
from foster.data.histories import Histories
from foster.data.ids import number_ids
from foster.data.readers import Table, is_table, open_table
from foster.data.sources import Columns, read_events
from foster.errors import InputError
from foster.wording import many

HISTORY = "history"  # column of lists of item ids, oldest first


@dataclass(frozen=True, eq=False)
class Users:
    """Users with what a model knows of their histories.

    Attributes:
        ids: U raw ids, each once.
        histories: U histories of item numbers of the model's catalogue, each at least one long.
        left_out: interactions with items that the catalogue lacks; they are in no history.
        unknown_items: how many items these are.
        unknown_first: the first of them, "" where there is none.
        left_users: users nothing of whose history is known; they are not among the U.
    """

    ids: pl.Series
    histories: Histories
    left_out: int = 0
    unknown_items: int = 0
    unknown_first: str = ""
    left_users: int = 0

    def __len__(self) -> int:
        """Return U."""
        return len(self.histories)

    @classmethod
    def of(cls, source: str | Path | Dataset, catalogue: Catalogue, columns: Columns | None = None) -> Users:
        """Read users: of a data set, of a log, or of a table of histories.

        All that is known of a user is history: what a data set holds out for validation and test, too.

        Args:
            source: a data set or its folder; a log (see ``Dataset.prepare``), without texts; or a table with a column
                of users and a column ``history`` of lists of item ids, oldest first (Parquet, or JSON lines).
            catalogue: of the model.
            columns: which columns of a log play which role; by default they are known by their usual names.

        Raises:
            InputError: it cannot be read, or the catalogue has none of its items.
        """
        if not isinstance(source, Dataset) and (Path(source) / DATASET_NAME).is_file():
            if (kind := artefact_kind(source)) != "dataset":
                raise InputError(f"{source}: holds {kind_words(kind)}; give a data set, a log or a table of histories")
            source = Dataset.read(source)
        if isinstance(source, Dataset):
            ids, items = pl.Series(source.user_ids, dtype=pl.String), source.items["item_id"]
            return _known(ids, items, source.sequence_items, source.offsets, catalogue, source.info.name)
        path = Path(source)
        if is_table(path) and path.exists() and HISTORY in (table := open_table(path)).columns:
            return _of_histories(table, catalogue, columns or Columns())
        users, log_items, times = read_events(source, columns or Columns())
        order = np.lexsort((times, users.numbers))
        lengths = np.bincount(users.numbers, minlength=len(users.names))
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return _known(users.names, log_items.names, log_items.numbers[order], offsets, catalogue, str(source))

    def only(self, ids: Sequence[str], where: str) -> Users:
        """Return some of the users, in the order of ``ids``.

        Args:
            ids: raw ids.
            where: where they stand, for messages.

        Raises:
            InputError: a user who is not here.
        """
        place = {user: row for row, user in enumerate(self.ids.to_list())}
        wanted = list(dict.fromkeys(ids))
        missing = [user for user in wanted if user not in place]
        if missing:
            raise InputError(
                f"{where}: user '{missing[0]}' has no history that the model knows ({len(missing)} such users); leave "
                "them out"
            )
        rows = np.array([place[user] for user in wanted], dtype=np.int64)
        return replace(self, ids=self.ids.gather(rows), histories=self.histories[rows])

    def remarks(self, where: str) -> list[str]:
        """Return what is to be said of what was left out, a line each."""
        out = []
        if self.left_out:
            out.append(
                f"{where}: left out of the histories {many(self.left_out, 'interaction')} with "
                f"{many(self.unknown_items, 'item')} that the model's catalogue lacks, '{self.unknown_first}' first"
            )
        if self.left_users:
            out.append(f"{where}: {many(self.left_users, 'user has', 'users have')} no other items: no list")
        return out


def _of_histories(table: Table, catalogue: Catalogue, columns: Columns) -> Users:
    """Read a table of one row a user."""
    user = pick_column(table, columns.user, USER_NAMES, "user")
    rows = table.read([user, HISTORY])
    lists = rows[HISTORY]
    if lists.dtype == pl.String:
        fault = f"{table.name}: column '{HISTORY}' holds no lists of item ids; write them as in " + '["i1", "i2"]'
        if not lists.drop_nulls().str.strip_chars_start().str.starts_with("[").all():
            raise InputError(fault)  # polars would make a list of a word
        try:
            lists = lists.str.json_decode(pl.List(pl.String))
        except PolarsError as error:
            raise InputError(fault) from error
    if not isinstance(lists.dtype, pl.List):
        raise InputError(f"{table.name}: column '{HISTORY}' holds {lists.dtype}; lists of item ids are needed")
    lengths = lists.list.len().fill_null(0).to_numpy()
    if not lengths.all():
        raise InputError(f"{table.name}: column '{HISTORY}' is empty in row {int(lengths.argmin()) + 1}; fill it in")
    users = number_ids(rows[user], table.name)
    if len(users.names) < len(lists):
        numbers, counts = np.unique(users.numbers, return_counts=True)
        twice = users.names[int(numbers[counts.argmax()])]
        raise InputError(f"{table.name}: user '{twice}' has two histories; give each user one row")
    items = number_ids(lists.explode().alias(HISTORY), table.name)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return _known(users.names, items.names, items.numbers, offsets, catalogue, table.name)


def _known(
    ids: pl.Series, item_ids: pl.Series, items: np.ndarray, offsets: np.ndarray, catalogue: Catalogue, where: str
) -> Users:
    """Return users with what is known of their histories.

    Args:
        ids: U raw ids.
        item_ids: raw ids of the items by their numbers.
        items: ``[n]`` item numbers, user after user, in time order.
        offsets: ``[U + 1]``, where each user begins.
        catalogue: of the model.
        where: what is read, for messages.
    """
    index = catalogue.index
    to_model = np.array([index.get(item_id, -1) for item_id in item_ids.to_list()], dtype=np.int64)
    numbers = to_model[items]
    known = numbers >= 0
    if not known.any():
        first = item_ids[0]
        raise InputError(
            f"{where}: no item of it is in the model's catalogue, such as '{first}' (there: '{catalogue.ids[0]}'); are "
            "these the ids of the data that the model was trained on?"
        )
    ends = np.concatenate([[0], np.cumsum(known)])[offsets]
    histories = Histories(numbers[known], ends[:-1], ends[1:])
    some = histories.lengths > 0
    unknown = np.flatnonzero(to_model < 0)
    return Users(
        ids=ids.filter(pl.Series(some)),
        histories=histories[some],
        left_out=int((~known).sum()),
        unknown_items=len(unknown),
        unknown_first=str(item_ids[int(unknown[0])]) if len(unknown) else "",
        left_users=int((~some).sum()),
    )


def read_ids(path: Path, flag: str, kind: str) -> list[str]:
    """Read ids from a file: a table with a column of them, or a text file with one a line.

    Args:
        path: the file.
        flag: for messages, as in ``--exclude``.
        kind: "user" or "item".

    Returns:
        The ids, each once, in order.

    Raises:
        InputError: no such file, or it holds none.
    """
    if not path.is_file():
        raise InputError(f"{flag} {path}: no such file; give one with an id a line, or a table with a column of them")
    if is_table(path):
        table = open_table(path)
        names = USER_NAMES if kind == "user" else ITEM_TABLE_NAMES
        column = find_column(table.columns, names)
        if column is None and len(table.columns) > 1:
            known = ", ".join(table.columns)
            raise InputError(f"{flag} {path}: no {kind} column found among {known}; name it {kind}_id")
        column = column or table.columns[0]
        return number_ids(table.read([column])[column], table.name).names.to_list()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error.strerror})"
        raise InputError(f"{flag} {path}: {reason}; give a text file with an id a line") from error
    ids = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not ids:
        raise InputError(f"{flag} {path}: is empty; give an id a line")
    return ids


def item_choice(given: Sequence[str], flag: str, catalogue: Catalogue) -> tuple[list[str], list[str]]:
    """Return the items that a flag names, by ids or by files of ids.

    Args:
        given: ids of the catalogue, or files.
        flag: for messages.
        catalogue: of the model.

    Returns:
        Ids that the catalogue has, and those that it lacks.

    Raises:
        InputError: neither an id nor a file, or the catalogue has none of a file's ids.
    """
    known: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for word in given:
        if word in catalogue.index:
            known[word] = None
            continue
        if not Path(word).is_file():
            raise InputError(f"{flag} {word}: neither an item id of the catalogue nor a file of ids; give one of these")
        ids = read_ids(Path(word), flag, "item")
        there = [item for item in ids if item in catalogue.index]
        if not there:
            raise InputError(f"{flag} {word}: none of its {len(ids)} ids is in the catalogue, '{ids[0]}' first")
        known |= dict.fromkeys(there)
        unknown |= dict.fromkeys(item for item in ids if item not in catalogue.index)
    return list(known), list(unknown)
