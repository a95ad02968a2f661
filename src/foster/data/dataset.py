"""The data set: item sequences of users, item texts, and what of them is for training, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from foster.artefacts import (
    CARD_NAME,
    DATASET_NAME,
    Count,
    Size,
    folder_bytes,
    marked,
    new_folder,
    read_json,
    read_parquet,
    write_json,
)
from foster.data.catalogue import Catalogue, popularity_of
from foster.data.core import count_numbers, k_core_mask
from foster.data.defaults import K_CORE, LEAVE_ONE_OUT
from foster.data.histories import Histories
from foster.data.ids import number_categories
from foster.data.reading import Reading
from foster.data.sources import INPUT_ORDER, Columns, Raw, Source, read_raw, time_words
from foster.data.split import (
    TARGET_SEED,
    HeldOut,
    Partition,
    TargetRule,
    TargetSplit,
    by_time,
    cut_time,
    leave_one_out,
    parse_split,
    split_name,
    split_options,
)
from foster.data.texts import SEPARATOR, render, template_fields
from foster.errors import InputError
from foster.json_text import is_unicode, to_json
from foster.manifest import MANIFEST_NAME, read_whole, verify
from foster.progress import stage
from foster.wording import many

HistorySplit = Literal["train", "validation", "test"]

INTERACTIONS_NAME = "interactions.parquet"
ITEMS_NAME = "items.parquet"
# One target for the test, one for validation, and at least one interaction to go by.
MIN_SEQUENCE = 3
SHOWN_ITEMS = 5
_STRINGS = 2**16  # encoded at once for the fingerprint
_SORTED = 2**22  # interactions sorted at once
_ROW_GROUP = 1_000_000  # interactions of a Parquet row group, which is what is held in words at once
SOURCE_TERMS = "that of the source data"


class Dropped(BaseModel):
    """What ``prepare`` left out, in counts."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    textless_items: Count = 0
    """Items of the log without a text."""
    textless_interactions: Count = 0
    """Interactions with these items."""
    k_core_users: Count = 0
    k_core_items: Count = 0
    k_core_interactions: Count = 0
    duplicate_item_rows: Count = 0
    """Rows of the item table whose id came before; the first row of an id counts."""
    unused_items: Count = 0
    """Items of the item table that nobody interacted with."""

    def as_lines(self, k_core: int) -> list[str]:
        """Return what was left out as lines for people, a line for each cause."""
        by_core = (
            many(self.k_core_users, "user"), many(self.k_core_items, "item"),
            many(self.k_core_interactions, "interaction"),
        )  # fmt: skip
        without_text = many(self.textless_items, "item that has", "items that have")
        found = {
            f"{many(self.textless_interactions, 'interaction')} with {without_text} no text": self.textless_items,
            f"{', '.join(by_core)} by the {k_core}-core": self.k_core_interactions,
            f"{many(self.duplicate_item_rows, 'row')} of items whose id came before": self.duplicate_item_rows,
            f"{many(self.unused_items, 'item')} of the item table that nobody interacted with": self.unused_items,
        }
        return [line for line, count in found.items() if count]


class DatasetInfo(BaseModel):
    """What a data set is and how it was made; the content of ``dataset.json``."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    users: Size
    items: Size
    interactions: Size
    k_core: Count
    """Every user and item has at least this many interactions; 0: not filtered."""
    split: str = LEAVE_ONE_OUT
    """What is for training, validation and test: "leave-one-out", "time:Q" or "time:Q1:Q2"."""
    targets: TargetRule | None = None
    """Which interactions after a cut in time are to be predicted; None with leave-one-out."""
    target_seed: Count | None = None
    """Of the draw of random targets."""
    cut_times: tuple[int | float, ...] = ()
    """The times of the cuts, in the unit of the data; what happened at a cut is before it."""
    text_fields: Annotated[tuple[str, ...], Field(min_length=1)]
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
    reading: Reading | None = None
    """What was understood of the sources; None where an earlier version prepared the data."""
    popularity: bool = False
    """Whether models read how popular an item is in the training part, beside its text."""
    fingerprint: str
    """SHA-256, in hex, of the ids, the texts, the sequences and their times, whether popularity counts, and a split by
    time."""

    @field_validator("split")
    @classmethod
    def _is_a_split(cls, value: str) -> str:
        parse_split(value)
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        timed = self.split != LEAVE_ONE_OUT
        drawn = self.targets == "random"
        fits = len(self.cut_times) == len(parse_split(self.split)), timed == (self.targets is not None)
        if not all(fits) or drawn != (self.target_seed is not None):
            raise ValueError("the fields 'split', 'targets', 'target_seed' and 'cut_times' do not fit one another")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what leave-one-out does not have, so that its files are as they always were."""
        content: dict[str, Any] = plain(self)
        if self.targets is None:
            for name in ("targets", "target_seed", "cut_times"):
                content.pop(name, None)
        return content

    @property
    def origin(self) -> dict[str, str]:
        """What an artefact that is made of the data says of them: the fingerprint and, if it is by time, the split."""
        split = {} if self.targets is None else {"data_split": self.split_name}
        return {"data_fingerprint": self.fingerprint, **split}

    @property
    def split_name(self) -> str:
        """The split in words: "leave-one-out", or "time:0.9, last targets"."""
        return self.split if self.targets is None else f"{self.split}, {self.targets} targets"


@dataclass(frozen=True)
class Parts:
    """Sizes of the parts of a data set.

    Attributes:
        training_users: users with two interactions or more to train on.
        training_interactions: interactions in the training part.
        validation_users: users with a validation target.
        validation_targets: validation targets.
        test_users: users with a test target.
        test_targets: test targets.
        later_items: items that first occur after the training's end, by a split in time.
    """

    training_users: int
    training_interactions: int
    validation_users: int
    validation_targets: int
    test_users: int
    test_targets: int
    later_items: int

    def as_dict(self) -> dict[str, int]:
        """Return the sizes by name."""
        return asdict(self)

    def as_text(self) -> str:
        """Return the sizes as a line for people."""
        return (
            f"{many(self.training_users, 'user')} to train on ({many(self.training_interactions, 'interaction')}), "
            f"{many(self.validation_targets, 'validation target')} of {many(self.validation_users, 'user')}, "
            f"{many(self.test_targets, 'test target')} of {many(self.test_users, 'user')}, "
            f"{many(self.later_items, 'item that comes', 'items that come')} after the training"
        )


@dataclass(frozen=True, eq=False, repr=False)
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
        arguments: of the call of ``prepare`` that made it, sources aside; None if it was read from a folder.
    """

    user_ids: list[str]
    items: pl.DataFrame
    texts: list[str]
    sequence_items: np.ndarray
    offsets: np.ndarray
    timestamps: np.ndarray
    info: DatasetInfo
    arguments: Mapping[str, Any] | None = None

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
    def about(self) -> dict[str, Any]:
        """What a manifest says of the making."""
        return {} if self.arguments is None else {"arguments": dict(self.arguments)}

    @property
    def item_ids(self) -> list[str]:
        """The V raw item ids in item order."""
        return self.items["item_id"].to_list()

    @property
    def catalogue(self) -> Catalogue:
        """The items as models read them: texts and, where it counts, popularity in the training part."""
        known = self.n_known("train")
        popularity = popularity_of(self.item_counts(), known) if self.info.popularity else None
        return Catalogue(self.item_ids, self.texts, popularity, None if known == self.n_items else known)

    @cached_property
    def partition(self) -> Partition:
        """What of each sequence is for training, validation and test."""
        info = self.info
        if info.targets is None:
            return leave_one_out(self.offsets)
        return by_time(self.offsets, self.timestamps, info.cut_times, info.targets, info.target_seed)

    def n_known(self, split: HistorySplit) -> int:
        """Return how many items there are as far as training, validation or test knows: the first so many.

        With a split by time, items that first occur after the training cut come behind the others in item order, and
        behind these those that first occur in the test. Training and validation act as if later ones did not exist.
        """
        if split == "test" or not self.info.cut_times:
            return self.n_items
        return self._known[0 if split == "train" else -1]

    @cached_property
    def _known(self) -> list[int]:
        """How many items occur up to each cut."""
        before = (self.timestamps <= cut for cut in self.info.cut_times)
        return [len(np.unique(self.sequence_items[known])) for known in before]

    def sequence(self, user: int) -> np.ndarray:
        """Return all item numbers of a user in time order: int32 [length]."""
        return self.sequence_items[self.offsets[user] : self.offsets[user + 1]]

    def parts(self) -> Parts:
        """Return the sizes of training, validation and test."""
        lengths = self.partition.train_ends - self.offsets[:-1]
        validation, test = self.partition.validation, self.partition.test
        return Parts(
            training_users=int((lengths > 1).sum()),
            training_interactions=int(lengths.sum()),
            validation_users=validation.n_users,
            validation_targets=len(validation),
            test_users=test.n_users,
            test_targets=len(test),
            later_items=self.n_items - self.n_known("train"),
        )

    def held_out(self, split: TargetSplit, users: Iterable[int] | None = None) -> HeldOut:
        """Return the targets of a split with their users.

        Args:
            split: validation or test.
            users: user numbers, of whom all targets are returned; None for all users.
        """
        targets = self.partition.of(split)
        return targets if users is None else targets.of_users(users)

    def histories_before(self, targets: HeldOut) -> Histories:
        """Return what a model may see before each target: all earlier items of its user, int32, oldest first."""
        return Histories(self.sequence_items, self.offsets[targets.users], targets.positions)

    def histories(self, split: HistorySplit, users: Iterable[int] | None = None) -> Histories:
        """Return the items that a model may see of each user, or before each target.

        Args:
            split: "train" for what models train on, of the users who have any of it; "validation" and "test" for all
                items before each target. With leave-one-out each user has one target, the last item in the test and
                the last item but one in the validation, and training ends before both.
            users: user numbers; None for all users.

        Returns:
            One int32 array a user or target, oldest item first, at least one item long; a view of the log.
        """
        if split != "train":
            return self.histories_before(self.held_out(split, users))
        found = Histories(self.sequence_items, self.offsets[:-1], self.partition.train_ends)
        if users is not None:
            found = found[np.fromiter(users, dtype=np.int64)]
        return found[found.lengths > 0]

    def training_histories(self) -> Histories:
        """Return the training histories from which anything can be learned: those of two items or more."""
        found = self.histories("train")
        return found[found.lengths > 1]

    def need_training_histories(self) -> Histories:
        """Return ``training_histories``.

        Raises:
            InputError: there are none.
        """
        if not (found := self.training_histories()):
            raise InputError(f"{self.info.name}: no training history has two items; lower --k-core or bring more data")
        return found

    def targets(self, split: TargetSplit, users: Iterable[int] | None = None) -> np.ndarray:
        """Return the item that follows each history.

        Args:
            split: validation or test; see ``histories``.
            users: user numbers; None for all users.

        Returns:
            int64 [targets]; with leave-one-out one for each user.
        """
        targets: np.ndarray = self.sequence_items[self.held_out(split, users).positions].astype(np.int64)
        return targets

    def in_training(self) -> np.ndarray:
        """Return which interactions are in the training part: bool [n]."""
        ends = self.partition.train_ends
        lengths = np.stack([ends - self.offsets[:-1], self.offsets[1:] - ends], axis=1)
        inside: np.ndarray = np.repeat(np.tile([True, False], self.n_users), lengths.ravel())
        return inside

    def item_counts(self) -> np.ndarray:
        """Return how often each item occurs in the training part: int64 [V]."""
        return self._item_counts.copy()

    @cached_property
    def _item_counts(self) -> np.ndarray:
        return count_numbers(self.sequence_items[self.in_training()], self.n_items)

    def with_split(self, split: str, targets: str | None = None) -> Dataset:
        """Return the same log, which is divided leave-one-out so far, divided in another way.

        Args:
            split: "leave-one-out"; "time:Q", where what comes after the quantile Q of all times is for the test, and
                the last interaction of a user before it for validation; or "time:Q1:Q2", where validation is what comes
                between the two quantiles, after the training.
            targets: with a split by time, the interactions that are predicted of each user: "last" (the default),
                "random" (one, drawn once for all) or "successive" (all, one after another).

        Returns:
            The data set; with a split by time, items that are first met after a cut stand behind the others.

        Raises:
            InputError: no such split, a split by time of a log without times, or one that leaves nothing to train on,
                to validate by or to test.
        """
        shares, rule = split_options(split, targets)
        if self.info.cut_times:
            raise InputError(f"--split {split}: {self.info.name} is split by time already; prepare it again")
        if shares and self.info.time == INPUT_ORDER:
            raise InputError(
                f"--split {split}: {self.info.name} has no times, only an order of rows; name their column by "
                "--time-column, or take --split leave-one-out"
            )
        update = {
            "split": split_name(shares) if shares else split,
            "targets": rule,
            "target_seed": TARGET_SEED if rule == "random" else None,
            "cut_times": tuple(cut_time(self.timestamps, share) for share in shares),
        }
        data = replace(self, info=self.info.model_copy(update=update))._with_later_items_last()
        if shares:
            data._check_split()
        arguments = None if self.arguments is None else {**self.arguments, "split": split, "targets": targets}
        info = data.info.model_copy(update={"fingerprint": fingerprint(data)})
        return replace(data, info=info, arguments=arguments)

    def _with_later_items_last(self) -> Dataset:
        """Return it with items in the order of the periods in which they first occur, and as they were within one."""
        period = np.zeros(self.n_items, dtype=np.int64)
        for cut in self.info.cut_times:
            later = np.ones(self.n_items, dtype=bool)
            later[self.sequence_items[self.timestamps <= cut]] = False
            period += later
        order = np.argsort(period, kind="stable")
        number = np.empty_like(order)
        number[order] = np.arange(self.n_items)
        return replace(
            self,
            items=self.items[order],
            texts=[self.texts[item] for item in order],
            sequence_items=number[self.sequence_items].astype(np.int32),
        )

    def _check_split(self) -> None:
        """Raise InputError if a part is empty."""
        found = {
            "user with two interactions to train on": len(self.training_histories()),
            "target to validate by": len(self.partition.validation),
            "target to test": len(self.partition.test),
        }
        for what, count in found.items():
            if not count:
                cuts = " and ".join(map(str, self.info.cut_times))
                raise InputError(
                    f"--split {self.info.split}: leaves no {what} ({self.info.name}, cut at {cuts}); give other shares"
                )

    @classmethod
    def prepare(
        cls,
        source: Source | Sequence[Source],
        items: Source | None = None,
        *,
        user_column: str | None = None,
        item_column: str | None = None,
        time_column: str | Sequence[str] | None = None,
        time_format: str | None = None,
        input_order: bool = False,
        text: str | Sequence[str] | None = None,
        template: str | None = None,
        k_core: int = K_CORE,
        drop_textless: bool = False,
        popularity: bool = False,
        split: str = LEAVE_ONE_OUT,
        targets: str | None = None,
        name: str | None = None,
    ) -> Dataset:
        """Make a data set from a log and item texts.

        Args:
            source: the log: a path to CSV, TSV, Parquet, JSON lines or RecBole files (``.gz`` too), or a data
                frame (pandas, Polars, Arrow, ...). A list of two holds the log and the item table in any
                order; the log is the one with a user column. A folder holds ``interactions.*`` or
                ``*.inter``, and ``items.*`` or ``*.item``.
            items: the item table; without one the texts come from the log, from the first row of each item.
            user_column: column of the user ids; None: known by its usual name.
            item_column: column of the item ids, in the log and, where it has it, in the item table; None: known
                by its usual name.
            time_column: column of the times, or several (a list, or separated by commas) that make a whole time: a
                date and a time of day, or year, month, day, ... None: known by names, types and values; the order of
                the rows counts where nothing looks like a time.
            time_format: how the times are written, in the terms of ``strptime``; None: one of the usual ways.
            input_order: the rows are in time order, whatever looks like a time.
            text: text columns, in order, as a list or separated by commas; ``details.Brand`` is the field Brand of
                the objects in details. None: title, brand and category by their usual names.
            template: how the columns become one text, such as ``"{title} by {brand}"``; None: joined by ", ".
            k_core: keep users and items with at least this many interactions, until nothing changes; 0: keep
                all.
            drop_textless: drop interactions with items that have no text, before the k-core, instead of an
                error.
            popularity: let models read how popular an item is in the training part, beside its text; worth trying
                where popularity alone is close to a model of the texts.
            split: what is for training, validation and test: "leave-one-out", "time:0.9" or "time:0.8:0.9"; see
                ``with_split``.
            targets: with a split by time, which interactions of a user are predicted: last, random or successive.
            name: a name for the data set; None: that of the file or its folder.

        Raises:
            InputError: a file or a column is missing or damaged, it is not clear which column is what, an id or a
                time is missing, an item has no text, nothing is left, a user has fewer than three interactions, or
                the log cannot be split in this way.
        """
        if k_core < 0:
            raise InputError(f"--k-core {k_core}: must be 0 (off) or more")
        for flag, value in (("--template", template), ("--name", name)):
            if value is not None and not is_unicode(value):
                raise InputError(f"{flag} {value!r}: holds bytes that are no UTF-8; write it anew")
        split_options(split, targets)  # a wrong one is an error before all is read
        if isinstance(text, str):
            text = [column.strip() for column in text.split(",")]
        if time_column is not None and not isinstance(time_column, str):
            time_column = ",".join(time_column)
        columns = Columns(user_column, item_column, time_column, time_format, input_order, tuple(text or ()), template)
        with stage("preparing: reading"):
            raw = read_raw(source, items, columns)
        with stage("preparing: choosing and ordering what stays"):
            data = _from_raw(
                raw,
                k_core=k_core,
                drop_textless=drop_textless,
                popularity=popularity,
                template=template,
                name=name,
                shortest=MIN_SEQUENCE if split == LEAVE_ONE_OUT else 1,
            )
        roles = {f"{role}_column": getattr(columns, role) for role in ("user", "item", "time")}
        arguments = {
            **roles,
            "time_format": time_format,
            "input_order": input_order,
            "text": list(columns.text),
            "template": template,
            "k_core": k_core,
            "drop_textless": drop_textless,
            "popularity": popularity,
            "name": data.info.name,
            "items": items is not None,
        }
        data = replace(data, arguments=arguments)
        return data if split == LEAVE_ONE_OUT and targets is None else data.with_split(split, targets)

    def first_history(self) -> dict[str, Any]:
        """Return the first items of the first user, and the last one, in plain data: to see that they are right."""

        def entry(place: int) -> dict[str, Any]:
            item = int(self.sequence_items[place])
            time = self.timestamps[place].item()
            return {"time": time, "item_id": self.items["item_id"][item], "text": self.texts[item]}

        length = int(self.offsets[1])
        first = [entry(place) for place in range(min(length, SHOWN_ITEMS))]
        last = [entry(length - 1)] if length > SHOWN_ITEMS else []
        return {"user_id": self.user_ids[0], "length": length, "first": first, "last": last}

    def understood(self) -> list[str]:
        """Return what was understood of the sources, what was left out, what stays and the first history, as lines."""
        info = self.info
        lines = info.reading.as_lines() if info.reading is not None else [f"ordered by {info.time}"]
        lines += [f"left out   {line}" for line in info.dropped.as_lines(info.k_core)]
        lines.append(f"kept       {self.n_users:,} users, {self.n_items:,} items, {self.n_interactions:,} interactions")
        first = self.first_history()
        factor = info.reading.time_factor if info.reading is not None else None
        lines.append(f"first      user {first['user_id']}, {many(first['length'], 'item')}, oldest first:")
        entries = [
            f"           {time_words(entry['time'], factor)}  {entry['item_id']}  {entry['text'][:80]}"
            for entry in (*first["first"], *first["last"])
        ]
        if first["length"] > len(entries):
            entries.insert(SHOWN_ITEMS, "           ...")
        return lines + entries

    def __repr__(self) -> str:
        """Return what it is in a line; the whole is long."""
        sizes = f"{self.n_users:,} users, {self.n_items:,} items, {self.n_interactions:,} interactions"
        return f"Dataset({self.info.name}: {sizes}, {self.info.split_name})"

    def save(self, out: str | Path, overwrite: bool = False) -> Path:
        """Write the data set as a folder: two Parquet files, ``dataset.json`` and a ``README.md`` card.

        Args:
            out: the folder to make.
            overwrite: replace an existing folder.

        Raises:
            InputError: ``out`` exists, or cannot be written to.
        """
        with new_folder(out, overwrite, self.about) as folder:
            self.write_to(folder)
        return Path(out)

    def write_to(self, folder: Path) -> None:
        """Write the files of the data set into an existing folder."""
        self._interactions().sink_parquet(folder / INTERACTIONS_NAME, row_group_size=_ROW_GROUP)
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
        return read_whole(folder, lambda: cls._read(Path(folder)))

    @classmethod
    def _read(cls, folder: Path) -> Dataset:
        """Read what ``read`` returns."""
        verify(folder)
        info = _read_info(folder / DATASET_NAME)
        log = read_parquet(folder / INTERACTIONS_NAME, ("user_id", "item_id", "timestamp"), ("user_id", "item_id"))
        items = read_parquet(folder / ITEMS_NAME, ("item_id", *info.text_fields))
        users, log_items = log.drop_in_place("user_id"), log.drop_in_place("item_id")
        if (
            any(column.dtype != pl.Categorical for column in (users, log_items))
            or any(items[field].dtype != pl.String for field in ("item_id", *info.text_fields))
            or any(column.has_nulls() for column in (users, log_items, items["item_id"]))
            or items["item_id"].is_duplicated().any()
            or log.schema["timestamp"] not in (pl.Int64, pl.Float64)
        ):
            raise _changed(folder)
        if not _fits(info.template, info.text_fields):
            raise _changed(folder)
        lengths = users.to_physical().rle().struct.field("len").to_numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        user_ids = users.gather(offsets[:-1]).cast(pl.String).to_list()
        del users
        found = number_categories(log_items)
        rows = _number_ids(found.names, items["item_id"]).fill_null(-1).to_numpy().astype(np.int32)
        data = cls(
            user_ids=user_ids,
            items=items,
            texts=render(items, info.text_fields, info.template),
            sequence_items=rows[found.numbers],
            offsets=offsets,
            timestamps=log["timestamp"].to_numpy(),
            info=info,
        )
        counts = (data.n_users, data.n_items, data.n_interactions)
        if counts != (info.users, info.items, info.interactions) or fingerprint(data) != info.fingerprint:
            raise _changed(folder)
        if (wrong := data._wrong()) is not None:
            raise InputError(f"{folder}: {wrong}; the folder was changed or damaged, so prepare it again")
        return data

    def _wrong(self) -> str | None:
        """Return what no data set that ``prepare`` makes has, or None."""
        later = self.timestamps[1:] >= self.timestamps[:-1]
        later[self.offsets[1:-1] - 1] = True  # from one user to the next
        shortest = MIN_SEQUENCE if self.info.split == LEAVE_ONE_OUT else 1
        faults = {
            "an interaction has an item that is not in the item table": self.sequence_items.min() < 0,
            "a user stands in two places": len(set(self.user_ids)) < self.n_users,
            "a time is no number": not np.isfinite(self.timestamps).all(),
            "interactions are not in the order of time": not later.all(),
            f"a user has less than {shortest} interactions": np.diff(self.offsets).min() < shortest,
            "an item has no text": not all(map(str.strip, self.texts)),
        }
        found = next((fault for fault, there in faults.items() if there), None)
        if found is not None or not self.info.cut_times:
            return found
        ordered = np.array_equal(self._with_later_items_last().sequence_items, self.sequence_items)
        return None if ordered else "items that come after a cut do not stand behind the others"

    def _interactions(self) -> pl.LazyFrame:
        """Return the rows of the log; ids become words when they are collected, part after part."""
        numbers = {
            "user_id": np.repeat(np.arange(self.n_users, dtype=np.int32), np.diff(self.offsets)),
            "item_id": self.sequence_items,
        }
        words = {"user_id": pl.Series(self.user_ids, dtype=pl.String), "item_id": self.items["item_id"]}
        frame = pl.LazyFrame(
            [*(pl.Series(name, values) for name, values in numbers.items()), pl.Series("timestamp", self.timestamps)]
        )
        return frame.with_columns(
            pl.col(name).map_batches(ids.gather, return_dtype=pl.String, is_elementwise=True)
            for name, ids in words.items()
        )


def _from_raw(
    raw: Raw,
    *,
    k_core: int,
    drop_textless: bool,
    popularity: bool,
    template: str | None,
    name: str | None,
    shortest: int,
) -> Dataset:
    """Filter and order what was read: arguments of ``Dataset.prepare``, and the least length of a sequence.

    Raises:
        InputError: an item has no text (unless ``drop_textless``), nothing is left, or a sequence is too
            short.
    """
    # Items are numbered by their rows in the catalogue until the k-core has settled which of them stay.
    has_text = raw.texts != ""
    row_of = _number_ids(raw.log_items.names, raw.items["item_id"].filter(has_text), has_text.arg_true())
    rows = row_of.fill_null(-1).to_numpy().astype(np.int32)[raw.log_items.numbers]
    users, times = raw.users.numbers, raw.times
    raw = raw.without_log()  # so that what is filtered out can be let go of
    textless_items, textless = row_of.null_count(), int((rows < 0).sum())
    if textless:
        if not drop_textless:
            raise _no_text(raw, row_of)
        users, times, rows = users[rows >= 0], times[rows >= 0], rows[rows >= 0]
    kept = k_core_mask(users, rows, k_core)
    if not kept.any():
        raise InputError(
            f"{raw.reading.log}: no interaction is left by the {k_core}-core; give a lower --k-core, or more data"
        )
    before = _distinct(users), _distinct(rows), len(rows)
    if not kept.all():
        users, times, rows = users[kept], times[kept], rows[kept]
    kept_rows, kept_users = np.flatnonzero(count_numbers(rows)), pl.Series(users).unique(maintain_order=True).to_numpy()
    user_ids = raw.users.names.gather(kept_users)
    users, rows = _renumber(users, kept_users), _renumber(rows, kept_rows)
    lengths = count_numbers(users)
    if lengths.min() < shortest:
        left = int(k_core_mask(users, rows, MIN_SEQUENCE).sum())
        raise InputError(
            f"{raw.reading.log}: {many(int((lengths < MIN_SEQUENCE).sum()), 'user has', 'users have')} fewer than "
            f"{MIN_SEQUENCE} interactions, such as '{user_ids[int(lengths.argmin())]}', but two of each are held out; "
            + (
                f"set --k-core to {MIN_SEQUENCE} or more, which leaves {many(left, 'interaction')}"
                if left
                else f"more data are needed, since no interaction is left by a {MIN_SEQUENCE}-core"
            )
        )
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    order = _by_user_and_time(users, times, offsets)
    dropped = Dropped(
        textless_items=textless_items,
        textless_interactions=textless,
        k_core_users=before[0] - len(user_ids),
        k_core_items=before[1] - len(kept_rows),
        k_core_interactions=before[2] - len(rows),
        duplicate_item_rows=raw.duplicate_item_rows,
        unused_items=int((~raw.items["item_id"].is_in(raw.log_items.names.implode())).sum()),
    )
    info = DatasetInfo(
        name=name or _default_name(raw.log_path),
        users=len(user_ids),
        items=len(kept_rows),
        interactions=len(order),
        k_core=k_core,
        text_fields=tuple(raw.items.columns[1:]),
        template=template,
        time=", ".join(raw.reading.time) or INPUT_ORDER,
        sources=raw.files,
        terms=SOURCE_TERMS,
        dropped=dropped,
        reading=raw.reading,
        popularity=popularity,
        fingerprint="",
    )
    data = Dataset(
        user_ids=user_ids.to_list(),
        items=raw.items[kept_rows],
        texts=raw.texts[kept_rows].to_list(),
        sequence_items=rows[order],
        offsets=offsets,
        timestamps=times[order],
        info=info,
    )
    return replace(data, info=info.model_copy(update={"fingerprint": fingerprint(data)}))


def _no_text(raw: Raw, row_of: pl.Series) -> InputError:
    """Return the error for items of the log without a text, with an id of the item table that differs in form only."""
    missing = raw.log_items.names.filter(row_of.is_null())
    known = {_bare(item): item for item in raw.items["item_id"].to_list()}
    alike = next((known[_bare(item)] for item in missing.to_list() if _bare(item) in known), None)
    first, where = missing[0], raw.reading.items or raw.reading.log
    if alike is not None and not raw.items["item_id"].is_in(missing.implode()).any():
        first = next(item for item in missing.to_list() if _bare(item) in known)
        return InputError(
            f"{where}: no text for {many(missing.len(), 'item')} of the log; its item '{first}' is "
            f"'{known[_bare(first)]}' here; write ids in one way in both tables, or leave these "
            "interactions out with --drop-textless"
        )
    return InputError(
        f"{where}: no text for {many(missing.len(), 'item')} of the log, first item "
        f"'{first}'; add their texts, or leave their interactions out with --drop-textless"
    )


def _bare(item: str) -> str:
    """Return an id without what exports change: case, blanks, zeros in front, a point and a zero behind."""
    return item.strip().casefold().removesuffix(".0").lstrip("0")


def _distinct(numbers: np.ndarray) -> int:
    return int(np.count_nonzero(count_numbers(numbers)))


def _renumber(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the place in ``kept`` of each value, int32; all values are there."""
    table = np.zeros(int(kept.max()) + 1, dtype=np.int32)
    table[kept] = np.arange(len(kept), dtype=np.int32)
    out: np.ndarray = table[values]
    return out


def _by_user_and_time(users: np.ndarray, times: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the order of interactions, user after user, each in time order; ties keep the order of the input.

    Args:
        users: [n] user numbers.
        times: [n].
        offsets: int64 [U + 1], where the interactions of each user begin and end in this order.
    """
    order = np.empty(len(users), dtype=np.int64)
    # Some users after others: to sort takes several times the memory of what is sorted.
    firsts = np.unique(np.searchsorted(offsets, np.arange(0, len(users), _SORTED), "right") - 1)
    for first, end in zip(firsts, [*firsts[1:], len(offsets) - 1], strict=True):
        rows = np.flatnonzero((users >= first) & (users < end))
        order[offsets[first] : offsets[end]] = rows[_sorted(users[rows], times[rows])]
    return order


def _sorted(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    if times.dtype == np.int64:
        span = int(times.max()) - int(times.min()) + 1
        if span * (int(users.max()) + 1) < 2**62:
            # One key sorts in a fraction of the time that two take.
            key = pl.DataFrame({"key": users.astype(np.int64) * span + (times - times.min())})
            return key.select(pl.arg_sort_by("key", maintain_order=True)).to_series().to_numpy()
    return np.lexsort((times, users))


def fingerprint(data: Dataset) -> str:
    """Return the SHA-256 over the content in hex, not over files and machines: see ``DatasetInfo.fingerprint``."""
    digest = hashlib.sha256()
    for strings in (data.user_ids, data.item_ids, data.texts):
        # The lengths go first, so that ["ab", "c"] and ["a", "bc"] differ.
        lengths = pl.Series(strings, dtype=pl.String).str.len_bytes().to_numpy()
        digest.update(np.array([len(lengths), *lengths], dtype="<i8").data)
        for start in range(0, len(strings), _STRINGS):
            digest.update("".join(strings[start : start + _STRINGS]).encode())
    times = "<i8" if data.timestamps.dtype.kind == "i" else "<f8"
    for array, dtype in ((data.sequence_items, "<i4"), (data.offsets, "<i8"), (data.timestamps, times)):
        digest.update(np.ascontiguousarray(array, dtype=dtype).data)
    if data.info.popularity:
        digest.update(b"popularity")
    if data.info.split != LEAVE_ONE_OUT:
        info = data.info
        digest.update(f"{info.split} {info.targets} {info.target_seed} {info.cut_times}".encode())
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
    mark = {field: content.pop(field) for field in marked("dataset") if field in content}
    if mark and (mark.get("kind") != "dataset" or not isinstance(mark.get("foster"), str)):
        raise InputError(f"{path}: field 'kind' or 'foster' is wrong; prepare the data set again")
    dropped = content.get("dropped")
    if isinstance(dropped, dict) and (missing := [name for name in Dropped.model_fields if name not in dropped]):
        raise InputError(f"{path}: field 'dropped.{missing[0]}' is missing; prepare the data set again")
    try:
        return DatasetInfo.model_validate_json(to_json(content), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: field '{field}': {first['msg']}; prepare the data set again") from error


def _fits(template: str | None, fields: Sequence[str]) -> bool:
    """Whether a stored template is one, and of these fields."""
    try:
        return template is None or set(template_fields(template)) <= set(fields)
    except InputError:  # which would speak of an option
        return False


def _changed(folder: Path) -> InputError:
    return InputError(
        f"{folder}: its content does not have the fingerprint that {DATASET_NAME} states; a file was changed or "
        "damaged, so prepare it again"
    )


def _split_in_words(info: DatasetInfo) -> str:
    if info.targets is None:
        return f"{info.split}: the last item of a user is for the test, the one before it for validation"
    which = {
        "last": "the last item of each user is the target",
        "random": f"one item of each user, drawn with seed {info.target_seed}, is the target",
        "successive": "every item of a user is a target in turn",
    }[info.targets]
    *first, last = info.cut_times
    validation = (
        f"from {first[0]} on the same holds for validation, and training ends there"
        if first
        else "a user's last item before that is for validation"
    )
    return f"{info.split}: after {last} (in the unit of the times) is the test, in which {which}; {validation}"


def _card(info: DatasetInfo, size: int) -> str:
    dropped = info.dropped
    text = info.template or SEPARATOR.join(f"{{{field}}}" for field in info.text_fields)
    rows = {
        "users, items, interactions": f"{info.users:,}, {info.items:,}, {info.interactions:,}",
        "filter": f"{info.k_core}-core of users and items, to a fixed point" if info.k_core else "none",
        "split": _split_in_words(info),
        "order": f"{info.time}; ties keep the order of the input",
        "text of an item": f"`{text}`",
        "read beside it": "popularity in the training part" if info.popularity else "nothing",
        "made from": ", ".join(info.sources) or "data frames",
        "left out for want of a text": f"{dropped.textless_items:,} items, "
        f"{dropped.textless_interactions:,} interactions",
        "left out by the filter": f"{dropped.k_core_users:,} users, {dropped.k_core_items:,} items, "
        f"{dropped.k_core_interactions:,} interactions",
        "fingerprint (SHA-256)": f"`{info.fingerprint}`",
        f"bytes, without this card and {MANIFEST_NAME}": f"{size:,}",
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
