"""Options of the recommender."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from foster.options import MOST_RATE, Options

WITHOUT_EFFECT: dict[str, tuple[str, ...]] = {
    "sasrec": (),
    "gru4rec": ("heads",),
    "hstu": (),
    "ligr": (),
    "mean": ("layers", "heads"),
}
"""Options that a backbone does not read."""

OF_TUNED = ("lm_lr_ratio", "lm_dtype", "lm_chunk")
"""Options that are read of a language model that is tuned only."""


def unread(backbone: str, finetune: str) -> frozenset[str]:
    """Return the options that a model does not read, so that trainings that differ in them are the same."""
    return frozenset((*WITHOUT_EFFECT[backbone], *(OF_TUNED if finetune == "frozen" else ())))


class ModelOptions(Options):
    """Shape of the item tower and the sequence model."""

    dim: int = Field(128, ge=4, le=2**16, description="width of item vectors and states")
    backbone: Literal["sasrec", "gru4rec", "hstu", "ligr", "mean"] = Field(
        "sasrec",
        description="sequence model: self-attention, recurrent units, gated aggregation without a softmax, "
        "self-attention with gated residuals, or the mean of the history",
    )
    adapter: Literal["moe", "linear"] = Field(
        "moe", description="from text features to item vectors: UniSRec's mixture of experts, or a linear map"
    )
    ids: bool = Field(
        False, description="give each item that occurs in training a vector of its own, added to what its text says"
    )
    layers: int = Field(2, ge=1, le=2**10, description="blocks of SASRec and LiGR, layers of GRU4Rec, units of HSTU")
    heads: int = Field(2, ge=1, description="heads of SASRec, LiGR and HSTU")
    max_length: int = Field(50, ge=2, le=2**20, description="the most recent items of a history that the model reads")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout of text features and sequence model")
    finetune: str = Field(
        "frozen",
        description="language model: frozen, top:K (the last K layers), lora:R (updates of rank R) or all; on "
        "sequences it is tuned when the rest has learned, for --steps",
    )
    lm_lr_ratio: float | None = Field(
        None,
        gt=0,
        le=MOST_RATE,
        description="learning rate of a tuned language model in units of that of the rest; by default 0.1 for lora:R, "
        "0.01 for whole layers",
    )
    lm_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="number type of a tuned language model's matrix products"
    )
    lm_chunk: int | None = Field(
        None,
        ge=1,
        description="items whose activations in a tuned language model are kept at once, the others' being computed "
        "again for the gradient; by default all",
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if "heads" not in WITHOUT_EFFECT[self.backbone] and self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is no multiple of heads {self.heads}")
        return self

    @property
    def unread(self) -> Mapping[str, str]:
        """Options that this model does not read, and why."""
        why = {True: "the language model is frozen", False: f"the backbone is {self.backbone}"}
        return {name: why[name in OF_TUNED] for name in unread(self.backbone, self.finetune)}
