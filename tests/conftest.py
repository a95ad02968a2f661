"""What tests of several packages share: a cache of their own and a tiny encoder."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from network import refuse_network
from tiny_encoder import build_tiny_decoder, build_tiny_encoder

# On a busy machine examples take their time; that says nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keep what is cached out of the user's own folder; tests share it, as the verbs of one user do."""
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def network(monkeypatch):
    """Refuse connections to other machines; a test that tries one fails, even if the code goes on without it."""
    tried = refuse_network(monkeypatch)
    yield tried
    assert not tried, f"connections were tried to {', '.join(tried)}"


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> Path:
    """The folder of a random BERT that knows a few words."""
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory) -> Path:
    """The folder of a random causal language model of the Qwen family that knows the same words."""
    return build_tiny_decoder(tmp_path_factory.mktemp("decoder"))
