"""Items that are withheld from a log, as if they had come to the shop after a model was trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foster.data.dataset import MIN_SEQUENCE, Dataset, fingerprint
from foster.data.histories import Histories
from foster.data.sources import INPUT_ORDER
from foster.errors import InputError


@dataclass(frozen=True, eq=False)
class NewItems:
    """Items that a log lacks, and the users who took one of them.

    Attributes:
        ids: raw ids of the new items.
        texts: their texts.
        histories: for each of these users the items before its first new one, oldest first, as item numbers of the log.
        targets: int64 ``[users]``, that new item, counted from 0.
    """

    ids: list[str]
    texts: list[str]
    histories: Histories
    targets: np.ndarray


def withhold(data: Dataset, share: float, seed: int = 0) -> tuple[Dataset, NewItems]:
    """Take items out of a log: the newest by their first interaction, or random ones where the log has no times.

    Args:
        data: the log.
        share: of the items that are withheld, above 0 and below 1.
        seed: of the draw where there are no times.

    Returns:
        The log without any trace of these items and without users who are left with fewer than three items; and the new
        items with their users, those with nothing before their first new item excepted.

    Raises:
        InputError: nothing to withhold, nothing left to train on, or a log that is split by time.
    """
    if data.info.cut_times:
        raise InputError(
            f"--new-items {share}: {data.info.name} is split by time: items that first occur after the cut are new "
            "already, and 'foster evaluate' shows them as cold; leave it out, or prepare the data with leave-one-out"
        )
    count = round(share * data.n_items)
    if not 0 < count < data.n_items:
        raise InputError(f"--new-items {share}: of {data.n_items} items that is {count}; give a share between 0 and 1")
    if data.info.time == INPUT_ORDER:
        order = np.random.default_rng(seed).permutation(data.n_items)
    else:
        first = np.full(data.n_items, np.inf)
        np.minimum.at(first, data.sequence_items, data.timestamps)
        order = np.argsort(first, kind="stable")
    known, new = np.sort(order[:-count]), np.sort(order[-count:])
    number = np.full(data.n_items, -1)
    number[known] = np.arange(len(known))

    starts, firsts = _first_new(data, number < 0)
    out = NewItems(
        ids=data.items["item_id"].gather(new).to_list(),
        texts=[data.texts[item] for item in new],
        histories=Histories(data.sequence_items, starts, firsts).renumbered(number),
        targets=np.searchsorted(new, data.sequence_items[firsts]),
    )
    return _keep(data, known, number), out


def _first_new(data: Dataset, is_new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the sequences of the users with something before their first new item begin, and where that is."""
    positions = np.flatnonzero(is_new[data.sequence_items])
    starts = data.offsets[np.searchsorted(data.offsets, positions, "right") - 1]
    first = np.diff(starts, prepend=-1) > 0
    starts, positions = starts[first], positions[first]
    before = positions > starts
    return starts[before], positions[before]


def _keep(data: Dataset, known: np.ndarray, number: np.ndarray) -> Dataset:
    """Return the log of the items ``known``; ``number`` is the new number of each item, -1 for those that go."""
    users = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    stays = number[data.sequence_items] >= 0
    lengths = np.bincount(users[stays], minlength=data.n_users)
    stays &= lengths[users] >= MIN_SEQUENCE
    lengths = lengths[lengths >= MIN_SEQUENCE]
    if not len(lengths):
        raise InputError(f"{data.info.name}: without the new items no user has {MIN_SEQUENCE} items; withhold fewer")
    kept = replace(
        data,
        user_ids=[data.user_ids[user] for user in np.unique(users[stays])],
        items=data.items[known],
        texts=[data.texts[item] for item in known],
        sequence_items=number[data.sequence_items[stays]].astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        timestamps=data.timestamps[stays],
        info=data.info.model_copy(
            update={"users": len(lengths), "items": len(known), "interactions": int(stays.sum()), "k_core": 0}
        ),
    )
    return replace(kept, info=kept.info.model_copy(update={"fingerprint": fingerprint(kept)}))
