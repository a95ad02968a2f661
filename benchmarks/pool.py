"""Runs of one log from several machines as one table.

    python benchmarks/pool.py add RESULTS/results.csv benchmarks/results/runs/games.csv
    python benchmarks/pool.py table benchmarks/results/runs/games.csv [--methods soft-label,foster,packed] [--seeds 0,1]

`add` appends the runs of a benchmark that the second file does not have, `table` prints means and deviations over
seeds. Ranks stay where the benchmark was made, so intervals over users are in its own results.md only. Ratios and times
are of the same seed, hence of one machine.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path

FULL = "full"

Run = dict[str, str]


def read(path: Path) -> list[Run]:
    """Return the runs of a file, one a line."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def key(run: Run) -> tuple[str, str, str]:
    """Return what tells runs of one log apart: row, budget, seed."""
    return run["name"], run["budget"], run["seed"]


def add(new: Path, to: Path) -> int:
    """Append runs of ``new`` that ``to`` lacks, with its columns, and return how many these were."""
    known, found = read(to), read(new)
    seen = {key(run) for run in known}
    fresh = [run for run in found if key(run) not in seen]
    with to.open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, list(known[0]), extrasaction="ignore", lineterminator="\n").writerows(fresh)
    return len(fresh)


def table(runs: list[Run], methods: list[str] | None, seeds: list[str] | None) -> str:
    """Return one line a row and budget, as Markdown."""
    groups: dict[tuple[str, str], dict[str, Run]] = {}
    for run in runs:
        if (seeds is None or run["seed"] in seeds) and (methods is None or run["name"] in [*methods, FULL]):
            groups.setdefault((run["name"], run["budget"]), {})[run["seed"]] = run
    full = groups[FULL, ""]
    head = (
        "method", "M", "seeds", "Recall@10", "NDCG@10", "Recall of full", "NDCG of full", "making s", "training s",
        "times as fast", "bytes",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for (name, budget), own in groups.items():
        shared = [(run, full[seed]) for seed, run in own.items() if seed in full]
        cells = (
            name,
            budget,
            str(len(own)),
            *(spread([float(run[metric]) for run in own.values()]) for metric in ("recall@10", "ndcg@10")),
            *(ratio([(run[metric], of[metric]) for run, of in shared]) for metric in ("recall@10", "ndcg@10")),
            mean([run["make_seconds"] for run in own.values()]),
            mean([run["train_seconds"] for run in own.values()]),
            ratio([(of["train_seconds"], run["train_seconds"]) for run, of in shared], ".0f"),
            mean([run["bytes"] for run in own.values()]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Return mean and deviation, or the one value."""
    centre = f"{statistics.mean(values):.4f}"
    return f"{centre} ± {statistics.stdev(values):.4f}" if len(values) > 1 else centre


def ratio(pairs: list[tuple[str, str]], form: str = ".2f") -> str:
    """Return the mean ratio of pairs."""
    found = [float(a) / float(b) for a, b in pairs if float(b)]
    return f"{statistics.mean(found):{form}}" if found else ""


def mean(values: list[str]) -> str:
    """Return the mean of what is known."""
    known = [float(value) for value in values if value]
    return f"{statistics.mean(known):,.0f}" if known else ""


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    adding = verbs.add_parser("add")
    adding.add_argument("new", type=Path)
    adding.add_argument("to", type=Path)
    showing = verbs.add_parser("table")
    showing.add_argument("runs", type=Path)
    for name in ("--methods", "--seeds"):
        showing.add_argument(name, type=lambda text: text.split(","))
    given = parser.parse_args()
    if given.verb == "add":
        print(add(given.new, given.to), "runs added")
    else:
        print(table(read(given.runs), given.methods, given.seeds))


if __name__ == "__main__":
    main()
