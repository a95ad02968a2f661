"""Do sequences that were distilled with one sequence model train another? Every teacher x every student.

    python benchmarks/transfer.py DATA --backbones sasrec,gru4rec,hstu,ligr,mean --out RESULTS

For each sequence model: a full model of it, the sequences distilled with that, and a student of every kind trained on
these. A student is compared with the full model of its own kind. A finished cell is a JSON file and is never made
again, so that the command goes on where it was; ``results.json`` and ``results.md`` come from these files.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

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
    evaluate,
    pretrain,
    train,
)
from foster.engine import Engine

KNOWN = get_args(ModelOptions.model_fields["backbone"].annotation)
SEQUENCES = 20
AIM = 0.95  # of the full model of the same kind
SPLITS = ("validation", "test")
Cell = Run


class Cells:
    """Finished cells in a folder, and how missing ones are made.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.data, self.out, self.seed = Dataset.read(arguments.data), Path(arguments.out), arguments.seed
        self.engine, self.encoder = Engine(arguments.device), EncoderOptions()
        if arguments.encoder:
            self.encoder = EncoderOptions(encoder=arguments.encoder)
        self.steps, self.student_steps = arguments.steps, arguments.student_steps
        self.like: TextRecommender | None = None  # whose text features all students take
        about = {
            "data_fingerprint": self.data.info.fingerprint,
            **{name: getattr(arguments, name) for name in ("encoder", "seed", "steps", "student_steps")},
        }
        self.finished = Finished(self.out, "cells", about)

    def once(self, name: str, make: Callable[[], Cell]) -> Cell:
        """Return a cell, which is made if it is not there; its seconds are those of the call that ended it."""

        def measured() -> Cell:
            wall, own = time.perf_counter(), time.process_time()
            cell = make()
            return {**cell, "seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - own}

        return self.finished.once(name, measured, lambda cell: cell.get("test", ""))

    def full(self, backbone: str) -> Cell:
        """Train a model on the full log."""
        return self.once(f"full {backbone}", lambda: self._full(backbone))

    def _full(self, backbone: str) -> Cell:
        recipe = TrainOptions() if self.steps is None else TrainOptions(steps=self.steps)
        folder = self.out / f"teacher-{backbone}"
        model, fit = pretrain(
            self.data, folder, encoder=self.encoder, model=ModelOptions(backbone=backbone), train=recipe,
            seed=self.seed, engine=self.engine, overwrite=folder.exists(),
        )  # fmt: skip
        return {"validation": fit.best_ndcg, "test": self._test(model), "best_step": fit.best_step}

    def distilled(self, teacher: str) -> Condensed:
        """Return the sequences of a teacher, which are made if they are not there."""
        folder = self.out / f"distilled-{teacher}"
        self.once(f"distil {teacher}", lambda: self._distil(teacher, folder))
        return Condensed.read(folder)

    def _distil(self, teacher: str, folder: Path) -> Cell:
        options = DistillOptions(sequences=SEQUENCES)
        source, _ = distill(
            self.data, self.out / f"teacher-{teacher}", options, seed=self.seed, engine=self.engine
        )  # fmt: skip
        source.save(folder, overwrite=folder.exists())
        return {"sequences": len(source)}

    def student(self, teacher: str, student: str) -> Cell:
        """Train a student on the sequences of a teacher."""
        return self.once(f"student {student} of {teacher}", lambda: self._student(teacher, student))

    def _student(self, teacher: str, student: str) -> Cell:
        source = self.distilled(teacher)
        if self.like is None:
            self.like = TextRecommender.build(source.catalogue, source.encoder, source.model, device=self.engine.device)
        recipe = source.recipe
        if self.student_steps is not None:
            recipe = recipe.model_copy(update={"steps": self.student_steps})
        if recipe.patience == 0:  # validation has no say: once, in the end
            recipe = recipe.model_copy(update={"eval_every": recipe.total_steps})
        model, fit = train(
            source, model=source.model.model_copy(update={"backbone": student}), train=recipe, validation=self.data,
            like=self.like, seed=self.seed, engine=self.engine,
        )  # fmt: skip
        return {"validation": fit.best_ndcg, "test": self._test(model)}

    def _test(self, model: TextRecommender) -> float:
        return evaluate(model, self.data, "test", engine=self.engine).metrics["ndcg@10"]


def results(cells: Cells, backbones: list[str]) -> dict[str, Any]:
    """Make what is missing, and return the matrix: of each teacher and student NDCG@10 and its share of full."""
    full = {backbone: cells.full(backbone) for backbone in backbones}
    of = {teacher: cells.once(f"distil {teacher}", dict) for teacher in backbones if cells.distilled(teacher)}
    students = {
        teacher: {student: _shared(cells.student(teacher, student), full[student]) for student in backbones}
        for teacher in backbones
    }
    return {"full": full, "distil": of, "students": students}


def _shared(student: Cell, full: Cell) -> Cell:
    return {**student, **{f"{split} ratio": student[split] / full[split] if full[split] else None for split in SPLITS}}


def markdown(name: str, found: dict[str, Any]) -> str:
    """Return the tables."""
    students, models = found["students"], found["full"]
    backbones = list(models)
    lines = [f"# {name}: teacher x student, NDCG@10 of {SEQUENCES} sequences", ""]
    for split in SPLITS:
        lines += [
            f"**{split}**, in brackets the share of the student's own full model",
            "",
            f"| teacher | {' | '.join(backbones)} |",
            f"|---{'|---' * len(backbones)}|",
            f"| full log | {' | '.join(f'{model[split]:.4f}' for model in models.values())} |",
            *(
                f"| {teacher} | {' | '.join(_shown(row[student], split) for student in backbones)} |"
                for teacher, row in students.items()
            ),
            "",
        ]
    cells = [row[student]["test ratio"] for row in students.values() for student in backbones]
    known = [ratio for ratio in cells if ratio is not None]
    reached = sum(ratio >= AIM for ratio in known)
    full, distil = (
        ", ".join(f"{name} {cell['processor_seconds']:,.0f}" for name, cell in found[kind].items())
        for kind in ("full", "distil")
    )
    mean = sum(cell["processor_seconds"] for row in students.values() for cell in row.values()) / len(cells)
    lines += [
        f"Of {len(known)} cells {reached} reach {AIM} of their own full model on test; the least has {min(known):.2f}."
        if known
        else "No full model has a test NDCG@10 above 0.",
        f"Processor seconds, validations and test with them: full models {full}; distilling {distil}; a student "
        f"{mean:,.0f} on average.",
        "",
    ]
    return "\n".join(lines)


def _shown(cell: Cell, split: str) -> str:
    ratio = cell[f"{split} ratio"]
    return f"{cell[split]:.4f}" + ("" if ratio is None else f" ({ratio:.2f})")


def main() -> None:
    """Make the matrix of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder that 'foster prepare' made")
    parser.add_argument("--backbones", default=",".join(KNOWN), help="by default all; more can be added later")
    parser.add_argument("--out", required=True, help="folder of cells and results")
    parser.add_argument("--steps", type=int, help="of a training on the full log; by default the library's")
    parser.add_argument("--student-steps", type=int, help="by default those of the stored recipe")
    parser.add_argument("--encoder", help="by default the library's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    backbones = arguments.backbones.split(",")
    if unknown := [name for name in backbones if name not in KNOWN]:
        parser.error(f"--backbones: {unknown[0]} is unknown; known are {', '.join(KNOWN)}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    cells = Cells(arguments)
    found = results(cells, list(dict.fromkeys(backbones)))
    write(cells.out / "results.json", found)
    table = markdown(Path(arguments.data).name, found)
    (cells.out / "results.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
