"""Coresets: real histories that stand for the log."""

from foster.coresets.select import METHODS, select

__all__ = ["METHODS", "select"]
