"""FOSTER: dataset distillation for text-based sequential recommendation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from foster.version import __version__

if TYPE_CHECKING:
    from foster.coresets import select
    from foster.data import Dataset
    from foster.distillation import DistillOptions, distill
    from foster.evaluation import evaluate
    from foster.models import ModelOptions, TextRecommender
    from foster.text import EncoderOptions
    from foster.training import Condensed, TeacherOptions, TrainOptions, pretrain, train


__all__ = [
    "Condensed", "Dataset", "DistillOptions", "EncoderOptions", "ModelOptions", "TeacherOptions", "TextRecommender",
    "TrainOptions", "__version__", "distill", "evaluate", "pretrain", "select", "train",
]  # fmt: skip

_HOMES = {
    "Condensed": "foster.training",
    "Dataset": "foster.data",
    "DistillOptions": "foster.distillation",
    "EncoderOptions": "foster.text",
    "ModelOptions": "foster.models",
    "TeacherOptions": "foster.training",
    "TextRecommender": "foster.models",
    "TrainOptions": "foster.training",
    "distill": "foster.distillation",
    "evaluate": "foster.evaluation",
    "pretrain": "foster.training",
    "select": "foster.coresets",
    "train": "foster.training",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: torch and polars take seconds, and ``foster.__version__`` needs neither."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'foster' has no attribute '{name}'")
