"""Trials on 20 sequences, many at once: stacked into one batch, or in two processes, against one after another.

    python benchmarks/many_trials.py DISTILLED DATA --out RESULTS

What is stacked is SASRec with soft labels and a fixed map of items, at its best: products of all trials in one
``baddbmm``, one fused AdamW with the same rates for all, no dropout, and all trials of a step read contexts of the same
length. It is checked to give the gradients that trials give one by one. Ways take turns, a round of some seconds each.

Trials an hour are from processor time, where processes have one thread and a core each: a machine with other work on it
makes all ways slow, and this not. Two threads wait for one another, so that only their wall time counts, of which the
10th percentile is taken (steps that least interrupted); on a busy machine that says nothing of a free one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from foster import Condensed, Dataset, TextRecommender
from foster.artefacts import write_json
from foster.condensed.score_matching import ScoreMatching
from foster.condensed.sources import SoftLabels, student_source
from foster.engine import Engine, matrix_type, multiplying
from foster.training.loop import validator

STACKED = 8
WAYS = {  # processes, threads of each, trials stacked in each
    "one after another, one thread": (1, 1, 1),
    "one after another, two threads": (1, 2, 1),
    "two processes": (2, 1, 1),
    f"two processes, {STACKED} stacked in each": (2, 1, STACKED),
}
WARM = 5
ROUNDS = 3
USERS = 5000


class Stacked:
    """SASRec students of one shape, their weights beside one another in a leading dimension.

    Args:
        source: of contexts and labels, which they share.
        models: the students.
    """

    def __init__(self, source: SoftLabels, models: list[TextRecommender]) -> None:
        assert isinstance(source.matching, ScoreMatching)
        assert not source.matching.samples and not source.matching.moves
        self.source, self.matching, self.options = source, source.matching, models[0].options
        self.model, self.count = models[0], len(models)
        stacked, _ = torch.func.stack_module_state([model.backbone for model in models])
        self.weights = {name: weights.detach().requires_grad_() for name, weights in stacked.items()}
        groups = list(self.weights.values())
        self.optimiser = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.1, fused=True)

    def draw(self) -> list[tuple[Any, Tensor, Tensor | None]]:
        """Return contexts for each student, all of one length."""
        drawn = [self.source._draw_contexts() for _ in range(self.count)]
        like = drawn[0][1].shape
        return [one if one[1].shape == like else drawn[0] for one in drawn]

    def losses(self, drawn: list[tuple[Any, Tensor, Tensor | None]]) -> Tensor:
        """Return the loss of each student."""
        inputs = torch.stack([self.source.read(self.model, steps, draws) for steps, _, draws in drawn])
        labels = torch.stack([codes for _, codes, _ in drawn]).flatten(1, 2)
        valid = torch.stack([self.source.valid[steps] for steps, _, _ in drawn]).flatten(1)
        states = self._states(inputs).float().flatten(1, 2) / math.sqrt(self.options.dim)
        own, cross, label = self.matching.own, self.matching.cross, self.matching.label
        square = (states @ own - 2 * labels @ cross.T).mul(states).sum(-1) + (labels @ label).mul(labels).sum(-1)
        return (square * valid).sum(1) / valid.sum(1) / 2

    def _states(self, inputs: Tensor) -> Tensor:
        trials, batch, length, dim = inputs.shape
        weights, heads = self.weights, self.options.heads
        x = (inputs + weights["positions.weight"][:, None, :length]).view(trials, batch * length, dim)

        def norm(x: Tensor, name: str) -> Tensor:
            return F.layer_norm(x, (dim,)) * weights[f"{name}.weight"][:, None] + weights[f"{name}.bias"][:, None]

        def linear(x: Tensor, name: str) -> Tensor:
            return torch.baddbmm(weights[f"{name}.bias"][:, None], x, weights[f"{name}.weight"].transpose(1, 2))

        for block in (f"blocks.{number}" for number in range(self.options.layers)):
            qkv = linear(norm(x, f"{block}.attention_norm"), f"{block}.qkv")
            query, key, value = qkv.view(trials * batch, length, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
            with torch.autocast("cpu", enabled=False):
                mixed = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), is_causal=True)
            x = x + linear(mixed.transpose(1, 2).reshape(trials, batch * length, dim), f"{block}.project")
            fed = F.gelu(linear(norm(x, f"{block}.feed_norm"), f"{block}.feed.0"))
            x = x + linear(fed, f"{block}.feed.2")
        return norm(x, "norm").view(inputs.shape)


def check(stacked: Stacked, models: list[TextRecommender]) -> None:
    """See that losses and gradients of stacked students are those of each, in single precision."""
    drawn = stacked.draw()
    losses = stacked.losses(drawn)
    losses.sum().backward()
    for number, (model, one) in enumerate(zip(models, drawn, strict=True)):
        stacked.source._draw_contexts = lambda one=one: one  # type: ignore[method-assign]
        loss = stacked.source.loss(model, 1)
        torch.testing.assert_close(losses[number], loss, rtol=1e-3, atol=1e-5)
        loss.backward()
        for name, weights in model.backbone.named_parameters():
            torch.testing.assert_close(stacked.weights[name].grad[number], weights.grad, rtol=2e-3, atol=1e-4)
    del stacked.source._draw_contexts


def steps_of(folder: str, dim: int, trials: int) -> Callable[[], None]:
    """Return what makes a step of so many trials."""
    data = Condensed.read(folder)
    options = data.model.model_copy(update={"dim": dim, "dropout": 0.0, "backbone": "sasrec"})
    model = TextRecommender.build(data.catalogue, data.encoder, options).train()
    source, products = student_source(data, model, 0), matrix_type(data.recipe.precision, torch.device("cpu"))
    assert isinstance(source, SoftLabels)
    if trials == 1:
        optimiser = torch.optim.AdamW(model.parameter_groups(1e-2), weight_decay=0.1, fused=True)
    else:
        models = [model.fresh(seed).train() for seed in range(trials)]
        stacked = Stacked(source, models)
        check(stacked, models)
        optimiser = stacked.optimiser

    def step() -> None:
        with multiplying(products, torch.device("cpu")):
            loss = source.loss(model, 1) if trials == 1 else stacked.losses(stacked.draw()).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def work(arguments: argparse.Namespace) -> None:
    """Make steps for some seconds whenever a line comes, and print wall and processor seconds of each."""
    torch.set_num_threads(arguments.threads)
    if arguments.stacked == 0:
        model = TextRecommender.build((data := Condensed.read(arguments.distilled)).catalogue, data.encoder, data.model)
        model = model.fresh(0, model.options.model_copy(update={"dim": arguments.dim})).eval()
        validate = validator(Dataset.read(arguments.data), USERS, Engine("cpu"))
        step: Callable[[], Any] = lambda: validate(model)  # noqa: E731
    else:
        step = steps_of(arguments.distilled, arguments.dim, arguments.stacked)
        for _ in range(WARM):
            step()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, found = float(line), []
        end = time.perf_counter() + seconds
        while not found or time.perf_counter() < end:
            wall, own = time.perf_counter(), time.process_time()
            step()
            found.append((time.perf_counter() - wall, time.process_time() - own))
        print(json.dumps(found), flush=True)


class Worker:
    """A process that makes steps.

    Args:
        arguments: of the command line.
        dim: width of the models.
        threads: of the process.
        stacked: trials in it; 0 for validations in place of steps.
    """

    def __init__(self, arguments: argparse.Namespace, dim: int, threads: int, stacked: int) -> None:
        command = [sys.executable, __file__, arguments.distilled, arguments.data, "--work", "--dim", str(dim)]
        self.process = subprocess.Popen(
            [*command, "--threads", str(threads), "--stacked", str(stacked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit("a process ended before its first step; its error is above")

    def begin(self, seconds: float) -> None:
        """Have it make steps for some seconds."""
        assert self.process.stdin is not None
        print(seconds, file=self.process.stdin, flush=True)

    def found(self) -> list[tuple[float, float]]:
        """Return wall and processor seconds of its steps."""
        assert self.process.stdout is not None
        return [tuple(one) for one in json.loads(self.process.stdout.readline())]

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measured(arguments: argparse.Namespace, dim: int) -> dict[str, Any]:
    """Return milliseconds of a step of one trial by each way, and those of a validation."""
    groups = {way: [Worker(arguments, dim, t, s) for _ in range(p)] for way, (p, t, s) in WAYS.items()}
    looks = {threads: Worker(arguments, dim, threads, 0) for threads in (1, 2)}
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    validations: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for way, workers in groups.items():
            for worker in workers:
                worker.begin(arguments.seconds)
            for worker in workers:
                found[way] += worker.found()
        for threads, worker in looks.items():
            worker.begin(0)
            validations[threads] += worker.found()
    for worker in [*(worker for workers in groups.values() for worker in workers), *looks.values()]:
        worker.close()

    def numbers(rows: list[tuple[float, float]], trials: int) -> dict[str, float]:
        wall, own = 1e3 / trials * np.array(rows).T
        return {"mean": wall.mean(), "quiet": float(np.quantile(wall, 0.1)), "processor": own.mean()}

    return {
        "step": {way: numbers(rows, WAYS[way][2]) for way, rows in found.items()},
        "validation": {threads: numbers(rows, 1) for threads, rows in validations.items()},
    }


def trials_an_hour(way: str, found: dict[str, Any], steps: int, looks: int) -> float:
    """Return how many trials of so many steps and validations a way makes in an hour."""
    processes, threads, _ = WAYS[way]
    time = "processor" if threads == 1 else "quiet"
    return processes * 3.6e6 / (steps * found["step"][way][time] + looks * found["validation"][threads][time])


def markdown(found: dict[int, Any], steps: int, looks: int) -> str:
    """Return the tables."""
    few = math.ceil(looks / 4)
    lines = [f"# Many trials at once: {steps:,} steps a trial", ""]
    for dim, one in found.items():
        lines += [
            f"**Width {dim}**; milliseconds of a step of one trial, and trials an hour with so many validations each "
            "(beside them: in units of two processes)",
            "",
            f"| | mean | quiet | processor | {looks} | {few} | none |",
            "|---|---|---|---|---|---|---|",
        ]
        for way, step in one["step"].items():
            cells = []
            for count in (looks, few, 0):
                own, rival = (trials_an_hour(name, one, steps, count) for name in (way, "two processes"))
                cells.append(f"{own:,.0f} ({own / rival:.2f})")
            lines.append(
                f"| {way} | {step['mean']:.2f} | {step['quiet']:.2f} | {step['processor']:.2f} | {' | '.join(cells)} |"
            )
        look = one["validation"]
        lines += [
            "",
            f"A validation: {look[1]['processor']:,.0f} processor ms with one thread, which nothing stacks; "
            f"{look[2]['quiet']:,.0f} ms with two.",
            "",
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("distilled", help="folder of 20 sequences with soft labels")
    parser.add_argument("data", help="data set folder whose validation items judge the trials")
    parser.add_argument("--out", help="folder of results")
    parser.add_argument("--dims", default="128,64", help="widths")
    parser.add_argument("--seconds", type=float, default=10, help="of a way's turn")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    for name in ("--dim", "--threads", "--stacked"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments)
        return
    if arguments.out is None:
        parser.error("--out is missing: a folder of results")
    recipe = Condensed.read(arguments.distilled).recipe
    looks = math.ceil(recipe.total_steps / recipe.eval_every)
    found = {int(dim): measured(arguments, int(dim)) for dim in arguments.dims.split(",")}
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", {"steps": recipe.total_steps, "validations": looks, "widths": found})
    table = markdown(found, recipe.total_steps, looks)
    (out / "results.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
