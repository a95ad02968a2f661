"""A map of the catalogue: item vectors on the plane in which they differ most (principal components)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from foster.inspection.figures import DOTS, FAINT, PICK, SERIES, drawing
from foster.inspection.page import Figure, ItemText, Table
from foster.inspection.wording import clean
from foster.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOTTED = 3_000  # items that are drawn; evenly spaced ones of a larger catalogue
DRAWN = 20  # sequences that are drawn
END = 0.05  # share of the items that make an end of an axis
WORDS = 3
MOST_READ = 50_000  # items whose words are looked at
_ROWS = 2**15
# Where the words at the ends of the axes stand, how they are aligned there, and how far they are turned.
_ENDS = {
    "left": (0, -0.02, "left", "top", 0),
    "right": (1, -0.02, "right", "top", 0),
    "bottom": (-0.02, 0, "left", "bottom", 90),
    "top": (-0.02, 1, "right", "bottom", 90),
}
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Projection:
    """The plane of the two first principal components of item vectors.

    Attributes:
        mean: ``[d]``.
        axes: ``[d, 2]``.
        explained: the shares of the variance along both.
        points: ``[V, 2]``, the items.
    """

    mean: Tensor
    axes: Tensor
    explained: tuple[float, float]
    points: np.ndarray

    @classmethod
    def of(cls, vectors: Tensor) -> Projection:
        """Compute it from item vectors ``[V, d]``; the same vectors give the same plane, the same way round."""
        mean = torch.zeros(vectors.shape[1], dtype=torch.float64)
        scatter = torch.zeros(vectors.shape[1], vectors.shape[1], dtype=torch.float64)
        for part in vectors.split(_ROWS):
            mean += part.double().sum(0)
        mean /= len(vectors)
        for part in vectors.split(_ROWS):
            centred = part.double() - mean
            scatter += centred.T @ centred
        values, directions = torch.linalg.eigh(scatter)
        axes = directions[:, -2:].flip(1)
        signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        total = max(float(values.sum()), 1e-12)
        explained = (float(values[-1]) / total, float(values[-2]) / total)
        axes, mean = (axes * signs).float(), mean.float()
        points = torch.cat([(part.float() - mean) @ axes for part in vectors.split(_ROWS)]).numpy()
        return cls(mean, axes, explained, points)

    def place(self, vectors: Tensor) -> np.ndarray:
        """Return where vectors ``[n, d]`` lie: ``[n, 2]``."""
        out: np.ndarray = ((vectors.float() - self.mean) @ self.axes).numpy()
        return out

    def ends(self, texts: Sequence[str]) -> list[tuple[str, str, str]]:
        """Return for each end of the axes its name, the words that items there share, and the item at its end."""
        some = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), MOST_READ)).astype(int))
        words = [set(_WORD.findall(texts[item].lower())) for item in some]
        usual = Counter(word for found in words for word in found)
        out = []
        for name, axis, sign in (("left", 0, -1), ("right", 0, 1), ("bottom", 1, -1), ("top", 1, 1)):
            order = np.argsort(-sign * self.points[some, axis], kind="stable")
            there = order[: max(1, round(END * len(some)))]
            counts = Counter(word for place in there for word in words[place])
            best = sorted((-_tells(count, usual[word], len(there)), word) for word, count in counts.items())
            out.append((name, ", ".join(clean(word, 20) for _, word in best[:WORDS]), texts[some[order[0]]]))
        return out


def _tells(there: int, anywhere: int, items: int) -> float:
    """Return how well a word tells the items of one place from others: often there, and seldom elsewhere."""
    return there / items * there / (anywhere + 1)


def map_figure(
    projection: Projection, texts: Sequence[str], what: str, paths: Sequence[Tensor] = (), hidden: int = 0
) -> tuple[Figure, Table]:
    """Return the map and the table of what lies where.

    Args:
        projection: of the catalogue.
        texts: of its V items.
        what: the vectors, in words.
        paths: ``[steps, d]``, vectors of the steps of sequences, to be drawn as lines.
        hidden: sequences that are not drawn.
    """
    ends = projection.ends(texts)
    n = len(projection.points)
    shown = projection.points[np.unique(np.linspace(0, n - 1, min(n, DOTTED)).astype(int))]
    lines = [projection.place(path) for path in paths]
    share = percent(sum(projection.explained))
    described = "; ".join(f"{name}: {words}" for name, words, _ in ends)
    passing = f" with {len(lines)} sequences drawn through it" if lines else ""
    svg = drawing(
        "Map of the catalogue",
        f"{len(shown):,} items as dots{passing}. Words that items share at the ends: {described}.",
        _map(shown, lines, {name: words for name, words, _ in ends}),
        (6.4, 4.8),
    )
    caption = (
        f"{what} on the plane of their two first principal components, which holds {share} of the variance: "
        "items that are near one another here need not be alike."
    )
    if len(shown) < n:
        caption += f" {len(shown):,} of {n:,} items are drawn, evenly spaced in the catalogue."
    if lines:
        caption += (
            " Coloured dots are steps of sequences and a ring the first one; the line from step to step is plain where "
            "one sequence is drawn."
        )
    if hidden:
        caption += f" The first {len(lines)} sequences are drawn, {hidden:,} are not."
    table = Table(
        "What lies at the ends of the map: words that the outermost twentieth of the items shares more than others, "
        "and the outermost item",
        ("end", "words", "item"),
        [(name, ItemText(words), ItemText(text)) for name, words, text in ends],
        texts=(1, 2),
    )
    return Figure(svg, caption, picks=len(lines), large=True), table


def _map(dots: np.ndarray, lines: Sequence[np.ndarray], words: dict[str, str]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        spread = float(np.ptp(dots, axis=0).max()) or 1.0
        _dot(axes, dots, spread, DOTS, 2.2)
        for number, points in enumerate(lines, 1):
            color, name = SERIES[(number - 1) % len(SERIES)], f"{PICK}{number}"
            # All lines at once are a tangle: they are faint, and plain once their sequence is picked out.
            axes.plot(*points.T, color=color, linewidth=1.1, gid=f"{name}-line")
            _dot(axes, points, spread, color, 3.5, gid=name)
            axes.plot(*points[:1].T, marker="o", markersize=8, markerfacecolor="none", color=color, gid=name)
        every = np.concatenate([dots, *lines])
        low, high = every.min(0), every.max(0)
        room = np.maximum(high - low, 1e-6) * 0.06
        axes.set_xlim(low[0] - room[0], high[0] + room[0])
        axes.set_ylim(low[1] - room[1], high[1] + room[1])
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color(FAINT)
        for end, (x, y, across, along, turn) in _ENDS.items():
            arrow = f"← {words[end]}" if end in ("left", "bottom") else f"{words[end]} →"
            where: dict[str, Any] = {"transform": axes.transAxes, "ha": across, "va": along, "rotation": turn}
            axes.text(x, y, arrow, rotation_mode="anchor", **where)

    return draw


def _dot(axes: Axes, points: np.ndarray, spread: float, color: str, size: float, gid: str | None = None) -> None:
    """Draw dots as one path of short strokes with round ends: a tenth of the bytes of an element for each."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = np.repeat(points, 2, axis=0)
    corners[1::2, 0] += spread * 1e-4
    strokes = Path(corners, np.tile([Path.MOVETO, Path.LINETO], len(points)))
    axes.add_patch(PathPatch(strokes, facecolor="none", edgecolor=color, linewidth=size, capstyle="round", gid=gid))
