"""The steps of condensed sequences as titles of items with their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from foster.condensed.contexts import mixtures
from foster.condensed.sequences import Condensed
from foster.inspection.page import ItemText
from foster.wording import many, percent

MOST_STEPS = 2_000  # of a page, divided among its sequences
MOST_SEQUENCES = 100
MOST_ITEMS = 5  # of a step
SHORT = 12  # steps of a sequence that is shown without being asked for
MIXTURE = 0.9  # a step whose first item has a smaller probability is a mixture
_COMPARED = 2**26  # similarities that are held at once


@dataclass(frozen=True)
class StepItem:
    """An item of a step.

    Attributes:
        text: of the item.
        said: its probability and how often it was drawn, where that is not plain.
    """

    text: ItemText
    said: str


@dataclass(frozen=True)
class Step:
    """One step of a sequence.

    Attributes:
        number: its place, from 1.
        items: its most probable items, the first one first.
        hidden: items of it that are not among these.
        nearest: the item of the catalogue that is nearest to the mixture, None where that is its first one; see
            ``cosine``.
        cosine: of the mixture and that item; None where the step is no mixture, or there are no vectors.
    """

    number: int
    items: Sequence[StepItem]
    hidden: int
    nearest: ItemText | None
    cosine: str | None


@dataclass(frozen=True)
class ShownSequence:
    """One sequence.

    Attributes:
        number: its place, from 1.
        length: its number of steps.
        steps: the first of them.
        summary: the line above them.
    """

    number: int
    length: int
    steps: Sequence[Step]
    summary: str

    @property
    def hidden(self) -> int:
        """How many steps are not shown."""
        return self.length - len(self.steps)

    @property
    def open(self) -> bool:
        """Whether it is shown without being asked for."""
        return self.length <= SHORT


@dataclass(frozen=True)
class Sequences:
    """Block of sequences, each shown on demand."""

    block: ClassVar[str] = "sequences"
    sequences: Sequence[ShownSequence]


def shown_sequences(data: Condensed, vectors: Tensor | None) -> list[ShownSequence]:
    """Return what a page shows of the sequences, at most ``MOST_STEPS`` steps in all.

    Args:
        data: the sequences.
        vectors: ``[V, d]``, by which the real items nearest to mixtures are found; None for none.
    """
    shown = min(len(data), MOST_SEQUENCES)
    steps = max(1, MOST_STEPS // shown)
    drawn, windows = draw_counts(data)
    lengths = data.valid.sum(1).tolist()
    nearest = {} if vectors is None else _nearest(data, vectors, shown, steps)
    texts = data.catalogue.texts
    out = []
    for row in range(shown):
        found = []
        for place in range(min(lengths[row], steps)):
            weights = data.weights[row, place]
            counts = torch.zeros_like(weights) if drawn is None else drawn[row, place]
            order = sorted(range(len(weights)), key=lambda i, w=weights, c=counts: (-float(w[i]), -float(c[i])))  # type: ignore[misc]
            there = [i for i in order if weights[i] > 0 or counts[i] > 0]
            items = [
                StepItem(
                    ItemText(texts[int(data.items[row, place, i])]),
                    _said(
                        float(weights[i]) if len(weights) > 1 else None,
                        int(counts[i]),
                        0 if drawn is None else int(windows[row, place]),
                    ),
                )
                for i in there[:MOST_ITEMS]
            ]
            item, cosine = nearest.get((row, place), (None, None))
            other = item is not None and item != int(data.items[row, place, order[0]])
            found.append(
                Step(
                    place + 1,
                    items,
                    len(there) - len(items),
                    ItemText(texts[item]) if item is not None and other else None,
                    None if cosine is None else f"{cosine:.2f}",
                )
            )
        out.append(ShownSequence(row + 1, lengths[row], found, _summary(data, row, lengths[row])))
    return out


def _said(probability: float | None, drawn: int, windows: int) -> str:
    """Say how probable an item of a step is, and in how many of the windows it stands for the step.

    Args:
        probability: None where a step is one item.
        drawn: windows in which the item stands for the step.
        windows: those of the step; 0 for none with draws.
    """
    said = [] if probability is None else [percent(probability)]
    return ", ".join([*said, f"drawn {drawn} of {windows}"] if windows else said)


def _summary(data: Condensed, row: int, length: int) -> str:
    distinct = len(data.likeliest()[row, :length].unique())
    steps, items = many(length, "step"), many(distinct, "item")
    if data.items.shape[-1] == 1:
        return f"{steps}, {items}"
    mean = float(data.weights[row, :length].amax(-1).mean())
    return f"{steps}, {items}, {percent(mean)} on the first of a step"


def draw_counts(data: Condensed) -> tuple[Tensor | None, Tensor]:
    """Return ``[M, L, k]``, in how many windows each item stands for its step, and ``[M, L]``, windows of each step.

    The first is None where windows hold the mixtures of steps.
    """
    steps = [torch.arange(start, end) for start, end in data.windows]
    at = torch.cat(steps) if steps else torch.zeros(0, dtype=torch.int64)
    windows = torch.bincount(at, minlength=data.items.shape[1]).expand(len(data), -1)
    if data.draws is None:
        return None, windows
    counts = torch.zeros(data.items.shape, dtype=torch.int64)
    rows = torch.arange(len(data))[:, None].expand_as(data.draws)
    counts.index_put_((rows, at.expand_as(data.draws), data.draws), torch.ones_like(data.draws), accumulate=True)
    return counts, windows


def _nearest(data: Condensed, vectors: Tensor, sequences: int, steps: int) -> dict[tuple[int, int], tuple[int, float]]:
    """Return for mixtures, by sequence and step, the nearest real item and the cosine of both."""
    valid = data.valid[:sequences, :steps]
    mixed = (valid & (data.weights[:sequences, :steps].amax(-1) < MIXTURE)).nonzero()
    if not len(mixed):
        return {}
    unit = F.normalize(vectors.float(), dim=1)
    rows, places = mixed.T
    items, weights = data.items[rows, places], data.weights[rows, places]
    queries = F.normalize(mixtures(vectors[items][None].float(), weights[None])[0], dim=1)
    found = {}
    for part in torch.arange(len(queries)).split(max(1, _COMPARED // len(unit))):
        best, which = (queries[part] @ unit.T).max(1)
        for number, cosine, item in zip(part.tolist(), best.tolist(), which.tolist(), strict=True):
            row, place = mixed[number].tolist()
            found[row, place] = (item, cosine)
    return found
