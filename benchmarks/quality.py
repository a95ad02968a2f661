"""Quality of 20 sequences against the full log: mean and deviation over seeds, test metrics, full ranking.

    python benchmarks/quality.py DATA OUT [--seeds 3]

DATA is a folder of `foster prepare`. Finished runs are kept in OUT, so that a killed benchmark goes on where it was.
All methods choose their weights on the same validation users; students share one recipe.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from foster.coresets import select
from foster.data import Dataset
from foster.distillation import DistillOptions, distill, save_distilled
from foster.engine import Engine
from foster.evaluation import evaluate, evaluate_popularity
from foster.models import ModelOptions, TextRecommender
from foster.training import Condensed, TrainOptions, pretrain, train
from foster.training.condensed import stored_bytes

METRICS = ("recall@10", "ndcg@10", "recall@50")
FULL = TrainOptions()


def run_seed(data: Dataset, out: Path, seed: int, engine: Engine) -> dict[str, dict[str, float]]:
    """Return one row a method."""
    rows: dict[str, dict[str, float]] = {}
    teacher = out / "teacher"
    start = time.perf_counter()
    if not teacher.exists():
        pretrain(data, teacher, train=FULL, seed=seed, engine=engine)
    full = TextRecommender.from_pretrained(teacher, device=engine.device)
    rows["full"] = {**evaluate(full, data).metrics, "seconds": time.perf_counter() - start}
    start = time.perf_counter()
    if not (out / "foster").exists():
        distilled, log = distill(data, teacher, DistillOptions(), seed=seed, engine=engine)
        save_distilled(distilled, log, out / "foster")
    seconds = time.perf_counter() - start
    for method in ("foster", "random", "random-length"):
        folder = out / method
        if not folder.exists():
            select(method, data, 20, seed=seed, model=ModelOptions()).save(folder)
        start = time.perf_counter()
        student, fit = train(Condensed.read(folder), validation=data, seed=seed, engine=engine)
        rows[method] = {"seconds": time.perf_counter() - start, "bytes": stored_bytes(folder), "step": fit.best_step}
        rows[method] |= evaluate(student, data).metrics
    rows["foster"]["distill_seconds"] = seconds
    return rows


def main() -> None:
    """Run the benchmark and print its table as Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    data, engine = Dataset.read(arguments.data), Engine("auto")
    runs = []
    for seed in range(arguments.seeds):
        folder = arguments.out / f"seed{seed}"
        done = folder / "rows.json"
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            done.write_text(json.dumps(run_seed(data, folder, seed, engine), indent=1))
        runs.append(json.loads(done.read_text()))
        print(seed, {name: round(row["ndcg@10"], 4) for name, row in runs[-1].items()}, flush=True)
    popularity = evaluate_popularity(data).metrics
    print("| method | " + " | ".join(METRICS) + " | training s | bytes |\n|" + "---|" * (len(METRICS) + 3))
    print("| popularity | " + " | ".join(f"{popularity[m]:.4f}" for m in METRICS) + " | | |")
    for method in ("random", "random-length", "foster", "full"):
        cells = []
        for metric in METRICS:
            values = [run[method][metric] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.4f} ± {spread:.4f}")
        seconds = statistics.mean(run[method]["seconds"] for run in runs)
        size = runs[0][method].get("bytes", "")
        print(f"| {method} | " + " | ".join(cells) + f" | {seconds:.0f} | {size} |")
    for metric in METRICS[:2]:
        ratio = statistics.mean(run["foster"][metric] / run["full"][metric] for run in runs)
        print(f"FOSTER / full, {metric}: {ratio:.3f}")


if __name__ == "__main__":
    main()
