"""Hard, fixed soft and abundant soft labels on 20 sequences of each method, and over bytes, at equal steps of students.

    python benchmarks/regimes.py DATA --teacher TEACHER --out RESULTS --seeds 0,1,2
    python benchmarks/regimes.py DATA --teacher TEACHER --out RESULTS --seeds 0 --bytes 5000,15000,50000,150000

Hard: each step is learned from those before it. Fixed: one label of the teacher a step, after the whole sequence so
far. Abundant: a label in each window of ten steps beside (and, where a step holds several items, on one of them). The
regimes are those of arXiv 2604.18811. A finished run is a JSON file and is never made again; ``results.json`` and
``results.md`` come from these files. One teacher; seeds are those of sequences and students.

With ``--bytes`` as many sequences as fit into folders of these sizes, item texts aside: in each regime random
histories and FOSTER, with hard labels histories that the teacher writes. ``curve.csv`` and ``curve.png`` show them.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finished import Finished, write
from matplotlib.figure import Figure

from foster import (
    Condensed,
    Dataset,
    DistillOptions,
    InputError,
    TextRecommender,
    TrainOptions,
    distill,
    evaluate,
    select,
    train,
)
from foster.bench.budgets import within
from foster.condensed.contexts import label_windows
from foster.condensed.folder import written_bytes
from foster.condensed.labels import with_soft_labels
from foster.distillation.options import TD3Options
from foster.engine import Engine
from foster.evaluation.evaluate import evaluate_popularity
from foster.manifest import identity
from foster.training.options import HARD_LABELS, LABEL_WINDOW, MANY, STUDENT
from foster.training.teachers import load_teacher

CORESETS = ("stratified", "herding", "kcenter", "dealrec", "goracs")
METHODS = ("random", *CORESETS, "td3", "not moved", "foster")
REGIMES = ("hard", "fixed", "abundant")
CURVES = ("random", "foster")
HARD_DROPOUT = 0.2
METRIC = "ndcg@10"


class Runs:
    """Finished runs in a folder, and how missing ones are made.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.data, self.out, self.arguments = Dataset.read(arguments.data), Path(arguments.out), arguments
        self.engine = Engine(arguments.device)
        self.teacher = load_teacher(arguments.teacher, self.data, device=self.engine.device)
        about = {
            "data_fingerprint": self.data.info.fingerprint,
            "teacher": identity(arguments.teacher),
            **{name: getattr(arguments, name) for name in ("student_steps", "distill_steps")},
        }
        self.finished = Finished(self.out, "runs", about)
        self.sequences: dict[tuple[str, str, int], Condensed] = {}

    def run(self, method: str, regime: str, seed: int) -> dict[str, Any]:
        """Return the record of a student, which is trained if it is not there."""
        return self.finished.once(
            f"{method} {regime} {seed}",
            lambda: self._run(method, regime, seed),
            lambda run: f"{run['validation']:.4f} {run['test']:.4f}",
        )

    def run_within(self, size: int, method: str, regime: str, seed: int) -> dict[str, Any]:
        """Return the record of a student of as many sequences as fit; "ndcg@10" is missing where none do."""
        return self.finished.once(
            f"{size} bytes {method} {regime} {seed}",
            lambda: self._run(method, regime, seed, size),
            lambda run: f"{run['validation']:.4f} {run['test']:.4f}" if "test" in run else run["refused"],
        )

    def _run(self, method: str, regime: str, seed: int, size: int | None = None) -> dict[str, Any]:
        begun = time.process_time()
        try:
            source = self.labelled(method, regime, seed) if size is None else self.within(size, method, regime, seed)
        except InputError as error:
            if size is None:
                raise
            return {"refused": str(error)}
        making, begun = time.process_time() - begun, time.process_time()
        model = self.student(source, regime, seed)
        seconds = time.process_time() - begun
        return {
            "validation": evaluate(model, self.data, "validation", engine=self.engine).metrics[METRIC],
            "test": evaluate(model, self.data, "test", engine=self.engine).metrics[METRIC],
            "making": making,
            "seconds": seconds,
            "labels": 0 if source.codes is None else source.codes.shape[0] * source.codes.shape[1],
            "kept_step": source.info.get("kept_step"),
            "sequences": len(source.items),
            "bytes": written_bytes(source),
        }

    def student(self, source: Condensed, regime: str, seed: int) -> TextRecommender:
        """Train a student; with hard labels validation chooses its weights, with soft ones the last count."""
        steps = self.arguments.student_steps
        # A few histories are learned by heart within dozens of steps; of many, a step sees a batch.
        every = HARD_LABELS.eval_every if len(source) <= MANY else steps // 10
        hard = HARD_LABELS.model_copy(update={"steps": steps, "eval_every": every, "patience": steps // every + 1})
        recipe: TrainOptions = hard if regime == "hard" else STUDENT.model_copy(update={"steps": steps})
        dropout = HARD_DROPOUT if regime == "hard" else 0.0
        return train(
            source,
            model=source.model.model_copy(update={"dropout": dropout}),
            train=recipe,
            validation=self.data if regime == "hard" else None,
            like=self.teacher,
            seed=seed,
            engine=self.engine,
        )[0]

    def labelled(self, method: str, regime: str, seed: int) -> Condensed:
        """Return the sequences of a method with the labels of a regime."""
        if method in ("not moved", "foster"):
            steps = 0 if method == "not moved" else self.arguments.distill_steps
            options = {
                "hard": DistillOptions(steps=steps, targets="next", lr=0.01),
                "fixed": DistillOptions(steps=steps, window=0),
                "abundant": DistillOptions(steps=steps),
            }[regime]
            return self.distilled(options, seed)
        if method not in {key[0] for key in self.sequences if key[2] == seed}:
            self.sequences[method, "", seed] = self.chosen(method, seed)
        made = self.sequences[method, "", seed]
        if regime == "hard":
            return made
        windows = label_windows(made.items.shape[1], 0 if regime == "fixed" else LABEL_WINDOW)
        if made.items.shape[2] == 1 or regime == "fixed":
            return with_soft_labels(made, self.teacher, windows).rounded()
        counts = torch.from_numpy(self.data.item_counts())
        return with_soft_labels(made, self.teacher, windows, torch.Generator().manual_seed(seed), counts).rounded()

    def within(self, size: int, method: str, regime: str, seed: int) -> Condensed:
        """Return as many sequences as fit into a folder, with the labels of a regime.

        Raises:
            InputError: not one fits.
        """
        if regime != "hard":
            start, window = "pieces" if method == "foster" else "whole", 0 if regime == "fixed" else LABEL_WINDOW
            return self.distilled(DistillOptions(bytes=size, start=start, window=window), seed)
        if method == "foster":
            return self.distilled(DistillOptions(bytes=size, targets="next"), seed)
        users = int((self.data.histories("train").lengths > 1).sum())
        return within(size, users, lambda count: select("random", self.data, count, seed=seed, engine=self.engine))

    def chosen(self, method: str, seed: int) -> Condensed:
        """Return sequences of a method that works without labels of the teacher."""
        if method == "td3":
            return self.distilled(TD3Options(), seed)
        return select(method, self.data, 20, teacher_path=self.arguments.teacher, seed=seed, engine=self.engine)

    def distilled(self, options: DistillOptions | TD3Options, seed: int) -> Condensed:
        """Return distilled sequences."""
        return distill(self.data, self.arguments.teacher, options, seed=seed, engine=self.engine, progress=False)[0]


def results(runs: Runs, seeds: list[int]) -> dict[str, Any]:
    """Make what is missing, and return the comparison; the best coreset of a regime is that of validation."""
    cells = {
        method: {regime: [runs.run(method, regime, seed) for seed in seeds] for regime in REGIMES} for method in METHODS
    }

    def mean(method: str, regime: str) -> float:
        return float(np.mean([run["validation"] for run in cells[method][regime]]))

    best = {regime: max(CORESETS, key=lambda name: mean(name, regime)) for regime in REGIMES}
    full = evaluate(runs.teacher, runs.data, "test", engine=runs.engine).metrics[METRIC]
    return {
        "data": runs.data.info.name,
        "seeds": seeds,
        "student_steps": runs.arguments.student_steps,
        "full": full,
        "popularity": evaluate_popularity(runs.data).metrics[METRIC],
        "best coreset": best,
        "cells": cells,
    }


def curves(runs: Runs, seeds: list[int], sizes: list[int]) -> list[dict[str, Any]]:
    """Make what is missing, and write the curves; return their points, one a size, method, regime and seed."""
    full = evaluate(runs.teacher, runs.data, "test", engine=runs.engine).metrics[METRIC]
    points = []
    for size in sizes:
        for method in CURVES:
            for regime in REGIMES:
                for seed in seeds:
                    run = runs.run_within(size, method, regime, seed)
                    if "test" in run:
                        shown = {name: run[name] for name in ("sequences", "bytes", "validation", "test", "seconds")}
                        about = {"size": size, "method": method, "regime": regime, "seed": seed}
                        points.append({**about, **shown, "of_full": run["test"] / full})
    with (runs.out / "curve.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, points[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(points)
    draw(runs, points, full)
    return points


def draw(runs: Runs, points: list[dict[str, Any]], full: float) -> None:
    """Draw test NDCG@10 over the bytes of the folder: means over seeds."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for colour, regime in zip(("tab:orange", "tab:green", "tab:blue"), REGIMES, strict=True):
        for method, line in zip(CURVES, ("--", "-"), strict=True):
            own = [point for point in points if (point["method"], point["regime"]) == (method, regime)]
            sizes = sorted({point["size"] for point in own})
            means = [
                [float(np.mean([point[name] for point in own if point["size"] == size])) for size in sizes]
                for name in ("bytes", "test")
            ]
            axes.plot(*means, line, marker="o", markersize=3, color=colour, label=f"{regime}, {method}")
    for name, value in (("full log", full), ("popularity", evaluate_popularity(runs.data).metrics[METRIC])):
        axes.axhline(value, linestyle=":", color="grey")
        axes.annotate(name, (points[0]["size"], value), va="bottom", color="grey")
    axes.set(xscale="log", xlabel="bytes of the folder, item texts aside", ylabel="test NDCG@10", ylim=(0, None))
    axes.set_title(runs.data.info.name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(runs.out / "curve.png", dpi=120)


def markdown(found: dict[str, Any]) -> str:
    """Return the table."""
    lines = ["| | " + " | ".join(REGIMES) + " |", "|" + "---|" * (1 + len(REGIMES))]
    for method in METHODS:
        texts = []
        for regime in REGIMES:
            scores = np.array([run["test"] for run in found["cells"][method][regime]])
            spread = f" ± {scores.std(ddof=1):.4f}" if len(scores) > 1 else ""
            text = f"{scores.mean():.4f}{spread} ({scores.mean() / found['full']:.2f})"
            texts.append(f"**{text}**" if found["best coreset"][regime] == method else text)
        lines.append(f"| {method} | " + " | ".join(texts) + " |")
    seeds = ", ".join(map(str, found["seeds"]))
    about = (
        f"Test NDCG@10 (of the full log's), all users, full ranking, history masked; {found['student_steps']} steps a "
        f"student; seeds {seeds} of one teacher. Full {found['full']:.4f}, popularity {found['popularity']:.4f}. In "
        "bold the coreset that is best on validation."
    )
    return "\n".join([f"# {found['data']}", "", about, "", *lines, ""])


def main() -> None:
    """Run the comparison of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder that 'foster prepare' made")
    parser.add_argument("--teacher", required=True, help="folder that 'foster pretrain' made of it")
    parser.add_argument("--out", required=True, help="folder of runs and results")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    parser.add_argument("--bytes", help="comma-separated sizes of folders: the curve instead of the table")
    parser.add_argument("--student-steps", type=int, default=1000)
    parser.add_argument("--distill-steps", type=int, default=200)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    runs, seeds = Runs(arguments), [int(seed) for seed in arguments.seeds.split(",")]
    if arguments.bytes is not None:
        curves(runs, seeds, sorted(int(size) for size in arguments.bytes.split(",")))
        print(runs.out / "curve.csv")
        return
    found = results(runs, seeds)
    write(runs.out / "results.json", found)
    table = markdown(found)
    (runs.out / "results.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
