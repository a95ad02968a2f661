"""Logs of interactions with item texts: reading, filtering, splitting, checking."""

from foster.data.check import CheckReport, check
from foster.data.dataset import Dataset, DatasetInfo
from foster.data.grocery import grocery
from foster.data.new_items import NewItems, withhold

__all__ = ["CheckReport", "Dataset", "DatasetInfo", "NewItems", "check", "grocery", "withhold"]
