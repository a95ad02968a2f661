"""A log and a coreset of it, for searches in processes of their own."""

from __future__ import annotations

import pytest

from foster import Dataset, EncoderOptions, ModelOptions, select
from synthetic_log import synthetic_log, write_csv


@pytest.fixture
def log_and_coreset(tmp_path, tiny_encoder):
    """Make the folders ``data`` and ``coreset``, and return where they are."""
    data = Dataset.prepare([str(write_csv(tmp_path / "log.csv", synthetic_log()))])
    data.save(tmp_path / "data")
    encoder = EncoderOptions(encoder=str(tiny_encoder), words=0)
    coreset = select("random", data, 3, encoder=encoder, model=ModelOptions(dim=8, adapter="linear"))
    coreset.save(tmp_path / "coreset")
    return tmp_path
