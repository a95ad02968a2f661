"""Draws the pictures of README and docs from the committed tables of runs.

    python benchmarks/figures.py

writes the SVG files in docs/images, which are light or dark as the reader's system is.
"""

from __future__ import annotations

import csv
import re
from io import StringIO
from pathlib import Path
from statistics import mean

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

HERE = Path(__file__).parent
RUNS = HERE / "results" / "runs"
IMAGES = HERE.parent / "docs" / "images"
HEADLINE = {  # one seed each
    "games": ["games-6baa680", "games-6564293-seed1"],
    "beauty": ["beauty-6baa680", "beauty-8947cb5-seed1", "beauty-8947cb5-seed2"],
    "yelp": ["yelp-8947cb5", "yelp-6564293-seed1"],
    "foodcom": ["foodcom-8947cb5", "foodcom-6564293-seed1"],
}
FORMS = {"50000": "small labeller", "150000": "labeller"}  # of the present build
LOGS = {"games": "Games", "beauty": "Beauty", "yelp": "Yelp", "foodcom": "Food.com"}
MARKERS = dict(zip(LOGS, "osD^", strict=True))

# Stand-ins that no other part of a drawing has; the written file names a variable of each instead.
PAPER, INK, FAINT, PANEL = "#fe0001", "#fe0002", "#fe0003", "#fe0004"
LINES = dict(zip(LOGS, ("#fe0011", "#fe0012", "#fe0013", "#fe0014"), strict=True))
LIGHT_COLOURS = ("#ffffff", "#1f2328", "#c9ced4", "#eef2f6", "#0a5ea8", "#b3400a", "#1a7340", "#7a3fa0")
DARK_COLOURS = ("#131416", "#e6e8eb", "#4a5058", "#23272c", "#6cb6ff", "#ff9d5c", "#6fd08c", "#d2a8ff")
LIGHT, DARK = (
    dict(zip((PAPER, INK, FAINT, PANEL, *LINES.values()), colours, strict=True))
    for colours in (LIGHT_COLOURS, DARK_COLOURS)
)


def rows(name: str) -> list[dict[str, str]]:
    """Return the lines of one table of runs."""
    with (RUNS / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def share_of_full(log: str, name: str) -> tuple[float, float]:
    """Return bytes and NDCG@10 of a row as a share of the full log's of the same seed, both as means over the seeds."""
    sizes, shares = [], []
    for table in map(rows, HEADLINE[log]):
        (full,) = (float(row["ndcg@10"]) for row in table if row["name"] == "full")
        (own,) = (row for row in table if row["name"] == name)
        sizes.append(float(own["bytes"]))
        shares.append(float(own["ndcg@10"]) / full)
    return mean(sizes), mean(shares)


def share_in_bytes(log: str, budget: str) -> tuple[float, float]:
    """Return a budget in bytes and NDCG@10 within it, as a share of the full log's of the same seed."""
    wanted = (log, budget, FORMS[budget])
    own = [row for row in rows("few-bytes") if (row["log"], row["budget"], row["form"]) == wanted]
    return float(budget), mean(float(row["ndcg@10"]) / float(row["full_ndcg@10"]) for row in own)


def save(figure: plt.Figure, name: str, title: str) -> None:
    """Write a drawing with variables for colours."""
    file = StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Title": title})
    plt.close(figure)
    text = re.sub(r"#fe00\d\d", lambda found: f"var(--c{found[0][-2:]})", file.getvalue())
    light, dark = ("".join(f"--c{key[-2:]}:{value};" for key, value in colours.items()) for colours in (LIGHT, DARK))
    style = f"<style>:root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}</style>"
    text = re.sub(r"(<svg [^>]*>)", lambda found: f"{found[1]}\n {style}", text, count=1)
    (IMAGES / f"{name}.svg").write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")


def quality_over_bytes() -> None:
    """Draw NDCG@10 over the bytes of the folder."""
    figure, axes = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    axes.axhline(1, color=INK, lw=1, ls=(0, (4, 3)))
    axes.annotate("the full log", (1.1e3, 1), (0, 3), textcoords="offset points", fontsize=9)
    for log, name in LOGS.items():
        points = [*(share_in_bytes(log, budget) for budget in FORMS), share_of_full(log, "foster")]
        axes.plot(*zip(*points, strict=True), color=LINES[log], marker=MARKERS[log], label=name)
        axes.plot(*share_of_full(log, "random"), color=LINES[log], marker=MARKERS[log], mfc=PAPER, ls="")
    axes.annotate("20 random\nhistories", (2.2e3, 0.33), fontsize=9)
    axes.set_xscale("log")
    axes.set_xticks([1.5e3, 5e4, 1.5e5, 1.2e6], ["1.5 kB", "50 kB", "150 kB", "1.2 MB"])
    axes.minorticks_off()
    axes.set(xlim=(1e3, 1.8e6), ylim=(0, 1.12), xlabel="folder, item texts aside", ylabel="NDCG@10, share of full log")
    axes.legend(loc="lower right", ncols=2)
    save(figure, "quality-over-bytes", "Test NDCG@10 as a share of the full log's over the bytes of the folder")


def method() -> None:
    """Draw how a log becomes a folder, and a folder a model."""
    figure, axes = plt.subplots(figsize=(7.2, 3.0), layout="constrained")
    axes.set(xlim=(-1, 101), ylim=(0, 46))
    axes.axis("off")

    def box(x: float, y: float, width: float, text: str, height: float = 12) -> None:
        axes.add_patch(
            FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=1.2", fc=PANEL, ec=INK)
        )
        lines = text.split("\n")  # one by one, so that each is centred whatever the reader's font is
        for n, line in enumerate(lines):
            place = y + height / 2 + 4 * ((len(lines) - 1) / 2 - n)
            axes.text(x + width / 2, place, line, ha="center", va="center", fontsize=8.5)

    def arrow(start: tuple[float, float], end: tuple[float, float], text: str = "", above: float = 1.2) -> None:
        axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.2})
        axes.text((start[0] + end[0]) / 2, max(start[1], end[1]) + above, text, ha="center", fontsize=8)

    box(0, 31, 18, "log\nand item texts")
    box(31, 31, 19, "teacher\n(full model)")
    arrow((18, 37), (31, 37), "pretrain")
    box(0, 4, 18, "pieces of\nreal histories")
    arrow((9, 31), (9, 16))
    box(31, 2, 40, "folder:\n20 sequences, soft labels,\nmap of items, item texts, recipe", 18)
    arrow((18, 10), (31, 10), "distill")
    arrow((40.5, 31), (40.5, 20))
    axes.text(42, 25, "states as labels, and its map of items", ha="left", va="center", fontsize=8)
    box(83, 4, 17, "model")
    arrow((71, 10), (83, 10), "train")
    for n, line in enumerate(("needs neither", "log nor teacher")):
        axes.text(91.5, 23 - 4 * n, line, ha="center", fontsize=8)
    save(
        figure,
        "method",
        "A log trains a teacher; pieces of the log and the teacher's labels make a folder; it trains a model",
    )


if __name__ == "__main__":
    mpl.rcParams.update(
        {name: INK for name in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")}
        | {"axes.facecolor": PAPER, "figure.facecolor": PAPER, "axes.edgecolor": FAINT, "legend.frameon": False}
        | {"svg.fonttype": "none", "svg.hashsalt": "foster", "font.family": "sans-serif", "font.size": 9}
        | {"font.sans-serif": ["Arial", "DejaVu Sans"], "axes.titlesize": 9}
        | {"axes.spines.top": False, "axes.spines.right": False}
    )
    quality_over_bytes()
    method()
