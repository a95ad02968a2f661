"""Drawings by matplotlib as ``<svg>`` elements that take their colours from the page, light or dark."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that stand for those of the page: they occur nowhere else, and are replaced in what matplotlib has drawn.
INK, FAINT, GRID, DOTS = "#010101", "#010102", "#010103", "#010104"
SERIES = ("#010111", "#010112", "#010113", "#010114")
_OF_PAGE = {
    INK: "currentColor",
    FAINT: "var(--faint)",
    GRID: "var(--line)",
    DOTS: "var(--dots)",
    **{color: f"var(--series-{place})" for place, color in enumerate(SERIES, 1)},
}
PICK = "pick-"  # what the names of parts begin with that can be picked out

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
# A narrow drawing, whose letters are still of a readable size on a telephone.
NARROW = (3.6, 2.3)


def drawing(title: str, description: str, draw: Callable[[Axes], None], size: tuple[float, float] = NARROW) -> str:
    """Return a drawing as an ``<svg>`` element, the same for the same arguments.

    Args:
        title: its name, for screen readers.
        description: what is to be seen on it, in words, for them too.
        draw: draws on axes, in the colours of this file.
        size: width and height in inches; a hundredth of an inch is a unit of the drawing.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    name = hashlib.sha256(f"{title}\0{description}".encode()).hexdigest()[:12]
    style: dict[str, Any] = {
        "svg.fonttype": "none",  # letters stay letters: they can be read aloud, found and made larger
        "svg.hashsalt": name,
        "svg.image_inline": True,
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        "axes.unicode_minus": False,
        "font.size": 9.0,
        "axes.titlesize": 9.0,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.prop_cycle": f"cycler(color={list(SERIES)})",
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "grid.color": GRID,
        "legend.frameon": False,
        "legend.labelcolor": INK,
        "path.simplify": True,
    }
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's own style is
        mpl.rcParams.update(style)
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(
            out, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Type", "Format"))
        )
    return _of_page(out.getvalue(), name, title, description)


def _of_page(drawn: str, name: str, title: str, description: str) -> str:
    """Return a drawing with names that occur once in a page, its colours, a title and a description."""
    root = ElementTree.fromstring(drawn)
    if (metadata := root.find(f"{{{_SVG}}}metadata")) is not None:
        root.remove(metadata)
    for defs in root.iter(f"{{{_SVG}}}defs"):
        for style in defs.findall(f"{{{_SVG}}}style"):  # it would hold for all of the page
            defs.remove(style)
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    defined = {element.get("id") for part in root.iter(f"{{{_SVG}}}defs") for element in part if element.get("id")}
    referred = {value[1:] for element in root.iter() for value in element.attrib.values() if value.startswith("#")}
    for element in root.iter():
        if (own := element.get("id")) is not None:
            del element.attrib["id"]
            if own in defined | referred:
                element.set("id", f"{name}-{own}")
            elif own.startswith(PICK):  # pick-3, or pick-3-line
                _, number, *more = own.split("-")
                element.set("class", " ".join(["pick", PICK + number, *(PICK + word for word in more)]))
        for key, value in list(element.attrib.items()):
            if key in ("href", f"{{{_XLINK}}}href"):
                element.set(key, f"#{name}-{value[1:]}" if value.startswith("#") else value)
            elif key in ("style", "fill", "stroke", "clip-path"):
                element.set(key, _painted(_REFERENCE.sub(rf"url(#{name}-\1)", value)))
    for size in ("width", "height"):
        root.attrib.pop(size)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-description")
    for place, (tag, own, text) in enumerate((("title", "title", title), ("desc", "description", description))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{own}"})
        element.text = text
        root.insert(place, element)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _painted(style: str) -> str:
    for color, own in _OF_PAGE.items():
        style = style.replace(color, own)
    return style


def line(xs: Sequence[float], ys: Sequence[float], across: str, up: str) -> Callable[[Axes], None]:
    """Return what draws one curve; of few points each is marked.

    Args:
        xs: of the points.
        ys: of the points.
        across: what ``xs`` are.
        up: what ``ys`` are.
    """

    def draw(axes: Axes) -> None:
        axes.plot(xs, ys, marker="o" if len(xs) <= 15 else None, markersize=3, linewidth=1.5)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.grid(linewidth=0.6)

    return draw


def bars(
    edges: Sequence[float], heights: Sequence[float], across: str, up: str, days: bool = False
) -> Callable[[Axes], None]:
    """Return what draws a histogram of bars between edges, one more than there are heights.

    Args:
        edges: in ascending order.
        heights: of the bars.
        across: what the edges are.
        up: what the heights are.
        days: whether the edges are days since 1970.
    """

    def draw(axes: Axes) -> None:
        if days:
            from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

            locator = AutoDateLocator(tz="UTC", maxticks=6)
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz="UTC", show_offset=False))
        axes.stairs(heights, edges, fill=True, color=SERIES[0])
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", linewidth=0.6)

    return draw


def concentration(curves: Sequence[tuple[str, np.ndarray]], ordered_by: str) -> Callable[[Axes], None]:
    """Return what draws which share of something falls to the first items.

    Args:
        curves: names, and ``[V]`` what falls to each item, in one order of the items.
        ordered_by: that order, as in "most popular first".
    """
    styles = ("solid", "dashed", "dotted")

    def draw(axes: Axes) -> None:
        for (name, masses), style in zip(curves, styles, strict=False):
            n = len(masses)
            # As many points as can be told apart, and no more.
            places = np.unique(np.geomspace(1, n, min(n, 200)).astype(int))
            shares = np.cumsum(masses)[places - 1] / max(float(masses.sum()), 1e-12)
            axes.plot(100 * places / n, 100 * shares, linestyle=style, linewidth=1.5, label=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel(f"% of items, {ordered_by}")
        axes.set_ylabel("% of all")
        axes.set_ylim(0, 102)
        axes.grid(linewidth=0.6)
        if len(curves) > 1:
            axes.legend(loc="upper left", fontsize=8)

    return draw
