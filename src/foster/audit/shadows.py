"""Shadows: everything that was made of a log, made anew of half of its users, to see what tells these from the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from foster.audit.options import AuditOptions
from foster.audit.pieces import run_scores, shared_runs, visible_sequences
from foster.audit.signals import label_scores, model_scores
from foster.condensed.labels import student_recipe
from foster.condensed.sequences import Condensed
from foster.coresets.select import METHODS, select
from foster.data.dataset import Dataset, fingerprint
from foster.data.defaults import LEAVE_ONE_OUT
from foster.data.histories import Histories
from foster.distillation.distill import distill, start_of
from foster.distillation.options import OPTIONS, CondenseOptions, DistillOptions
from foster.engine import Engine
from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.models.privacy import Privacy
from foster.models.recommender import TextRecommender
from foster.runs import pretrain, train
from foster.training.loop import on_log
from foster.training.options import PrivacyOptions, TrainOptions

RUNS = "runs"
"""Key of the longest run that each history shares with the sequences, beside the scores."""

BESIDE = "coreset "
"""What names of surfaces of a coreset of random histories begin with, which is made beside for comparison."""

FEWEST = 3  # shadows: one is guessed, and the others need a user who is a member and one who is none


@dataclass(frozen=True)
class Recipe:
    """How a folder of sequences was made, as far as shadows can do it again.

    Attributes:
        sequences: the folder.
        options: of its distillation; None for a coreset.
        model: shape of its teacher.
        train: how its teacher was trained, with the steps of a shadow.
        student_steps: most steps of a student.
        seed: of everything that is drawn.
        engine: device.
        privacy: budget of its teacher, if that was private; each shadow has it, too.
    """

    sequences: Condensed
    options: CondenseOptions | None
    model: ModelOptions
    train: TrainOptions
    student_steps: int
    seed: int
    engine: Engine
    privacy: PrivacyOptions | None = None

    @classmethod
    def of(
        cls,
        sequences: Condensed,
        options: AuditOptions,
        teacher: tuple[ModelOptions, TrainOptions] | None,
        data: Dataset,
        seed: int,
        engine: Engine,
    ) -> Recipe:
        """Read from sequences how they were made.

        Args:
            sequences: distilled, or a coreset.
            options: of the audit.
            teacher: shape and recipe of their teacher; by default the shape of their students, with the usual dropout
                and at least as many items as a sequence has, and the recipe that ``pretrain`` has.
            data: the log that they were made from.
            seed: of everything that is drawn.
            engine: device.

        Raises:
            InputError: they do not say, or it is a method that there is none of.
        """
        condense = None
        if sequences.kind == "distilled":
            stored = sequences.info.get("options")
            if sequences.method not in OPTIONS or not isinstance(stored, dict):
                raise InputError(
                    f"audit: the sequences do not say by which options '{sequences.method}' made them, so that shadows "
                    "cannot be made alike; give --shadows 0 to look at their pieces alone"
                )
            if stored.get("bytes") is not None:
                # They are as many as the bytes pay for, and so are those of shadows.
                stored = {name: value for name, value in stored.items() if name != "sequences"}
            condense = OPTIONS[sequences.method].parse(stored, "options of the sequences")
        elif sequences.method not in METHODS:
            raise InputError(f"audit: '{sequences.method}' is no method of foster select; give --shadows 0")
        budget = None
        if (stated := sequences.info.get("privacy")) is not None:
            spent = Privacy.of(stated, "privacy of the sequences")
            budget = PrivacyOptions(epsilon=spent.epsilon, delta=spent.delta)
            if teacher is None:
                raise InputError("audit: the sequences come from a private teacher; name it by --teacher")
        if teacher is None:
            # Students of soft labels go without the dropout that their teacher had, those of a map with more.
            usual = {"dropout": ModelOptions().dropout} if sequences.adapter is not None else {}
            shape = sequences.model.model_copy(update=usual)
            if condense is not None and condense.length > shape.max_length:
                # Students of labels in short windows read no more than these; their teacher reads what it distils.
                shape = shape.model_copy(update={"max_length": condense.length})
            teacher = shape, TrainOptions()
        model, train = teacher
        steps = on_log(train, data).total_steps
        train = train.model_copy(update={"steps": min(steps, options.shadow_steps)})
        return cls(sequences, condense, model, train, options.shadow_student_steps, seed, engine, budget)


@dataclass(frozen=True)
class Shadow:
    """One shadow.

    Attributes:
        data: the log of its members.
        teacher: trained on it.
        folder: where the teacher lies.
        histories: of all users, members or not, of whom something can be asked.
        recipe: how everything is made.
        seed: of this shadow.
    """

    data: Dataset
    teacher: TextRecommender
    folder: Path
    histories: Histories
    recipe: Recipe
    seed: int

    def condensed(self, options: CondenseOptions | None) -> Condensed:
        """Return sequences of the members, made by options of a distillation, or like the coreset for None."""
        recipe = self.recipe
        if options is None:
            return self.coreset(recipe.sequences.method)
        if options.steps == 0 and not (isinstance(options, DistillOptions) and options.bytes):
            return start_of(self.data, self.folder, options, seed=self.seed, engine=recipe.engine).rounded()
        made = {"seed": self.seed, "engine": recipe.engine, "progress": False}
        return distill(self.data, self.folder, options, **made)[0]  # type: ignore[arg-type]

    def coreset(self, method: str = "random") -> Condensed:
        """Return as many real histories as there are sequences, or all where there are fewer."""
        few, engine = min(len(self.recipe.sequences), len(self.data.training_histories())), self.recipe.engine
        return select(method, self.data, few, teacher_path=self.folder, seed=self.seed, engine=engine)

    def student(self, sequences: Condensed) -> TextRecommender:
        """Train a student as the sequences say, for fewer steps."""
        recipe = student_recipe(sequences, sequences.encoder, sequences.model)
        recipe = recipe.model_copy(update={"steps": min(recipe.total_steps, self.recipe.student_steps)})
        return train(sequences, train=recipe, like=self.teacher, seed=self.seed, engine=self.recipe.engine)[0]

    def scores(self, sequences: Condensed, name: str = "") -> dict[str, np.ndarray]:
        """Return what sequences, their labels and their student say of every user: ``[U]`` by what says it.

        Args:
            sequences: of this shadow.
            name: put before each key.
        """
        found = {"sequences": run_scores(visible_sequences(sequences), self.histories)}
        labels = label_scores(sequences, self.teacher, self.histories)
        if labels is not None:
            found["labels"] = labels
        found["student"] = model_scores(self.student(sequences).eval(), self.histories)
        return {f"{name}{what}": scores for what, scores in found.items()}


def askable(data: Dataset) -> np.ndarray:
    """Return the numbers of the users whose training history has two items or more: those whom audits ask about."""
    return np.flatnonzero(data.partition.train_ends - data.offsets[:-1] > 1)


def of_users(data: Dataset, users: np.ndarray) -> Dataset:
    """Return the log of some users, ascending numbers; all items stay, with their numbers.

    Raises:
        InputError: data that are split by time, whose items are numbered by when users first met them.
    """
    if data.info.split != LEAVE_ONE_OUT:
        raise InputError(
            f"{data.info.name}: is split by time, and with other users other items would come later; give --shadows 0, "
            "or prepare it with --split leave-one-out"
        )
    lengths = np.diff(data.offsets)[users]
    kept = np.zeros(data.n_users, dtype=bool)
    kept[users] = True
    rows = np.repeat(kept, np.diff(data.offsets))
    update = {"users": len(users), "interactions": int(rows.sum()), "k_core": 0}
    part = replace(
        data,
        user_ids=[data.user_ids[user] for user in users],
        sequence_items=data.sequence_items[rows],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        timestamps=data.timestamps[rows],
        info=data.info.model_copy(update=update),
    )
    return replace(part, info=part.info.model_copy(update={"fingerprint": fingerprint(part)}))


@contextmanager
def shadow_of(data: Dataset, members: np.ndarray, recipe: Recipe, number: int) -> Iterator[Shadow]:
    """Train a teacher on some users; its folder is there as long as the block lasts.

    Args:
        data: the log of all users.
        members: bool, which of the users of ``askable`` take part.
        recipe: how.
        number: of the shadow, for its seed.

    Raises:
        InputError: see ``of_users`` and ``pretrain``.
    """
    users = askable(data)
    part, seed = of_users(data, users[members]), recipe.seed + 1 + number
    with TemporaryDirectory() as name:
        folder = Path(name) / "teacher"
        teacher, _ = pretrain(
            part,
            folder,
            encoder=recipe.sequences.encoder,
            model=recipe.model,
            train=recipe.train,
            privacy=recipe.privacy,
            seed=seed,
            engine=recipe.engine,
        )
        yield Shadow(part, teacher.eval(), folder, data.histories("train", users), recipe, seed)


def surfaces(shadow: Shadow) -> dict[str, np.ndarray]:
    """Return what everything that a shadow gives says of every user: ``[U]`` by surface."""
    recipe = shadow.recipe
    sequences = shadow.condensed(recipe.options)
    found = shadow.scores(sequences)
    found[RUNS] = shared_runs(visible_sequences(sequences), shadow.histories).longest.astype(np.float64)
    found["teacher"] = model_scores(shadow.teacher, shadow.histories)
    if recipe.sequences.method == "random":
        return found  # they are such a coreset
    return found | shadow.scores(shadow.coreset(), BESIDE)
