"""FOSTER: dataset distillation for text-based sequential recommendation."""

__version__ = "0.1.0"
