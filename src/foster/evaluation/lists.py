"""What lists of recommendations are like, beside whether they hit: coverage, novelty, diversity, popularity.

The metrics of each list are averaged over lists, one before each target; K is the list length.

- Coverage is catalogue coverage (Ge, Delgado-Battenfeld and Jannach, RecSys 2010): the share of the ranked items that
  are in at least one list.
- Novelty is the expected popularity complement (Vargas and Castells, RecSys 2011), without their discount by rank: the
  mean of ``1 - p(seen | i)`` over a list, where p is the share of the training users who took item i.
- Diversity is the intra-list distance (Castells, Hurley and Vargas, *Novelty and Diversity in Recommender Systems*,
  Recommender Systems Handbook, 2022): the mean of ``1 - cos(e_i, e_j)`` over the pairs of a list, of the model's own
  item vectors. Models whose vectors differ have no common measure of it.
- Popularity is the average recommendation popularity (Yin et al., VLDB 2012): the mean number of training interactions
  of the items of a list.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from foster.evaluation.metrics import CUTOFFS

NAMES = ("coverage", "novelty", "diversity", "popularity")


class ListMetrics:
    """Sums over lists, from which their metrics follow; lists themselves are not kept.

    Args:
        table: ``[V, d]`` vectors of the ranked items.
        seen: ``[V]`` share of the training users who took each item.
        counts: ``[V]`` training interactions of each item.
        cutoffs: the values of K.
    """

    def __init__(self, table: Tensor, seen: np.ndarray, counts: np.ndarray, cutoffs: tuple[int, ...] = CUTOFFS) -> None:
        self._table, self._cutoffs = table, cutoffs
        self._seen, self._counts = (torch.from_numpy(x).double().to(table.device) for x in (seen, counts))
        self._in_lists = torch.zeros(len(cutoffs), len(table), dtype=torch.bool, device=table.device)
        # Of each K: sums of novelty, diversity and popularity, lists with any item, lists with a pair.
        self._sums = torch.zeros(len(cutoffs), 5, dtype=torch.float64, device=table.device)

    def add(self, items: Tensor) -> None:
        """Count lists.

        Args:
            items: int64 ``[n, K]``, best first, K the largest cutoff or less; -1 behind the end of a shorter list.
        """
        there, places = items >= 0, items.clamp(min=0)
        novelty = ((1 - self._seen[places]) * there).cumsum(1)
        popularity = (self._counts[places] * there).cumsum(1)
        # The sum of the cosines of all pairs, each twice, and K more, is the squared length of the sum of unit vectors.
        unit = F.normalize(self._table[places].double(), dim=2) * there[:, :, None]
        squares = unit.cumsum(1).square().sum(2)
        sizes = there.cumsum(1)
        for row, cutoff in enumerate(self._cutoffs):
            last = min(cutoff, items.shape[1]) - 1
            n = sizes[:, last]
            some, pairs = n > 0, n > 1
            distance = 1 - (squares[:, last] - n) / (n * (n - 1)).clamp(min=1)
            parts = (
                (novelty[:, last] / n.clamp(min=1))[some].sum(),
                distance[pairs].sum(),
                (popularity[:, last] / n.clamp(min=1))[some].sum(),
                some.sum(),
                pairs.sum(),
            )
            self._sums[row] += torch.stack([part.double() for part in parts])
            self._in_lists[row, items[:, : last + 1][there[:, : last + 1]]] = True

    def parts(self) -> np.ndarray:
        """Return what several processes add up: float64."""
        return torch.cat([self._sums.flatten(), self._in_lists.double().flatten()]).cpu().numpy()

    def metrics(self, parts: np.ndarray | None = None) -> dict[str, float]:
        """Return ``{"coverage@5": .., "novelty@5": .., "diversity@5": .., "popularity@5": .., ...}``.

        Args:
            parts: the sum of ``parts()`` over processes; by default those of this one.
        """
        parts = self.parts() if parts is None else parts
        n = self._sums.numel()
        sums, in_lists = parts[:n].reshape(self._sums.shape), parts[n:].reshape(self._in_lists.shape) > 0
        out: dict[str, float] = {}
        for cutoff, (novelty, diversity, popularity, lists, pairs), covered in zip(
            self._cutoffs, sums, in_lists, strict=True
        ):
            values = (covered.mean(), novelty / max(lists, 1), diversity / max(pairs, 1), popularity / max(lists, 1))
            out |= {f"{name}@{cutoff}": float(value) for name, value in zip(NAMES, values, strict=True)}
        return out


def seen_shares(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> np.ndarray:
    """Return the share of users who took each item, ``[V]``; who took it twice counts once.

    Args:
        users: ``[n]`` user numbers of interactions.
        items: ``[n]`` item numbers.
        n_users: how many users there are.
        n_items: V.
    """
    pairs = np.unique(users.astype(np.int64) * n_items + items)
    shares: np.ndarray = np.bincount(pairs % n_items, minlength=n_items) / max(n_users, 1)
    return shares
