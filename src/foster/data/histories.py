"""Histories of users as places in one flat array: a million of them are two arrays, not a million."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

import numpy as np


@dataclass(frozen=True, eq=False)
class Histories(Sequence[np.ndarray]):
    """A sequence of item sequences, oldest item first, none of which is copied.

    Attributes:
        items: [n] item numbers of all users.
        starts: int64 [H], where each history begins in ``items``.
        ends: int64 [H], where it ends, at or behind its start.
    """

    items: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, histories: Sequence[Any]) -> Histories:
        """Return sequences of item numbers as histories, with a flat copy of them; histories as they are."""
        if isinstance(histories, Histories):
            return histories
        arrays = [np.asarray(history, dtype=np.int64) for history in histories]
        ends = np.cumsum([0, *map(len, arrays)])
        return cls(np.concatenate([np.zeros(0, dtype=np.int64), *arrays]), ends[:-1], ends[1:])

    def __len__(self) -> int:
        """Return H."""
        return len(self.starts)

    @overload
    def __getitem__(self, index: int | np.integer) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray) -> Self: ...

    def __getitem__(self, index: int | np.integer | slice | np.ndarray) -> np.ndarray | Self:
        """Return a history as a view, or several by a slice, by row numbers or by bool [H]."""
        starts, ends = self.starts[index], self.ends[index]
        return self.items[starts:ends] if np.ndim(starts) == 0 else type(self)(self.items, starts, ends)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield each history as a view."""
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield self.items[start:end]

    @property
    def lengths(self) -> np.ndarray:
        """How many items each history has: int64 [H]."""
        lengths: np.ndarray = self.ends - self.starts
        return lengths

    def latest(self, length: int) -> Self:
        """Return the last ``length`` items of each history, all of a shorter one."""
        return type(self)(self.items, np.maximum(self.starts, self.ends - length), self.ends)

    def emptied(self) -> Self:
        """Return as many histories without an item."""
        return type(self)(self.items, self.starts, self.starts)

    def joined(self) -> np.ndarray:
        """Return the items of all histories one after another: a copy, ``[lengths.sum()]``."""
        lengths = self.lengths
        shifts = self.starts - (np.cumsum(lengths) - lengths)
        out: np.ndarray = self.items[np.repeat(shifts, lengths) + np.arange(lengths.sum())]
        return out

    def renumbered(self, numbers: np.ndarray) -> Self:
        """Return them with other item numbers: a copy of these histories alone.

        Args:
            numbers: the new number of each item.
        """
        ends = np.cumsum(self.lengths)
        return type(self)(numbers[self.joined()], ends - self.lengths, ends)
