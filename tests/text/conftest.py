import shutil
from pathlib import Path

import pytest

from foster.text.encoder import TextEncoder
from foster.text.options import EncoderOptions


@pytest.fixture(autouse=True)
def cache(own_cache, tmp_path, monkeypatch) -> Path:
    """An empty cache for each test here: what is cached, and what not, is the matter of these tests."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FOSTER_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def options(tiny_encoder) -> EncoderOptions:
    return EncoderOptions(encoder=str(tiny_encoder), max_tokens=16)


@pytest.fixture(scope="session")
def encoder(options) -> TextEncoder:
    return TextEncoder.load(options)


@pytest.fixture
def own_encoder(tiny_encoder, tmp_path) -> Path:
    """A copy of the tiny encoder that a test may change."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "own_encoder"))
