"""Tables of a benchmark in Markdown, with what one has to know to read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

TESTED = "ndcg@10"
SHOWN = ("recall@10", TESTED)
NEW = "new_recall@10"

Record = Mapping[str, Any]


def markdown(rows: Mapping[str, Record], about: Record) -> str:
    """Return the table, with what one has to know to read it."""
    reference = about.get("reference")
    compared = {"minus_random": "minus random", "minus_full": "minus full"}
    if reference:
        compared["minus_reference"] = f"minus {reference}"
    head: tuple[str, ...] = (
        "method", "Recall@10", "NDCG@10", "of full", *compared.values(), "making s", "training s", "times as fast",
        "peak MiB", "bytes", "break-even",
    )  # fmt: skip
    new = bool(about.get("new_items"))
    head += ("new items Recall@10", "of full") if new else ()
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, row in rows.items():
        peaks = [row[key] for key in ("make_peak_bytes", "train_peak_bytes") if row[key]]
        cells = (
            name,
            *(spread(row[metric], row[f"{metric}_sd"]) for metric in SHOWN),
            shown(row["of_full"], ".3f"),
            *(_shown_interval(row[key]) for key in compared),
            shown(row["make_seconds"], ",.0f"),
            shown(row["train_seconds"], ",.1f"),
            shown(row["times_as_fast"], ",.1f"),
            shown(max(peaks) / 2**20 if peaks else None, ",.0f"),
            shown(row["bytes"], ",.0f"),
            shown(row["break_even"], ".1f"),
        )
        if new:
            found = spread(row[NEW], row[f"{NEW}_sd"]) if NEW in row else ""
            cells += (found, shown(row["new_of_full"], ".3f"))
        lines.append(f"| {' | '.join(cells)} |")
    notes = (
        f"{about['data']}: {about['users']:,} users, {about['items']:,} items, {about['interactions']:,} interactions. "
        f"Split {about['split']}: {about['parts']['test_targets']:,} test targets of {about['parts']['test_users']:,} "
        "users, full ranking, history masked, ties split; mean ± standard deviation over seeds "
        f"{', '.join(map(str, about['seeds']))}. All weights and recipes are chosen by validation NDCG@10; students of "
        "every method try the same recipes. Differences are 95 % paired bootstrap intervals over users of NDCG@10, "
        "in thousandths (random: of the same budget M). `of full` (NDCG@10) and `times as fast` (training) are means "
        "of ratios within a seed. Making is selection or distillation without the teacher; break-even is (teacher, if "
        "one is needed, + making) / (full - student) trainings. Bytes are without item texts. Peak MiB is what the "
        "process held at most while it made or trained, what earlier runs left there included. `+checkpoint` rows "
        "start from the teacher's weights after a tenth of its training, which is real data and among their bytes; "
        "`checkpoint` is that state itself."
    )
    if new:
        notes += (
            f" The newest {about['new_items']:,} items were withheld from all of this and added to the models at the "
            f"end; their columns are over {about['new_item_users']:,} users, each with its first new item as the "
            "target among all items, old and new."
        )
    if any("@" in name for name in rows):
        notes += (
            " Rows `METHOD@STUDENT` train another kind of model on what the method made, and are compared with `full` "
            "and `random` of that kind."
        )
    failed = [f"**No result** of {name}: {error}" for name, error in (about.get("failed") or {}).items()]
    said = "\n".join(f"- {remark}" for remark in [*failed, *remarks(rows)])
    return "\n\n".join(part for part in ("\n".join(lines), said, notes) if part) + "\n"


def remarks(rows: Mapping[str, Record]) -> list[str]:
    """Return what the table says about whether to condense this log, and by what."""
    out = []
    if {"popularity", "full"} <= rows.keys() and rows["popularity"][TESTED] >= rows["full"][TESTED]:
        out.append(
            "**Popularity is as good as the full model or better**, which is then no model to condense: texts do not "
            "say what these users take. Try data prepared with `--popularity`, or a model with learned item vectors."
        )
    # A checkpoint of the teacher is what the log taught, and random histories from there are no control of this kind.
    condensed = {name: row for name, row in rows.items() if row["interactions"] and "+" not in name}
    near_full = [name for name, row in condensed.items() if row["minus_full"] and row["minus_full"][1] >= 0]
    if near_full:
        out.append(f"As good as the full log or better, as far as these users tell: {', '.join(near_full)}.")
    near_random = [name for name, row in condensed.items() if row["minus_random"] and row["minus_random"][0] <= 0]
    if near_random:
        out.append(f"No better than as many random histories, as far as these users tell: {', '.join(near_random)}.")
    kept = {name: row["kept_steps"] for name, row in condensed.items()}
    at_start = [f"{name} in {steps.count(0)} of {len(steps)} runs" for name, steps in kept.items() if 0 in steps]
    if at_start:
        out.append(f"Sequences are the starting point, since no later state was clearly better: {', '.join(at_start)}.")
    return out


def spread(mean: float, deviation: float | None) -> str:
    """Return a metric's mean and, where there is one, deviation as shown in tables."""
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def shown(value: float | None, form: str) -> str:
    """Return a number in the given form, or nothing where it is not known."""
    return "" if value is None or math.isnan(value) else f"{value:{form}}"


def _shown_interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{1000 * interval[0]:+.1f} to {1000 * interval[1]:+.1f}"
