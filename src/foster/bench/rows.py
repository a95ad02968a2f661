"""The rows of a benchmark: methods with options of their own, the models that they train, and single runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from foster.coresets.select import METHODS as CORESETS
from foster.coresets.select import NEED_TEACHER
from foster.distillation.options import OPTIONS, CondenseOptions
from foster.errors import InputError, did_you_mean
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions

ALWAYS = ("popularity", "random", "full")
"""Rows that every table has, whatever was asked for."""

METHODS = (*ALWAYS[:2], *(name for name in CORESETS if name != "random"), *OPTIONS, "full")


@dataclass(frozen=True)
class Variant:
    """A row of the table: a method, with options of its own.

    Attributes:
        name: of the row.
        method: popularity, full, or the name of a coreset or of a distiller.
        options: of a distiller, without M; None for the others.
    """

    name: str
    method: str
    options: CondenseOptions | None = None

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's training is part of its cost."""
        return self.options is not None or self.method in NEED_TEACHER


@dataclass(frozen=True)
class Student:
    """Another kind of model than the teacher's, which is trained on what every method made, and on the full log.

    Attributes:
        name: in its rows.
        encoder: its text encoder.
        model: its shape.
    """

    name: str
    encoder: EncoderOptions
    model: ModelOptions

    def as_dict(self) -> dict[str, Any]:
        """Return its options by group."""
        return {"encoder": self.encoder.model_dump(), "model": self.model.model_dump()}


@dataclass(frozen=True)
class Run:
    """One row, budget and seed: what is run at once, and once only.

    Attributes:
        variant: the method.
        budget: M, or most bytes of a folder; None where nothing is condensed.
        seed: of everything.
        checkpoint: whether students start from a checkpoint of the teacher; the full log then has no training at all.
        student: what is trained; None for the model of the teacher.
        in_bytes: whether the budget is one of bytes.
    """

    variant: Variant
    budget: int | None
    seed: int
    checkpoint: bool = False
    student: Student | None = None
    in_bytes: bool = False

    @property
    def row(self) -> str:
        """The name of its row."""
        if self.student:
            return f"{self.variant.name}@{self.student.name}"
        if not self.checkpoint:
            return self.variant.name
        return "checkpoint" if self.variant.method == "full" else f"{self.variant.name}+checkpoint"

    @property
    def artefact(self) -> str:
        """The name of what it trains on, among the folders of a seed; all students of a method share it."""
        return self.variant.name + self._size

    @property
    def name(self) -> str:
        """Its name among the runs of a seed."""
        return self.row + self._size

    @property
    def _size(self) -> str:
        return "" if self.budget is None else f"-{self.budget}{'B' if self.in_bytes else ''}"


@dataclass(frozen=True)
class Recipe:
    """How teachers and models are made in a benchmark, the same for all of it."""

    encoder: EncoderOptions
    model: ModelOptions
    train: TrainOptions
    teacher: TeacherOptions

    def as_dict(self) -> dict[str, Any]:
        """Return all options by group."""
        return {name: group.model_dump() for name, group in vars(self).items()}


def variants_of(names: Iterable[str], extra: Mapping[str, Any], source: str = "--variants") -> list[Variant]:
    """Return the rows to run: methods by name, then what ``extra`` adds.

    Args:
        names: methods.
        extra: ``{row: {"method": name, option: value, ...}}``; a row with a method's own name replaces it.
        source: where ``extra`` comes from, named in errors.

    Raises:
        InputError: an unknown method or option, or a row of one method with the name of another.
    """
    rows = {name: _variant(name, {"method": name}, "--methods") for name in (*ALWAYS, *names)}
    for name, content in extra.items():
        if not _is_name(name):
            raise InputError(f"{source}: row '{name}' must have a name of letters, digits, hyphens and underscores")
        if not isinstance(content, dict) or "method" not in content:
            raise InputError(f"{source}: row '{name}' must hold 'method' and its options, as in 'method: foster'")
        row = _variant(str(name), content, f"{source}: row '{name}'")
        if row.name in METHODS and row.name != row.method:
            raise InputError(f"{source}: row '{name}' has the name of a method, and is of {row.method}; rename it")
        rows[row.name] = row
    return sorted(rows.values(), key=lambda row: (METHODS.index(row.method), row.name != row.method))


def _variant(name: str, content: dict[str, Any], source: str) -> Variant:
    method = str(content["method"])
    if method not in METHODS:
        hint = did_you_mean(method, METHODS)
        raise InputError(f"{source}: unknown method '{method}'{hint}; known: {', '.join(METHODS)}")
    given = {key: value for key, value in content.items() if key != "method"}
    for size, flag in (("sequences", "--budgets"), ("bytes", "--bytes")):
        if size in given:
            raise InputError(f"{source}: '{size}' is the same for all rows; remove it, and give {flag}")
    if method in OPTIONS:
        return Variant(name, method, OPTIONS[method].parse(given, source))
    if given:
        raise InputError(f"{source}: {method} takes no options, but '{next(iter(given))}' is given; remove it")
    return Variant(name, method)


def _is_name(name: object) -> bool:
    """Whether a file can have it, and nothing else in a table is named so."""
    return str(name).replace("-", "").replace("_", "").isalnum()


def students_of(given: Mapping[str, Any], recipe: Recipe, source: str = "--students") -> list[Student]:
    """Return the other models to train.

    Args:
        given: ``{name: {option: value, ...}}``, options of model and encoder that differ from the recipe's.
        recipe: of the benchmark.
        source: where ``given`` comes from, named in errors.

    Raises:
        InputError: an unknown option, or a name that no file can have.
    """
    students = []
    for name, content in given.items():
        if not isinstance(content, dict) or not content or not _is_name(name):
            raise InputError(
                f"{source}: student '{name}' must have a name of letters, digits and hyphens, and hold what differs, "
                "as in 'gru4rec: {backbone: gru4rec}'"
            )
        where = f"{source}: student '{name}'"
        encoder = {key: value for key, value in content.items() if key in EncoderOptions.model_fields}
        model = {key: value for key, value in content.items() if key not in encoder}
        students.append(
            Student(
                str(name),
                EncoderOptions.parse({**recipe.encoder.model_dump(), **encoder}, where),
                ModelOptions.parse({**recipe.model.model_dump(), **model}, where),
            )
        )
    return students
