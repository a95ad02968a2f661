"""Coresets: real histories that stand for the log."""
