"""How counts and shares are said."""

from __future__ import annotations

import math


def many(count: int, one: str, several: str = "") -> str:
    """Return a count with its noun, or with a noun and its verb, as in ``many(2, "item has", "items have")``.

    Args:
        count: how many.
        one: what follows 1.
        several: what follows any other count; by default ``one`` with an s.
    """
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def percent(share: float) -> str:
    """Return a share as percent, with a digit behind the point; what is nearly none or all is said to be so.

    Args:
        share: from 0 to 1.
    """
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"


def rounded_bytes(size: float) -> str:
    """Return a number of bytes in the largest unit of which there is one, as in "1.5 MB"."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(int(math.log10(max(size, 1)) // 3), len(units) - 1)
    value = size / 1000**power
    return f"{value:.0f} {units[power]}" if value >= 10 or not power else f"{value:.1f} {units[power]}"
