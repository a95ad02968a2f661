"""The rows of a benchmark from its runs: mean, deviation, paired bootstrap, break-even."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from foster.artefacts import KEPT_STEP
from foster.evaluation.metrics import ndcg_of_ranks
from foster.report.tables import TESTED, Record

RESAMPLES = 2000
COSTS = (
    "make_seconds", "make_peak_bytes", "train_seconds", "tuning_seconds", "train_peak_bytes", "bytes", "interactions",
)  # fmt: skip
RATIOS = (
    ("of_full", "metrics", TESTED),
    ("recall_of_full", "metrics", "recall@10"),
    ("new_of_full", "new_items", "recall@10"),
)

Ranks = Callable[[Record], np.ndarray]
Groups = dict[tuple[str, int | None], dict[int, Record]]
"""Runs by row and budget, then by seed."""


def summarise(
    records: Iterable[Record], ranks: Ranks | None, reference: str | None = None, users: np.ndarray | None = None
) -> dict[str, dict[str, Any]]:
    """Return one row a method and budget.

    Args:
        records: of finished runs, as ``BenchFolder.records`` returns them.
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
