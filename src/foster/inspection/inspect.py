"""Which kinds of folders there are to look at, and what a look needs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from foster.artefacts import CONFIG_NAME, DATASET_NAME, artefact_kind, read_json
from foster.errors import InputError
from foster.inspection.page import Inspected

if TYPE_CHECKING:
    import torch

    from foster.data.dataset import Dataset

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "dataset": "dataset",
        "distilled": "condensed",
        "coreset": "condensed",
        "teacher": "model",
        "model": "model",
        "audit": "audit",
        "bench": "bench",
        "study": "study",
    }
)
"""The module that looks at each kind; it has a function ``look_at(folder, look)``, which returns an ``Inspected``.

A new kind of folder is one more file here, one more entry and, if it is no artefact, its file in ``STATEMENTS``.
"""

STATEMENTS = ("bench.json",)
"""Files that say the ``kind`` of folders which hold several artefacts."""


@dataclass(frozen=True)
class Look:
    """What a look at a folder may use beside it.

    Attributes:
        data: the log that it is compared with, if any.
        encoder_path: another place of the encoder that it was made with.
        device: where texts are encoded.
    """

    data: Dataset | None = None
    encoder_path: str | None = None
    device: str | torch.device = "cpu"


def look_at(folder: str | Path, look: Look | None = None) -> Inspected:
    """Open a folder of any kind.

    Args:
        folder: what a verb of foster made.
        look: what else may be used.

    Raises:
        InputError: no folder of foster's, a damaged one, or one that ``look.data`` says nothing of.
    """
    folder, look = Path(folder), look or Look()
    kind = kind_of(folder)
    if kind not in KINDS:
        raise InputError(f"{folder}: is of kind {kind}, which there is no page of; known are {', '.join(KINDS)}")
    module = importlib.import_module(f"foster.inspection.{KINDS[kind]}")
    found: Inspected = module.look_at(folder, look)
    return found


def kind_of(folder: Path) -> str:
    """Return the kind of a folder: one of ``KINDS``, or what it says itself.

    Raises:
        InputError: not a folder that foster wrote.
    """
    for name in STATEMENTS:
        if (folder / name).is_file() and not (folder / DATASET_NAME).is_file() and not (folder / CONFIG_NAME).is_file():
            return str(read_json(folder / name).get("kind", "unknown"))
    return artefact_kind(folder)
