"""Options of the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator

from foster.options import Options

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
WORDS = 512  # numbers that stand for words: by default, and at most, since they are the bits of a hash


class EncoderOptions(Options):
    """Which encoder turns item texts into vectors, and how."""

    later: ClassVar[Mapping[str, Any]] = {"words": 0}

    encoder: str = Field(default=DEFAULT_ENCODER, min_length=1, description="name on the Hugging Face hub, or a folder")
    pooling: Literal["auto", "mean", "cls", "last"] = Field(
        default="auto",
        description="how token vectors become one: mean, first (cls) or last token; auto: what the model folder says, "
        "else last for a causal language model and mean for others",
    )
    max_tokens: int = Field(default=64, ge=4, description="texts are cut after so many tokens, special ones included")
    words: int = Field(
        default=WORDS,
        ge=0,
        le=WORDS,
        description="numbers that stand for the words of a text, beside the vector of the encoder; 0: none",
    )

    @field_validator("encoder")
    @classmethod
    def _absolute(cls, value: str) -> str:
        """Artefacts name their encoder, and are read from other folders than they were made in."""
        return str(Path(value).resolve()) if Path(value).is_dir() else value

    def __str__(self) -> str:
        """Return what cards say of it."""
        return f"{self.encoder} and the words of texts" if self.words else self.encoder

    def at(self, place: str | None) -> Self:
        """Return these options for the same encoder at another place, a folder or a hub name; None for the same.

        Raises:
            InputError: an empty name.
        """
        return self if place is None else self.parse({**self.model_dump(), "encoder": place}, "encoder")
