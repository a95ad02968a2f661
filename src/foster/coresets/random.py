"""Random selection, the baseline that every method has to beat."""

from __future__ import annotations

import numpy as np

from foster.coresets.pool import Pool
from foster.data.sampling import random_long_histories


def random_histories(pool: Pool) -> np.ndarray:
    """Draw histories uniformly without replacement; returns ``[budget]`` row numbers."""
    return pool.rng.choice(len(pool.histories), pool.budget, replace=False)


def long_histories(pool: Pool) -> np.ndarray:
    """Draw among the histories that are as long as students read, or take the longest; ``[budget]`` row numbers."""
    return random_long_histories(pool.histories, pool.budget, pool.model.max_length, pool.rng)
