"""Coresets: real histories that stand for the log."""

from foster.coresets.select import METHODS, NEED_TEACHER, select

__all__ = ["METHODS", "NEED_TEACHER", "select"]
