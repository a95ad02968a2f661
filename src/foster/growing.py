"""Tables to which rows are added behind the old ones, one by one, without copying these each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from torch import Tensor

GROWTH = 1.5  # a full buffer is copied into one that is so much longer


class _Buffer:
    """Room for rows, of which the first ``used`` are taken by one table or another."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.used = len(rows)


class GrowingRows:
    """Rows of a tensor that never change; ``appended`` returns a longer table, which shares them.

    The newest table of a buffer takes the room behind its rows. An older one, to which something else is appended, is
    copied, so that no table sees the rows of another. Appending n rows one by one costs a few copies of each.

    Args:
        rows: ``[n, ...]``, which nobody may change any more.
    """

    def __init__(self, rows: Tensor) -> None:
        self._buffer = _Buffer(rows)
        self._length = len(rows)

    @property
    def rows(self) -> Tensor:
        """The rows ``[n, ...]``, without a copy."""
        return self._buffer.rows[: self._length]

    def __len__(self) -> int:
        """Return n."""
        return self._length

    def appended(self, rows: Tensor) -> Self:
        """Return a table with more rows ``[m, ...]``, taken over in the number type and on the device of the old."""
        buffer, length = self._buffer, self._length + len(rows)
        if buffer.used != self._length or length > len(buffer.rows):
            old = self.rows
            buffer = _Buffer(old.new_empty(max(length, int(GROWTH * self._length)), *old.shape[1:]))
            buffer.rows[: self._length] = old
        buffer.rows[self._length : length] = rows
        buffer.used = length
        table = type(self)(buffer.rows)
        table._buffer, table._length = buffer, length
        return table

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self
