"""Students that tune their language model, of frozen and of tuned teachers, beside the same model tuned on the log.

    python benchmarks/tuned_students.py DATA --finetune top:1 --seed 0 --out RESULTS

The model of the full log is trained with a frozen language model first, which is tuned then for a tenth of the steps:
tuned from the start it takes hours here. ``--from-the-start`` trains that one, too. Students see 20 sequences: those
of the frozen teacher, by the library's defaults, and those of the tuned model. Nobody's validation chooses among
students. A finished run is a JSON file and is never made again; ``results.json`` and ``results.md`` come from these.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from finished import Finished, Run, write

from foster import (
    Condensed,
    Dataset,
    DistillOptions,
    EncoderOptions,
    ModelOptions,
    TextRecommender,
    TrainOptions,
    distill,
    distill_with,
    evaluate,
    pretrain,
    train,
)
from foster.condensed.folder import written_bytes
from foster.engine import Engine
from foster.training.loop import going_on, on_log
from foster.training.trajectory import Recording

SEQUENCES = 20
FULL = "full log, frozen then tuned"


class Runs:
    """Finished runs in a folder, and how missing ones are made.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.data, self.out, self.seed = Dataset.read(arguments.data), Path(arguments.out), arguments.seed
        self.engine = Engine(arguments.device)
        self.encoder = EncoderOptions(encoder=arguments.encoder) if arguments.encoder else EncoderOptions()
        dtype = {"lm_dtype": arguments.lm_dtype, "lm_chunk": arguments.lm_chunk}
        self.tuned = ModelOptions.parse({"finetune": arguments.finetune, **dtype})
        self.candidates = arguments.candidates
        about = {
            "data_fingerprint": self.data.info.fingerprint, "encoder": arguments.encoder, "seed": self.seed,
            "model": self.tuned.model_dump(), "candidates": self.candidates, "threads": torch.get_num_threads(),
        }  # fmt: skip
        self.finished = Finished(self.out, "runs", about)

    def once(self, name: str, make: Callable[[], tuple[TextRecommender, Run]]) -> Run:
        """Return a run, which is made if it is not there; its seconds are those of the processor, without the test."""

        def measured() -> Run:
            start = time.process_time()
            model, run = make()
            seconds = time.process_time() - start
            found = evaluate(model, self.data, "test", engine=self.engine).metrics
            torch.save(model.trained_state(), self.out / f"{name}.pt")
            return {"test": found["ndcg@10"], "recall@10": found["recall@10"], "seconds": seconds, **run}

        return self.finished.once(name, measured, lambda run: run["test"])

    def frozen_teacher(self) -> Run:
        """Train a frozen model on the full log."""

        def make() -> tuple[TextRecommender, Run]:
            folder = self.out / "teacher"
            more: dict[str, Any] = {"seed": self.seed, "engine": self.engine, "overwrite": folder.exists()}
            model, fit = pretrain(self.data, folder, encoder=self.encoder, **more)
            return model, {"validation": fit.best_ndcg, "steps": fit.best_step}

        return self.once("full log, frozen", make)

    def public(self) -> TextRecommender:
        """Return a tuned model before its training."""
        return TextRecommender.build(self.data.catalogue, self.encoder, self.tuned, device=self.engine.device)

    def state(self, name: str) -> dict[str, torch.Tensor]:
        """Return the weights of a finished run."""
        found: dict[str, torch.Tensor] = torch.load(self.out / f"{name}.pt", weights_only=True)
        return found

    def full(self, from_the_start: bool) -> Run:
        """Tune a model on the full log, after a training of it with a frozen language model or from the start."""

        def make() -> tuple[TextRecommender, Run]:
            start, recipe = None, on_log(TrainOptions(candidates=self.candidates), self.data)
            if not from_the_start:
                recipe = going_on(TrainOptions(candidates=self.candidates), self.data)
                start = self.public().trained_state() | self.state("full log, frozen")
            model, fit = train(
                self.data, encoder=self.encoder, model=self.tuned, train=recipe, start=start, seed=self.seed,
                engine=self.engine,
            )  # fmt: skip
            return model, {"validation": fit.best_ndcg, "steps": fit.best_step, "of": recipe.total_steps}

        return self.once("full log, tuned from the start" if from_the_start else FULL, make)

    def sequences(self, of: str) -> Condensed:
        """Return the sequences of the frozen or of the tuned teacher, which are made if they are not there."""
        folder = self.out / f"of {of}"
        if not folder.exists():
            options = DistillOptions(sequences=SEQUENCES)
            if of == "frozen":
                source, _ = distill(self.data, self.out / "teacher", options, seed=self.seed, engine=self.engine)
            else:
                teacher = self.public()
                teacher.load_trained_state(self.state(FULL))
                teacher.origin = {"data_fingerprint": self.data.info.fingerprint, "from_real_data": "all weights"}
                trajectory = Recording([0, 1])  # its ends are enough: by default nothing is moved
                trajectory(0, teacher)
                trajectory(1, teacher)
                source, _ = distill_with(
                    self.data, teacher.eval(), trajectory, options, seed=self.seed, engine=self.engine
                )
            source.save(folder)
        return Condensed.read(folder)

    def student(self, of: str, finetune: str) -> Run:
        """Train a student on the sequences of a teacher, by the library's defaults."""
        source = self.sequences(of)

        def make() -> tuple[TextRecommender, Run]:
            shape = source.model.model_copy(
                update={"finetune": finetune, "lm_dtype": self.tuned.lm_dtype, "lm_chunk": self.tuned.lm_chunk}
            )
            model, fit = train(source, model=shape, seed=self.seed, engine=self.engine)
            return model, {"steps": fit.steps, "bytes": written_bytes(source)}

        return self.once(student_name(of, finetune), make)


def student_name(of: str, finetune: str) -> str:
    """Return the name of the run of a student on the sequences of a teacher."""
    return f"{SEQUENCES} sequences of the {of} teacher, {'frozen' if finetune == 'frozen' else 'tuned'}"


def results(runs: Runs, from_the_start: bool) -> dict[str, Run]:
    """Make what is missing, and return all runs by name."""
    finetune = runs.tuned.finetune
    out = {"full log, frozen": runs.frozen_teacher(), FULL: runs.full(False)}
    # What it takes from random weights on.
    out[FULL] = {**out[FULL], "seconds": out[FULL]["seconds"] + out["full log, frozen"]["seconds"]}
    if from_the_start:
        out["full log, tuned from the start"] = runs.full(True)
    for of in ("frozen", "tuned"):
        for student in ("frozen", finetune) if of == "frozen" else (finetune,):
            run = runs.student(of, student)
            shares = {"of full": run["test"] / out[FULL]["test"], "time": run["seconds"] / out[FULL]["seconds"]}
            out[student_name(of, student)] = {**run, **shares}
    return out


def markdown(data: str, finetune: str, found: dict[str, Run]) -> str:
    """Return the table."""
    lines = [
        f"# {data}, {finetune}", "",
        "| model | test NDCG@10 | Recall@10 | of the tuned full model | processor s | of its time | bytes |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, run in found.items():
        share, part = (f"{run[key]:.2f}" if key in run else "" for key in ("of full", "time"))
        size = f"{run['bytes']:,}" if "bytes" in run else ""
        figures = f"{run['test']:.4f} | {run['recall@10']:.4f} | {share} | {run['seconds']:,.0f} | {part} | {size}"
        lines.append(f"| {name} | {figures} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Make the table of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder that 'foster prepare' made")
    parser.add_argument("--out", required=True, help="folder of runs and results")
    parser.add_argument("--finetune", default="top:1")
    parser.add_argument("--lm-dtype", default="bfloat16")
    parser.add_argument("--lm-chunk", type=int)
    parser.add_argument("--candidates", type=int, default=512, help="sampled items a step on the log")
    parser.add_argument("--from-the-start", action="store_true", help="also tune on the log from random weights on")
    parser.add_argument("--encoder", help="by default the library's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    runs = Runs(arguments)
    found = results(runs, arguments.from_the_start)
    write(runs.out / "results.json", found)
    table = markdown(Path(arguments.data).name, runs.tuned.finetune, found)
    (runs.out / "results.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
