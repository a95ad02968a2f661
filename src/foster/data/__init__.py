"""Logs of interactions with item texts: reading, filtering, splitting, checking."""

from foster.data.check import CheckReport, check
from foster.data.dataset import Dataset, DatasetInfo
from foster.data.grocery import grocery

__all__ = ["CheckReport", "Dataset", "DatasetInfo", "check", "grocery"]
