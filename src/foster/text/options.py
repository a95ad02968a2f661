"""Options of the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator

from foster.options import Options

DEFAULT_ENCODER = "all-MiniLM-L6-v2"


class EncoderOptions(Options):
    """Which encoder turns item texts into vectors, and how."""

    encoder: str = Field(default=DEFAULT_ENCODER, min_length=1, description="name on the Hugging Face hub, or a folder")
    pooling: Literal["auto", "mean", "cls", "last"] = Field(
        default="auto",
        description="how token vectors become one: mean, first (cls) or last token; auto: what the model folder says, "
        "else last for a causal language model and mean for others",
    )
    max_tokens: int = Field(default=64, ge=4, description="texts are cut after so many tokens, special ones included")

    @field_validator("encoder")
    @classmethod
    def _absolute(cls, value: str) -> str:
        """Artefacts name their encoder, and are read from other folders than they were made in."""
        return str(Path(value).resolve()) if Path(value).is_dir() else value

    def at(self, place: str | None) -> Self:
        """Return these options for the same encoder at another place, a folder or a hub name; None for the same.

        Raises:
            InputError: an empty name.
        """
        return self if place is None else self.parse({**self.model_dump(), "encoder": place}, "encoder")
