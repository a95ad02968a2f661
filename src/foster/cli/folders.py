"""Folders that a verb reads, and the one that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foster.errors import InputError

if TYPE_CHECKING:
    from foster.artefacts import Place
    from foster.data.dataset import Dataset


def read_data(folder: Path) -> Dataset:
    """Read a data set folder; InputError if it holds something else."""
    from foster.artefacts import artefact_kind, kind_words
    from foster.data.dataset import Dataset

    if (kind := artefact_kind(folder)) != "dataset":
        raise InputError(
            f"{folder}: holds {kind_words(kind)}, but a data set is needed; make one with 'foster prepare'"
        )
    return Dataset.read(folder)


def kind_to_train_on(folder: Path) -> str:
    """Return the kind of a folder that models train on; InputError if it holds something else."""
    from foster.artefacts import artefact_kind, kind_words

    kind = artefact_kind(folder)
    if kind not in ("dataset", "distilled", "coreset"):
        raise InputError(
            f"{folder}: holds {kind_words(kind)}; give a folder that foster distill, select or prepare made"
        )
    return kind


def free(out: Path, overwrite: bool, *inputs: str | Path | None) -> Place:
    """Return the place of what a verb makes, to be filled when its work is done."""
    from foster.artefacts import check_free

    return check_free(out, overwrite, inputs)


def place_or_here(out: Path | None, dry_run: bool) -> Path:
    """Return where a verb writes; without ``--out``, a dry run looks at the current folder."""
    if out is None and not dry_run:
        raise InputError("--out is missing: folder to make; or say --dry-run, to see what it takes")
    return out or Path()
