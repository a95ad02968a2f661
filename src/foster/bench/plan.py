"""What a benchmark compares: the log, its rows, budgets, seeds and students, and so all runs that there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from foster.bench.budgets import budgets_of
from foster.bench.options import BenchOptions
from foster.bench.rows import METHODS, Recipe, Run, Student, Variant, students_of, variants_of
from foster.coresets.goracs import require_pot
from foster.coresets.select import NEED_SASREC
from foster.data.dataset import Dataset
from foster.data.new_items import NewItems, withhold
from foster.distillation.options import OPTIONS, CondenseOptions, DistillOptions
from foster.errors import InputError, did_you_mean
from foster.models.options import ModelOptions
from foster.runs import check_mixup
from foster.text.options import EncoderOptions
from foster.training.loop import on_log
from foster.training.options import TeacherOptions, TrainOptions

CHECKPOINT_STARTS = frozenset({"farzi", "td3"})
"""Methods whose papers train students from a checkpoint of real training; random joins them as a control."""

Say = Callable[[str], None]


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


@dataclass(frozen=True, eq=False)
class Plan:
    """What a benchmark compares.

    Attributes:
        data: the log, without items that are withheld.
        new: these items, to be ranked apart.
        recipe: of teacher and models.
        variants: the rows.
        options: seeds and budgets, as they were given.
        budgets: numbers of sequences or of bytes, ascending.
        seeds: of the runs.
        students: other models that are trained too.
    """

    data: Dataset
    new: NewItems | None
    recipe: Recipe
    variants: list[Variant]
    options: BenchOptions
    budgets: list[int]
    seeds: range
    students: list[Student]

    @property
    def in_bytes(self) -> bool:
        """Whether budgets are bytes."""
        return self.options.bytes is not None

    def runs(self) -> list[Run]:
        """Return all runs, seed by seed, those of other students behind the rest."""
        starts = any(variant.method in CHECKPOINT_STARTS for variant in self.variants)
        out: list[Run] = []
        for seed in self.seeds:
            own: list[Run] = []
            for variant in self.variants:
                for budget in [None] if variant.method in ("popularity", "full") else self.budgets:
                    run = Run(variant, budget, seed, in_bytes=self.in_bytes)
                    own.append(run)
                    if starts and variant.method in CHECKPOINT_STARTS | {"random", "full"}:
                        own.append(replace(run, checkpoint=True))
            trained = [run for run in own if not run.checkpoint and run.variant.method != "popularity"]
            out += own + [replace(run, student=student) for student in self.students for run in trained]
        return out

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


def plan_of(
    data: Dataset,
    *,
    recipe: Recipe | None = None,
    options: BenchOptions | None = None,
    extra: Mapping[str, Any] | None = None,
    source: str = "--variants",
    students: Mapping[str, Any] | None = None,
    students_source: str = "--students",
    seed: int = 0,
    say: Say = lambda line: None,
) -> Plan:
    """Return the plan of a benchmark of a log; the rest of the arguments is described at ``BenchArguments``.

    Raises:
        InputError: a reference that is no row, a budget beyond the users, a missing extra, a method that cannot work on
            such models; see ``variants_of`` and ``students_of`` for more.
    """
    options = options or BenchOptions()
    recipe = recipe or Recipe(EncoderOptions(), ModelOptions(), TrainOptions(), TeacherOptions())
    methods = options.methods
    if methods is None:
        without = [name for name in METHODS if any(name in unfit for unfit, _, _ in _unfit(recipe.model))]
        methods = tuple(name for name in METHODS if name not in without)
        if without:
            say(f"without {', '.join(without)}: they do not work on such models")
    variants = variants_of(methods, extra or {}, source)
    names = [variant.name for variant in variants]
    if options.reference is not None and options.reference not in names:
        hint = did_you_mean(options.reference, names)
        raise InputError(f"--reference: no row '{options.reference}'{hint}; name one of {', '.join(names)}")
    others = students_of(students or {}, recipe, students_source)
    data, new = withhold(data, options.new_items) if options.new_items else (data, None)
    check_mixup(recipe.train, data)
    recipe = replace(recipe, train=on_log(recipe.train, data))
    budgets = budgets_of(options, len(data.need_training_histories()))
    if any(variant.method == "goracs" for variant in variants):
        require_pot()
    for unfit, basis, fix in _unfit(recipe.model):
        _refuse([variant.method for variant in variants if variant.method in unfit], basis, fix)
    return Plan(data, new, recipe, variants, options, budgets, range(seed, seed + options.seeds), others)


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
