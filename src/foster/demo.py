"""The main job on the embedded grocery data: random 20, FOSTER 20, full log, popularity."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from foster.artefacts import folder_bytes
from foster.condensed.folder import stored_bytes
from foster.coresets.select import select
from foster.data.dataset import Dataset
from foster.data.grocery import grocery
from foster.distillation.distill import distill, save_distilled
from foster.distillation.options import DistillOptions
from foster.engine import Engine
from foster.evaluation.evaluate import evaluate, evaluate_popularity
from foster.models.options import ModelOptions
from foster.runs import pretrain, train
from foster.training.loop import Fit
from foster.training.options import TrainOptions

SEQUENCES = 20
TEACHER = TrainOptions(steps=1000, batch_size=128, lr=5e-3, eval_every=100)

MODEL = ModelOptions(dim=64, dropout=0.1)  # half of the default width and dropout, for a demo of a few minutes
DISTILLATION = DistillOptions(sequences=SEQUENCES, student_steps=1000)


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured.

    Attributes:
        rows: one dict a method: ndcg@10, recall@10 (test), seconds of training, bytes of training data.
        about: counts of the data, seconds of the distillation and of the whole.
    """

    rows: dict[str, dict[str, Any]]
    about: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return what ``foster demo --json`` prints: the rows by method, and ``about``."""
        return {**self.rows, "about": self.about}

    def table(self) -> str:
        """Return the table that ``foster demo`` prints."""
        lines = [f"{'':<12}{'NDCG@10':>9}{'Recall@10':>11}{'training s':>12}{'bytes':>12}"]
        for name, row in self.rows.items():
            numbers = f"{row['ndcg@10']:>9.4f}{row['recall@10']:>11.4f}{row['seconds']:>12.1f}{row['bytes']:>12,}"
            lines.append(f"{name:<12}{numbers}")
        about = self.about
        lines.append(
            f"Test, {about['users']:,} users, {about['items']:,} items, full ranking, history masked. Distilling took "
            f"{about['distill_seconds']:.1f} s, everything {about['total_seconds']:.1f} s. Random and FOSTER are "
            f"{SEQUENCES} sequences; the others chose their weights on validation, FOSTER keeps its last."
        )
        return "\n".join(lines)


def run_demo(out: Path | None, *, seed: int, engine: Engine, say: Callable[[str], None]) -> DemoResult:
    """Run prepare, pretrain, distill, select, train and evaluate on grocery data.

    Args:
        out: keep the artefacts there; None for a temporary folder.
        seed: of everything that is drawn.
        engine: device and processes.
        say: called with one line a stage.

    Raises:
        InputError: the packages with data and encoder are not installed.
    """
    start = time.perf_counter()
    with TemporaryDirectory(prefix="foster-demo-") if out is None else nullcontext(out) as place:
        folder = Path(place)
        say("1/5 preparing the log")
        data = grocery()
        data.save(folder / "data")
        say(
            f"2/5 training on the full log: {data.n_users:,} users, {data.n_items:,} items, "
            f"{data.n_interactions:,} purchases"
        )
        full, fit = pretrain(
            data, folder / "teacher", model=MODEL, train=TEACHER, seed=seed, engine=engine, resume=False
        )
        rows = {"full": _row(full, data, fit, folder_bytes(folder / "data"), engine)}
        say("3/5 distilling")
        began = time.perf_counter()
        distilled, log = distill(data, folder / "teacher", DISTILLATION, seed=seed, engine=engine)
        save_distilled(distilled, log, folder / "distilled")
        distill_seconds = time.perf_counter() - began
        say("4/5 training on 20 distilled sequences")
        student, fit = train(distilled, validation=data, seed=seed, engine=engine)
        rows["foster"] = _row(student, data, fit, stored_bytes(folder / "distilled"), engine)
        say("5/5 training on 20 random histories")
        coreset = select("random", data, SEQUENCES, seed=seed, encoder=full.encoder, model=full.options)
        coreset.save(folder / "random")
        student, fit = train(coreset, validation=data, seed=seed, engine=engine)
        rows["random"] = _row(student, data, fit, stored_bytes(folder / "random"), engine)
        popularity = evaluate_popularity(data).metrics
    rows["popularity"] = {**_chosen(popularity), "seconds": 0.0, "bytes": 8 * data.n_items}
    about = {
        "users": data.n_users,
        "items": data.n_items,
        "interactions": data.n_interactions,
        "distill_seconds": distill_seconds,
        "total_seconds": time.perf_counter() - start,
        "seed": seed,
    }
    return DemoResult({name: rows[name] for name in ("popularity", "random", "foster", "full")}, about)


def _row(model: Any, data: Dataset, fit: Fit, size: int, engine: Engine) -> dict[str, Any]:
    return {**_chosen(evaluate(model, data, "test", engine=engine).metrics), "seconds": fit.seconds, "bytes": size}


def _chosen(metrics: dict[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in ("ndcg@10", "recall@10")}
