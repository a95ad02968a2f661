"""Budgets of a benchmark: numbers of sequences, or bytes of a folder."""

from __future__ import annotations

from collections.abc import Callable

from foster.bench.options import BenchOptions
from foster.condensed.folder import written_bytes
from foster.condensed.sequences import Condensed
from foster.errors import InputError

SEVERAL = 20  # sequences of which it is seen how many bytes each takes


def budgets_of(options: BenchOptions, users: int) -> list[int]:
    """Return the budgets, ascending.

    Args:
        options: in which they are text.
        users: that have two training items, the most sequences that there can be.

    Raises:
        InputError: one that is no such number, or both kinds.
    """
    if options.bytes is not None:
        if "budgets" in options.model_fields_set:
            raise InputError("--bytes: gives sizes in bytes and --budgets in sequences; give one of the two")
        return _numbers("--bytes", options.bytes, None, "a size in bytes")
    most = f"1 to {users}, the users with two training items"
    return _numbers("--budgets", options.budgets, users, f"numbers from {most}")


def _numbers(flag: str, given: tuple[str, ...], most: int | None, wanted: str) -> list[int]:
    for text in given:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= (most or int(text))):
            raise InputError(f"{flag} {text}: give {wanted}")
    return sorted({int(text) for text in given})


def within(size: int, most: int, make: Callable[[int], Condensed]) -> Condensed:
    """Return as many sequences as fit into a folder.

    Args:
        size: its bytes, item texts aside.
        most: sequences that there can be.
        make: makes so many.

    Raises:
        InputError: not one fits.
    """
    few = min(SEVERAL, most)
    best = make(1)
    one, several = written_bytes(best), written_bytes(make(few))
    if one > size:
        raise InputError(f"{size} bytes hold no sequence: one takes {one}; give more --bytes")
    # The more there are, the better they compress: between what fits and what does not, guess by what each takes.
    fits, fails = 1, most + 1
    each = max((several - one) / max(few - 1, 1), 1.0)
    count = min(most, int(1 + (size - one) / each))
    while fits < count < fails:
        made = make(count)
        taken = written_bytes(made)
        if taken <= size:
            fits, best = count, made
        else:
            fails = count
        each = max((taken - one) / (count - 1), 1.0)
        count = min(max(int(1 + (size - one) / each), fits + 1), fails - 1)
    return best
