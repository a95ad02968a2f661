"""A benchmark: every method on one log, on equal terms."""
