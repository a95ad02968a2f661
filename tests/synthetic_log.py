"""A small log with an order to learn, for tests that need a file to start from."""

import csv
import random
from pathlib import Path

ADJECTIVES = ("red", "green", "blue", "small", "large", "old", "new", "fresh")
NOUNS = ("apple", "bread", "guitar", "castle", "puzzle")


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
