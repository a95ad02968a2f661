"""The items that are ranked, and the best of them for states: by comparing all, as every backend should find them."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from foster.data.histories import Histories
from foster.errors import InputError

SCORES = 2**26  # scores that a search holds at once


class ItemIndex(Protocol):
    """What finds the items of the greatest inner product.

    Attributes:
        n_catalogue: V, the size of the catalogue that it was made of.
    """

    n_catalogue: int

    def __len__(self) -> int:
        """Return how many items are ranked."""
        ...

    def search(self, queries: Tensor, k: int, masked: Histories) -> tuple[Tensor, Tensor]:
        """Find the best items.

        Args:
            queries: ``[n, d]`` states, scaled as scores ask for.
            k: list length, at most the number of items that are ranked.
            masked: item numbers that are left out for each query.

        Returns:
            Item numbers of the catalogue, int64 ``[n, k]``, best first, and their scores ``[n, k]``; where fewer than k
            are left, the last ones are -1 and minus infinity.
        """
        ...


class ExactIndex:
    """Compares a query with every item.

    Args:
        table: ``[V, d]`` item vectors.
        numbers: int64 ``[n]`` distinct items that are ranked, None for all.
        left_out: int64 item numbers that are not ranked.
    """

    def __init__(self, table: Tensor, numbers: Tensor | None = None, left_out: Tensor | None = None) -> None:
        self.n_catalogue: int = len(table)
        self._table, self._numbers = table, numbers
        self._vectors = table if numbers is None else table[numbers]
        # A few items are cheaper to leave out of the scores than of the table, of which that would be a copy.
        self._left_out = left_out
        if numbers is not None:
            self._row_of = torch.full((len(table),), -1, dtype=torch.int64, device=table.device)
            self._row_of[numbers] = torch.arange(len(numbers), device=table.device)

    def __len__(self) -> int:
        """Return how many items are ranked."""
        return len(self._vectors) - (0 if self._left_out is None else len(self._left_out))

    def ranked(self) -> tuple[np.ndarray, Tensor]:
        """Return the item numbers that are ranked, int64 ``[n]`` in order, and the item table ``[V, d]``."""
        numbers = np.arange(self.n_catalogue) if self._numbers is None else self._numbers.cpu().numpy()
        if self._left_out is not None:
            numbers = np.setdiff1d(numbers, self._left_out.cpu().numpy())
        return numbers, self._table

    def search(self, queries: Tensor, k: int, masked: Histories) -> tuple[Tensor, Tensor]:
        """Find the best items; see ``ItemIndex``.

        Raises:
            InputError: a score is not finite.
        """
        items = torch.full((len(queries), k), -1, dtype=torch.int64, device=queries.device)
        values = torch.full((len(queries), k), -math.inf, device=queries.device)
        block = max(1, SCORES // len(self._vectors))
        for start in range(0, len(queries), block):
            rows = slice(start, start + block)
            scores = self._scores(queries[rows])
            self._mask(scores, masked[rows])
            best = scores.topk(k, dim=1)
            found = best.indices if self._numbers is None else self._numbers[best.indices]
            values[rows] = best.values
            items[rows] = found.masked_fill(best.values == -math.inf, -1)
        return items, values

    def _scores(self, queries: Tensor) -> Tensor:
        """Return new scores ``[n, items]``."""
        if len(queries) > 1:
            scores = queries @ self._vectors.T
        else:
            # With one query this would be a product of a matrix and a vector, for which some libraries read the table
            # at a third of the speed that they have with two.
            scores = (self._vectors @ torch.cat([queries, queries]).T).T[:1].contiguous()
        least, most = scores.aminmax()
        if not (least.isfinite() and most.isfinite()):
            raise InputError("the model gives scores that are not finite; train it with a lower --lr")
        return scores

    def _mask(self, scores: Tensor, masked: Histories) -> None:
        """Set scores of what is left out to minus infinity, in place."""
        rows = torch.arange(len(scores)).repeat_interleave(torch.from_numpy(masked.lengths)).to(scores.device)
        columns = torch.from_numpy(masked.joined()).long().to(scores.device)
        if self._numbers is not None:
            columns = self._row_of[columns]
            rows, columns = rows[columns >= 0], columns[columns >= 0]
        scores[rows, columns] = -math.inf
        if self._left_out is not None:
            scores[:, self._left_out] = -math.inf


def recall_of(index: ItemIndex, exact: ItemIndex, queries: Tensor, k: int, masked: Histories) -> float:
    """Return recall@k of an index: the share of the k best items that it finds, averaged over queries.

    Args:
        index: what is judged.
        exact: what finds all of them.
        queries: ``[n, d]`` states.
        k: list length.
        masked: items that are left out for each query.
    """
    found, wanted = (one.search(queries, k, masked)[0] for one in (index, exact))
    there = wanted >= 0
    hits = (wanted[:, :, None] == found[:, None, :]).any(2) & there
    return float((hits.sum(1) / there.sum(1).clamp(min=1)).mean())
