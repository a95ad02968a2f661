"""Options of a search."""

from __future__ import annotations

from pydantic import Field

from foster.options import Options


class TuneOptions(Options):
    """How long a search goes on, and what is done with the best."""

    trials: int = Field(
        50, ge=1, description="trials of the study in all, those of earlier calls and of other processes included"
    )
    timeout: float | None = Field(None, gt=0, description="seconds after which this call starts no further trial")
    finish: bool = Field(
        False,
        description="go on with each trial on the log of --validation, for --steps (by default a quarter of those of "
        "a training on it): so options rank most as on the log",
    )
    retrain: int = Field(
        0, ge=0, description="how many of the best trials' options are trained on the full log, to see which is right"
    )
    retrain_steps: int | None = Field(
        None, ge=1, description="steps of each training of --retrain; those of 'foster pretrain' by default"
    )
