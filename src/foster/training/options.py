"""Options of training, and the recipes."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field

from foster.errors import InputError
from foster.options import MOST_RATE, Options


class TrainOptions(Options):
    """The recipe: the same for the full log, for distilled data and for coresets."""

    steps: int | None = Field(
        None,
        ge=1,
        description="optimiser steps; the learning rate falls to zero over them (cosine); by default what is stored "
        "with sequences; on a log 8000, or for few users as many as go through its interactions 40 times",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="histories a step on average, of all processes together; by default a sixteenth of all, but at "
        "least 32 and at most 256",
    )
    lr: float = Field(3e-3, gt=0, le=MOST_RATE, description="peak learning rate of AdamW")
    weight_decay: float = Field(0.01, ge=0, le=MOST_RATE, description="weight decay of AdamW")
    warmup: int = Field(50, ge=0, description="steps of linear warm-up")
    candidates: int = Field(
        1024,
        ge=1,
        description="items sampled a step for the softmax; the whole catalogue where that is smaller (soft labels need "
        "them only where items are no linear map of the text vectors that the labels refer to)",
    )
    mixup: bool = Field(
        False, description="mix pairs of contexts of soft labels, and their labels as much (for few labels)"
    )
    eval_every: int = Field(250, ge=1, description="steps between validations")
    eval_users: int = Field(5000, ge=1, description="users drawn once for validation during training")
    patience: int = Field(
        8,
        ge=0,
        description="validations without a better NDCG@10 before training stops and the best weights are taken; 0 "
        "trains to the end and takes the last ones",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="number type of the matrix products in training; auto is bfloat16 on CPUs that have instructions "
        "for it, else float32",
    )

    @classmethod
    def stored(cls, values: Any, where: str) -> Self:
        """Build a recipe that a folder holds; see ``Options.stored``. It says how many steps were made or are to be.

        Raises:
            InputError: a field is missing or unknown, or has a wrong value.
        """
        recipe = super().stored(values, where)
        if recipe.steps is None:
            raise InputError(f"{where}: option 'steps' must be a number (got None); make or copy the folder again")
        return recipe

    @property
    def total_steps(self) -> int:
        """The steps of a recipe that has them: that of sequences, or of a log from ``on_log`` on."""
        assert self.steps is not None
        return self.steps


MOST_STEPS = 8000
PASSES = 40
FEW_USERS = 8000
"""Steps on a log, where a recipe has none: at most 8000, and at most 40 passes, by more of which a small log is learned
by heart; of more users than 8000, more passes in proportion (benchmarks/research.md, 80)."""


def batch_size_of(options: TrainOptions, histories: int, most: int = 256) -> int:
    """Return how many histories a step has on average, of all processes together; by default ``most`` at most."""
    return options.batch_size or min(max(histories // 16, 32), most)


STUDENT = TrainOptions(steps=4000, lr=2e-2, weight_decay=0.1, candidates=2048, patience=0)
"""The recipe for a handful of sequences with soft labels, which are hardly learned by heart: the last weights count."""

EXPERT_STEPS = 1000
"""Steps of students whose experts learn of items what labels on a linear map of few bits say: more are no better
(benchmarks/research.md, 95)."""

HARD_LABELS = TrainOptions(steps=300, lr=1e-3, warmup=20, candidates=2048, eval_every=20, patience=5)
"""The recipe for real histories: they are learned by heart within some dozens of steps, so validate often."""

GENERATED = TrainOptions(steps=2000, warmup=100, patience=0)
"""The recipe for thousands of histories that a teacher generated: they vary less than real ones, so few steps do."""

MANY = 256  # histories without labels above which a step of training sees a batch of so many, as of a log

WRITTEN = TrainOptions(steps=500, lr=1e-3, warmup=100, patience=0)
WRITTEN_FIXED = TrainOptions(steps=1000, lr=3e-3, warmup=100, patience=0)
WRITTEN_PASSES = 60
WRITTEN_WARM = 5
WRITTEN_DROPOUT = 0.3
"""The recipe for such histories with a map of items to start from, which moves or, one of experts, stays as it is. Few
histories are learned by heart in more than so many passes; they warm up over a fifth of their steps. And the dropout of
these students (benchmarks/research.md, 93 and 94)."""

FINISH = 0.25
"""How much of the steps on a log is made by a model that was trained on sequences before: with a tenth, options rank
less as on the whole log (benchmarks/research.md, 86)."""

GOES_ON_SHARE = 0.1
"""How much of them is made by a teacher that goes on (benchmarks/results/tuned.md)."""

WARM = 8  # short trainings warm up over an eighth of their steps

TUNED_RATE = 5e-4  # most of the rate where a language model is tuned beside weights that have learned already

GOES_ON = TrainOptions(lr=TUNED_RATE, warmup=10, eval_every=50)
"""The recipe on a log of a model that starts from a teacher, see ``going_on`` (benchmarks/results/tuned.md)."""

LABEL_WINDOW = 10  # steps of the short windows that have soft labels of their own, by default

TUNED_CANDIDATES = 512


def affordable(recipe: TrainOptions, finetune: str) -> TrainOptions:
    """Return a recipe for sequences with at most 512 candidates where a tuned language model encodes them all.

    That many a distillation step has too. Frozen vectors cost next to nothing and are sampled as the recipe says.
    """
    if finetune == "frozen":
        return recipe
    return recipe.model_copy(update={"candidates": min(recipe.candidates, TUNED_CANDIDATES)})


class TeacherOptions(Options):
    """The trajectory that is recorded."""

    checkpoints: int = Field(20, ge=2, description="checkpoints of the trajectory, dense early and even later")
    half: bool = Field(True, description="store checkpoints in float16")


class PrivacyOptions(Options):
    """The budget; clip, noise and sampling follow from it and from the recipe."""

    epsilon: float | None = Field(
        None,
        gt=0,
        description="train with user-level differential privacy of this epsilon, all that the teacher hands on "
        "included; needs the extra 'private'",
    )
    delta: float = Field(
        1e-6, gt=0, lt=1, description="of --epsilon: less than one divided by the number of users, best by far"
    )
