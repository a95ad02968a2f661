"""What a benchmark will take: the sum over its rows and seeds, each kind of run tried once."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Unpack

import numpy as np
from torch import Tensor

from foster.artefacts import folder_bytes
from foster.bench.budgets import within
from foster.bench.folder import BenchFolder
from foster.bench.plan import BenchArguments, Plan, plan_of
from foster.bench.rows import Run, Student
from foster.bench.students import trainings
from foster.condensed.labels import frozen_part, tunes_last
from foster.condensed.sequences import Condensed
from foster.condensed.sources import student_source
from foster.coresets.pool import Pool
from foster.coresets.select import NEED_TEACHER, coreset_of
from foster.data.dataset import Dataset
from foster.distillation.distill import as_distilled, settings_within
from foster.distillation.options import DistillOptions
from foster.distillation.setting import Setting
from foster.engine import Engine, deterministic
from foster.errors import InputError
from foster.estimation.estimate import Estimate, Parts, limits_of, one_process, timed
from foster.estimation.jobs import distillation_parts
from foster.estimation.steps import (
    count_weights,
    ranking_seconds,
    recipe_parts,
    seconds_a_step,
    teacher_bytes,
    training_parts,
    untrained,
)
from foster.evaluation.evaluate import evaluate_popularity
from foster.models.recommender import TextRecommender
from foster.progress import Progress
from foster.training.imitation import begun
from foster.training.loop import validator
from foster.training.options import STUDENT
from foster.training.trajectory import Checkpoints, checkpoint_steps

HISTORIES = 500, 1000  # of which a selection is tried
A_STUDENT = 1.0  # seconds that a student's steps are tried
A_RANK = 8  # bytes


@deterministic()
def estimate_bench(
    data: Dataset,
    out: str | Path,
    *,
    engine: Engine | None = None,
    **asked: Unpack[BenchArguments],
) -> Estimate:
    """Say what is left of a benchmark will take; arguments are those of ``foster.bench.bench.run_bench``.

    What was finished in ``out`` counts no more. Nothing is written there.

    Raises:
        InputError: memory or disk will not do, or what ``run_bench`` raises before its first run.
    """
    engine = one_process(engine)
    plan = plan_of(data, **asked)
    folder = BenchFolder(Path(out), plan)
    folder.claim(engine, dry_run=True)
    with limits_of(engine, out) as limits:
        trial = _Trial(plan, folder, engine)
        trial.check_bytes(_limited(plan, folder))
        parts = trial.parts()
    return limits.estimate(parts, disk=trial.disk, more_memory=4 * count_weights(trial.model))


@deterministic()
def check_bytes(plan: Plan, folder: BenchFolder, engine: Engine) -> None:
    """Refuse a budget in bytes that is too small for a row, before anything is trained.

    Args:
        plan: of the benchmark.
        folder: of its runs.
        engine: device of one process.

    Raises:
        InputError: a budget that is too small, with the row and the smallest that works.
    """
    if rows := _limited(plan, folder):
        _Trial(plan, folder, engine).check_bytes(rows)


def _limited(plan: Plan, folder: BenchFolder) -> dict[str, Run]:
    """Return a run of each row that has to be made within the smallest budget in bytes."""
    return {
        run.variant.name: run
        for run in folder.missing()
        if isinstance(run.variant.options, DistillOptions)
        and run.in_bytes
        and run.budget == plan.budgets[0]
        and not folder.is_made(run)
    }


class _Start:
    """A trajectory of a model that is not trained yet: every checkpoint is its start."""

    def __init__(self, model: TextRecommender, steps: list[int]) -> None:
        self.model, self.steps = model, steps

    def __len__(self) -> int:
        return len(self.steps)

    def step(self, which: int) -> int:
        return self.steps[which]

    def state(self, which: int) -> dict[str, Tensor]:
        return self.model.trained_state()


class _Trial:
    """Each kind of run of a benchmark, tried on a model that is not trained: that takes the same time.

    Attributes:
        model: of the kind that teachers are.
        disk: bytes of what was asked for so far.
    """

    def __init__(self, plan: Plan, folder: BenchFolder, engine: Engine) -> None:
        self.plan, self.folder, self.data, self.recipe, self.engine = plan, folder, plan.data, plan.recipe, engine
        self.seed = plan.seeds[0]
        self.disk = 0
        self.model, self.start = self._untrained(None)
        self._students: dict[Student | None, tuple[TextRecommender, float, float, float]] = {}
        self._made: dict[tuple[str, int | None], tuple[Condensed, float, float, int]] = {}

    def check_bytes(self, rows: dict[str, Run]) -> None:
        """Refuse a budget in bytes that is too small for one of these rows."""
        for name, run in rows.items():
            options = self.plan.options_of(run)
            assert isinstance(options, DistillOptions)
            best, trajectory = as_distilled(self.model, self._trajectory(), options)
            setting = Setting(self.data, best, trajectory, options, self.seed, self.engine)
            try:
                settings_within(setting, options, trained=False)
            except InputError as error:
                raise InputError(f"row '{name}': {error}") from error

    def parts(self) -> Parts:
        """Return the seconds of all runs that are missing, by row."""
        out: dict[str, tuple[float, float]] = {}
        artefacts = set()
        missing = self.folder.missing()
        kinds = {run.name: run for run in missing}
        tried = Progress(kinds.items(), what="trying each kind of run", total=len(kinds))
        known = {name: self._run(run) for name, run in tried}
        for run in missing:
            spent = [known[run.name]]
            if (run.artefact, run.seed) not in artefacts and not self.folder.is_made(run):
                artefacts.add((run.artefact, run.seed))
                spent.append(self._making(run))
            before = out.get(run.row, (0.0, 0.0))
            out[run.row] = tuple(sum(part[which] for part in (before, *spent)) for which in (0, 1))  # type: ignore[assignment]
            self.disk += A_RANK * len(self.data.held_out("test"))
        return {f"row {name}": spent for name, spent in out.items()}

    def _run(self, run: Run) -> tuple[float, float]:
        """Return the seconds of a run whose artefact is there."""
        if run.variant.method == "popularity":
            _, seconds = timed(lambda: evaluate_popularity(self.data))
            return seconds, seconds
        model, start, _, testing = self._student(run.student)
        if run.variant.method != "full":
            spent = self._students_of(run)
            return spent[0] + testing, spent[1] + testing
        if run.student is None:
            return testing, testing
        parts = training_parts(self.data, model, self.recipe.train, self.seed, self.engine)
        return start + testing + _sum(parts, 0), start + testing + _sum(parts, 1)

    def _making(self, run: Run) -> tuple[float, float]:
        """Return the seconds of making what a run trains on."""
        if run.variant.method == "popularity":
            return 0.0, 0.0
        if run.variant.method == "full":
            model = self.model.fresh(self.seed)
            parts = training_parts(self.data, model, self.recipe.train, self.seed, self.engine)
            self.disk += teacher_bytes(model, self.recipe.train, self.recipe.teacher)
            return self.start + _sum(parts, 0), self.start + _sum(parts, 1)
        _, seconds, least, size = self._artefact(run)
        self.disk += size
        return seconds, least

    def _artefact(self, run: Run) -> tuple[Condensed, float, float, int]:
        """Return sequences as a run's, and seconds, least seconds and bytes of them."""
        key = run.artefact, run.budget
        if key not in self._made:
            if run.variant.options is None:
                sequences, seconds = self._selection(run)
                least = seconds
            else:
                options = self.plan.options_of(run)
                best, trajectory = as_distilled(self.model, self._trajectory(), options)
                parts, sequences = distillation_parts(self.data, best, trajectory, options, self.seed, self.engine)
                seconds, least = _sum(parts, 0), _sum(parts, 1)
            with TemporaryDirectory() as folder:
                sequences.write_to(Path(folder))
                self._made[key] = sequences, seconds, least, folder_bytes(folder)
        return self._made[key]

    def _trajectory(self) -> Checkpoints:
        return _Start(self.model, checkpoint_steps(self.recipe.train.total_steps, self.recipe.teacher.checkpoints))

    def _selection(self, run: Run) -> tuple[Condensed, float]:
        """Select from some histories and from twice as many, and tell from these how long all take."""
        histories = self.data.training_histories().latest(self.recipe.model.max_length)
        order = np.random.default_rng(self.seed).permutation(len(histories))
        method = run.variant.method
        teacher, before = self.model if method in NEED_TEACHER else None, 0.0
        if method == "soft-label":
            teacher, before = self._labeller

        def selected(method: str, count: int, size: int) -> Condensed:
            pool = Pool(
                self.data,
                histories[order[:size]],
                count,
                np.random.default_rng(self.seed),
                self.seed,
                self.recipe.encoder,
                self.recipe.model,
                self.engine,
                teacher,
            )
            return coreset_of(method, pool)

        assert run.budget is not None
        wanted, times = run.budget, 1
        if run.in_bytes:
            # Whose histories they are matters little to how many fit.
            alike = method if method == "soft-label" else "random"
            wanted, tried = 1, []

            def counted(count: int) -> Condensed:
                tried.append(count)
                return selected(alike, count, len(histories))

            # Where not even one fits, that run says so.
            with suppress(InputError):
                wanted = len(within(run.budget, len(histories), counted))
            times = len(tried)
        sizes = [min(size + wanted, len(histories)) for size in HISTORIES]
        (_, first), (sequences, last) = (timed(partial(selected, method, wanted, size)) for size in sizes)
        each = max(last - first, 0.0) / max(sizes[1] - sizes[0], 1)
        return sequences, before + times * (last + each * (len(histories) - sizes[1]))

    @cached_property
    def _labeller(self) -> tuple[TextRecommender, float]:
        """The model whose predictions are soft labels, hardly trained, and the seconds that its training takes."""
        model, recipe = begun(self.model, self.data, self.seed)
        if model is self.model:
            return model, 0.0
        return model, _sum(training_parts(self.data, model, recipe, self.seed, self.engine), 0)

    def _students_of(self, run: Run) -> tuple[float, float]:
        """Return the seconds of the students of a run, one a recipe."""
        sequences, *_ = self._artefact(run)
        model, start, validation, _ = self._student(run.student)
        spent = [2 * start, 2 * start]
        for _, options, recipe in trainings(self.plan, run, sequences):
            parts = [(options, recipe)]
            if not run.checkpoint and tunes_last(sequences, options):
                parts.append(frozen_part(sequences, model.encoder, options))
            for shape, of_part in parts:
                student = model.fresh(self.seed, shape)
                losses = student_source(sequences, student, self.seed, not run.checkpoint, of_part.mixup)
                step = seconds_a_step(student, losses, of_part, self.seed, self.engine, budget=A_STUDENT)
                for part in recipe_parts(of_part, step, validation).values():
                    spent = [all_of + more for all_of, more in zip(spent, part, strict=True)]
        return spent[0], spent[1]

    def _student(self, student: Student | None) -> tuple[TextRecommender, float, float, float]:
        """Return an untrained model of a kind, and the seconds of making, of validating and of testing it."""
        if student not in self._students:
            model, start = (self.model, self.start) if student is None else self._untrained(student)
            validate = validator(self.data, STUDENT.eval_users, self.engine)
            _, validation = timed(lambda: validate(model))
            testing = ranking_seconds(self.data, model, "test", self.data.n_users, self.engine)
            self._students[student] = model, start, validation, testing
        return self._students[student]

    def _untrained(self, student: Student | None) -> tuple[TextRecommender, float]:
        kind = student or self.recipe
        return untrained(self.data.catalogue, kind.encoder, kind.model, self.seed, self.engine)


def _sum(parts: Parts, which: int) -> float:
    return sum(part[which] for part in parts.values())
