"""FOSTER: dataset distillation for text-based sequential recommendation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from foster.version import __version__

if TYPE_CHECKING:
    from foster.bench.estimate import estimate_bench
    from foster.condensed.sequences import Condensed
    from foster.coresets.select import select, select_with
    from foster.data.dataset import Dataset
    from foster.distillation.distill import distill, distill_with
    from foster.distillation.options import DistillOptions
    from foster.engine import Engine
    from foster.errors import InputError
    from foster.estimation.jobs import estimate_distill, estimate_pretrain
    from foster.evaluation.evaluate import evaluate
    from foster.finishing import finish
    from foster.models.options import ModelOptions
    from foster.models.recommender import TextRecommender
    from foster.runs import pretrain, train, train_teacher
    from foster.text.options import EncoderOptions
    from foster.training.options import TeacherOptions, TrainOptions
    from foster.training.trajectory import Recording, Trajectory
    from foster.tuning.options import TuneOptions
    from foster.tuning.tune import tune

__all__ = [
    "Condensed", "Dataset", "DistillOptions", "EncoderOptions", "Engine", "InputError", "ModelOptions", "Recording",
    "TeacherOptions", "TextRecommender", "TrainOptions", "Trajectory", "TuneOptions", "__version__", "distill",
    "distill_with", "estimate_bench", "estimate_distill", "estimate_pretrain", "evaluate", "finish", "pretrain",
    "select", "select_with", "train", "train_teacher", "tune",
]  # fmt: skip

_HOMES = {
    "Condensed": "foster.condensed.sequences",
    "Dataset": "foster.data.dataset",
    "DistillOptions": "foster.distillation.options",
    "EncoderOptions": "foster.text.options",
    "Engine": "foster.engine",
    "InputError": "foster.errors",
    "ModelOptions": "foster.models.options",
    "Recording": "foster.training.trajectory",
    "TeacherOptions": "foster.training.options",
    "TextRecommender": "foster.models.recommender",
    "TrainOptions": "foster.training.options",
    "Trajectory": "foster.training.trajectory",
    "TuneOptions": "foster.tuning.options",
    "distill": "foster.distillation.distill",
    "distill_with": "foster.distillation.distill",
    "estimate_bench": "foster.bench.estimate",
    "estimate_distill": "foster.estimation.jobs",
    "estimate_pretrain": "foster.estimation.jobs",
    "evaluate": "foster.evaluation.evaluate",
    "finish": "foster.finishing",
    "pretrain": "foster.runs",
    "select": "foster.coresets.select",
    "select_with": "foster.coresets.select",
    "train": "foster.runs",
    "train_teacher": "foster.runs",
    "tune": "foster.tuning.tune",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: torch and polars take seconds, and ``foster.__version__`` needs neither."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'foster' has no attribute '{name}'")
