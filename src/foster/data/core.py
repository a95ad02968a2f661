"""The k-core of an interaction log."""

from __future__ import annotations

import numpy as np

_CHUNK = 2**22  # numbers counted at once: numpy counts a copy of eight bytes each


def count_numbers(numbers: np.ndarray, minlength: int = 0) -> np.ndarray:
    """Count how often each number is there: ``np.bincount`` without a copy of as many int64.

    Args:
        numbers: [n] integers from 0.
        minlength: the least length of the result.

    Returns:
        int64, as long as the largest number plus 1.
    """
    out = np.zeros(max(int(numbers.max(initial=-1)) + 1, minlength), dtype=np.int64)
    for start in range(0, len(numbers), _CHUNK):
        out += np.bincount(numbers[start : start + _CHUNK], minlength=len(out))
    return out


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
        enough = (count_numbers(users) >= k)[users]
        enough &= (count_numbers(items) >= k)[items]
        if enough.all():
            break
        mask[mask] = enough
        users, items = users[enough], items[enough]
    return mask
