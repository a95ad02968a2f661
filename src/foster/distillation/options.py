"""Options of the distillers: what all share, and FOSTER's own."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from foster.options import Options
from foster.training.options import STUDENT
from foster.training.soft_labels import LABEL_WINDOW


class CondenseOptions(Options):
    """What every distiller takes; a subclass names its method and adds or overrides fields."""

    method: ClassVar[str]
    second_order: ClassVar[bool] = False
    """Whether it differentiates through gradients, which takes frozen item vectors."""

    sequences: int = Field(20, ge=1, description="M, synthetic sequences")
    length: int = Field(50, ge=2, description="L, steps of a sequence; no more than the model reads")
    steps: int = Field(200, ge=0, description="distillation steps; 0 keeps the starting point")
    lr: float = Field(0.01, gt=0, description="learning rate of the latents (Adam)")
    batch_size: int = Field(256, ge=1, description="real histories a step")
    select_every: int = Field(100, ge=1, description="steps between students that are trained to judge the sequences")
    student_steps: int = Field(
        STUDENT.steps, ge=1, description="training steps of a student, in the recipe that is stored"
    )


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


class DistillOptions(LatentOptions):
    """FOSTER's options; the defaults were chosen on validation."""

    method: ClassVar[str] = "foster"

    lr: float = Field(0.002, gt=0, description="learning rate of the latents (Adam)")
    targets: Literal["soft", "next"] = Field(
        "soft", description="labels: soft, the outer model's predictions; next, the following synthetic step"
    )
    window: int = Field(
        LABEL_WINDOW,
        ge=0,
        description="steps of the short windows that have soft labels too, besides the whole; 0 for none",
    )

    @field_validator("window")
    @classmethod
    def _has_a_next_step(cls, value: int) -> int:
        if value == 1:
            raise ValueError("must be at least 2, or 0 for whole sequences only")
        return value

    gap: Literal["value", "joint"] = Field(
        "value",
        description="value: outer minus inner loss; joint: outer loss alone (a second reading of the paper)",
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
    model_lr: float = Field(1e-3, gt=0, description="learning rate of outer and inner model (AdamW)")
