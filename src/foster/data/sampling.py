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
