"""FOSTER: dataset distillation for text-based sequential recommendation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from foster.version import __version__

if TYPE_CHECKING:
    from foster.coresets import select
    from foster.data import Dataset
    from foster.distillation import distill
    from foster.evaluation import evaluate
    from foster.models import TextRecommender
    from foster.training import Condensed, pretrain, train


__all__ = [
    "Condensed", "Dataset", "TextRecommender", "__version__", "distill", "evaluate", "pretrain", "select", "train",
]  # fmt: skip

_HOMES = {
    "Condensed": "foster.training",
    "Dataset": "foster.data",
    "TextRecommender": "foster.models",
    "distill": "foster.distillation",
    "evaluate": "foster.evaluation",
    "pretrain": "foster.training",
    "select": "foster.coresets",
    "train": "foster.training",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: torch and polars take seconds, and ``foster --help`` needs neither."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'foster' has no attribute '{name}'")
