"""Every method on one log, on equal terms: the runs, each made once and kept."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import torch

from foster.artefacts import (
    CONFIG_NAME,
    DATASET_NAME,
    KEPT_STEP,
    marked,
    read_config,
    read_json,
    read_metrics,
    write_json,
)
from foster.condensed.folder import TENSORS_NAME, stored_bytes, written_bytes
from foster.condensed.sequences import Condensed
from foster.coresets.goracs import require_pot
from foster.coresets.select import NEED_SASREC, NEED_TEACHER, select
from foster.data.dataset import Dataset
from foster.data.new_items import NewItems, withhold
from foster.distillation.distill import distill, save_distilled, start_of
from foster.distillation.options import OPTIONS, CondenseOptions, DistillOptions
from foster.engine import Engine
from foster.errors import InputError, did_you_mean
from foster.evaluation.evaluate import Evaluation, evaluate, evaluate_popularity, rank_new_items
from foster.evaluation.metrics import metrics_of
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.options import Options
from foster.report.measure import Measure
from foster.report.options import BenchOptions
from foster.report.plots import plot_results
from foster.report.results import RESULTS, summarise, write_results
from foster.report.rows import METHODS, Recipe, Run, Student, Variant, students_of, variants_of
from foster.runs import load_teacher, pretrain, train
from foster.storage import file_sha256, whole_file
from foster.text.options import EncoderOptions
from foster.training.loop import Fit
from foster.training.options import HARD_LABELS, STUDENT, TeacherOptions, TrainOptions, affordable
from foster.training.trajectory import Trajectory

CHECKPOINT_STARTS = frozenset({"farzi", "td3"})
"""Methods whose papers train students from a checkpoint of real training; random joins them as a control."""

MIXED = {"mixed": STUDENT.model_copy(update={"mixup": True})}
LOG = {"log": TrainOptions()}
"""More recipes where budgets are bytes: few soft labels may be mixed, and real histories be as many as a log."""

SEVERAL = 20  # sequences of which it is seen how many bytes each takes

CHECKPOINT_SHARE = 0.1
"""How much of the teacher's training such a checkpoint has seen; TD3 draws from 5 to 30 %."""

RECIPES = {"soft": STUDENT, "hard": HARD_LABELS}
"""Recipes that every method's students are trained with; the better one on validation counts."""

EARLY = 3  # validations without a better one before a student of hard labels, which are learned by heart, stops
WITH_DROPOUT = ("hard", "log")
"""Recipes with the dropout of the model; the others go without."""

BENCH_NAME = "bench.json"
PLOT_NAME = "results.png"

Say = Callable[[str], None]


class Bench:
    """A folder of finished runs, and how the missing ones are made.

    ``seedS/teacher`` and ``seedS/NAME-M`` are artefacts; ``seedS/NAME-M.json`` is written when a run is finished, with
    ``NAME-M.ranks.npy`` beside it. A finished run is never made twice. One that cannot be made, because its training
    diverged for example, leaves ``NAME-M.failed.json`` and is tried again the next time; the others go on without it.

    Args:
        data: the log.
        out: the folder.
        recipe: of teacher and models.
        variants: the rows.
        options: seeds and budgets.
        students: other models that are trained too.
        new: items that were withheld from the log, to be ranked apart.
        first_seed: seeds count from here.
        engine: under several processes each makes its share of the runs, alone.
        say: called with one line a finished run.
        dry_run: look only, and do not mark the folder.

    Raises:
        InputError: a budget beyond the users, a missing extra, a method that cannot work on such models, or a folder of
            another benchmark.
    """

    def __init__(
        self,
        data: Dataset,
        out: Path,
        recipe: Recipe,
        variants: list[Variant],
        options: BenchOptions,
        *,
        students: list[Student],
        new: NewItems | None,
        first_seed: int = 0,
        engine: Engine,
        say: Say,
        dry_run: bool = False,
    ) -> None:
        self.students, self.new = students, new
        self.data, self.out, self.recipe, self.options = data, out, recipe, options
        self.variants, self.engine, self.alone, self.say = variants, engine, engine.alone(), say
        self.seeds = range(first_seed, first_seed + options.seeds)
        self.in_bytes = options.bytes is not None
        self.budgets = _budgets(options, len(data.training_histories()))
        methods = {variant.method for variant in variants}
        if "goracs" in methods:
            require_pot()
        for unfit, basis, fix in _unfit(recipe.model):
            _refuse([variant.method for variant in variants if variant.method in unfit], basis, fix)
        self.starts = bool(methods & CHECKPOINT_STARTS)
        self._claim(dry_run)

    def _claim(self, dry_run: bool) -> None:
        """Mark the folder as one of this log and these options, or see that it is or can be."""
        path = self.out / BENCH_NAME
        about = {"data_fingerprint": self.data.info.fingerprint, **self.recipe.as_dict()}
        about["student_steps"] = self.options.student_steps
        if path.exists():
            found = read_json(path)
            if found.get("kind") != "bench":
                raise InputError(f"{path}: is of no benchmark of foster; give another --out")
            for key, value in about.items():
                options = getattr(self.recipe, key, None)
                if not (_same(options, found.get(key), path) if options else found.get(key) == value):
                    raise InputError(f"{path}: was made with another '{key}'; give another --out, or the same options")
        elif self.engine.is_main:
            if (name := _in_the_way(self.out)) is not None:
                raise InputError(f"{self.out}: holds {name}, which is of no benchmark; give another --out")
            if dry_run:
                return
            try:
                self.out.mkdir(parents=True, exist_ok=True)
                _write_whole(path, marked("bench") | about)
            except OSError as error:
                raise InputError(f"{self.out}: cannot write there ({error.strerror}); give another --out") from error
        self.engine.wait()

    def runs(self) -> list[Run]:
        """Return all runs, seed by seed, those of other students behind the rest."""
        out: list[Run] = []
        for seed in self.seeds:
            own: list[Run] = []
            for variant in self.variants:
                for budget in [None] if variant.method in ("popularity", "full") else self.budgets:
                    run = Run(variant, budget, seed, in_bytes=self.in_bytes)
                    own.append(run)
                    if self.starts and variant.method in CHECKPOINT_STARTS | {"random", "full"}:
                        own.append(replace(run, checkpoint=True))
            trained = [run for run in own if not run.checkpoint and run.variant.method != "popularity"]
            out += own + [replace(run, student=student) for student in self.students for run in trained]
        return out

    def make(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Make what is missing; return the records of all finished runs, and why others have failed, by ``seedS/NAME``.

        Raises:
            InputError: what is there was made with other options.
        """
        self.missing()  # asks whether what is there is of these options
        runs = self.runs()
        # What shares a folder is for one process; teachers come first, since the others need them.
        shares: dict[tuple[str, int], list[Run]] = {}
        for run in runs:
            shares.setdefault((run.artefact, run.seed), []).append(run)
        for first in (True, False):
            part = [share for share in shares.values() if (share[0].variant.method == "full") == first]
            for share in part[self.engine.rank :: self.engine.world]:
                for run in share:
                    self._make_once(run)
            self.engine.wait()
        failed = {run: read_json(self._failure(run))["error"] for run in runs if self._failure(run).exists()}
        records = [read_json(self._file(run)) for run in runs if run not in failed]
        return records, {f"seed{run.seed}/{run.name}": error for run, error in failed.items()}

    def ranks(self, record: Mapping[str, Any]) -> np.ndarray:
        """Return the rank of every test target of a finished run, ``[targets]``."""
        return np.load(self.out / record["ranks"])

    def missing(self) -> list[Run]:
        """Return the runs that ``make`` would make.

        Raises:
            InputError: what is there was made with other options.
        """
        runs = self.runs()
        for run in runs:
            self._check_options(run)
        return [run for run in runs if not self._is_finished(run)]

    def is_made(self, run: Run) -> bool:
        """Whether the artefact that a run trains on is there: sequences, or for the full log its teacher."""
        return self.teacher(run.seed).exists() if run.variant.method == "full" else self._made(run).exists()

    def _is_finished(self, run: Run) -> bool:
        return self._file(run).exists() and not self._failure(run).exists() and not self._is_of_former_sequences(run)

    def _file(self, run: Run) -> Path:
        return self.out / f"seed{run.seed}" / f"{run.name}.json"

    def _failure(self, run: Run) -> Path:
        return self._file(run).with_suffix(".failed.json")

    def _folder(self, run: Run) -> Path:
        return self.out / f"seed{run.seed}" / run.artefact

    def _made(self, run: Run) -> Path:
        """Return the file that says what making the artefact took; it is there once the folder is complete."""
        return self.out / f"seed{run.seed}" / f"{run.artefact}.made.json"

    def _make_once(self, run: Run) -> None:
        if self._is_finished(run):
            return
        path, failure = self._file(run), self._failure(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            record = self._made_record(run)
        except InputError as error:
            _write_whole(failure, {"error": str(error)})
            self.say(f"seed {run.seed}  {run.name:<24} failed: {error}")
            return
        _write_whole(path, record)
        failure.unlink(missing_ok=True)
        self.say(
            f"seed {run.seed}  {run.name:<24} NDCG@10 {record['metrics']['ndcg@10']:.4f}  "
            f"made in {record.get('make_seconds', 0):.0f} s, trained in {record['train_seconds']:.0f} s"
        )

    def _made_record(self, run: Run) -> dict[str, Any]:
        """Make a run and return its record."""
        if run.variant.method == "popularity":
            costs = {"bytes": 8 * self.data.n_items, "train_seconds": 0.0}
            return self._record(run, evaluate_popularity(self.data), costs)
        if run.variant.method == "full":
            return self._full_student(run, run.student) if run.student else self._full(run)
        if (run.variant.needs_teacher or run.checkpoint) and not self.teacher(run.seed).exists():
            raise InputError(f"needs the teacher of seed {run.seed}, which failed")
        return self._condensed(run)

    def _is_of_former_sequences(self, run: Run) -> bool:
        """Whether the sequences were removed and made again since this run of theirs was finished."""
        made = self._made(run)
        if not made.exists():
            return False
        known, found = (read_json(path).get("sequences_sha256") for path in (made, self._file(run)))
        return known is not None and known != found

    def _tested(self, run: Run, model: TextRecommender, costs: dict[str, Any]) -> dict[str, Any]:
        """Look at the test users, once, and return the record of a run; new items are ranked at the very end."""
        result = evaluate(model, self.data, engine=self.alone)
        if self.new is not None:
            costs = {**costs, "new_items": metrics_of(rank_new_items(model, self.new))}
        return self._record(run, result, costs)

    def _record(self, run: Run, result: Evaluation, costs: dict[str, Any]) -> dict[str, Any]:
        ranks = f"seed{run.seed}/{run.name}.ranks.npy"
        with whole_file(self.out / ranks) as path, path.open("wb") as file:
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
            "needs_teacher": run.variant.needs_teacher or run.checkpoint,
            **costs,
        }

    def _full(self, run: Run) -> dict[str, Any]:
        folder = self.teacher(run.seed)
        costs: dict[str, Any] = {"train_seconds": 0.0}
        if not folder.exists():
            with Measure(self.alone.device) as measure:
                pretrain(self.data, folder, **vars(self.recipe), seed=run.seed, engine=self.alone, resume=False)
            costs["train_peak_bytes"] = measure.peak_bytes
        config = read_config(folder, "teacher")
        model = load_teacher(folder, self.data, device=self.alone.device)
        if run.checkpoint:
            model.load_trained_state(self._checkpoint(run.seed))
        else:
            costs["train_seconds"] = read_metrics(folder)[-1]["seconds"]
            costs |= {"validation_ndcg@10": config["fit"]["best_ndcg"], "best_step": config["fit"]["best_step"]}
        return self._tested(run, model, costs)

    def _full_student(self, run: Run, student: Student) -> dict[str, Any]:
        with Measure(self.alone.device) as measure:
            model, fit = train(
                self.data,
                encoder=student.encoder,
                model=student.model,
                train=self.recipe.train,
                seed=run.seed,
                engine=self.alone,
            )
        return self._tested(run, model, {**_costs(fit), "train_peak_bytes": measure.peak_bytes})

    def teacher(self, seed: int) -> Path:
        """Return the folder of a seed's teacher."""
        return self.out / f"seed{seed}" / "teacher"

    def _checkpoint(self, seed: int) -> dict[str, torch.Tensor]:
        """Return the recorded state that has seen about a tenth of the teacher's training."""
        trajectory = Trajectory(self.teacher(seed))
        wanted = CHECKPOINT_SHARE * trajectory.step(len(trajectory) - 1)
        which = min(range(1, len(trajectory)), key=lambda i: abs(trajectory.step(i) - wanted))
        return trajectory.state(which)

    def _condensed(self, run: Run) -> dict[str, Any]:
        folder, made = self._folder(run), self._made(run)
        if not made.exists():
            with Measure(self.alone.device) as measure:
                self._make_artefact(run, folder)
            digest = file_sha256(folder / TENSORS_NAME)
            costs = {"make_seconds": measure.seconds, "make_peak_bytes": measure.peak_bytes, "sequences_sha256": digest}
            _write_whole(made, costs)
        sequences = Condensed.read(folder)
        start = _tensor_bytes(self._checkpoint(run.seed)) if run.checkpoint else 0
        costs = {
            **read_json(made),
            "bytes": stored_bytes(folder) + start,
            "interactions": int(sequences.valid.sum()),
            "from_real_data": sequences.info["from_real_data"],
            KEPT_STEP: sequences.info.get(KEPT_STEP),
        }
        return self._student(run, sequences, costs)

    def _make_artefact(self, run: Run, folder: Path) -> None:
        assert run.budget is not None
        method, teacher = run.variant.method, self.teacher(run.seed)
        if run.variant.options is None:

            def selected(sequences: int) -> Condensed:
                return select(
                    method,
                    self.data,
                    sequences,
                    teacher=teacher if method in NEED_TEACHER else None,
                    seed=run.seed,
                    encoder=self.recipe.encoder,
                    model=self.recipe.model,
                    engine=self.alone,
                )

            users = len(self.data.training_histories())
            coreset = within(run.budget, users, selected) if run.in_bytes else selected(run.budget)
            coreset.save(folder, overwrite=True)
            return
        options = self.options_of(run)
        if run.in_bytes and not isinstance(options, DistillOptions):

            def started(sequences: int) -> Condensed:
                return start_of(
                    self.data,
                    teacher,
                    options.model_copy(update={"sequences": sequences}),
                    seed=run.seed,
                    engine=self.alone,
                )

            most = len(self.data.histories("train"))
            options = options.model_copy(update={"sequences": len(within(run.budget, most, started))})
        distilled, log = distill(self.data, teacher, options, seed=run.seed, engine=self.alone)
        save_distilled(distilled, log, folder, overwrite=True)

    def options_of(self, run: Run) -> CondenseOptions:
        """Return a distiller's options with the sizes of this benchmark."""
        options = run.variant.options
        assert options is not None
        update: dict[str, Any] = {"length": min(options.length, self.recipe.model.max_length)}
        if not run.in_bytes:
            update["sequences"] = run.budget
        elif isinstance(options, DistillOptions):
            update["bytes"] = run.budget
        if self.options.student_steps is not None:
            update["student_steps"] = min(options.student_steps, self.options.student_steps)
        return options.model_copy(update=update)

    def _check_options(self, run: Run) -> None:
        """Refuse to take what is there for an artefact with other options, whether its students are finished or not."""
        folder, path = self._folder(run), self._file(run)
        fix = f"give the row another name, or remove {path}, {self._made(run)} and {folder}"
        if path.exists() and (method := read_json(path).get("method")) != run.variant.method:
            raise InputError(f"{path}: row '{run.variant.name}' was made by {method}; {fix}")
        if run.variant.method == "full" and self.teacher(run.seed).exists():
            config = read_config(self.teacher(run.seed), "teacher")
            for name, options in (("encoder", "encoder"), ("model", "model"), ("training", "train")):
                if not _same(getattr(self.recipe, options), config.get(name), folder):
                    raise InputError(
                        f"{self.teacher(run.seed)}: was made with other {name} options; remove it, or give the same "
                        "options"
                    )
        if run.student:  # the artefact is that of the run without a student, which is always there too
            if path.exists():
                found = read_json(path).get("student_options") or {}
                groups = {"encoder": run.student.encoder, "model": run.student.model}
                if not all(_same(options, found.get(name), path) for name, options in groups.items()):
                    raise InputError(f"{path}: student '{run.student.name}' had other options; give it another name")
            return
        if run.variant.options is None or not self._made(run).exists():
            return
        found, expected = read_config(folder, "distilled")["info"]["options"], self.options_of(run)
        if run.in_bytes:  # how many sequences these bytes hold was found out
            expected = expected.model_copy(update={"sequences": found.get("sequences")})
        if not _same(expected, found, folder):
            raise InputError(f"{folder}: row '{run.variant.name}' was made with other options; {fix}")

    def _student(self, run: Run, sequences: Condensed, costs: dict[str, Any]) -> dict[str, Any]:
        """Train a student with every recipe; the better one on validation is tested.

        Raises:
            InputError: it diverged with every recipe.
        """
        kind = run.student or self.recipe
        failure: InputError | None = None
        tried: dict[str, tuple[TextRecommender, Fit, float]] = {}
        for label, recipe in recipes_of(run, sequences).items():
            recipe = affordable(recipe, kind.model.finetune)
            if self.options.student_steps is not None:
                recipe = recipe.model_copy(update={"steps": min(recipe.steps, self.options.student_steps)})
            model = kind.model if label in WITH_DROPOUT else kind.model.model_copy(update={"dropout": 0.0})
            try:
                with Measure(self.alone.device) as measure:
                    student, fit = train(
                        sequences,
                        encoder=kind.encoder,
                        model=model,
                        train=recipe,
                        validation=self.data,
                        start=self._checkpoint(run.seed) if run.checkpoint else None,
                        seed=run.seed,
                        engine=self.alone,
                    )
            except InputError as error:
                self.say(f"seed {run.seed}  {run.name:<24} with the recipe for {label} labels: {error}")
                failure = error
                continue
            tried[label] = student, fit, float(measure.peak_bytes)
        if failure and not tried:
            raise failure
        best = max(tried, key=lambda label: tried[label][1].best_ndcg or 0.0)
        student, fit, peak = tried[best]
        costs = {
            **costs,
            **_costs(fit),
            "tuning_seconds": sum(other.seconds for _, other, _ in tried.values()),
            "train_peak_bytes": peak,
            "recipe": best,
        }
        return self._tested(run, student, costs)


def recipes_of(run: Run, sequences: Condensed) -> dict[str, TrainOptions]:
    """Return the recipes that the students of a run are trained with."""
    soft = sequences.codes is not None
    recipes = RECIPES if soft else RECIPES | {"soft": RECIPES["soft"].model_copy(update={"patience": EARLY})}
    if not run.in_bytes:
        return recipes
    return recipes | (MIXED if soft else LOG)


def _tensor_bytes(state: dict[str, torch.Tensor]) -> int:
    """Return the bytes of weights in half precision, as a trajectory stores them."""
    return sum(2 * tensor.numel() for tensor in state.values())


def _costs(fit: Fit) -> dict[str, Any]:
    return {"train_seconds": fit.seconds, "validation_ndcg@10": fit.best_ndcg, "best_step": fit.best_step}


def _unfit(model: ModelOptions) -> list[tuple[frozenset[str], str, str]]:
    """Return methods that cannot work on such models, what they work on, and the flags that give it."""
    out = []
    if model.backbone != "sasrec":
        out.append((NEED_SASREC, "SASRec", "--backbone sasrec"))
    if model.finetune != "frozen":
        second_order = frozenset(name for name, options in OPTIONS.items() if options.second_order)
        out.append((second_order, "frozen text vectors", "--finetune frozen"))
    return out


def _refuse(methods: list[str], basis: str, fix: str) -> None:
    """Refuse methods, if there are any, that cannot work on the models of this benchmark."""
    if methods:
        names = ", ".join(dict.fromkeys(methods))
        raise InputError(f"bench: {methods[0]} works on {basis} only; give {fix}, or name --methods without {names}")


def _budgets(options: BenchOptions, users: int) -> list[int]:
    if options.bytes is not None:
        if "budgets" in options.model_fields_set:
            raise InputError("--bytes: gives sizes in bytes and --budgets in sequences; give one of the two")
        return _numbers("--bytes", options.bytes, None, "a size in bytes")
    most = f"1 to {users}, the users with two training items"
    return _numbers("--budgets", options.budgets, users, f"numbers from {most}")


def _numbers(flag: str, given: tuple[str, ...], most: int | None, wanted: str) -> list[int]:
    for text in given:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= (most or int(text))):
            raise InputError(f"{flag} {text}: give {wanted}")
    return sorted({int(text) for text in given})


def within(size: int, most: int, make: Callable[[int], Condensed]) -> Condensed:
    """Return as many sequences as fit into a folder.

    Args:
        size: its bytes, item texts aside.
        most: sequences that there can be.
        make: makes so many.

    Raises:
        InputError: not one fits.
    """
    few = min(SEVERAL, most)
    one, several = written_bytes(make(1)), written_bytes(make(few))
    each = max((several - one) / max(few - 1, 1), 1.0)
    count = min(most, int(1 + (size - one) / each))
    while count >= 1:
        made = make(count)
        spare = size - written_bytes(made)
        if spare >= 0:
            return made
        count -= math.ceil(-spare / each)
    raise InputError(f"{size} bytes hold no sequence: one takes {one}; give more --bytes")


def _in_the_way(out: Path) -> str | None:
    """Return what is in a folder without a benchmark that one would write over or mix with, or None.

    Teachers of seeds may be there already.
    """
    names = [DATASET_NAME, CONFIG_NAME, *RESULTS, PLOT_NAME]
    runs = [path.relative_to(out).as_posix() for path in sorted(out.glob("seed[0-9]*/[!.]*")) if path.name != "teacher"]
    return next(iter([name for name in names if os.path.lexists(out / name)] + runs), None)


def _same(options: Options, found: Any, source: Path) -> bool:
    """Whether stored options are these; what an earlier version did not store has its default."""
    return isinstance(found, dict) and type(options).parse(found, str(source)) == options


def _write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that is either there as a whole or not at all."""
    with whole_file(path) as part:
        write_json(part, content)


class BenchArguments(TypedDict, total=False):
    """What a benchmark compares; each may be left out.

    Attributes:
        recipe: of teachers and models; None for the defaults.
        options: methods, seeds, budgets.
        extra: more rows, ``{row: {"method": name, option: value, ...}}``.
        source: where ``extra`` comes from, named in errors.
        students: other models to train on what every method made, ``{name: {option: value, ...}}``: see
            ``students_of``. Their rows are named ``METHOD@NAME`` and are compared with ``full@NAME``.
        students_source: where ``students`` comes from, named in errors.
        seed: the first seed; 0 by default.
    """

    recipe: Recipe | None
    options: BenchOptions | None
    extra: Mapping[str, Any] | None
    source: str
    students: Mapping[str, Any] | None
    students_source: str
    seed: int


def prepare_bench(
    data: Dataset,
    out: str | Path,
    *,
    engine: Engine,
    say: Say = lambda line: None,
    dry_run: bool = False,
    recipe: Recipe | None = None,
    options: BenchOptions | None = None,
    extra: Mapping[str, Any] | None = None,
    source: str = "--variants",
    students: Mapping[str, Any] | None = None,
    students_source: str = "--students",
    seed: int = 0,
) -> Bench:
    """Return the benchmark that ``run_bench`` makes, whose arguments these are; ``dry_run`` as for ``Bench``.

    Raises:
        InputError: see ``run_bench``.
    """
    options = options or BenchOptions()
    recipe = recipe or Recipe(EncoderOptions(), ModelOptions(), TrainOptions(), TeacherOptions())
    methods = options.methods
    if methods is None:
        without = [name for name in METHODS if any(name in unfit for unfit, _, _ in _unfit(recipe.model))]
        methods = tuple(name for name in METHODS if name not in without)
        if without and engine.is_main:
            say(f"without {', '.join(without)}: they do not work on such models")
    variants = variants_of(methods, extra or {}, source)
    names = [variant.name for variant in variants]
    if options.reference is not None and options.reference not in names:
        hint = did_you_mean(options.reference, names)
        raise InputError(f"--reference: no row '{options.reference}'{hint}; name one of {', '.join(names)}")
    others = students_of(students or {}, recipe, students_source)
    data, new = withhold(data, options.new_items) if options.new_items else (data, None)
    return Bench(
        data,
        Path(out),
        recipe,
        variants,
        options,
        students=others,
        new=new,
        first_seed=seed,
        engine=engine,
        say=say,
        dry_run=dry_run,
    )


def run_bench(
    data: Dataset,
    out: str | Path,
    *,
    engine: Engine | None = None,
    say: Say = lambda line: None,
    **asked: Unpack[BenchArguments],
) -> dict[str, Any]:
    """Compare methods on one log; a benchmark that was cut off goes on where it was.

    Args:
        data: the log.
        out: folder of artefacts, finished runs and, in the end, ``results.md``, ``results.json``, ``results.csv`` and,
            with matplotlib, ``results.png``. A ``seedS/teacher`` that ``pretrain`` made with the same options may be
            there already.
        engine: device; several processes divide the runs.
        say: called with one line a finished run.
        **asked: what is compared, see ``BenchArguments``.

    Returns:
        ``{"about": {...}, "rows": {name: row}}``, see ``results.summarise``; in every process. ``about["failed"]`` says
        of runs that could not be made why, by ``seedS/NAME``; a row of which every run failed is not there.

    Raises:
        InputError: a reference that is no row; see ``variants_of`` and ``Bench`` for more.
    """
    engine = engine or Engine()
    bench = prepare_bench(data, out, engine=engine, say=say, **asked)
    data, new, recipe, options = bench.data, bench.new, bench.recipe, bench.options
    records, failed = bench.make()
    about = {
        "data": data.info.name,
        "new_items": len(new.ids) if new else 0,
        "new_item_users": len(new.targets) if new else 0,
        "users": data.n_users,
        "items": data.n_items,
        "interactions": data.n_interactions,
        "split": data.info.split_name,
        "parts": data.parts().as_dict(),
        "data_fingerprint": data.info.fingerprint,
        "seeds": list(bench.seeds),
        "reference": options.reference,
        "failed": failed,
        "device": str(engine.device),
        "threads": torch.get_num_threads(),
        **recipe.as_dict(),
    }
    rows = summarise(records, bench.ranks, options.reference, data.held_out("test").users)
    if engine.is_main:
        write_results(bench.out, rows, about, records)
        seeds = f"seeds {', '.join(map(str, bench.seeds))}" if len(bench.seeds) > 1 else f"seed {bench.seeds[0]}"
        split = f" ({data.info.split_name})" if data.info.cut_times else ""
        plot_results(bench.out / PLOT_NAME, rows, f"{data.info.name}, test{split}, {seeds}")
    return {"about": about, "rows": rows}
