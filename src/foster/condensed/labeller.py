"""Labels from what makes them: a sequence model that a folder holds in their place, and that writes contexts, too."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from foster.condensed.contexts import mixtures
from foster.condensed.packed_labeller import OFFSET, SCALE
from foster.condensed.sequences import Condensed
from foster.models.backbones import backbone_of
from foster.models.writing import write_histories

OWN_STEPS = 20_000  # that it writes for a student: three times as many teach no more (benchmarks/research.md, 97)
TEMPERATURE = 1.0  # of what it writes: where it is sure of few items a lower one leaves too few different contexts
WRITABLE = 20_000  # items that it chooses from: all, or what is stored and a draw of the others
ROWS = 500  # histories that are written at once


class LabelMaker:
    """The sequence model of a folder, as a teacher.

    Args:
        sequences: with ``labeller``.
        keys: their item vectors ``[V, r]``, see ``label_keys``.
    """

    def __init__(self, sequences: Condensed, keys: Tensor) -> None:
        assert sequences.labeller is not None and sequences.labeller_model is not None
        weights = {name: part.to(keys.device) for name, part in sequences.labeller.items()}
        self.scale: Tensor = weights.pop(SCALE)
        self.offset: Tensor = weights.pop(OFFSET, torch.zeros(1, device=keys.device))
        with torch.device("meta"):  # random weights would be drawn from the stream of whoever trains next
            self.backbone: torch.nn.Module = backbone_of(sequences.labeller_model).eval()
        self.backbone.load_state_dict(weights, assign=True)

    def labels(self, vectors: Tensor) -> Tensor:
        """Return the label of each step of contexts: ``[m, l, r]`` of their keys of that shape."""
        states: Tensor = self.backbone(vectors / self.scale + self.offset)
        return states / (math.sqrt(vectors.shape[-1]) * self.scale)


@torch.no_grad()
def with_codes(sequences: Condensed, keys: Tensor) -> Condensed:
    """Return sequences with the labels that their labeller makes; those without one as they are.

    Args:
        sequences: with ``labeller``, for example.
        keys: their item vectors, see ``label_keys``.
    """
    if sequences.labeller is None:
        return sequences
    model, items = LabelMaker(sequences, keys), sequences.items.to(keys.device)
    contexts = mixtures(keys[items], sequences.weights.to(keys.device))
    codes = torch.cat([model.labels(contexts[:, start:end]) for start, end in sequences.windows], dim=1)
    return replace(sequences, codes=codes.cpu(), labeller=None, labeller_model=None)


@torch.no_grad()
def with_own_contexts(sequences: Condensed, keys: Tensor, seed: int) -> Condensed:
    """Return sequences and, behind them, histories that their labeller writes; those without one as they are.

    Contexts are what a student lacks until it is as good as what labels them, and these take no byte. They begin with
    items of the sequences, as often as these hold them.

    Args:
        sequences: with ``labeller``, for example.
        keys: their item vectors, see ``label_keys``.
        seed: of what is drawn.
    """
    if sequences.labeller is None:
        return sequences
    model, generator = LabelMaker(sequences, keys), torch.Generator().manual_seed(seed * 1009 + 1)
    stored = sequences.items[sequences.weights > 0]
    choices = _writable(stored, sequences.catalogue.n_known, generator)
    table = keys[choices.to(keys.device)]

    def scores(before: np.ndarray) -> Tensor:
        return model.labels(table[torch.from_numpy(before).to(table.device)])[:, -1] @ table.T

    start, end = sequences.windows[0]  # all have one length
    length = min(end - start, len(choices))
    rows = -(-OWN_STEPS // (length * len(sequences.windows)))
    count = rows * len(sequences.windows)
    firsts = stored[torch.randint(len(stored), (count,), generator=generator)]
    written = write_histories(
        scores,
        torch.searchsorted(choices, firsts).numpy(),
        np.full(count, length),
        TEMPERATURE,
        generator,
        rows_at_once=ROWS,
    )
    histories = choices[torch.from_numpy(np.stack(written))].view(rows, len(sequences.windows), length)
    items = sequences.items.new_zeros((rows, *sequences.items.shape[1:]))
    weights = sequences.weights.new_zeros(items.shape)
    for which, (start, _) in enumerate(sequences.windows):
        items[:, start : start + length, 0] = histories[:, which]
        weights[:, start : start + length, 0] = 1
    return replace(
        sequences, items=torch.cat([sequences.items, items]), weights=torch.cat([sequences.weights, weights])
    )


def _writable(stored: Tensor, known: int, generator: torch.Generator) -> Tensor:
    """Return the items that may be written, ascending: all that are known, or ``stored`` ones and a draw of others."""
    if known <= WRITABLE:
        return torch.arange(known)
    others = torch.randperm(known, generator=generator)[:WRITABLE]
    return torch.cat([stored.unique(), others]).unique()
