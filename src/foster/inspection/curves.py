"""What a training or a distillation logged, as curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import numpy as np

from foster.inspection.figures import drawing, line
from foster.inspection.page import Figure, Figures, Paragraph, Section, Table
from foster.inspection.wording import clean, number
from foster.wording import many

ROWS = 20  # of the table below a curve
POINTS = 500  # of a curve
BESIDE = 36  # characters that fit beside an axis

MEANING: Mapping[str, str] = {
    "loss": "training loss",
    "ndcg@10": "validation NDCG@10",
    "student_ndcg@10": "validation NDCG@10 of a student",
    "real_loss": "loss on the log",
    "inner_loss": "loss on the sequences",
    "gap": "gap between the models of the log and of the sequences",
    "gradient_norm": "norm of the gradient",
    "input_entropy": "entropy of the steps",
    "label_entropy": "entropy of the labels",
}
"""What the records' names mean, where that can be said in a few words."""


STATES = ("reset",)
"""Numbers that are names of states, of which there is no curve."""


def series_of(records: Iterable[Mapping[str, Any]]) -> dict[str, tuple[list[float], list[float]]]:
    """Return steps and values of every number that was logged more than once, in the order of first appearance."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for record in records:
        if not isinstance(record, Mapping) or not _is_number(step := record.get("step")):
            continue  # the last line of a training says how long it took
        for name, value in record.items():
            if name not in ("step", *STATES) and _is_number(value):
                steps, values = found.setdefault(clean(name, 60), ([], []))
                steps.append(step)
                values.append(value)
    return {name: (steps, values) for name, (steps, values) in found.items() if len(values) > 1}


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def curves(records: Iterable[Mapping[str, Any]], title: str, about: str) -> list[Section]:
    """Return the section of curves: one drawing for each number; no section where nothing was logged.

    Args:
        records: of ``metrics.jsonl``.
        title: of the section.
        about: its first paragraph.
    """
    found = series_of(records)
    changing = {name: series for name, series in found.items() if len(set(series[1])) > 1}
    blocks: list[Any] = [Paragraph(about)]
    if still := [name for name in found if name not in changing]:
        blocks.append(
            Paragraph("The same all the time: " + ", ".join(f"{n} {number(found[n][1][0])}" for n in still) + ".")
        )
    if not changing:
        return []
    blocks.append(Figures([_figure(name, *series) for name, series in changing.items()]))
    return [Section("curves", title, blocks)]


def _figure(name: str, steps: list[float], values: list[float]) -> Figure:
    some = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), POINTS)).astype(int))
    least, most = int(np.argmin(values)), int(np.argmax(values))
    meaning = MEANING.get(name, name.replace("_", " "))
    described = (
        f"{number(values[0])} at step {number(steps[0])}, {number(values[-1])} at step {number(steps[-1])}; "
        f"least {number(values[least])} at step {number(steps[least])}, "
        f"most {number(values[most])} at step {number(steps[most])}."
    )
    up = meaning if len(meaning) <= BESIDE else name
    curve = line([steps[i] for i in some], [values[i] for i in some], "step", up)
    svg = drawing(f"{meaning} by step", described, curve)
    rows = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), ROWS)).astype(int))
    caption = f"{meaning} ({name})" if meaning != name else name
    left_out = f" ({len(rows)} of {many(len(steps), 'value')})" if len(rows) < len(steps) else ""
    table = Table(
        f"{meaning} by step{left_out}", ("step", meaning), [(number(steps[i]), number(values[i])) for i in rows],
        closed=True,
    )  # fmt: skip
    return Figure(svg, f"{caption[0].upper()}{caption[1:]}: {described}", numbers=table)
