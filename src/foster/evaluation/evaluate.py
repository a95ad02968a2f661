"""Evaluation of a recommender, or of popularity, by full ranking on the validation or test items."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from foster.artefacts import check_outside
from foster.data.catalogue import Catalogue
from foster.data.dataset import Dataset
from foster.data.histories import Histories
from foster.data.new_items import NewItems
from foster.data.parquet import check_parquet_name, has_schema
from foster.data.split import HeldOut, TargetSplit
from foster.engine import Engine
from foster.errors import InputError, expect
from foster.evaluation.lists import ListMetrics, seen_shares
from foster.evaluation.metrics import CUTOFFS, metrics_of
from foster.evaluation.ranks import rank_targets, users_at_once
from foster.models.item_index import ExactIndex
from foster.models.recommender import NOT_STATED, STATES, TextRecommender
from foster.storage import whole_file
from foster.wording import many

RANKS_SCHEMA: dict[str, type[pl.DataType]] = {
    "user_id": pl.String,
    "item_id": pl.String,
    "rank": pl.Float64,
    "cold": pl.Boolean,
}
"""The columns of a file of ranks, by which foster knows it as its own."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Ranks of one model on one split, and the metrics that follow from them.

    Attributes:
        users: ``[n]`` user indices of the data set; with successive targets a user comes several times.
        ranks: ``[n]`` rank of each target, counted from 1; ties are split.
        cold: ``[n]`` whether the target occurs in no training history.
        split: validation or test.
        n_items: size of the ranked catalogue.
        history_masked: whether the items of the history were left out of the ranking.
        user_ids: ``[n]`` raw ids.
        item_ids: ``[n]`` raw ids of the targets.
        data_split: how the data are split, such as "leave-one-out" or "time:0.9, last targets".
        trained_on_this_data: whether the model came from the data that it is evaluated on, by their fingerprints; None
            where it does not say what it came from.
        lists: coverage, novelty, diversity and popularity of the lists at 5, 10, 20 and 50; None where these were not
            asked for.
    """

    users: np.ndarray
    ranks: np.ndarray
    cold: np.ndarray
    split: TargetSplit
    n_items: int
    history_masked: bool
    user_ids: list[str]
    item_ids: list[str]
    data_split: str
    trained_on_this_data: bool | None
    lists: dict[str, float] | None = None

    @property
    def n_users(self) -> int:
        """The number of users with a target."""
        return len(np.unique(self.users))

    @property
    def metrics(self) -> dict[str, float]:
        """Recall, NDCG and MRR at 5, 10, 20 and 50."""
        return metrics_of(self.ranks)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``foster evaluate --json`` prints."""
        return {
            "metrics": self.metrics,
            **({} if self.lists is None else {"lists": self.lists}),
            "users": self.n_users,
            "targets": len(self.ranks),
            "items": self.n_items,
            "split": self.split,
            "data_split": self.data_split,
            "history_masked": self.history_masked,
            "trained_on_this_data": self.trained_on_this_data,
            "warm": self._of(~self.cold),
            "cold": self._of(self.cold),
        }

    def _of(self, some: np.ndarray) -> dict[str, Any]:
        """Return counts and metrics of some of the targets; None where there are none."""
        return {
            "users": len(np.unique(self.users[some])),
            "targets": int(some.sum()),
            "metrics": metrics_of(self.ranks[some]) if some.any() else None,
        }

    def save_ranks(self, path: str | Path) -> None:
        """Write one row a target (user_id, item_id, rank, cold), from which any rank metric can be computed again.

        Raises:
            InputError: the file cannot be written, or another one than of ranks is there.
        """
        path = Path(path)
        check_ranks_file(path)
        columns = {"user_id": self.user_ids, "item_id": self.item_ids, "rank": self.ranks, "cold": self.cold}
        frame = pl.DataFrame(columns, RANKS_SCHEMA)
        try:
            with whole_file(path.resolve()) as part:
                frame.write_parquet(part)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); give another file") from error


def check_ranks_file(path: Path) -> None:
    """See to it that ranks can be written to a file: ask before the work, not after it.

    Raises:
        InputError: its folder does not exist or is one of foster's, what is there is no file of ranks, or its name says
            another format.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"--ranks {path}: cannot be written; give a file in a folder that exists")
    if path.exists() and not has_schema(path, RANKS_SCHEMA):
        raise InputError(f"--ranks {path}: is there already and holds no ranks; give another file")
    check_parquet_name(path, "--ranks")
    check_outside(path.resolve(), f"--ranks {path}")


class Evaluator:
    """Ranks the targets of one split for one model after another: what no weights change is prepared once.

    At the validation of a split by time the catalogue is as it was then, without the items that come later. With
    several processes each ranks its share of the targets; the ranks are put together, and are to the last digit those
    of one process.

    Args:
        data: the data set; histories are all items before the target (at test the validation item included).
        split: validation or test.
        users: user indices, all of whose targets are ranked; by default all users.
        mask_history: leave the items of the history out of the ranking.
        engine: device and processes; by default those of this machine.
    """

    def __init__(
        self,
        data: Dataset,
        split: TargetSplit = "test",
        *,
        users: np.ndarray | None = None,
        mask_history: bool = True,
        engine: Engine | None = None,
    ) -> None:
        self.data: Dataset = data
        self.split = split
        self.mask_history: bool = mask_history
        self.engine: Engine = engine or Engine()
        self.held_out: HeldOut = data.held_out(split, users)
        self._prepared: _Prepared | None = None

    def ranks(self, model: TextRecommender) -> np.ndarray:
        """Return the rank of each target among the whole catalogue: float64 ``[n]``, ties split.

        Args:
            model: the recommender; its catalogue must hold every item of the data set.

        Raises:
            InputError: the data set has an item that the model does not know.
        """
        prepared = self._prepare(model)
        model.eval()
        table = model.item_table()
        if prepared.ranked is not None:
            table = table[prepared.ranked]
        ranks = np.zeros(len(self.held_out))
        for block in prepared.blocks:
            own = self.held_out[block]
            histories = self.data.histories_before(own).renumbered(prepared.to_model)
            targets = prepared.to_model[self.data.sequence_items[own.positions]]
            ranks[block] = _ranks(model, table, histories, targets, self.mask_history)
        return self.engine.total(ranks)

    def evaluate(self, model: TextRecommender, lists: bool = False) -> Evaluation:
        """Return the ranks of a model with what belongs to them; see ``ranks``, and with ``lists`` see ``lists``."""
        ranks = self.ranks(model)
        assert self._prepared is not None
        trained_here = is_of(model.origin.get("data_fingerprint"), self.data)
        n_items = self._prepared.n_items
        found = _evaluation(self.data, self.split, self.held_out, ranks, n_items, self.mask_history, trained_here)
        return replace(found, lists=self.lists(model)) if lists else found

    def lists(self, model: TextRecommender) -> dict[str, float]:
        """Return coverage, novelty, diversity and popularity of the lists before each target; see ``lists``.

        Args:
            model: as for ``ranks``.
        """
        prepared, data = self._prepare(model), self.data
        model.eval()
        table = model.item_table()
        if prepared.ranked is not None:
            table = table[prepared.ranked]
        # Items of the model that the data lack were taken by nobody.
        seen, counts = np.zeros(len(table)), np.zeros(len(table))
        ours = prepared.to_model[: data.n_known(self.split)]
        training = data.in_training()
        users = np.repeat(np.arange(data.n_users), np.diff(data.offsets))[training]
        shares = seen_shares(users, data.sequence_items[training], len(np.unique(users)), data.n_items)
        seen[ours], counts[ours] = shares[: len(ours)], data.item_counts()[: len(ours)]
        found, index = ListMetrics(table, seen, counts), ExactIndex(table)
        for block in prepared.blocks:
            histories = data.histories_before(self.held_out[block]).renumbered(prepared.to_model)
            queries = model.queries(model.states(histories, table))
            k = min(max(CUTOFFS), len(table))
            found.add(index.search(queries, k, histories if self.mask_history else histories.emptied())[0])
        return found.metrics(self.engine.total(found.parts()))

    def _prepare(self, model: TextRecommender) -> _Prepared:
        if self._prepared is None or self._prepared.catalogue is not model.catalogue:
            data, n_items, ranked = self.data, model.n_items, None
            to_model = item_mapping(model, data)
            if (known := data.n_known(self.split)) < data.n_items:
                left = np.setdiff1d(np.arange(n_items), to_model[known:])
                to_model, n_items = np.searchsorted(left, to_model), len(left)
                # The later items are the last ones, but for models of another catalogue.
                ranked = slice(n_items) if left[-1] == n_items - 1 else torch.from_numpy(left)
            blocks = _blocks(data, self.held_out)[self.engine.rank :: self.engine.world]
            self._prepared = _Prepared(model.catalogue, ranked, n_items, to_model, blocks)
        return self._prepared


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What an evaluation takes of the data and a catalogue; histories stay in the data, however many users there are.

    Attributes:
        catalogue: of the model.
        ranked: which of its items are ranked, None for all.
        n_items: how many these are.
        to_model: the index among the ranked items of each item of the data set.
        blocks: those of this process, numbers of targets.
    """

    catalogue: Catalogue
    ranked: slice | Tensor | None
    n_items: int
    to_model: np.ndarray
    blocks: list[np.ndarray]


def evaluate(
    model: TextRecommender,
    data: Dataset,
    split: TargetSplit = "test",
    *,
    users: np.ndarray | None = None,
    mask_history: bool = True,
    lists: bool = False,
    engine: Engine | None = None,
) -> Evaluation:
    """Rank every held-out item among the whole catalogue; an ``Evaluator`` for one model.

    Args:
        model: the recommender; its catalogue must hold every item of the data set.
        data: the data set.
        split: validation or test.
        users: user indices, all of whose targets are ranked; by default all users.
        mask_history: leave the items of the history out of the ranking.
        lists: compute coverage, novelty, diversity and popularity of the lists, too.
        engine: device and processes; by default those of the model.

    Returns:
        The rank of every target, and by ``metrics`` what follows from them: ``recall@k``, ``ndcg@k`` and ``mrr@k`` for
        k of 5, 10, 20 and 50.

    Raises:
        InputError: the data set has an item that the model does not know.
    """
    expect("evaluate: model", model, TextRecommender)
    expect("evaluate: data", data, Dataset)
    engine = engine or Engine(device=str(model.device))
    return Evaluator(data, split, users=users, mask_history=mask_history, engine=engine).evaluate(model, lists)


def _blocks(data: Dataset, held_out: HeldOut) -> list[np.ndarray]:
    """Divide targets into blocks of similar history lengths, which are ranked each by itself.

    The last digits of a float depend on what is computed beside it, above all on the padding: who computes a block
    makes no difference.
    """
    order = np.argsort(held_out.positions - data.offsets[held_out.users], kind="stable")
    return [order[start : start + STATES] for start in range(0, len(order), STATES)]


def evaluate_popularity(
    data: Dataset, split: TargetSplit = "test", *, users: np.ndarray | None = None, mask_history: bool = True
) -> Evaluation:
    """Rank items by their number of training interactions; arguments as for ``evaluate``."""
    held_out, known = data.held_out(split, users), data.n_known(split)
    counts = torch.from_numpy(data.item_counts()[:known]).float()

    def score(rows: slice) -> Tensor:
        return counts.repeat(rows.stop - rows.start, 1)

    ranks = rank_targets(
        score,
        data.sequence_items[held_out.positions],
        data.histories_before(held_out),
        known,
        mask_history=mask_history,
    )
    return _evaluation(data, split, held_out, ranks, known, mask_history, True)


def rank_new_items(model: TextRecommender, new: NewItems) -> np.ndarray:
    """Add items that the model never saw and rank each of them, for the users who took it, among old and new ones.

    Args:
        model: a model of the log that they were withheld from; it has the new items afterwards.
        new: see ``withhold``.

    Returns:
        float64 ``[users]`` ranks, the history masked, ties split.
    """
    first = model.n_items
    model.add_items(new.texts, new.ids)
    return _ranks(model, model.item_table(), new.histories, first + new.targets, mask_history=True)


def item_mapping(model: TextRecommender, data: Dataset) -> np.ndarray:
    """Return the model's item index of each item of the data set, ``[V]``.

    Raises:
        InputError: an item that the model does not know.
    """
    catalogue, item_ids = model.catalogue, data.item_ids
    if catalogue.ids == item_ids:
        return np.arange(len(item_ids))
    index = catalogue.index
    unknown = [item_id for item_id in item_ids if item_id not in index]
    if unknown:
        raise InputError(
            f"{data.info.name}: {many(len(unknown), 'item is', 'items are')} unknown to the model, item_id "
            f"'{unknown[0]}' first; add them with add_items, or evaluate on the data that the "
            "model's catalogue came from"
        )
    return np.array([index[item_id] for item_id in item_ids], dtype=np.int64)


def _ranks(
    model: TextRecommender, table: Tensor, histories: Histories, targets: np.ndarray, mask_history: bool
) -> np.ndarray:
    """Rank each target after its history among all items of the table."""
    states = model.states(histories, table)

    def score(rows: slice) -> Tensor:
        return model.scores(states[rows], table)

    users = users_at_once(len(table), table.device)
    return rank_targets(score, targets, histories, len(table), mask_history=mask_history, users=users)


def is_of(fingerprint: str | None, data: Dataset) -> bool | None:
    """Return whether what states this fingerprint came from a data set; None where it states none."""
    return None if fingerprint in (None, NOT_STATED) else fingerprint == data.info.fingerprint


def _evaluation(
    data: Dataset,
    split: TargetSplit,
    held_out: HeldOut,
    ranks: np.ndarray,
    n_items: int,
    masked: bool,
    trained_here: bool | None,
) -> Evaluation:
    targets = data.sequence_items[held_out.positions]
    return Evaluation(
        users=held_out.users,
        ranks=ranks,
        cold=data.item_counts()[targets] == 0,
        split=split,
        n_items=n_items,
        history_masked=masked,
        user_ids=[data.user_ids[user] for user in held_out.users],
        item_ids=data.items["item_id"].gather(targets).to_list(),
        data_split=data.info.split_name,
        trained_on_this_data=trained_here,
    )
