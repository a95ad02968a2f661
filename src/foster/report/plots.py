"""Plots of a benchmark, where matplotlib (extra ``report``) is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foster.storage import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {"ndcg@10": "NDCG@10", "recall@10": "Recall@10"}


def plot_results(path: Path, rows: Mapping[str, Mapping[str, Any]], title: str) -> Path | None:
    """Draw NDCG@10 and Recall@10 of every row, mean and standard deviation over seeds, the full log as a line.

    With several budgets a method is a curve over M, or over bytes; with one budget it is a point.

    Args:
        path: the file to write; its ending says the format.
        rows: as ``results.summarise`` gives them.
        title: of the figure.

    Returns:
        ``path``, or None without matplotlib.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    several = len({row["budget"] for row in rows.values() if row["budget"] is not None}) > 1
    figure = Figure(figsize=(11, 4.5 if several else 1.2 + 0.3 * len(rows)), layout="constrained")
    figure.suptitle(title)
    for place, metric in enumerate(TITLES):
        draw_metric(figure.add_subplot(1, 2, place + 1), rows, metric)
    with whole_file(path) as part:
        figure.savefig(part, dpi=120, format=path.suffix[1:])
    return path


def draw_metric(axes: Axes, rows: Mapping[str, Mapping[str, Any]], metric: str, reference: str = "grey") -> None:
    """Draw one metric of every row on axes: a curve over M where there are several budgets, else a point.

    Args:
        axes: of a figure.
        rows: as ``results.summarise`` gives them.
        metric: one of ``TITLES``.
        reference: colour of the full log's line.
    """
    budgets = sorted({row["budget"] for row in rows.values() if row["budget"] is not None})
    if len(budgets) > 1:
        _curves(axes, rows, budgets, metric, reference)
    else:
        _points(axes, rows, metric, reference)
    axes.grid(alpha=0.3)


def _points(axes: Axes, rows: Mapping[str, Mapping[str, Any]], metric: str, reference: str) -> None:
    names = list(rows)[::-1]
    values = [rows[name][metric] for name in names]
    errors = [rows[name][f"{metric}_sd"] or 0.0 for name in names]
    axes.errorbar(values, range(len(names)), xerr=errors, fmt="o", capsize=3)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(left=0)
    axes.set_xlabel(TITLES[metric])
    if "full" in rows:
        axes.axvline(rows["full"][metric], linestyle="--", color=reference)


def _curves(axes: Axes, rows: Mapping[str, Mapping[str, Any]], budgets: list[int], metric: str, reference: str) -> None:
    curves: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows.values():
        if row["budget"] is None:
            axes.axhline(row[metric], linestyle="--", color=reference)
            axes.annotate(row["name"], (budgets[0], row[metric]), va="bottom", color=reference)
        else:
            curves.setdefault(row["name"], []).append(row)
    for name, points in curves.items():
        points = sorted(points, key=lambda row: row["budget"])
        axes.errorbar(
            [row["budget"] for row in points],
            [row[metric] for row in points],
            yerr=[row[f"{metric}_sd"] or 0.0 for row in points],
            marker="o",
            capsize=3,
            label=name,
        )
    axes.set_xscale("log")
    axes.set_xticks(budgets, [str(budget) for budget in budgets])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("bytes at most" if any(row.get("in_bytes") for row in rows.values()) else "M, sequences")
    axes.set_ylabel(TITLES[metric])
    axes.legend()
