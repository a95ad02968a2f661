"""How counts are said."""

from __future__ import annotations


def many(count: int, one: str, several: str = "") -> str:
    """Return a count with its noun, or with a noun and its verb, as in ``many(2, "item has", "items have")``.

    Args:
        count: how many.
        one: what follows 1.
        several: what follows any other count; by default ``one`` with an s.
    """
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"
