"""The data set: item sequences of users, item texts, and the leave-one-out split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from foster.artefacts import (
    CARD_NAME,
    DATASET_NAME,
    folder_bytes,
    marked,
    new_folder,
    read_json,
    read_parquet,
    write_json,
)
from foster.data.catalogue import Catalogue, popularity_of
from foster.data.core import K_CORE, k_core_mask
from foster.data.sources import Raw, Source, read_raw
from foster.data.texts import SEPARATOR, render, template_fields
from foster.errors import InputError

HistorySplit = Literal["train", "validation", "test"]
TargetSplit = Literal["validation", "test"]

INTERACTIONS_NAME = "interactions.parquet"
ITEMS_NAME = "items.parquet"
# One target for the test, one for validation, and at least one interaction to go by.
MIN_SEQUENCE = 3
SOURCE_TERMS = "that of the source data"


class Dropped(BaseModel):
    """What ``prepare`` left out, in counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    textless_items: int = 0
    """Items of the log without a text."""
    textless_interactions: int = 0
    """Interactions with these items."""
    k_core_users: int = 0
    k_core_items: int = 0
    k_core_interactions: int = 0
    duplicate_item_rows: int = 0
    """Rows of the item table whose id came before; the first row of an id counts."""
    unused_items: int = 0
    """Items of the item table that nobody interacted with."""


class DatasetInfo(BaseModel):
    """What a data set is and how it was made; the content of ``dataset.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    users: int
    items: int
    interactions: int
    k_core: int
    """Every user and item has at least this many interactions; 0: not filtered."""
    split: Literal["leave-one-out"] = "leave-one-out"
    text_fields: tuple[str, ...]
    """The text columns of the items."""
    template: str | None
    """How they become one text; None: those that are there, joined by ", "."""
    time: str
    """The column that orders the interactions, or "input order" where there is none."""
    sources: tuple[str, ...]
    """The names of the files that it was made from."""
    terms: str
    """The licence or the terms of the data."""
    dropped: Dropped
    popularity: bool = False
    """Whether models read how popular an item is in the training part, beside its text."""
    fingerprint: str
    """SHA-256 of the ids, the texts, the sequences and their times, and of whether popularity counts, in hex."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A log of interactions, one sequence a user, and a text for every item.

    Users and items are numbered from 0: users in the order in which they first appear in the log, items in
    the order of the item table (of their first appearance in the log where that holds the texts). A sequence
    is ordered by time; interactions of the same time keep the order of the input. Repeated interactions are
    kept, also where they follow each other.

    Attributes:
        user_ids: U raw user ids.
        items: V rows in item order: ``item_id`` and the text columns.
        texts: V item texts.
        sequence_items: int32 [n], item numbers, users one after another.
        offsets: int64 [U + 1]; the sequence of user u is ``sequence_items[offsets[u]:offsets[u + 1]]``.
        timestamps: int64 or float64 [n], aligned to ``sequence_items``.
        info: what it is and how it was made.
    """

    user_ids: list[str]
    items: pl.DataFrame
    texts: list[str]
    sequence_items: np.ndarray
    offsets: np.ndarray
    timestamps: np.ndarray
    info: DatasetInfo

    @property
    def n_users(self) -> int:
        """The number of users, U."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """The number of items, V."""
        return len(self.texts)

    @property
    def n_interactions(self) -> int:
        """The number of interactions, n."""
        return len(self.sequence_items)

    @property
    def item_ids(self) -> list[str]:
        """The V raw item ids in item order."""
        return self.items["item_id"].to_list()

    @property
    def catalogue(self) -> Catalogue:
        """The items as models read them: texts and, where it counts, popularity in the training part."""
        popularity = popularity_of(self.item_counts()) if self.info.popularity else None
        return Catalogue(self.item_ids, self.texts, popularity)

    def sequence(self, user: int) -> np.ndarray:
        """Return all item numbers of a user in time order: int32 [length]."""
        return self.sequence_items[self.offsets[user] : self.offsets[user + 1]]

    def histories(self, split: HistorySplit, users: Iterable[int] | None = None) -> list[np.ndarray]:
        """Return the items that a model may see of each user.

        Args:
            split: "train" (what models train on) and "validation" leave out the last two items, "test" the
                last one.
            users: user numbers; None for all users.

        Returns:
            One int32 array a user, oldest item first, at least one item long.
        """
        left_out = {"train": 2, "validation": 2, "test": 1}[split]
        chosen = range(self.n_users) if users is None else users
        return [self.sequence_items[self.offsets[user] : self.offsets[user + 1] - left_out] for user in chosen]

    def training_histories(self) -> list[np.ndarray]:
        """Return the training histories from which anything can be learned: those of two items or more."""
        return [history for history in self.histories("train") if len(history) > 1]

    def targets(self, split: TargetSplit, users: Iterable[int] | None = None) -> np.ndarray:
        """Return the item that follows each history.

        Args:
            split: "validation" for the last item but one, "test" for the last item.
            users: user numbers; None for all users.

        Returns:
            int64 [U], or one for each of ``users``.
        """
        from_end = {"validation": 2, "test": 1}[split]
        ends = self.offsets[1:] if users is None else self.offsets[np.fromiter(users, dtype=np.int64) + 1]
        targets: np.ndarray = self.sequence_items[ends - from_end].astype(np.int64)
        return targets

    def item_counts(self) -> np.ndarray:
        """Return how often each item occurs in the training part: int64 [V]."""
        held_out = np.concatenate([self.offsets[1:] - 1, self.offsets[1:] - 2])
        counts: np.ndarray = np.bincount(self.sequence_items, minlength=self.n_items)
        counts -= np.bincount(self.sequence_items[held_out], minlength=self.n_items)
        return counts

    @classmethod
    def prepare(
        cls,
        source: Source | Sequence[Source],
        items: Source | None = None,
        *,
        user_column: str | None = None,
        item_column: str | None = None,
        time_column: str | None = None,
        text: str | Sequence[str] | None = None,
        template: str | None = None,
        k_core: int = K_CORE,
        drop_textless: bool = False,
        popularity: bool = False,
        name: str | None = None,
    ) -> Dataset:
        """Make a data set from a log and item texts.

        Args:
            source: the log: a path to CSV, TSV, Parquet, JSON lines or RecBole files (``.gz`` too), or a data
                frame (pandas, Polars, Arrow, ...). A list of two holds the log and the item table in any
                order; the log is the one with a user column. A folder holds ``interactions.*`` or
                ``*.inter``, and ``items.*`` or ``*.item``.
            items: the item table; without one the texts come from the log, from the first row of each item.
            user_column: column of the user ids; None: known by its usual name, as are the next two.
            item_column: column of the item ids, in the log and, where it has it, in the item table.
            time_column: column of the times; where there is none, the order of the rows counts.
            text: text columns, in order, as a list or separated by commas. None: title, brand and category by
                their usual names; where the item table has none of these, all its columns of strings.
            template: how the columns become one text, such as ``"{title} by {brand}"``; None: joined by ", ".
            k_core: keep users and items with at least this many interactions, until nothing changes; 0: keep
                all.
            drop_textless: drop interactions with items that have no text, before the k-core, instead of an
                error.
            popularity: let models read how popular an item is in the training part, beside its text; worth trying
                where popularity alone is close to a model of the texts.
            name: a name for the data set; None: that of the file or its folder.

        Raises:
            InputError: a file or a column is missing or damaged, an id or a time is missing, an item has no
                text, nothing is left, or a user has fewer than three interactions.
        """
        if k_core < 0:
            raise InputError(f"--k-core {k_core}: must be 0 (off) or more")
        raw = read_raw(
            source,
            items,
            user_column=user_column,
            item_column=item_column,
            time_column=time_column,
            text=text,
            template=template,
        )
        return _from_raw(
            raw,
            k_core=k_core,
            drop_textless=drop_textless,
            popularity=popularity,
            template=template,
            name=name or _default_name(raw.log_path),
        )

    def save(self, out: str | Path, overwrite: bool = False) -> Path:
        """Write the data set as a folder: two Parquet files, ``dataset.json`` and a ``README.md`` card.

        Args:
            out: the folder to make.
            overwrite: replace an existing folder.

        Raises:
            InputError: ``out`` exists, or cannot be written to.
        """
        with new_folder(out, overwrite) as folder:
            self.write_to(folder)
        return Path(out)

    def write_to(self, folder: Path) -> None:
        """Write the files of the data set into an existing folder."""
        self._interactions().write_parquet(folder / INTERACTIONS_NAME)
        self.items.write_parquet(folder / ITEMS_NAME)
        write_json(folder / DATASET_NAME, marked("dataset") | self.info.model_dump(mode="json"))
        (folder / CARD_NAME).write_text(_card(self.info, folder_bytes(folder)), encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path) -> Dataset:
        """Read a data set that ``save`` wrote, and check that nobody changed it since.

        Raises:
            InputError: no such folder, a file is missing or damaged, or the content does not have the
                fingerprint that ``dataset.json`` states.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        info = _read_info(folder / DATASET_NAME)
        log = read_parquet(folder / INTERACTIONS_NAME, ("user_id", "item_id", "timestamp"))
        items = read_parquet(folder / ITEMS_NAME, ("item_id", *info.text_fields))
        ids = (log["user_id"], log["item_id"], items["item_id"])
        strings = (*ids, *(items[field] for field in info.text_fields))
        if (
            any(column.dtype != pl.String for column in strings)
            or any(column.has_nulls() for column in ids)
            or items["item_id"].is_duplicated().any()
            or log.schema["timestamp"] not in (pl.Int64, pl.Float64)
        ):
            raise _changed(folder)
        if info.template is not None and not set(template_fields(info.template)) <= set(info.text_fields):
            raise _changed(folder)
        sequence_items = _number_ids(log["item_id"], items["item_id"])
        starts = log["user_id"].rle_id().to_numpy()
        lengths = np.bincount(starts) if log.height else np.zeros(0, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        data = cls(
            user_ids=log["user_id"].gather(offsets[:-1]).to_list(),
            items=items,
            texts=render(items, info.text_fields, info.template),
            sequence_items=sequence_items.fill_null(-1).to_numpy().astype(np.int32),
            offsets=offsets,
            timestamps=log["timestamp"].to_numpy(),
            info=info,
        )
        counts = (data.n_users, data.n_items, data.n_interactions)
        if counts != (info.users, info.items, info.interactions) or fingerprint(data) != info.fingerprint:
            raise _changed(folder)
        return data

    def _interactions(self) -> pl.DataFrame:
        users = np.repeat(np.arange(self.n_users), np.diff(self.offsets))
        return pl.DataFrame(
            [
                pl.Series("user_id", self.user_ids, dtype=pl.String).gather(users),
                self.items["item_id"].gather(self.sequence_items),
                pl.Series("timestamp", self.timestamps),
            ]
        )


def _from_raw(
    raw: Raw, *, k_core: int, drop_textless: bool, popularity: bool, template: str | None, name: str
) -> Dataset:
    """Filter and order what was read; the arguments are those of ``Dataset.prepare``.

    Raises:
        InputError: an item has no text (unless ``drop_textless``), nothing is left, or a sequence is too
            short.
    """
    # Items are numbered by their rows in the catalogue until the k-core has settled which of them stay.
    has_text = raw.texts != ""
    with_text = raw.items["item_id"].filter(has_text)
    rows = _number_ids(raw.log["item_id"], with_text, has_text.arg_true())
    textless = raw.log["item_id"].filter(rows.is_null())
    if textless.len() and not drop_textless:
        raise InputError(
            f"{raw.items_name}: no text for {textless.n_unique()} items of the log, first item "
            f"'{textless[0]}'; add their texts, or leave their interactions out with --drop-textless"
        )
    log = raw.log.with_columns(row=rows).drop_nulls("row")
    users, rows_of_log = _number_ids(log["user_id"]).to_numpy(), log["row"].to_numpy()
    kept = k_core_mask(users, rows_of_log, k_core)
    if not kept.any():
        raise InputError(
            f"{raw.log_name}: no interaction is left by the {k_core}-core; give a lower --k-core, or more data"
        )
    log = log.filter(kept)
    kept_rows, item_numbers = np.unique(rows_of_log[kept], return_inverse=True)
    user_ids = log["user_id"].unique(maintain_order=True)
    user_numbers = _number_ids(log["user_id"], user_ids).to_numpy()
    lengths = np.bincount(user_numbers)
    if lengths.min() < MIN_SEQUENCE:
        raise InputError(
            f"{raw.log_name}: {int((lengths < MIN_SEQUENCE).sum())} users have fewer than {MIN_SEQUENCE} "
            f"interactions, such as '{user_ids[int(lengths.argmin())]}', but two of each are held out; "
            f"set --k-core to {MIN_SEQUENCE} or more"
        )
    times = log["timestamp"].to_numpy()
    # lexsort is stable: interactions of the same time keep the order of the input.
    order = np.lexsort((times, user_numbers))
    dropped = Dropped(
        textless_items=textless.n_unique(),
        textless_interactions=textless.len(),
        k_core_users=int(users.max()) + 1 - len(user_ids),
        k_core_items=len(np.unique(rows_of_log)) - len(kept_rows),
        k_core_interactions=int((~kept).sum()),
        duplicate_item_rows=raw.duplicate_item_rows,
        unused_items=raw.items.join(raw.log, on="item_id", how="anti").height,
    )
    info = DatasetInfo(
        name=name,
        users=len(user_ids),
        items=len(kept_rows),
        interactions=len(order),
        k_core=k_core,
        text_fields=tuple(raw.items.columns[1:]),
        template=template,
        time=raw.time,
        sources=raw.files,
        terms=SOURCE_TERMS,
        dropped=dropped,
        popularity=popularity,
        fingerprint="",
    )
    data = Dataset(
        user_ids=user_ids.to_list(),
        items=raw.items[kept_rows],
        texts=raw.texts[kept_rows].to_list(),
        sequence_items=item_numbers[order].astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        timestamps=times[order],
        info=info,
    )
    return replace(data, info=info.model_copy(update={"fingerprint": fingerprint(data)}))


def fingerprint(data: Dataset) -> str:
    """Return the SHA-256 over ids, texts, sequences, times and ``popularity`` in hex, not over files and machines."""
    digest = hashlib.sha256()
    for strings in (data.user_ids, data.item_ids, data.texts):
        encoded = [string.encode() for string in strings]
        # The lengths go first, so that ["ab", "c"] and ["a", "bc"] differ.
        digest.update(np.array([len(encoded), *map(len, encoded)], dtype="<i8").tobytes())
        digest.update(b"".join(encoded))
    times = data.timestamps.astype("<i8" if data.timestamps.dtype.kind == "i" else "<f8")
    for array in (data.sequence_items.astype("<i4"), data.offsets.astype("<i8"), times):
        digest.update(np.ascontiguousarray(array).tobytes())
    if data.info.popularity:
        digest.update(b"popularity")
    return digest.hexdigest()


def _number_ids(ids: pl.Series, known: pl.Series | None = None, numbers: pl.Series | None = None) -> pl.Series:
    """Return the number of each id.

    Args:
        ids: [n] strings.
        known: the ids that have a number, each once; None: ``ids`` in the order of their first appearance.
        numbers: their numbers; None: from 0.

    Returns:
        [n] int64, null for an id that is not known.
    """
    if known is None:
        known = ids.unique(maintain_order=True)
    if numbers is None:
        numbers = pl.Series(range(known.len()), dtype=pl.Int64)
    return ids.replace_strict(known, numbers.cast(pl.Int64), default=None)


def _default_name(path: Path | None) -> str:
    if path is None:
        return "dataset"
    stem = path.name.split(".")[0]
    return path.resolve().parent.name if stem == "interactions" else stem


def _read_info(path: Path) -> DatasetInfo:
    content = read_json(path)
    for field in marked("dataset"):  # earlier versions had no marker
        content.pop(field, None)
    try:
        return DatasetInfo.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: field '{field}': {first['msg']}; prepare the data set again") from error


def _changed(folder: Path) -> InputError:
    return InputError(
        f"{folder}: its content does not have the fingerprint that {DATASET_NAME} states; a file was changed or "
        "damaged, so prepare it again"
    )


def _card(info: DatasetInfo, size: int) -> str:
    dropped = info.dropped
    text = info.template or SEPARATOR.join(f"{{{field}}}" for field in info.text_fields)
    rows = {
        "users, items, interactions": f"{info.users:,}, {info.items:,}, {info.interactions:,}",
        "filter": f"{info.k_core}-core of users and items, to a fixed point" if info.k_core else "none",
        "split": f"{info.split}: the last item of a user is for the test, the one before it for validation",
        "order": f"{info.time}; ties keep the order of the input",
        "text of an item": f"`{text}`",
        "read beside it": "popularity in the training part" if info.popularity else "nothing",
        "made from": ", ".join(info.sources) or "data frames",
        "left out for want of a text": f"{dropped.textless_items:,} items, "
        f"{dropped.textless_interactions:,} interactions",
        "left out by the filter": f"{dropped.k_core_users:,} users, {dropped.k_core_items:,} items, "
        f"{dropped.k_core_interactions:,} interactions",
        "fingerprint (SHA-256)": f"`{info.fingerprint}`",
        "bytes, without this card": f"{size:,}",
        "licence": info.terms,
    }
    table = "\n".join(f"| {what} | {value} |" for what, value in rows.items())
    return (
        f"# Data set {info.name}\n\n"
        f"A data set of FOSTER: `{INTERACTIONS_NAME}` (user_id, item_id, timestamp; user after user, in\n"
        f"time order), `{ITEMS_NAME}` (item_id, text columns) and `{DATASET_NAME}`. `Dataset.read` reads it.\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        "All of it is real data: ids, times and texts are those of the source.\n"
    )
