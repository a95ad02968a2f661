"""The k-core of an interaction log."""

from __future__ import annotations

import numpy as np

K_CORE = 5
"""The least interactions of a user and of an item, as in the literature, unless another number is given."""


def k_core_mask(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Find the largest part of a log in which every user and every item has at least ``k`` interactions.

    Dropping a user can push an item below ``k`` and the reverse, so this goes on until nothing changes. The
    result does not depend on the order of the rows. Repeated interactions count each time.

    Args:
        users: [n] user numbers, integers from 0.
        items: [n] item numbers, integers from 0.
        k: the least number of interactions; 0 and 1 keep everything.

    Returns:
        [n] bool, True for the interactions that stay.
    """
    mask = np.ones(len(users), dtype=bool)
    while len(users):
        enough = (np.bincount(users) >= k)[users]
        enough &= (np.bincount(items) >= k)[items]
        if enough.all():
            break
        mask[mask] = enough
        users, items = users[enough], items[enough]
    return mask
