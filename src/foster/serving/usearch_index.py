"""Approximate search for items with usearch (extra ``ann``).

Chosen by evidence over faiss-cpu (usearch 2.26, faiss-cpu 1.15, one thread, item vectors of width 128 of trained models
of 20,033 and 12,086 items, 2,000 users, inner products). HNSW of 32 links with a search width of 64 had recall@10 0.991
and 0.996 beside faiss' 0.979 and 0.989 at twice faiss' time; faiss' inverted lists had 0.73 to 0.94. Reducing inner
products to distances first, by one more number a vector, had 0.94 and 0.93. Both have wheels for Python 3.11 to 3.14,
of 2 and of 19 MB, and usearch brings no OpenMP library of its own beside torch's.
"""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import torch
from torch import Tensor

from foster.data.histories import Histories
from foster.errors import InputError
from foster.models.item_index import ExactIndex

LINKS = 32  # of an item to others in the graph
BUILD_WIDTH = 200  # candidates that are looked at for the links of an item
SEARCH_WIDTH = 128  # candidates that are looked at for a query, at least
CHUNK = 2**14  # items that are added at once


def require_usearch() -> None:
    """Raise InputError where usearch is not installed."""
    if importlib.util.find_spec("usearch") is None:
        raise InputError("--ann: needs usearch; pip install 'foster[ann]'")


class UsearchIndex:
    """A graph of items in which a query looks at some hundred of them (HNSW, Malkov and Yashunin, TPAMI 2020).

    It takes some fifth of a millisecond of one core for an item to be added. Comparing all items is as fast for tens of
    thousands of them, so that it is worth its loss only for more.

    Args:
        exact: what it is to stand for, which answers where the graph finds too few items.
        threads: how many threads work; 0 for all cores. With one, equal items give equal graphs.
    """

    def __init__(self, exact: ExactIndex, threads: int = 1) -> None:
        require_usearch()
        from usearch.index import Index

        self.n_catalogue: int = exact.n_catalogue
        self._exact = exact
        self._threads = threads
        numbers, vectors = exact.ranked()
        self._numbers = numbers
        self._index = Index(
            ndim=vectors.shape[1],
            metric="ip",
            dtype="f32",
            connectivity=LINKS,
            expansion_add=BUILD_WIDTH,
            expansion_search=SEARCH_WIDTH,
        )
        for start in range(0, len(numbers), CHUNK):
            rows = slice(start, start + CHUNK)
            part = vectors[torch.from_numpy(numbers[rows]).to(vectors.device)].cpu().numpy()
            self._index.add(numbers[rows], np.ascontiguousarray(part), threads=threads)

    def __len__(self) -> int:
        """Return how many items are ranked."""
        return len(self._numbers)

    def search(self, queries: Tensor, k: int, masked: Histories) -> tuple[Tensor, Tensor]:
        """Find the best items; see ``ItemIndex``. A query with few items left to find is compared with all."""
        items = torch.full((len(queries), k), -1, dtype=torch.int64, device=queries.device)
        values = torch.full((len(queries), k), -math.inf, device=queries.device)
        short = []
        # Queries with histories of similar length go together: each looks for as many more items as it must leave out.
        order = np.argsort(masked.lengths, kind="stable")
        for start in range(0, len(order), 256):
            rows = order[start : start + 256]
            wanted = min(k + int(masked.lengths[rows].max()), len(self))
            vectors = np.ascontiguousarray(queries[torch.from_numpy(rows).to(queries.device)].cpu().numpy())
            found = self._index.search(vectors, wanted, threads=self._threads)
            keys, distances = (np.atleast_2d(part) for part in (found.keys, found.distances))
            counts = found.counts if len(rows) > 1 else [keys.shape[1]]
            for place, row in enumerate(rows):
                mine = slice(int(counts[place]))
                kept = ~np.isin(keys[place, mine], masked[int(row)])
                best = keys[place, mine][kept][:k].astype(np.int64)
                if len(best) < k:
                    short.append(int(row))
                    continue
                items[row] = torch.from_numpy(best).to(items.device)
                values[row] = torch.from_numpy(1 - distances[place, mine][kept][:k]).to(values)
        if short:
            rest = np.array(short)
            items[rest], values[rest] = self._exact.search(queries[rest], k, masked[rest])
        return items, values
