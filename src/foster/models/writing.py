"""Histories that a model writes, item by item, from what it expects next."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from foster.progress import Progress


@torch.no_grad()
def write_histories(
    scores: Callable[[np.ndarray], Tensor],
    firsts: np.ndarray,
    lengths: np.ndarray,
    temperature: float,
    generator: torch.Generator,
    *,
    rows_at_once: int,
    what: str | None = None,
) -> list[np.ndarray]:
    """Let a model write histories, in which no item comes twice.

    Below a temperature of 1 items are drawn that the model is surer of: a sample then says more of what it knows, and
    less of how much a log varies (benchmarks/research.md, 76).

    Args:
        scores: of the next item after histories of like length, int64 ``[n, l]``: ``[n, V]``.
        firsts: int64 ``[m]``, the first item of each history.
        lengths: int64 ``[m]``, items of each history; at most V.
        temperature: what scores are divided by.
        generator: of the draws, on the CPU.
        rows_at_once: how many histories are scored at once.
        what: the work in words, for a bar on stderr, or a line a minute where that is no terminal; None shows nothing.

    Returns:
        Item numbers of each history.
    """
    out = np.zeros((len(lengths), lengths.max(initial=0)), dtype=np.int64)
    out[:, 0] = firsts
    total = int(lengths.sum()) - len(lengths)
    with Progress(what=what, total=total, shown=what is not None, unit="item") as bar:
        for step in range(1, out.shape[1]):
            longer = np.flatnonzero(lengths > step)
            for start in range(0, len(longer), rows_at_once):
                rows = longer[start : start + rows_at_once]
                after = scores(out[rows, :step]) / temperature
                before = torch.from_numpy(out[rows, :step]).to(after.device)
                chances = after.scatter(1, before, -torch.inf).double().softmax(1)
                out[rows, step] = drawn(chances, 1, generator)[:, 0]
                bar.update(len(rows))
    return [row[:length] for row, length in zip(out, lengths, strict=True)]


def drawn(chances: Tensor, number: int, generator: torch.Generator) -> np.ndarray:
    """Draw columns of each row of chances ``[n, V]``, which need not sum to one: int64 ``[n, number]``."""
    ends = chances.cumsum(1)
    places = torch.rand((len(chances), number), generator=generator, dtype=torch.float64).to(ends.device)
    found = torch.searchsorted(ends, places * ends[:, -1:], right=True)
    # Rounding may end behind the last column that has a chance.
    last = chances.shape[1] - 1 - (chances > 0).flip(1).int().argmax(1, keepdim=True)
    return torch.minimum(found, last).cpu().numpy()
