"""Making one run of a benchmark: its teacher or its sequences, its students, the test of the best, its record."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from foster.artefacts import KEPT_STEP, read_config, read_metrics
from foster.bench.budgets import within
from foster.bench.folder import BenchFolder
from foster.bench.plan import Plan, Say
from foster.bench.results import SEALS
from foster.bench.rows import Run
from foster.bench.students import best_student, full_student
from foster.condensed.folder import TENSORS_NAME, stored_bytes
from foster.condensed.sequences import Condensed
from foster.coresets.select import NEED_TEACHER, select
from foster.distillation.distill import distill, save_distilled, start_of
from foster.distillation.options import DistillOptions
from foster.engine import Engine
from foster.errors import InputError
from foster.evaluation.evaluate import Evaluation, evaluate, evaluate_popularity, rank_new_items
from foster.evaluation.metrics import metrics_of
from foster.measure import Measure
from foster.models.recommender import TextRecommender
from foster.runs import pretrain
from foster.storage import file_sha256, whole_file
from foster.training.teachers import load_teacher
from foster.training.trajectory import Trajectory

CHECKPOINT_SHARE = 0.1
"""How much of the teacher's training a checkpoint has seen from which students start; TD3 draws from 5 to 30 %."""


class Maker:
    """Makes runs, one after another.

    Args:
        plan: what is compared.
        folder: where runs are kept.
        engine: device, of one process.
        say: called with one line a finished run.
    """

    def __init__(self, plan: Plan, folder: BenchFolder, engine: Engine, say: Say) -> None:
        self.plan: Plan = plan
        self.folder: BenchFolder = folder
        self.engine: Engine = engine
        self.say: Say = say

    def make(self, run: Run) -> None:
        """Make a run, if it is not finished; write its record, or why there is none."""
        if self.folder.is_finished(run):
            return
        path, failure = self.folder.record(run), self.folder.failure(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            record = self._made(run)
        except InputError as error:
            self.folder.write(failure, {"error": str(error)})
            self.say(f"seed {run.seed}  {run.name:<24} failed: {error}")
            return
        self.folder.write(path, record)
        failure.unlink(missing_ok=True)
        self.say(
            f"seed {run.seed}  {run.name:<24} NDCG@10 {record['metrics']['ndcg@10']:.4f}  "
            f"made in {record.get('make_seconds', 0):.0f} s, trained in {record['train_seconds']:.0f} s"
        )

    def _made(self, run: Run) -> dict[str, Any]:
        """Make a run and return its record."""
        if run.variant.method == "popularity":
            costs = {"bytes": 8 * self.plan.data.n_items, "train_seconds": 0.0}
            return self._record(run, evaluate_popularity(self.plan.data), costs)
        if run.variant.method == "full":
            if run.student:
                return self._tested(run, *full_student(self.plan, run.student, run.seed, self.engine))
            return self._tested(run, *self._teacher(run))
        if (run.variant.needs_teacher or run.checkpoint) and not self.folder.teacher(run.seed).exists():
            raise InputError(f"needs the teacher of seed {run.seed}, which failed")
        return self._tested(run, *self._student(run))

    def _tested(self, run: Run, model: TextRecommender, costs: dict[str, Any]) -> dict[str, Any]:
        """Look at the test users, once, and return the record of a run; new items are ranked at the very end."""
        result = evaluate(model, self.plan.data, engine=self.engine)
        if self.plan.new is not None:
            costs = {**costs, "new_items": metrics_of(rank_new_items(model, self.plan.new))}
        return self._record(run, result, costs)

    def _record(self, run: Run, result: Evaluation, costs: dict[str, Any]) -> dict[str, Any]:
        ranks = self.folder.ranks_name(run)
        with whole_file(self.folder.out / ranks) as path, path.open("wb") as file:
            np.save(file, result.ranks)
        return {
            "name": run.row,
            "student": run.student.name if run.student else None,
            "student_options": run.student.as_dict() if run.student else None,
            "method": run.variant.method,
            "budget": run.budget,
            "in_bytes": run.in_bytes,
            "seed": run.seed,
            "metrics": result.metrics,
            "ranks": ranks,
            "ranks_sha256": file_sha256(self.folder.out / ranks),
            "needs_teacher": run.variant.needs_teacher or run.checkpoint,
            **costs,
        }

    def _teacher(self, run: Run) -> tuple[TextRecommender, dict[str, Any]]:
        """Return the teacher of a seed, or its checkpoint, and what that took."""
        folder, data, recipe = self.folder.teacher(run.seed), self.plan.data, self.plan.recipe
        costs: dict[str, Any] = {"train_seconds": 0.0}
        if not folder.exists():
            with Measure(self.engine.device) as measure:
                pretrain(data, folder, **vars(recipe), seed=run.seed, engine=self.engine, resume=False)
            costs["train_peak_bytes"] = measure.peak_bytes
        config = read_config(folder, "teacher")
        model = load_teacher(folder, data, device=self.engine.device)
        if run.checkpoint:
            model.load_trained_state(self._checkpoint(run.seed))
        else:
            costs["train_seconds"] = read_metrics(folder)[-1]["seconds"]
            costs |= {"validation_ndcg@10": config["fit"]["best_ndcg"], "best_step": config["fit"]["best_step"]}
        return model, costs

    def _checkpoint(self, seed: int) -> dict[str, torch.Tensor]:
        """Return the recorded state that has seen about a tenth of the teacher's training."""
        trajectory = Trajectory(self.folder.teacher(seed))
        wanted = CHECKPOINT_SHARE * trajectory.step(len(trajectory) - 1)
        which = min(range(1, len(trajectory)), key=lambda i: abs(trajectory.step(i) - wanted))
        return trajectory.state(which)

    def _student(self, run: Run) -> tuple[TextRecommender, dict[str, Any]]:
        """Return the best student of a run's sequences, which are made if they are not there, and what all took."""
        folder, made = self.folder.artefact(run), self.folder.made(run)
        if not made.exists():
            with Measure(self.engine.device) as measure:
                self._make_sequences(run)
            digest = file_sha256(folder / TENSORS_NAME)
            costs = {"make_seconds": measure.seconds, "make_peak_bytes": measure.peak_bytes, "sequences_sha256": digest}
            self.folder.write(made, costs)
        sequences, costs = Condensed.read(folder), self.folder.read(made)
        if file_sha256(folder / TENSORS_NAME) != costs["sequences_sha256"]:
            raise InputError(f"{folder}: holds other sequences than {made} is of; remove both, and they are made again")
        start = self._checkpoint(run.seed) if run.checkpoint else None
        costs = {
            **{name: cost for name, cost in costs.items() if name not in SEALS},
            "bytes": stored_bytes(folder) + (_tensor_bytes(start) if start else 0),
            "interactions": int(sequences.valid.sum()),
            "from_real_data": sequences.info["from_real_data"],
            KEPT_STEP: sequences.info.get(KEPT_STEP),
        }
        student, spent = best_student(self.plan, run, sequences, start, self.engine, self.say)
        return student, {**costs, **spent}

    def _make_sequences(self, run: Run) -> None:
        folder = self.folder.artefact(run)
        if run.variant.options is None:
            self._selected(run).save(folder, overwrite=True)
            return
        data, teacher, options = self.plan.data, self.folder.teacher(run.seed), self.plan.options_of(run)
        if run.in_bytes and not isinstance(options, DistillOptions):
            assert run.budget is not None

            def started(sequences: int) -> Condensed:
                of_size = options.model_copy(update={"sequences": sequences})
                return start_of(data, teacher, of_size, seed=run.seed, engine=self.engine)

            most = len(data.histories("train"))
            options = options.model_copy(update={"sequences": len(within(run.budget, most, started))})
        distilled, log = distill(data, teacher, options, seed=run.seed, engine=self.engine)
        save_distilled(distilled, log, folder, overwrite=True)

    def _selected(self, run: Run) -> Condensed:
        """Return the coreset of a run."""
        assert run.budget is not None
        method, data, recipe = run.variant.method, self.plan.data, self.plan.recipe
        teacher = self.folder.teacher(run.seed) if method in NEED_TEACHER else None

        def selected(sequences: int) -> Condensed:
            return select(
                method,
                data,
                sequences,
                teacher_path=teacher,
                seed=run.seed,
                encoder=recipe.encoder,
                model=recipe.model,
                engine=self.engine,
            )

        return within(run.budget, len(data.training_histories()), selected) if run.in_bytes else selected(run.budget)


def _tensor_bytes(state: dict[str, torch.Tensor]) -> int:
    """Return the bytes of weights in half precision, as a trajectory stores them."""
    return sum(2 * tensor.numel() for tensor in state.values())
