"""Seconds that the full model takes to an older build's best validation NDCG@10, side by side with that build.

    git worktree add ../before 8908ec4
    python benchmarks/time_to_quality.py games/ --text title,category --before ../before/src --out results/games

A run is a process of its own with one thread: `foster`'s default full training with one seed, timed with its
validations and without the encoding of the texts. Runs of the two builds take turns. Each is written to `--out` as JSON
when it is finished and is not made again; the table is printed from all that are there. Processor seconds are what
counts where other programs run beside.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from provenance import commit, processor

HERE = Path(__file__).resolve().parents[1] / "src"
SIDES = ("before", "now")


def train(given: argparse.Namespace) -> dict[str, Any]:
    """Train a full model with whatever build is imported; return validations with seconds, and test metrics.

    It keeps to what both builds have.
    """
    import torch

    from foster.data.dataset import Dataset
    from foster.engine import Engine
    from foster.evaluation.evaluate import evaluate
    from foster.models.options import ModelOptions
    from foster.models.recommender import TextRecommender
    from foster.training.loop import LogSource, fit, validator
    from foster.training.options import TrainOptions
    from foster.version import __version__

    torch.set_num_threads(1)
    data = Dataset.prepare(given.data, text=given.text)
    engine = Engine("cpu")
    shape, recipe = (
        kind(**json.loads(text)) for kind, text in ((ModelOptions, given.model), (TrainOptions, given.recipe))
    )
    if recipe.steps is None:  # the older build has a number of its own
        from foster.training.loop import on_log

        recipe = on_log(recipe, data)
    model = TextRecommender.build(data.catalogue, None, shape, seed=given.seed)
    validations: list[dict[str, float]] = []
    start, cpu = time.perf_counter(), time.process_time()
    source = LogSource(data, recipe, model.options.max_length, given.seed, engine)
    check = validator(data, recipe.eval_users, engine)

    def validate(model: TextRecommender) -> float:
        ndcg = check(model)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        validations.append({"ndcg@10": ndcg, "seconds": seconds, "cpu_seconds": cpu_seconds})
        print(f"{seconds:8.1f} s  {ndcg:.4f}", file=sys.stderr, flush=True)
        return ndcg

    result = fit(model, source, recipe, seed=given.seed, validate=validate, engine=engine)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return {
        "side": given.side,
        "data": data.info.name,
        "fingerprint": data.info.fingerprint,
        "seed": given.seed,
        "model": model.options.model_dump(),
        "recipe": recipe.model_dump(),
        "steps": result.steps,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "validations": validations,
        "best_validation": result.best_ndcg,
        "test": evaluate(model, data).metrics,
        "versions": {"foster": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": machine(),
    }


def arguments(description: str, seeds: list[int]) -> argparse.ArgumentParser:
    """Return a parser of what comparisons of two builds take.

    Args:
        description: of the benchmark.
        seeds: of its runs, by default.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", help="folder with interactions.* and items.*")
    parser.add_argument("--text", required=True, help="text columns, as for 'foster prepare'")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--before", type=Path, help="src folder of the older build")
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds)
    return parser


def environment(source: Path) -> dict[str, str]:
    """Return the environment of a process with one thread that imports the build of a src folder."""
    return {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}


def by_seed(out: Path) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Return each seed of which both builds have a run in a folder, and these runs."""
    runs = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*-*.json"))}
    pairs = [
        (seed, *(runs.get(f"{side}-{seed}") for side in SIDES)) for seed in sorted({r["seed"] for r in runs.values()})
    ]
    return [(seed, before, now) for seed, before, now in pairs if before is not None and now is not None]


def machine() -> str:
    """Return the name of the processor and the number of its cores."""
    return f"{processor()}, {os.cpu_count()} cores"


def run(given: argparse.Namespace, side: str, seed: int) -> None:
    """Make one run in a process of its own, unless it is there."""
    out = given.out / f"{side}-{seed}.json"
    if out.exists():
        return
    source = given.before if side == "before" else HERE
    command = [sys.executable, __file__, given.data, "--text", given.text, "--out", str(given.out)]
    command += ["--side", side, "--seed", str(seed)]
    if side == "now":
        command += ["--model", given.model, "--recipe", given.recipe]
    print(f"{side}, seed {seed}", file=sys.stderr, flush=True)
    done = subprocess.run(command, env=environment(source), stdout=subprocess.PIPE, text=True, check=True)
    record = {"commit": commit(source), **json.loads(done.stdout)}
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def to_reach(record: dict[str, Any], ndcg: float, clock: str = "seconds") -> float | None:
    """Return the seconds after which a run's validation first was as good, or None."""
    return next((done[clock] for done in record["validations"] if done["ndcg@10"] >= ndcg), None)


def table(out: Path) -> str:
    """Return one line a seed, and the means, of all runs in a folder."""
    lines = [
        "seed | best of before | before s | now s | ratio (cpu) | now, whole s | test NDCG@10, Recall@10: before | now"
    ]
    ratios = []
    for seed, before, now in by_seed(out):
        best = before["best_validation"]
        wall, cpu = (
            [to_reach(record, best, clock) or float("nan") for record in (before, now)]
            for clock in ("seconds", "cpu_seconds")
        )
        ratios.append(cpu[1] / cpu[0])
        tests = ["{ndcg@10:.4f}, {recall@10:.4f}".format(**record["test"]) for record in (before, now)]
        parts = [seed, f"{best:.4f}", f"{wall[0]:,.0f} ({cpu[0]:,.0f})", f"{wall[1]:,.0f} ({cpu[1]:,.0f})"]
        parts += [f"{wall[1] / wall[0]:.2f} ({ratios[-1]:.2f})", f"{now['seconds']:,.0f}", *tests]
        lines.append(" | ".join(map(str, parts)))
    if ratios:
        lines.append(f"mean ratio of processor seconds {statistics.mean(ratios):.2f} over {len(ratios)} seeds")
    return "\n".join(lines)


def main() -> None:
    """Parse and run."""
    parser = arguments(str(__doc__).splitlines()[0], [0, 1])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--model", default="{}", help="options of today's model, as JSON (default: the defaults)")
    parser.add_argument("--recipe", default="{}", help="options of today's training, as JSON")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(train(given)))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for side in given.sides:
            run(given, side, seed)
    print(table(given.out))


if __name__ == "__main__":
    main()
