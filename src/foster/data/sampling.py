"""Draws of real histories, for coresets and as the start of synthetic sequences."""

from __future__ import annotations

from itertools import chain, count

import numpy as np

from foster.data.histories import Histories


def random_long_histories(histories: Histories, budget: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Draw among the histories with at least ``length`` items, or the ``budget`` longest where these are too few.

    Most users are short; this matches the number of interactions that synthetic sequences of ``length`` steps have.

    Args:
        histories: item numbers of each user, oldest first.
        budget: M, histories to draw, no more than there are.
        length: items wanted.
        rng: source of the draw.

    Returns:
        int64 ``[budget]`` row numbers, each once.
    """
    lengths = histories.lengths
    long = np.flatnonzero(lengths >= length)
    if len(long) < budget:
        return np.argsort(-lengths, kind="stable")[:budget]
    return rng.choice(long, budget, replace=False)


def filled_histories(histories: Histories, rows: np.ndarray, length: int) -> np.ndarray:
    """Return the last ``length`` items of the histories in ``rows``, the short ones filled from the next rows'.

    Returns:
        int64 ``[len(rows), length]``.
    """
    out = np.empty((len(rows), length), dtype=np.int64)
    for place, row in enumerate(rows):
        kept = histories[row][-length:]
        others = [histories[other] for other in np.roll(rows, -place)[1:]]
        out[place] = kept if len(kept) == length else np.resize(np.concatenate([kept, *others]), length)
    return out


def packed_histories(histories: Histories, budget: int, length: int, part: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``budget`` sequences of ``length`` items, each made of short pieces of random histories.

    A piece is at most ``part`` consecutive items. Most users are short, so that pieces of many of them look more like
    what a model meets than all of a few long ones do, at the same number of steps.

    Args:
        histories: item numbers of each user, oldest first; those of one item count only where there are no others.
        budget: M, sequences.
        length: items of each.
        part: most items of a piece.
        rng: source of the draws.

    Returns:
        int64 ``[budget, length]``; a history comes again only when all of them have been used.
    """
    usable = np.flatnonzero(histories.lengths > 1)
    if not len(usable):
        usable = np.arange(len(histories))
    rows = chain.from_iterable(rng.permutation(usable) for _ in count())
    items: list[int] = []
    while len(items) < budget * length:
        history = histories[next(rows)]
        start = int(rng.integers(max(len(history) - part, 0) + 1))
        items += history[start : start + part].tolist()
    return np.array(items[: budget * length], dtype=np.int64).reshape(budget, length)


def shared_walks(
    histories: Histories, budget: int, length: int, part: int, least: int, rng: np.random.Generator
) -> np.ndarray:
    """Return ``budget`` sequences of ``length`` items, made of walks along transitions that many users made.

    A walk begins with an item that at least ``least`` users have, as often as users have it, and goes on from an item
    to a new one that at least ``least`` users took right after it, as often as users did. It ends after ``part`` items,
    or where no such item follows. So no pair of neighbours within a walk comes from few users; longer runs can still be
    those of one user, by chance.

    Args:
        histories: item numbers of each user, oldest first.
        budget: M, sequences.
        length: items of each.
        part: most items of a walk.
        least: users, at least, who have an item or made a transition.
        rng: source of the draws.

    Raises:
        ValueError: no item has so many users.
    """
    items, users = histories.joined().astype(np.int64), np.repeat(np.arange(len(histories)), histories.lengths)
    width = int(items.max(initial=0)) + 1
    starts, people = _users_of(items, users, len(histories))
    starts, people = starts[people >= least], people[people >= least]
    if not len(starts):
        raise ValueError(f"no item has {least} users")
    inside = users[1:] == users[:-1]
    pairs, makers = _users_of((items[:-1] * width + items[1:])[inside], users[1:][inside], len(histories))
    pairs, makers = pairs[makers >= least], makers[makers >= least]
    sources, of_starts = pairs // width, people.cumsum()

    def place(ends: np.ndarray) -> int:
        return int(np.searchsorted(ends, rng.integers(ends[-1]), "right"))

    walked: list[int] = []
    begin = 0  # of the walk that goes on
    while len(walked) < budget * length:
        followers, taken = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        if 0 < len(walked) - begin < part:
            first, end = np.searchsorted(sources, [walked[-1], walked[-1] + 1])
            new = ~np.isin(pairs[first:end] % width, walked[begin:])
            followers, taken = pairs[first:end][new] % width, makers[first:end][new].cumsum()
        if len(followers):
            walked.append(int(followers[place(taken)]))
        else:
            begin = len(walked)
            walked.append(int(starts[place(of_starts)]))
    return np.array(walked, dtype=np.int64).reshape(budget, length)


def _users_of(things: np.ndarray, users: np.ndarray, n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct numbers among ``things``, ascending, and how many users have each."""
    distinct, places = np.unique(things, return_inverse=True)
    return distinct, np.bincount(np.unique(places * n_users + users) // n_users, minlength=len(distinct))
