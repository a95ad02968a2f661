"""Tables of many items: where they lie, and that it makes no difference but for rounding."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from foster import storage
from foster.data.catalogue import Catalogue
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.storage import large_table
from foster.text.options import EncoderOptions

MAPS = Path("/proc/self/maps")  # what this process has in memory, on Linux
WORDS = ("red", "green", "blue", "dog", "cat", "boat", "song", "tea", "game")
TEXTS = [f"{a} {b} {c}" for a in WORDS for b in WORDS for c in WORDS]

has_files = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="tables are in memory on this system")


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(storage, "LARGE_BYTES", 0)
    monkeypatch.setattr("foster.models.recommender.LARGE_BYTES", 0)


def in_a_file(table: torch.Tensor) -> bool:
    """Return whether the memory of a table is that of a file, as the system lists them."""
    address = table.untyped_storage().data_ptr()
    with MAPS.open() as maps:
        for line in maps:
            start, end = (int(x, 16) for x in line.split()[0].split("-"))
            if start <= address < end:
                return "deleted" in line
    return False


@has_files
@pytest.mark.skipif(not MAPS.exists(), reason="asks Linux")
def test_a_large_table_lies_in_a_file_without_a_name(everything_is_large, tmp_path, monkeypatch):
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path / "cache"))
    table = large_table(1000, 7)
    table[:] = torch.arange(7.0)
    assert in_a_file(table) and not list((tmp_path / "cache").iterdir())
    assert table.sum() == 21_000 and table.dtype == torch.float32
    assert large_table(3, 2, np.float16).dtype == torch.float16


def test_small_tables_and_those_that_find_no_file_are_in_memory(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path / "file" / "cache"))
    small = large_table(3, 2)
    monkeypatch.setattr(storage, "LARGE_BYTES", 0)
    for table in (small, large_table(3, 2)):
        table[:] = 1.0
        assert table.shape == (3, 2) and table.sum() == 6
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "posix_fallocate", full_disk, raising=False)
    assert large_table(3, 2).shape == (3, 2)


def full_disk(*_: int) -> None:
    raise OSError(28, "No space left on device")


def built(tiny_encoder, **fields) -> TextRecommender:
    catalogue = Catalogue([f"i{n}" for n in range(len(TEXTS))], TEXTS, **fields)
    options = ModelOptions(dim=8, layers=1, heads=1, max_length=5, dropout=0.0)
    return TextRecommender.build(catalogue, EncoderOptions(encoder=str(tiny_encoder)), options).eval()


@pytest.mark.parametrize("fields", [{}, {"popularity": [n / 729 for n in range(729)]}, {"known": 700}])
def test_a_large_catalogue_has_features_in_half_precision(tiny_encoder, tmp_path, monkeypatch, request, fields):
    plain = built(tiny_encoder, **fields)
    request.getfixturevalue("everything_is_large")
    monkeypatch.setattr("foster.models.recommender.ROWS", 100)
    large = built(tiny_encoder, **fields)
    assert torch.equal(large.whitening.matrix, plain.whitening.matrix), "the map is not rounded"
    features, exact = large.tower.features.vectors, plain.tower.features.vectors
    assert features.dtype == torch.float16 and exact.dtype == torch.float32
    torch.testing.assert_close(features.float(), exact, rtol=2**-10, atol=1e-4)
    torch.testing.assert_close(large.item_table(), plain.item_table(), rtol=2**-8, atol=2e-3)
    loaded = TextRecommender.from_pretrained(large.save_pretrained(tmp_path / "model"))
    assert torch.equal(loaded.tower.features.vectors, features)
    loaded.add_items(["red red red boat"], ["new"])
    assert loaded.tower.features.vectors.dtype == torch.float16 and len(loaded.tower.features) == 730
