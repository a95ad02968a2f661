"""The picture of a study, where matplotlib (extra ``report``) is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 4
FEW = 6  # values of an option up to which each has a place of its own
WIDE = 8  # ratio of the ends from which on an axis is logarithmic
LABEL = "validation NDCG@10"


def drawable(frame: pl.DataFrame) -> bool:
    """Whether there can be a picture: not without matplotlib, nor without a finished trial."""
    return importlib.util.find_spec("matplotlib") is not None and "complete" in frame["state"]


def plot_study(path: Path, frame: pl.DataFrame, results: Mapping[str, Any], options: Sequence[str]) -> None:
    """Draw the trials in their order, what mattered, the search beside the full log, and each option's values.

    Args:
        path: the PNG file to write.
        frame: of the trials.
        results: of the study.
        options: that were searched.
    """
    from matplotlib.figure import Figure

    done = frame.filter(pl.col("state") == "complete")
    panels = 1 + (results["importance"] is not None) + bool(results["verdict"])
    rows = 1 + -(-len(options) // COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 3.0 * rows), layout="constrained")
    top, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, rows - 1])[:, 0]
    axes = iter(top.subplots(1, panels, squeeze=False)[0])
    draw_order(next(axes), frame)
    if results["importance"] is not None:
        _draw_importance(next(axes), results["importance"])
    if results["verdict"]:
        _draw_log(next(axes), done.filter(pl.col("full_log").is_not_null()))
    grid = below.subplots(rows - 1, COLUMNS, sharey=True, squeeze=False).flatten()
    for place, name in zip(grid, options, strict=False):
        _draw_option(place, done, name)
    for place in grid[len(options) :]:
        place.set_visible(False)
    figure.savefig(path, dpi=110, format="png")


def draw_order(axes: Axes, frame: pl.DataFrame, colours: Sequence[str] = ("lightgrey", "C0", "C1")) -> None:
    """Draw the trials in their order.

    Args:
        axes: to draw on.
        frame: ``trial``, ``state`` and ``value`` of the trials.
        colours: of pruned and of finished trials, and of the best so far.
    """
    from matplotlib.ticker import MaxNLocator

    for state, colour in zip(("pruned", "complete"), colours, strict=False):
        part = frame.filter((pl.col("state") == state) & pl.col("value").is_not_null())
        if part.is_empty():
            continue  # a legend names nothing that is not there
        axes.scatter(part["trial"].to_list(), part["value"].to_list(), s=14, color=colour, label=state)
    done = frame.filter(pl.col("state") == "complete")
    axes.step(
        done["trial"].to_list(), done["value"].cum_max().to_list(), where="post", color=colours[2], label="best so far"
    )
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(LABEL)
    axes.legend(fontsize="small")


def _draw_importance(axes: Axes, importance: Mapping[str, float]) -> None:
    names = list(importance)[::-1]
    axes.barh(names, [importance[name] for name in names])
    axes.set_xlabel("importance, to be among the best quarter")


def _draw_log(axes: Axes, looked_at: pl.DataFrame) -> None:
    axes.scatter(looked_at["value"].to_list(), looked_at["full_log"].to_list(), s=20)
    for trial, value, log in looked_at.select("trial", "value", "full_log").iter_rows():
        axes.annotate(str(trial), (value, log), textcoords="offset points", xytext=(4, 3), fontsize="small")
    axes.set_xlabel("search, " + LABEL)
    axes.set_ylabel("full log, " + LABEL)


def _draw_option(axes: Axes, done: pl.DataFrame, name: str) -> None:
    from matplotlib.ticker import NullFormatter

    values: list[Any] = done[name].to_list()
    distinct = sorted(set(values), key=lambda value: (isinstance(value, str), value is not None, value))
    if len(distinct) <= FEW or not all(isinstance(value, int | float) for value in distinct):
        axes.set_xticks(range(len(distinct)), [f"{value}" for value in distinct])
        values = [distinct.index(value) for value in values]
    elif distinct[0] > 0 and distinct[-1] >= WIDE * distinct[0]:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.scatter(values, done["value"].to_list(), s=14)
    axes.set_xlabel(name)
    axes.grid(alpha=0.3)
