"""FOSTER: dataset distillation for text-based sequential recommendation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from foster.version import __version__

if TYPE_CHECKING:
    from foster.bench.estimate import estimate_bench
    from foster.condensed.sequences import Condensed
    from foster.coresets.select import select
    from foster.data.dataset import Dataset
    from foster.distillation.distill import distill
    from foster.distillation.options import DistillOptions
    from foster.estimation.jobs import estimate_distill, estimate_pretrain
    from foster.evaluation.evaluate import evaluate
    from foster.models.options import ModelOptions
    from foster.models.recommender import TextRecommender
    from foster.runs import pretrain, train
    from foster.text.options import EncoderOptions
    from foster.training.options import TeacherOptions, TrainOptions
    from foster.tuning.options import TuneOptions
    from foster.tuning.tune import tune

__all__ = [
    "Condensed", "Dataset", "DistillOptions", "EncoderOptions", "ModelOptions", "TeacherOptions", "TextRecommender",
    "TrainOptions", "TuneOptions", "__version__", "distill", "estimate_bench", "estimate_distill", "estimate_pretrain",
    "evaluate", "pretrain", "select", "train", "tune",
]  # fmt: skip

_HOMES = {
    "Condensed": "foster.condensed.sequences",
    "Dataset": "foster.data.dataset",
    "DistillOptions": "foster.distillation.options",
    "EncoderOptions": "foster.text.options",
    "ModelOptions": "foster.models.options",
    "TeacherOptions": "foster.training.options",
    "TextRecommender": "foster.models.recommender",
    "TrainOptions": "foster.training.options",
    "TuneOptions": "foster.tuning.options",
    "distill": "foster.distillation.distill",
    "estimate_bench": "foster.bench.estimate",
    "estimate_distill": "foster.estimation.jobs",
    "estimate_pretrain": "foster.estimation.jobs",
    "evaluate": "foster.evaluation.evaluate",
    "pretrain": "foster.runs",
    "select": "foster.coresets.select",
    "train": "foster.runs",
    "tune": "foster.tuning.tune",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: torch and polars take seconds, and ``foster.__version__`` needs neither."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'foster' has no attribute '{name}'")
