"""Runs of one log from several machines as one table.

    python benchmarks/pool.py add RESULTS/results.csv benchmarks/results/runs/games.csv
    python benchmarks/pool.py table benchmarks/results/runs/games.csv [--methods soft-label,foster,packed] [--seeds 0,1]
                                                                      [--timed 0,1]
    python benchmarks/pool.py plot benchmarks/results/runs/games.csv --to games.png --title Games [--methods ...]

`add` appends the runs of a benchmark that the second file does not have, `table` prints means and deviations over
seeds, `plot` draws them. Where seeds ran on machines of several kinds, seconds are those of the seeds `--timed`. Ranks
stay where the benchmark was made, so intervals over users are in its own results.md only. Ratios are of the same seed,
hence of one machine.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from foster.bench.summary import COSTS, summarise
from foster.report.plots import plot_results
from foster.report.tables import shown, spread

FULL = "full"
SECONDS = ("make_seconds", "train_seconds", "times_as_fast", "break_even")

Line = dict[str, str]


def read(path: Path) -> list[Line]:
    """Return the runs of a file, one a line."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def key(line: Line) -> tuple[str, str, str]:
    """Return what tells runs of one log apart: row, budget, seed."""
    return line["name"], line["budget"], line["seed"]


def add(new: Path, to: Path) -> int:
    """Append runs of ``new`` that ``to`` lacks, with its columns, and return how many these were."""
    known, found = read(to), read(new)
    seen = {key(line) for line in known}
    fresh = [line for line in found if key(line) not in seen]
    with to.open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, list(known[0]), extrasaction="ignore", lineterminator="\n").writerows(fresh)
    return len(fresh)


def record(line: Line) -> dict[str, Any]:
    """Return a line as the record of the run that it was written from, without ranks and options."""
    metrics: dict[str, dict[str, float]] = {"metrics": {}, "new_items": {}}
    for name, value in line.items():
        if "@" in name and value and not name.startswith("validation_"):
            metrics["new_items" if name.startswith("new_") else "metrics"][name.removeprefix("new_")] = float(value)
    return {
        "name": line["name"],
        "method": line["method"],
        "student": line.get("student"),
        "budget": int(line["budget"]) if line["budget"] else None,
        "seed": int(line["seed"]),
        "needs_teacher": line["needs_teacher"] == "True",
        **{group: found for group, found in metrics.items() if found},
        **{name: float(line[name]) for name in COSTS if line.get(name)},
    }


def pooled(
    lines: list[Line], methods: list[str] | None, seeds: list[str] | None, timed: list[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Return one row a method and budget, in the order of ``methods`` or of the lines, without intervals over users.

    Seconds and what follows from them are of the seeds ``timed``, by default of all.
    """
    chosen = [
        record(line)
        for line in lines
        if (seeds is None or line["seed"] in seeds) and (methods is None or line["name"] in [*methods, FULL])
    ]
    names = list(dict.fromkeys([*(methods or ()), *(row["name"] for row in chosen)]))
    rows = summarise(chosen, None)
    if timed is not None:
        # By name and budget: a row's key has the budget only where there are several.
        of_timed = {(row["name"], row["budget"]): row for row in pooled(lines, methods, timed).values()}
        for row in rows.values():
            known = of_timed.get((row["name"], row["budget"]), {})
            row |= {column: known.get(column) for column in SECONDS}
    return dict(sorted(rows.items(), key=lambda item: (names.index(item[1]["name"]), item[1]["budget"] or 0)))


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return one line a row and budget, as Markdown."""
    head = (
        "method", "M", "seeds", "Recall@10", "NDCG@10", "Recall of full", "NDCG of full", "making s", "training s",
        "times as fast", "bytes", "break-even",
    )  # fmt: skip
    out = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows.values():
        cells = (
            row["name"],
            shown(row["budget"], "d"),
            str(len(row["seeds"])),
            *(spread(row[metric], row[f"{metric}_sd"]) for metric in ("recall@10", "ndcg@10")),
            *(shown(row[ratio], ".2f") for ratio in ("recall_of_full", "of_full")),
            *(shown(row[cost], ",.0f") for cost in ("make_seconds", "train_seconds", "times_as_fast", "bytes")),
            shown(row["break_even"], ".1f"),
        )
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    adding = verbs.add_parser("add")
    adding.add_argument("new", type=Path)
    adding.add_argument("to", type=Path)
    plotting = verbs.add_parser("plot")
    plotting.add_argument("--to", type=Path, required=True)
    plotting.add_argument("--title", required=True)
    for showing in (verbs.add_parser("table"), plotting):
        showing.add_argument("runs", type=Path)
        for name in ("--methods", "--seeds", "--timed"):
            showing.add_argument(name, type=lambda text: text.split(","))
    given = parser.parse_args()
    if given.verb == "add":
        print(add(given.new, given.to), "runs added")
        return
    rows = pooled(read(given.runs), given.methods, given.seeds, given.timed)
    if given.verb == "table":
        print(table(rows))
    else:
        plot_results(given.to, rows, given.title)


if __name__ == "__main__":
    main()
