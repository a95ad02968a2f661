"""Arguments and option groups that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions

MODEL = (EncoderOptions, ModelOptions)
TRAINING = (*MODEL, TrainOptions)
TEACHER = (*TRAINING, TeacherOptions)

Out = Annotated[Path, typer.Option("--out", help="folder to make")]
OutOrNone = Annotated[Path | None, typer.Option("--out", help="folder to make (required without --dry-run)")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="say from a short trial what it takes: time, memory, disk; and write nothing")
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="replace the folder if it exists, and what another command left unfinished there"),
]
LabelEncoder = Annotated[
    str | None, typer.Option(help="another place of the encoder that the sequences were made with")
]
Data = Annotated[Path, typer.Argument(help="folder that 'foster prepare' made")]
