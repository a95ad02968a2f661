"""Distillation: from a log to synthetic sequences."""

from foster.distillation.foster import distill, save_distilled
from foster.distillation.options import DistillOptions

__all__ = ["DistillOptions", "distill", "save_distilled"]
