"""Random selection, the baseline that every method has to beat."""

from __future__ import annotations

import numpy as np

from foster.coresets.pool import Pool
from foster.data.histories import Histories
from foster.data.sampling import random_long_histories

STRATA = 10


def random_histories(pool: Pool) -> np.ndarray:
    """Draw histories uniformly without replacement; returns ``[budget]`` row numbers."""
    return pool.rng.choice(len(pool.histories), pool.budget, replace=False)


def long_histories(pool: Pool) -> np.ndarray:
    """Draw among the histories that are as long as students read, or take the longest; ``[budget]`` row numbers."""
    return random_long_histories(pool.histories, pool.budget, pool.model.max_length, pool.rng)


def stratified_histories(pool: Pool) -> np.ndarray:
    """Draw equally from histories of popular, of middling and of rare items; int64 ``[budget]`` row numbers.

    The popularity of a history is the mean logarithm of the training counts of its items. Its quantiles divide the
    histories into 10 strata of equal size, or as many as the budget where that is smaller. Each stratum gives the same
    number, drawn uniformly without replacement; what the division leaves over comes from random strata, one each.
    """
    popularity = np.log(pool.data.item_counts().clip(min=1))
    order = np.argsort(history_means(pool.histories, popularity), kind="stable")
    strata = np.array_split(order, min(STRATA, pool.budget))
    each, left = divmod(pool.budget, len(strata))
    # Sizes differ by one, so where the budget is nearly the whole pool, only some strata have one left.
    roomy = [which for which, stratum in enumerate(strata) if len(stratum) > each]
    extra = set(pool.rng.choice(roomy, left, replace=False).tolist())
    draws = [pool.rng.choice(stratum, each + (which in extra), replace=False) for which, stratum in enumerate(strata)]
    return np.concatenate(draws)


def history_means(histories: Histories, values: np.ndarray) -> np.ndarray:
    """Return the mean of the values of each history's items: float64 ``[U]``."""
    out = np.empty(len(histories))
    # Length by length: sums of a row have the very digits that the sum of one array has, and so strata stay the same.
    for length in np.unique(histories.lengths):
        rows = np.flatnonzero(histories.lengths == length)
        out[rows] = values[histories[rows].joined().reshape(len(rows), length)].mean(1)
    return out
