"""Options of the distillers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from foster.options import MOST_RATE, Options
from foster.training.options import LABEL_WINDOW, STUDENT

# Fields whose defaults differ from method to method.
Steps = Annotated[int, Field(ge=0, description="distillation steps; 0 keeps the starting point")]
SelectEvery = Annotated[int, Field(ge=1, description="steps between students that are trained to judge the sequences")]
LatentRate = Annotated[float, Field(gt=0, le=MOST_RATE, description="learning rate of the latents (Adam)")]
InnerRate = Annotated[float, Field(gt=0, le=MOST_RATE, description="learning rate of the inner Adam")]
InnerBatch = Annotated[int, Field(ge=1, description="synthetic sequences an inner step; all where there are fewer")]


OF_MOVING = (
    "lr",
    "batch_size",
    "select_every",
    "subset",
    "gap",
    "reset_every",
    "checkpoints",
    "inner_steps",
    "gap_weight",
    "gap_rule",
    "regulariser_weight",
    "regulariser",
    "plausibility",
    "model_lr",
    "experts",
    "expert_steps",
    "expert_lr",
    "checkpoint_every",
    "ahead",
    "student_lr",
    "rate_lr",
    "inner_lr",
    "inner_batch",
    "unroll",
)
"""Options of all methods that are read where sequences are moved only."""


class CondenseOptions(Options):
    """What every distiller takes; a subclass names its method and adds or overrides fields."""

    method: ClassVar[str]
    second_order: ClassVar[bool] = False
    """Whether it differentiates through gradients, which takes frozen item vectors."""

    sequences: int = Field(20, ge=1, description="M, synthetic sequences")
    length: int = Field(
        50,
        ge=2,
        description="L, steps of a sequence; no more than the teacher reads, to which the default gives way. In few "
        "bytes as many whole windows as it holds",
    )
    steps: Steps = 200
    lr: LatentRate = 0.01
    batch_size: int = Field(256, ge=1, description="real histories a step")
    select_every: SelectEvery = 100
    student_steps: int = Field(
        STUDENT.total_steps,
        ge=1,
        description="most training steps of a student, in the recipe that is stored; sequences without labels, and "
        "labels on a linear map of few bits, need fewer",
    )

    @property
    def unread(self) -> Mapping[str, str]:
        """Options that have no effect, since nothing is moved."""
        still = "sequences are not moved (steps 0)"
        return {name: still for name in OF_MOVING if name in type(self).model_fields} if self.steps == 0 else {}


class LatentOptions(CondenseOptions):
    """Of distillers whose steps are latents among item keys, over a sample of the items."""

    keys: Literal["text", "learned"] = Field(
        "text", description="what latents are compared with: public text vectors, or the teacher's item table"
    )
    temperature: float = Field(0.03, gt=0, description="tau of the softmax over cosine similarities")
    subset: int | None = Field(
        None,
        ge=0,
        description="N, items sampled a step; by default 512, or the catalogue where it is smaller; 0: the catalogue",
    )

    @field_validator("subset")
    @classmethod
    def _several(cls, value: int | None) -> int | None:
        if value == 1:
            raise ValueError("must be at least 2, or 0 for the whole catalogue")
        return value


OF_LABELS = ("targets", "sequences", "window", "start", "anonymity")
"""Options that ask for labels where they are given; so do steps of distillation, by which sequences are moved."""

NEXT_STEPS = 200  # of distillation by default, where labels are the next steps


class DistillOptions(LatentOptions):
    """FOSTER's options; the defaults were chosen on validation."""

    method: ClassVar[str] = "foster"

    steps: int = Field(
        0,
        ge=0,
        description="distillation steps. With soft targets moving the sequences added nothing to their starting point, "
        "so that by default there are none; with targets next there are 200",
    )
    lr: LatentRate = 0.002
    targets: Literal["soft", "next", "written"] = Field(
        "soft",
        description="labels: soft, the outer model's predictions; next, the following synthetic step; written, the "
        "next steps of histories that the teacher writes, beside a map of items in one or two bits. With too few bytes "
        "for a model that makes labels, validation users choose between soft and written, unless something is given "
        "that needs labels",
    )
    window: int = Field(
        LABEL_WINDOW,
        ge=0,
        description="steps of the short windows that have soft labels too, besides the whole; 0 for none",
    )

    @model_validator(mode="before")
    @classmethod
    def _next_steps_are_moved(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("targets") not in ("next", "written"):
            return given
        if given["targets"] == "written" or given.get("bytes") is not None:
            given = {"start": "generated"} | given
        return given if given.get("start") == "generated" else {"steps": NEXT_STEPS} | given

    @model_validator(mode="after")
    def _windows_are_of_labels(self) -> Self:
        if self.targets != "soft" and self.window != LABEL_WINDOW:
            raise ValueError(
                f"windows have soft labels, and with targets {self.targets} there are none; leave window out"
            )
        return self

    @model_validator(mode="after")
    def _bytes_are_of_labels(self) -> Self:
        if self.bytes is not None and self.targets == "next" and not self.generated:
            raise ValueError(
                "with targets next bytes is for start generated; else give sequences, which take some 3 kB each"
            )
        return self

    @model_validator(mode="after")
    def _generated_ones_stay(self) -> Self:
        if self.targets == "written" and (self.anonymity is not None or not self.generated):
            wrong = "start" if self.anonymity is None else "anonymity"
            raise ValueError(f"targets written are of histories that the teacher writes; leave {wrong} out")
        if self.generated and self.steps:
            raise ValueError(
                f"sequences that the teacher generates, with targets {self.targets}, are not moved; leave steps out"
            )
        return self

    @model_validator(mode="after")
    def _temperature_is_of_generated_ones(self) -> Self:
        asked = self.generation_temperature != type(self).model_fields["generation_temperature"].default
        # In few bytes the teacher may write them unless something else is given.
        other = self.bytes is None or self.model_fields_set.intersection(("start", "anonymity"))
        if asked and self.start != "generated" and other:
            raise ValueError("generation_temperature is for start generated; give that, or leave it out")
        return self

    @property
    def generated(self) -> bool:
        """Whether the sequences are histories that the teacher generates, without labels."""
        return self.start == "generated" and self.targets != "soft"

    @property
    def unread(self) -> Mapping[str, str]:
        """Options that have no effect, since nothing is moved or there are no latents."""
        written = "each step is an item that the teacher draws"
        return {**super().unread, **(dict.fromkeys(("keys", "temperature"), written) if self.generated else {})}

    @model_validator(mode="after")
    def _start_is_one_thing(self) -> Self:
        if self.anonymity is not None and self.start != "pieces":
            raise ValueError("anonymity takes the place of histories to start from; leave start out")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what was not asked for, so that folders are to the byte what they were before it was there."""
        content: dict[str, Any] = plain(self)
        if self.anonymity is None:
            content.pop("anonymity", None)
        if self.start != "generated":
            content.pop("generation_temperature", None)
        return content

    @field_validator("window")
    @classmethod
    def _has_a_next_step(cls, value: int) -> int:
        if value == 1:
            raise ValueError("must be at least 2, or 0 for whole sequences only")
        return value

    start: Literal["pieces", "whole", "long", "generated"] = Field(
        "pieces",
        description="what sequences start from: pieces of random real histories, no longer than a window; whole random "
        "ones; long ones; or generated, histories that the teacher draws. With targets next it is long ones or, with "
        "bytes, generated",
    )
    generation_temperature: float = Field(
        0.5, ge=0.01, le=10, description="what the teacher's scores are divided by, where it generates"
    )
    anonymity: int | None = Field(
        None,
        ge=2,
        description="start from walks along transitions that at least so many users made, in place of histories: less "
        "of them can be read in the sequences",
    )
    bytes: int | None = Field(
        None,
        ge=1,
        description="largest folder, item texts aside: how labels and the map of items are stored and, unless "
        "--sequences is given, how many sequences there are follow from it",
    )
    gap: Literal["value", "joint"] = Field(
        "value",
        description="value: outer minus inner loss (with soft targets minus their divergence: it seeks steps on which "
        "the two models disagree); joint: outer loss alone (a second reading of the paper)",
    )
    reset_every: int = Field(10, ge=0, description="R, steps between resets to a random checkpoint; 0 for none")
    checkpoints: int | None = Field(
        None, ge=1, description="resets draw from the first so many checkpoints of the trajectory; by default from all"
    )
    inner_steps: int = Field(2, ge=1, description="K, updates of the inner model a step")
    gap_weight: float = Field(1.0, ge=0, description="lambda, weight of the gap; the largest one with bome")
    gap_rule: Literal["fixed", "bome"] = Field(
        "fixed", description="lambda as given, or BOME's dynamic barrier (which soft targets leave constant)"
    )
    regulariser_weight: float = Field(0.1, ge=0, description="gamma, weight of L_r")
    regulariser: Literal["conditional", "cooccurrence"] = Field(
        "conditional", description="form of L_r: divergence of conditional distributions, or mutual information"
    )
    plausibility: float = Field(
        0.0, ge=0, description="beta, weight of the next-step loss under the outer model, with soft targets"
    )
    model_lr: float = Field(1e-3, gt=0, le=MOST_RATE, description="learning rate of outer and inner model (AdamW)")


class DMOptions(LatentOptions):
    """Options of distribution matching; the defaults were chosen on validation."""

    method: ClassVar[str] = "dm"

    steps: Steps = 400
    select_every: SelectEvery = 200


class DCOptions(LatentOptions):
    """Options of gradient matching; the defaults were chosen on validation."""

    method: ClassVar[str] = "dc"
    second_order: ClassVar[bool] = True

    lr: LatentRate = 0.03
    reset_every: int = Field(10, ge=1, description="steps between new random models")
    inner_steps: int = Field(5, ge=0, description="updates of the model on the sequences a step")
    model_lr: float = Field(1e-3, gt=0, le=MOST_RATE, description="learning rate of the model (AdamW)")


class MTTOptions(LatentOptions):
    """Options of trajectory matching; the defaults were chosen on validation."""

    method: ClassVar[str] = "mtt"
    second_order: ClassVar[bool] = True

    steps: Steps = 100
    select_every: SelectEvery = 50
    experts: int = Field(2, ge=1, description="models trained on the log whose paths are matched")
    expert_steps: int = Field(100, ge=1, description="SGD steps of an expert")
    expert_lr: float = Field(0.5, gt=0, le=MOST_RATE, description="learning rate of the experts")
    checkpoint_every: int = Field(10, ge=1, description="expert steps between checkpoints")
    ahead: int = Field(2, ge=1, description="E, checkpoints between the start of a student and its target")
    inner_steps: int = Field(10, ge=1, description="SGD steps in which a student should reach the target")
    student_lr: float = Field(
        0.05, gt=0, le=MOST_RATE, description="learning rate of the students at the start; it is learned"
    )
    rate_lr: float = Field(
        0.02, gt=0, le=MOST_RATE, description="learning rate (Adam) of the logarithm of the students' one"
    )

    @model_validator(mode="after")
    def _experts_reach_a_target(self) -> Self:
        if self.expert_steps < self.ahead * self.checkpoint_every:
            raise ValueError(
                f"expert_steps {self.expert_steps} end before the first target, at ahead x checkpoint_every = "
                f"{self.ahead * self.checkpoint_every}"
            )
        return self


class FarziOptions(CondenseOptions):
    """Farzi's options; the defaults fit a run on some ten thousand items into minutes on a CPU."""

    method: ClassVar[str] = "farzi"
    second_order: ClassVar[bool] = True

    steps: Steps = 40
    select_every: SelectEvery = 20
    width: int = Field(32, ge=1, description="d', width of the latents and of the decoder")
    temperature: float = Field(0.07, gt=0, description="tau of the softmax over all items")
    inner_steps: int = Field(20, ge=1, description="T, Adam steps on the synthetic sequences an outer step")
    inner_lr: InnerRate = 2e-3
    inner_batch: InnerBatch = 5


class TD3Options(CondenseOptions):
    """TD3's options; the defaults fit a run on some ten thousand items into minutes on a CPU.

    T, W and the inner learning rate are a fraction of the published ones (200, 40 and 0.005): with 0.005 the outer
    gradient exploded (its norm passed 10,000 on Games).
    """

    method: ClassVar[str] = "td3"
    second_order: ClassVar[bool] = True

    length: int = Field(50, ge=3, description="L, steps of a sequence; no more than the model reads")
    steps: Steps = 60
    lr: float = Field(0.01, gt=0, le=MOST_RATE, description="peak learning rate of the factors (Adam, cosine)")
    select_every: SelectEvery = 30
    rank: int = Field(8, ge=1, description="d1 = d2, rank of the sequence and of the position factor")
    start_score: float = Field(
        50.0,
        gt=0,
        le=1e6,  # beyond that numbers overflow
        description="score of the real item at the starting point before ranks are cut; higher is sharper",
    )
    inner_steps: int = Field(60, ge=1, description="T, most training steps of the learner an outer step")
    unroll: int = Field(15, ge=1, description="W, the last of these, which gradients go through; at most T")
    inner_lr: InnerRate = 1e-3
    inner_batch: InnerBatch = 10
    reset_every: int = Field(10, ge=1, description="outer steps after which the learner goes back to a checkpoint")

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.unroll > self.inner_steps:
            raise ValueError(f"unroll {self.unroll} is more than inner_steps {self.inner_steps}")
        return self


OPTIONS: dict[str, type[CondenseOptions]] = {
    options.method: options for options in (DistillOptions, DMOptions, DCOptions, MTTOptions, FarziOptions, TD3Options)
}
"""The class of the options of every distiller by its name."""
