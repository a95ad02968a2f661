"""What soft labels expect after some windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from foster.condensed.contexts import by_window
from foster.condensed.labeller import with_codes
from foster.condensed.labels import label_keys
from foster.condensed.sequences import Condensed
from foster.inspection.page import ItemText, Table
from foster.inspection.page import Share as Bar
from foster.models.recommender import TextRecommender
from foster.text.options import EncoderOptions

WINDOWS = 6
EXPECTED = 5  # items of a label
READ = 10  # items of a window, its last ones


@dataclass(frozen=True)
class Window:
    """A window, and what its last label says.

    Attributes:
        title: whose steps it holds.
        read: the texts of its last items.
        hidden: how many items come before them.
        expected: the most probable next items.
        flatness: over how many items the label spreads, in words.
    """

    title: str
    read: Sequence[ItemText]
    hidden: int
    expected: Table
    flatness: str


@dataclass(frozen=True)
class Windows:
    """Block of windows."""

    block: ClassVar[str] = "windows"
    windows: Sequence[Window]


def keys_of(data: Condensed, encoder: EncoderOptions, device: str | torch.device) -> Tensor:
    """Return ``[V, r]``: a label ``y`` scores item v as ``<y, keys[v]>``.

    Args:
        data: sequences with soft labels.
        encoder: the encoder that they were made with, at its place on this machine.
        device: where texts are encoded.

    Raises:
        InputError: the encoder is not what the labels were made with.
    """
    options = data.model.model_copy(update={"finetune": "frozen", "ids": False})
    model = TextRecommender.build(data.catalogue, encoder, options, device=device)
    return label_keys(data, model).cpu()


def some_windows(data: Condensed, keys: Tensor) -> Windows:
    """Return windows of some of the sequences, evenly spaced, and what their last labels say.

    Args:
        data: sequences with soft labels.
        keys: see ``keys_of``.
    """
    data = with_codes(data, keys)
    assert data.codes is not None
    codes = by_window(data.codes, data.windows)
    draws = None if data.draws is None else by_window(data.draws, data.windows)
    lengths = data.valid.sum(1).tolist()
    known = keys[: data.catalogue.known]
    texts = data.catalogue.texts
    out = []
    for row in np.unique(np.linspace(0, len(data) - 1, min(len(data), WINDOWS)).astype(int)).tolist():
        short = [n for n, (_, end) in enumerate(data.windows) if n and end <= lengths[row]]
        which = short[len(short) // 2] if short else 0
        start, end = data.windows[which][0], min(data.windows[which][1], lengths[row])
        steps = data.items[row, start:end]
        chosen = data.weights[row, start:end].argmax(-1) if draws is None else draws[which][row, : end - start]
        items = steps.gather(-1, chosen[:, None])[:, 0].tolist()
        probabilities = torch.softmax(known @ codes[which][row, end - start - 1], dim=0)
        best, places = probabilities.topk(min(EXPECTED, len(known)))
        entropy = float(-(probabilities * (probabilities + 1e-30).log()).sum())
        title = f"Sequence {row + 1}, steps {start + 1} to {end}"
        rows = [
            (ItemText(texts[item]), Bar(p, float(best[0])))
            for item, p in zip(places.tolist(), best.tolist(), strict=True)
        ]
        out.append(
            Window(
                title,
                [ItemText(texts[item]) for item in items[-READ:]],
                max(0, len(items) - READ),
                Table(f"Most probable next items after {title[0].lower()}{title[1:]}", ("item", "probability"), rows),
                f"The label spreads as over {np.exp(entropy):,.0f} equally probable items of {len(known):,}.",
            )
        )
    return Windows(out)
