"""Coresets: real histories that stand for the log."""

from foster.coresets.select import METHODS, NEED_SASREC, NEED_TEACHER, select

__all__ = ["METHODS", "NEED_SASREC", "NEED_TEACHER", "select"]
