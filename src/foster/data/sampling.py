"""Draws of real histories, for coresets and as the start of synthetic sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def random_long_histories(
    histories: Sequence[np.ndarray], budget: int, length: int, rng: np.random.Generator
) -> np.ndarray:
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
    lengths = np.array([len(history) for history in histories])
    long = np.flatnonzero(lengths >= length)
    if len(long) < budget:
        return np.argsort(-lengths, kind="stable")[:budget]
    return rng.choice(long, budget, replace=False)


def filled_histories(histories: Sequence[np.ndarray], rows: np.ndarray, length: int) -> np.ndarray:
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
