"""Tables of a benchmark: mean, deviation, paired bootstrap, break-even; as Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foster.artefacts import KEPT_STEP
from foster.evaluation.metrics import ndcg_of_ranks
from foster.json_text import to_json

RESULTS = ("results.md", "results.json", "results.csv")
RESAMPLES = 2000
SHOWN = ("recall@10", "ndcg@10")
TESTED = "ndcg@10"  # what the bootstrap compares
NEW = "new_recall@10"
COSTS = (
    "make_seconds", "make_peak_bytes", "train_seconds", "tuning_seconds", "train_peak_bytes", "bytes", "interactions",
)  # fmt: skip
RATIOS = (
    ("of_full", "metrics", TESTED),
    ("recall_of_full", "metrics", "recall@10"),
    ("new_of_full", "new_items", "recall@10"),
)

Record = Mapping[str, Any]
Ranks = Callable[[Record], np.ndarray]
Groups = dict[tuple[str, int | None], dict[int, Record]]
"""Runs by row and budget, then by seed."""


def summarise(
    records: Iterable[Record], ranks: Ranks | None, reference: str | None = None, users: np.ndarray | None = None
) -> dict[str, dict[str, Any]]:
    """Return one row a method and budget.

    Args:
        records: of finished runs, as ``Bench.make`` returns them.
        ranks: gives the test ranks of a record, ``[targets]``; None where they are not at hand, for no intervals.
        reference: a row that the others are compared with too, such as the method of which they are ablations.
        users: whose each test target is, ``[targets]``; None where each user has one.

    Returns:
        Rows by name; where a benchmark has several budgets M the name is ``method-M``. A row holds

        - ``name``, without M, ``method``, ``budget`` and ``seeds``;
        - ``<metric>`` (mean over seeds) and ``<metric>_sd`` of every metric;
        - ``of_full`` and ``recall_of_full``: the mean ratio of NDCG@10 and Recall@10 to the full log's, within a seed;
        - ``times_as_fast``: the mean ratio of training seconds, the full log's to its own, within a seed;
        - ``minus_random`` and ``minus_full``: 95 % paired bootstrap intervals over users of the difference in NDCG@10,
          random being of the same budget, or of the smallest one for rows without; other students are compared with
          their own kind; ``minus_reference`` likewise where there is one, of the same budget if it has budgets;
        - ``new_<metric>`` and its deviation where items were withheld, and ``new_of_full``, of Recall@10;
        - the costs, means over seeds, and ``break_even``.
    """
    groups: Groups = {}
    for record in records:
        groups.setdefault((record["name"], record["budget"]), {})[record["seed"]] = record
    budgets = {budget for _, budget in groups if budget is not None}
    several = len(budgets) > 1
    teacher_seconds = _mean(run["train_seconds"] for run in _group(groups, "full", None).values())
    rows = {}
    for (name, budget), runs in groups.items():
        any_run = next(iter(runs.values()))
        row: dict[str, Any] = {"name": name, "method": any_run["method"], "budget": budget, "seeds": sorted(runs)}
        row["in_bytes"] = any_run.get("in_bytes", False)
        for prefix, key in (("", "metrics"), ("new_", "new_items")):
            for metric in any_run.get(key) or ():
                values = [run[key][metric] for run in runs.values()]
                row[prefix + metric] = statistics.mean(values)
                row[f"{prefix}{metric}_sd"] = statistics.stdev(values) if len(values) > 1 else None
        kind = f"@{any_run['student']}" if any_run.get("student") else ""
        # What has no budget (full, popularity) is compared with the smallest one of what has.
        of_budget = min(budgets, default=None) if budget is None else budget
        full = _group(groups, f"full{kind}", of_budget)
        pairs = [(run, full[seed]) for seed, run in runs.items() if seed in full]
        for ratio, group, metric in RATIOS:
            row[ratio] = _ratio((run[group][metric], of[group][metric]) for run, of in pairs if group in run)
        row["times_as_fast"] = _ratio((of["train_seconds"], run["train_seconds"]) for run, of in pairs)
        random = _group(groups, f"random{kind}", of_budget)
        row["minus_random"] = _interval(runs, random, ranks, users) if ranks else None
        row["minus_full"] = _interval(runs, full, ranks, users) if ranks else None
        if reference:
            others = _group(groups, f"{reference}{kind}", of_budget)
            row["minus_reference"] = _interval(runs, others, ranks, users) if ranks else None
        for cost in COSTS:
            row[cost] = _mean(run.get(cost) for run in runs.values())
        full_seconds = _mean(run["train_seconds"] for run in full.values())
        row["break_even"] = break_even(row, teacher_seconds, full_seconds, runs)
        row["kept_steps"] = [run[KEPT_STEP] for run in runs.values() if run.get(KEPT_STEP) is not None]
        row["recipes"] = sorted({run["recipe"] for run in runs.values() if "recipe" in run})
        row["from_real_data"] = next((run["from_real_data"] for run in runs.values() if "from_real_data" in run), None)
        rows[f"{name}-{budget}" if several and budget is not None else name] = row
    return rows


def _group(groups: Groups, name: str, budget: int | None) -> Mapping[int, Record]:
    """Return the runs of a row by seed: of a budget, or all of a row that has none; nothing where there is no row."""
    return groups.get((name, budget)) or groups.get((name, None), {})


def break_even(
    row: Record, teacher_seconds: float | None, full_seconds: float | None, runs: Mapping[int, Record]
) -> float | None:
    """Return the number of trainings from which on making and students together beat training on the full log.

    That is (teacher + distillation) / (full - student); None where nothing was made, or where students are no faster.
    The full training is that of the same kind of model; the teacher can be of another.
    """
    if teacher_seconds is None or full_seconds is None or row["make_seconds"] is None:
        return None
    made = row["make_seconds"] + (teacher_seconds if any(run["needs_teacher"] for run in runs.values()) else 0.0)
    saved = full_seconds - row["train_seconds"]
    return made / saved if saved > 0 else None


def paired_bootstrap(
    difference: np.ndarray, resamples: int = RESAMPLES, seed: int = 0, users: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of paired differences, by the percentile bootstrap over users.

    Args:
        difference: ``[targets]``, of one target's score under two methods.
        resamples: bootstrap samples of the users.
        seed: of these.
        users: ``[targets]``, whose each is, where users can have several: these are drawn together, since they are not
            independent. None where each has one.
    """
    if users is not None and len(np.unique(users)) < len(users):
        return _clustered_bootstrap(difference, users, resamples, seed)
    return _simple_bootstrap(difference, resamples, seed)


def _clustered_bootstrap(difference: np.ndarray, users: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    _, place, counts = np.unique(users, return_inverse=True, return_counts=True)
    sums = np.bincount(place, weights=difference)
    rng, means = np.random.default_rng(seed), np.empty(resamples)
    for i in range(resamples):
        drawn = rng.integers(len(sums), size=len(sums))
        means[i] = sums[drawn].sum() / counts[drawn].sum()
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _simple_bootstrap(difference: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    # Most users have rank > 10 under both methods and differ by nothing: how many others a sample holds is binomial.
    moved = difference[difference != 0]
    rng, users = np.random.default_rng(seed), len(difference)
    means = np.empty(resamples)
    for i in range(resamples):
        count = rng.binomial(users, len(moved) / users)
        means[i] = moved[rng.integers(len(moved), size=count)].sum() / users if count else 0.0
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _interval(
    runs: Mapping[int, Record], others: Mapping[int, Record], ranks: Ranks, users: np.ndarray | None
) -> tuple[float, float] | None:
    """Compare over the seeds that both have; a target's score is its mean over these."""
    pairs = [(run, others[seed]) for seed, run in runs.items() if seed in others and run is not others[seed]]
    if not pairs:
        return None
    differences = [ndcg_of_ranks(ranks(run)) - ndcg_of_ranks(ranks(other)) for run, other in pairs]
    return paired_bootstrap(np.mean(differences, axis=0), users=users)


def _ratio(pairs: Iterable[tuple[float, float]]) -> float | None:
    return _mean(value / of for value, of in pairs if of)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


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


def write_results(out: Path, rows: Mapping[str, Record], about: Record, records: Iterable[Record]) -> None:
    """Write ``results.md``, ``results.json`` (rows) and ``results.csv`` (one line a run) into the folder."""
    table, structured, lines = (out / name for name in RESULTS)
    table.write_text(markdown(rows, about), encoding="utf-8")
    content = {"about": about, "rows": rows}
    structured.write_text(to_json(content, indent=2) + "\n", encoding="utf-8")
    flat = [_flat(record) for record in records]
    names = list(dict.fromkeys(name for row in flat for name in row))
    first = ["name", "method", "budget", "seed"]
    with lines.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*first, *(name for name in names if name not in first)])
        writer.writeheader()
        writer.writerows(flat)


def _flat(record: Record) -> dict[str, Any]:
    """Return a record as one line: metrics of new items get a prefix, and options stay in its file."""
    new = {f"new_{name}": value for name, value in record.get("new_items", {}).items()}
    rest = {key: value for key, value in record.items() if key not in ("metrics", "new_items", "student_options")}
    return {**record["metrics"], **new, **rest}
