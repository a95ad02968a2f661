"""What tests of several packages share: a cache of their own, a tiny encoder and a small synthetic log."""

import csv
import random
from pathlib import Path

import pytest
from tiny_encoder import build_tiny_encoder

ADJECTIVES = ("red", "green", "blue", "small", "large", "old", "new", "fresh")
NOUNS = ("apple", "bread", "guitar", "castle", "puzzle")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keep what is cached out of the user's own folder; tests share it, as the verbs of one user do."""
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> Path:
    """The folder of a random BERT that knows a few words."""
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder"))


def synthetic_log(users: int = 60, seed: int = 0) -> list[dict[str, str | int]]:
    """Return rows of user_id, item_id, timestamp and title: 40 items, 6 to 12 interactions a user.

    Users walk along the items, mostly by one, so that there is an order to learn.
    """
    rng = random.Random(seed)
    titles = [f"{adjective} {noun}" for noun in NOUNS for adjective in ADJECTIVES]
    rows: list[dict[str, str | int]] = []
    for user in range(users):
        item = rng.randrange(len(titles))
        for time in range(rng.randint(6, 12)):
            rows.append({"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": time, "title": titles[item]})
            item = (item + rng.choice((1, 1, 1, 2, 7))) % len(titles)
    return rows


def write_csv(path: Path, rows: list[dict[str, str | int]]) -> Path:
    """Write rows of the same columns and return ``path``."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
