"""Padded batches of histories, grouped by length so that little is computed on padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foster.data.histories import Histories

POOL_BATCHES = 16  # batches that share a pool within which users are sorted by length

PADDING = -1


def pad(histories: Sequence[Any], max_length: int) -> Tensor:
    """Return the last ``max_length`` items of each history, padded on the right.

    Args:
        histories: ``Histories``, or other sequences of item indices, oldest first.
        max_length: the most items kept of each, the newest.

    Returns:
        int64 ``[batch, longest]``, with -1 where there is no item.
    """
    kept = Histories.of(histories).latest(max_length)
    out = np.full((len(kept), kept.lengths.max(initial=0)), PADDING, dtype=np.int64)
    out[np.arange(out.shape[1]) < kept.lengths[:, None]] = kept.joined()
    return torch.from_numpy(out)


class EndlessBatches(Iterator[np.ndarray]):
    """Index arrays, pass after pass: each index once a pass, similar lengths together, batches in random order.

    Batches have about the same number of steps: few long sequences or many short ones.

    Args:
        lengths: the length of each sequence.
        batch_size: sequences a batch, on average.
        rng: source of the order.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> None:
        self.lengths: np.ndarray = lengths
        self.batch_size: int = batch_size
        self.rng: np.random.Generator = rng
        self._before: dict[str, Any] | None = None  # state of the source when the pass began
        self._pass: list[np.ndarray] = []
        self._taken = 0

    def __next__(self) -> np.ndarray:
        """Return the next batch."""
        if self._taken == len(self._pass):
            self._begin()
        self._taken += 1
        return self._pass[self._taken - 1]

    def state(self) -> dict[str, Any]:
        """Return what tells where it is, besides the source of the order."""
        return {"before": self._before, "taken": self._taken}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; that of the source has to be set afterwards."""
        if state["before"] is not None:
            self.rng.bit_generator.state = state["before"]
            self._begin()
        self._taken = state["taken"]

    def _begin(self) -> None:
        lengths, pool_size = self.lengths, self.batch_size * POOL_BATCHES
        self._before, self._taken = dict(self.rng.bit_generator.state), 0
        order = self.rng.permutation(len(lengths))
        batches: list[np.ndarray] = []
        for start in range(0, len(order), pool_size):
            pool = order[start : start + pool_size]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            behind = lengths[pool].cumsum()
            shares = np.linspace(0, behind[-1], -(-len(pool) // self.batch_size) + 1)[1:-1]
            batches += [batch for batch in np.split(pool, np.searchsorted(behind, shares)) if len(batch)]
        self._pass = [batches[which] for which in self.rng.permutation(len(batches))]


class BatchDraws:
    """What losses of batches of histories draw from, so that they can go on where they were.

    Args:
        lengths: the length of each history.
        batch_size: histories a batch, on average.
        seed: of everything that is drawn.

    Attributes:
        rng: source of the order of histories, and of windows of long ones.
        batches: numbers of the histories of each batch.
        generator: source of sampled items.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int) -> None:
        self.rng: np.random.Generator = np.random.default_rng([seed, 0])
        self.batches: EndlessBatches = EndlessBatches(lengths, batch_size, self.rng)
        self.generator: torch.Generator = torch.Generator().manual_seed(seed * 1009)

    def state(self) -> Any:
        """Return what the next draws depend on."""
        draws = dict(self.rng.bit_generator.state)
        return {"batches": self.batches.state(), "draws": draws, "generator": self.generator.get_state()}

    def load_state(self, state: Any) -> None:
        """Go on from a state."""
        self.batches.load_state(state["batches"])
        self.rng.bit_generator.state = state["draws"]
        self.generator.set_state(state["generator"])
