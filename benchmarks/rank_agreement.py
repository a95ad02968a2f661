"""Do trials on 20 sequences rank options as trainings on the full log do? One command that goes on where it was.

    python benchmarks/rank_agreement.py DATA --out RESULTS

Configurations are drawn once. Each is trained on the full log, the first ``--again`` of them with a second seed, which
tells how far the log agrees with itself, and all are trained once by each cheaper way: distilled sequences (as they
are, with an item map that trains, and followed by a tenth and by a quarter of the steps on the log), random histories
with hard and with soft labels, the log with a tenth and with a quarter of the steps. Trials of ``foster tune --finish``
are sequences followed by a quarter. Two rows put the first and the tenth after it together: the mean of a
configuration's NDCG@10 of both, and of its ranks. Successive halving on the log, and a part of its steps without a
schedule of its own, are read off the validations of the full trainings. A finished run is a JSON file and is never made
again; ``results.json`` and ``results.md`` come from these files.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from finished import Finished, write

from foster import (
    Condensed,
    Dataset,
    DistillOptions,
    EncoderOptions,
    ModelOptions,
    TextRecommender,
    TrainOptions,
    distill,
    evaluate,
    finish,
    pretrain,
    select,
    train,
)
from foster.condensed.labels import start_from_labels, student_recipe
from foster.engine import Engine
from foster.errors import InputError
from foster.models.options import WITHOUT_EFFECT
from foster.training.options import MOST_STEPS
from foster.tuning.space import merged

CHOICES: dict[str, list[Any]] = {
    "backbone": ["sasrec", "sasrec", "gru4rec", "mean"],  # half of them SASRec
    "dim": [32, 64, 128, 256],
    "layers": [1, 2, 3],
    "heads": [1, 2, 4],
    "dropout": [0.0, 0.1, 0.2, 0.4],
    "max_length": [10, 20, 50],
    "adapter": ["moe", "linear"],
    "weight_decay": [0.001, 0.01, 0.1],
    "lr": [0.001, 0.002, 0.003, 0.005],
}
SEQUENCES = 20
HALVED = (9, 3, 1)  # successive halving: shares of the steps, of which the best third goes on
TOP = (1, 3, 5)
DRAWS = 2000
FINISHED = "distilled, then a tenth of the steps on the log"
LONGER = "distilled, then a quarter of the steps on the log"
BOTH = "distilled, and a tenth after that: mean of both NDCG@10"
RANKS = "distilled, and a tenth after that: mean of both ranks"
PART = 0.45  # of the log's steps: about what both together take of a full training
SOFT = ("distilled", "distilled, free map", "random, soft labels", FINISHED, LONGER)
TENTH, QUARTER = 0.1, 0.25
SHARES = {FINISHED: TENTH, LONGER: QUARTER}
MADE = {
    "distilled": "make distilled",
    "distilled, free map": "make distilled",
    FINISHED: "make distilled",
    LONGER: "make distilled",
    "random, hard labels": "make random",
    "random, soft labels": "make soft-label",
}


def configurations(count: int, seed: int) -> list[dict[str, Any]]:
    """Return different configurations; the first is the default one."""
    usual = {**ModelOptions().model_dump(), **TrainOptions().model_dump()}
    out, rng = [{name: usual[name] for name in CHOICES}], np.random.default_rng(seed)
    seen = {_read(out[0])}
    while len(out) < count:
        one = {name: values[rng.integers(len(values))] for name, values in CHOICES.items()}
        if _read(one) not in seen:
            seen.add(_read(one))
            out.append(one)
    return out


def _read(one: dict[str, Any]) -> str:
    """Return what of a configuration its backbone reads."""
    return json.dumps({name: value for name, value in one.items() if name not in WITHOUT_EFFECT[one["backbone"]]})


class Runs:
    """Finished runs in a folder, and how missing ones are made.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.data, self.out = Dataset.read(arguments.data), Path(arguments.out)
        self.arguments, self.engine = arguments, Engine(arguments.device)
        self.encoder = EncoderOptions(encoder=arguments.encoder) if arguments.encoder else EncoderOptions()
        self.configurations = configurations(arguments.configurations, arguments.seed)
        self.like: TextRecommender | None = None  # whose text features trainings on the log share
        self.of_sources: dict[str, TextRecommender] = {}  # the same for sequences
        about = {
            "data_fingerprint": self.data.info.fingerprint,
            **{
                name: getattr(arguments, name)
                for name in ("encoder", "seed", "steps", "student_steps", "distill_steps", "eval_every")
            },
        }
        self.finished_runs = Finished(self.out, "runs", about)

    def once(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the record of a run, which is made if it is not there; its processor seconds are measured."""

        def measured() -> dict[str, Any]:
            start = time.process_time()
            try:
                record = make()
            except InputError as error:  # a training that diverges is a bad one, not none
                record = {"ndcg": 0.0, "test": 0.0, "history": [], "error": str(error)}
            return {"seconds": time.process_time() - start, **record}

        return self.finished_runs.once(name, measured, lambda run: run.get("ndcg"))

    def recipe(self, share: float = 1.0) -> TrainOptions:
        """Return the recipe of the full log, or of some of its steps."""
        steps = max(int(self.arguments.steps * share), 1)
        # A quarter is looked at four times; so few steps as a tenth are once, as the stored runs of it were.
        every = max(steps // 4, 1) if share == QUARTER else min(self.arguments.eval_every, steps)
        return TrainOptions(steps=steps, eval_every=every, patience=steps, warmup=min(50, steps // 4))

    def prepare(self) -> dict[str, Condensed]:
        """Make the teacher and what is smaller than the log; return the latter."""
        teacher, model, recipe = self.out / "teacher", ModelOptions(), self.recipe()
        more: dict[str, Any] = {"seed": self.arguments.seed, "engine": self.engine}

        def made(fit: Any) -> dict[str, Any]:
            return {"ndcg": fit.best_ndcg}

        self.once(
            "teacher",
            lambda: made(
                pretrain(self.data, teacher, encoder=self.encoder, model=model, train=recipe, overwrite=True, **more)[1]
            ),
        )
        options = DistillOptions(sequences=SEQUENCES, steps=self.arguments.distill_steps)
        ways: dict[str, Callable[[], Condensed]] = {
            "distilled": lambda: distill(self.data, teacher, options, **more)[0],
            "random": lambda: select("random", self.data, SEQUENCES, encoder=self.encoder, model=model, **more),
            "soft-label": lambda: select(
                "soft-label", self.data, SEQUENCES, teacher_path=teacher, encoder=self.encoder, model=model, **more
            ),
        }
        for name, way in ways.items():
            self.once(f"make {name}", lambda name=name, way=way: {"at": str(way().save(self.out / name, True))})
        return {name: Condensed.read(self.out / name) for name in ways}

    def full(self, number: int, seed: int) -> dict[str, Any]:
        """Train a configuration on the full log."""
        return self.once(f"full {number} seed {seed}", partial(self._on_log, number, seed, 1.0, True))

    def _on_log(self, number: int, seed: int, share: float, tested: bool) -> dict[str, Any]:
        options, recipe = merged(self.configurations[number], ModelOptions(), self.recipe(share))
        model, fit = train(
            self.data, encoder=self.encoder, model=options, train=recipe, like=self._features(), seed=seed,
            engine=self.engine,
        )  # fmt: skip
        test = evaluate(model, self.data, "test", engine=self.engine).metrics["ndcg@10"] if tested else None
        return {"ndcg": fit.best_ndcg, "test": test, "history": fit.history}

    def _features(self) -> TextRecommender:
        if self.like is None:
            self.like = TextRecommender.build(self.data.catalogue, self.encoder, device=self.engine.device)
        return self.like

    def student(self, way: str, number: int, source: Condensed, free: bool) -> dict[str, Any]:
        """Train a configuration on sequences."""
        return self.once(f"{way} {number}", partial(self._student, number, source, free))

    def finished(self, number: int, source: Condensed, way: str = FINISHED) -> dict[str, Any]:
        """Train on sequences by their recipe, and a configuration from there with some of the steps on the log."""
        return self.once(f"{way} {number}", partial(self._finished, number, source, SHARES[way]))

    def _finished(self, number: int, source: Condensed, share: float) -> dict[str, Any]:
        options, recipe = merged(self.configurations[number], ModelOptions(), self.recipe(share))
        model, fit = finish(
            source, self.data, model=options, train=recipe, like=self._features(), seed=self.arguments.seed,
            engine=self.engine,
        )  # fmt: skip
        test = evaluate(model, self.data, "test", engine=self.engine).metrics["ndcg@10"]
        return {"ndcg": fit.best_ndcg, "test": test, "history": fit.history}

    def _student(self, number: int, source: Condensed, free: bool) -> dict[str, Any]:
        steps = self.arguments.student_steps or source.recipe.total_steps
        # Without patience the last weights are kept, so that validations on the way would change nothing.
        every = min(source.recipe.eval_every, steps) if source.recipe.patience else steps
        recipe = source.recipe.model_copy(update={"steps": steps, "eval_every": every})
        options, _ = merged(self.configurations[number], source.model, recipe)
        recipe = student_recipe(source, source.encoder, options, recipe)  # as trials of 'foster tune' have it
        _, recipe = merged(self.configurations[number], source.model, recipe)
        if source.method not in self.of_sources:
            like = TextRecommender.build(source.catalogue, source.encoder, options, device=self.engine.device)
            self.of_sources[source.method] = like
        like = self.of_sources[source.method]
        start, seed = None, self.arguments.seed
        if free:  # the labels' map is where it starts, and it moves
            fresh = like.fresh(seed, options)
            start_from_labels(source, fresh)
            start = fresh.trained_state()
        _, fit = train(
            source, model=options, train=recipe, validation=self.data, like=like, start=start, seed=seed,
            engine=self.engine,
        )  # fmt: skip
        return {"ndcg": fit.best_ndcg}


def tau_b(x: np.ndarray, y: np.ndarray) -> float:
    """Return Kendall's tau-b of two lists."""
    a, b = (np.sign(values[:, None] - values[None]) for values in (x, y))
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale else 0.0


def with_interval(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return tau-b and its bootstrap interval (95 %) over configurations."""
    rng, taus = np.random.default_rng(0), []
    for _ in range(DRAWS):
        drawn = rng.integers(len(x), size=len(x))
        taus.append(tau_b(x[drawn], y[drawn]))
    return {"tau": tau_b(x, y), "interval": [float(end) for end in np.quantile(taus, (0.025, 0.975))]}


def regrets(scores: np.ndarray, full: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Return what is lost by training only the top k of ``scores`` on the log, on its validation and on its test."""
    order, best = np.argsort(-scores, kind="stable"), int(full.argmax())
    out = {}
    for k in TOP:
        chosen = order[:k][full[order[:k]].argmax()]
        out[f"regret@{k}"] = float(1 - full[chosen] / full[best]) if full[best] else 0.0
        out[f"test regret@{k}"] = float(1 - test[chosen] / test[best]) if test[best] else 0.0
    return out


def places(scores: np.ndarray) -> np.ndarray:
    """Return how many other scores each one is above, those that are equal as a half."""
    above, equal = (np.asarray(relation(scores[:, None], scores)) for relation in (np.greater, np.equal))
    out: np.ndarray = above.sum(1) + (equal.sum(1) - 1) / 2
    return out


def until(runs: list[dict[str, Any]], step: float) -> np.ndarray:
    """Return the best validation of each run up to a step."""
    return np.array(
        [max((row["ndcg@10"] for row in run["history"] if row["step"] <= step), default=0.0) for run in runs]
    )


def halving(runs: list[dict[str, Any]], steps: int) -> tuple[np.ndarray, float]:
    """Return a score of each configuration by successive halving on the log, and the share of all steps it takes."""
    alive, scores, used = np.arange(len(runs)), np.zeros(len(runs)), 0.0
    for rung, share in enumerate(HALVED):
        scores[alive] = rung + until([runs[number] for number in alive], steps / share)
        used += len(alive) * (1 / share - (1 / HALVED[rung - 1] if rung else 0))
        alive = alive[np.argsort(-scores[alive], kind="stable")][: max(len(alive) // 3, 1)]
    return scores, used / len(runs)


def results(runs: Runs) -> dict[str, Any]:
    """Make what is missing, and return the comparison."""
    made = runs.prepare()
    numbers, seed = range(len(runs.configurations)), runs.arguments.seed
    sources = {
        "distilled": (made["distilled"], False),
        "distilled, free map": (made["distilled"], True),
        "random, hard labels": (made["random"], False),
        "random, soft labels": (made["soft-label"], False),
    }
    ways = {way: [runs.student(way, n, *source) for n in numbers] for way, source in sources.items()}
    for name, part in (("tenth", TENTH), ("quarter", QUARTER)):
        way = f"log, a {name} of the steps"
        ways[way] = [runs.once(f"{name} {n}", partial(runs._on_log, n, seed, part, False)) for n in numbers]
    ways |= {way: [runs.finished(n, made["distilled"], way) for n in numbers] for way in SHARES}
    repeated = numbers if runs.arguments.again is None else numbers[: runs.arguments.again]
    first, second = ([runs.full(n, s) for n in some] for s, some in ((seed, numbers), (seed + 1, repeated)))
    full, again, test = (
        np.array([run[key] for run in some]) for some, key in ((first, "ndcg"), (second, "ndcg"), (first, "test"))
    )
    seconds_full = float(np.mean([run["seconds"] for run in first]))
    before = {  # all of these are made by now
        name: runs.once(name, dict)["seconds"]
        for name in ("teacher", "make distilled", "make random", "make soft-label")
    }

    def row(scores: np.ndarray, seconds: float, teacher: float = 0.0) -> dict[str, Any]:
        known, tested = full[: len(scores)], test[: len(scores)]
        return {
            **with_interval(scores, known),
            **regrets(scores, known, tested),
            "seconds": seconds,
            "seconds with teacher": seconds + teacher,
        }

    rows: dict[str, Any] = {}
    for way, found in ways.items():
        spent = float(sum(run["seconds"] for run in found)) + (before[MADE[way]] if way in MADE else 0.0)
        rows[way] = row(np.array([run["ndcg"] for run in found]), spent, before["teacher"] if way in SOFT else 0.0)
    parts = [np.array([run["ndcg"] for run in ways[way]]) for way in ("distilled", FINISHED)]
    # What both parts of a mean train on is made once.
    spent = rows["distilled"]["seconds"] + rows[FINISHED]["seconds"] - before["make distilled"]
    rows[BOTH] = row(parts[0] + parts[1], spent, before["teacher"])
    rows[RANKS] = row(places(parts[0]) + places(parts[1]), spent, before["teacher"])
    scores, share = halving(first, runs.arguments.steps)
    rows["log, successive halving"] = row(scores, share * seconds_full * len(full))
    scores = until(first, PART * runs.arguments.steps)
    rows[f"log, the first {PART:.0%} of the steps"] = row(scores, PART * seconds_full * len(full))
    rows["ceiling: log, another seed"] = row(again, float(sum(run["seconds"] for run in second)))
    ceiling = rows["ceiling: log, another seed"]["tau"]
    for found in rows.values():
        found["of ceiling"] = found["tau"] / ceiling if ceiling > 0 else None
    best = int(full.argmax())
    return {
        "configurations": len(full),
        "with a second seed": len(again),
        "rows": rows,
        "validation against test": with_interval(full, test),
        "default": {"regret": float(1 - full[0] / full[best]), "test regret": float(1 - test[0] / test[best])},
        "seconds of one full training": seconds_full,
        "seconds of the teacher": before["teacher"],
        "best": {
            "number": best,
            "validation": float(full[best]),
            "test": float(test[best]),
            **runs.configurations[best],
        },
        "failed": sum("error" in run for some in (*ways.values(), first, second) for run in some),
    }


def markdown(data: str, found: dict[str, Any]) -> str:
    """Return the table."""
    heads = ["", "tau-b", "95 %", "of ceiling", *(f"regret@{k}" for k in TOP), *(f"test regret@{k}" for k in TOP)]
    heads += ["seconds", "with teacher"]
    lines = [heads, ["---"] * len(heads)]
    for name, row in found["rows"].items():
        low, high = row["interval"]
        share = "" if row["of ceiling"] is None else f"{row['of ceiling']:.2f}"
        line = [name, f"{row['tau']:.2f}", f"{low:.2f} to {high:.2f}", share]
        line += [f"{row[head]:.1%}" for head in heads[4 : 4 + 2 * len(TOP)]]
        lines.append([*line, f"{row['seconds']:,.0f}", f"{row['seconds with teacher']:,.0f}"])
    noise, default = found["validation against test"], found["default"]
    return "\n".join(
        [
            f"# {data}: {found['configurations']} configurations, {found['with a second seed']} of them repeated",
            "",
            *(f"| {' | '.join(line)} |" for line in lines),
            "",
            f"The log's own validation against its test: tau-b {noise['tau']:.2f}. Without a search (the default): "
            f"{default['regret']:.1%} behind the best on validation, {default['test regret']:.1%} on test. One full "
            f"training takes {found['seconds of one full training']:.0f} s; top k more of them are not in the seconds. "
            f"{found['failed']} trainings failed and count as 0.",
            "",
        ]
    )


def main() -> None:
    """Run the comparison of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder that 'foster prepare' made")
    parser.add_argument("--out", required=True, help="folder of runs and results")
    parser.add_argument("--configurations", type=int, default=48, help="more can be added later")
    parser.add_argument("--again", type=int, help="with a second seed on the full log; by default all")
    parser.add_argument("--steps", type=int, default=MOST_STEPS, help="of a training on the full log")
    parser.add_argument("--eval-every", type=int, default=TrainOptions().eval_every)
    parser.add_argument("--student-steps", type=int, help="by default those of the stored recipes")
    parser.add_argument(
        "--distill-steps", type=int, default=0, help="0: the starting point, which moving hardly betters"
    )
    parser.add_argument("--encoder", help="by default the library's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    runs = Runs(arguments)
    found = results(runs)
    write(runs.out / "results.json", found)
    table = markdown(Path(arguments.data).name, found)
    (runs.out / "results.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
