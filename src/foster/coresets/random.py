"""Random selection, the baseline that every method has to beat."""

from __future__ import annotations

import numpy as np


def random_histories(histories: list[np.ndarray], budget: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Draw histories uniformly without replacement; returns ``[budget]`` row numbers."""
    return rng.choice(len(histories), budget, replace=False)


def random_long_histories(
    histories: list[np.ndarray], budget: int, length: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw among the histories with at least ``length`` items, or the ``budget`` longest where these are too few.

    Most users are short; this matches the number of interactions that synthetic sequences of ``length`` steps have.
    """
    lengths = np.array([len(history) for history in histories])
    long = np.flatnonzero(lengths >= length)
    if len(long) < budget:
        return np.argsort(-lengths, kind="stable")[:budget]
    return rng.choice(long, budget, replace=False)
