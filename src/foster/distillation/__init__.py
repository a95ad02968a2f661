"""Distillation: from a log to synthetic sequences."""

from foster.distillation.distill import METHODS, distill, save_distilled
from foster.distillation.options import CondenseOptions, DistillOptions

__all__ = ["METHODS", "CondenseOptions", "DistillOptions", "distill", "save_distilled"]
