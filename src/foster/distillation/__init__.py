"""Distillation: from a log to synthetic sequences."""
