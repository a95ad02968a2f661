"""Pieces of real histories in sequences: what stands there word for word, or nearly so, and how many users share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foster.condensed.sequences import Condensed
from foster.data.histories import Histories

LONGEST = 16  # items of a run that is looked for
WINDOW = 10  # steps of a window that is compared without regard to order
NEAR = 0.8  # share of a window's items that a user has to have, for the window to be nearly that user's
REFERENCES = 5  # draws of sequences that were copied from nobody


@dataclass(frozen=True)
class Runs:
    """Consecutive items of sequences that histories have, too.

    Attributes:
        holders: for n = 2 .. LONGEST, how many users have each distinct run of n items of the sequences: ``[runs]``.
        longest: items of the longest run that each history shares with the sequences, at most LONGEST: ``[H]``.
        alone: n at which each history first has a run of the sequences that no other history has; 0 for never: ``[H]``.
    """

    holders: list[np.ndarray]
    longest: np.ndarray
    alone: np.ndarray


@dataclass(frozen=True)
class Overlaps:
    """Items that windows of sequences have in common with histories, in whatever order.

    Attributes:
        near: how many users have at least ``NEAR`` of each window: ``[windows]``.
        most: the most items of a window that each history has: ``[H]``.
    """

    near: np.ndarray
    most: np.ndarray


def visible_sequences(data: Condensed) -> list[np.ndarray]:
    """Return the most probable item of each step, sequence after sequence."""
    first = data.likeliest()
    return [first[row, :length].numpy() for row, length in enumerate(data.valid.sum(1).tolist())]


def shared_runs(sequences: Sequence[np.ndarray], histories: Histories, longest: int = LONGEST) -> Runs:
    """Find runs of 1 to ``longest`` consecutive items that sequences and histories share; exact, without hashing.

    Only places that match at n - 1 are looked at again at n, so that time is that of the matches.

    Args:
        sequences: item numbers.
        histories: those of the users, one each.
        longest: items at which the search ends.
    """
    items = np.concatenate(sequences).astype(np.int64)
    room = np.concatenate([np.arange(len(sequence), 0, -1) for sequence in sequences])
    log, users = histories.joined().astype(np.int64), np.repeat(np.arange(len(histories)), histories.lengths)
    spare = np.repeat(np.cumsum(histories.lengths), histories.lengths) - np.arange(len(log))
    width = int(max(items.max(initial=0), log.max(initial=0))) + 1
    # Of each place the number of the run that begins there; at n = 0 all runs are the empty one.
    places, state = np.arange(len(items)), np.zeros(len(items), dtype=np.int64)
    alive, log_state = np.arange(len(log)), np.zeros(len(log), dtype=np.int64)
    found = np.zeros(len(histories), dtype=np.int64)
    alone, holders = np.zeros(len(histories), dtype=np.int64), []
    for n in range(1, longest + 1):
        inside = room[places] >= n
        places, state = places[inside], state[inside]
        runs, state = np.unique(state * width + items[places + n - 1], return_inverse=True)
        inside = spare[alive] >= n
        alive, log_state = alive[inside], log_state[inside]
        keys = log_state * width + log[alive + n - 1]
        at = np.searchsorted(runs, keys).clip(max=max(len(runs) - 1, 0))
        same = runs[at] == keys if len(runs) else np.zeros(len(keys), dtype=bool)
        alive, log_state = alive[same], at[same]
        found[users[alive]] = n
        if n == 1:
            continue
        pairs = np.unique(log_state * len(histories) + users[alive])
        counts = np.bincount(pairs // len(histories), minlength=len(runs))
        holders.append(counts)
        owners = pairs[counts[pairs // len(histories)] == 1] % len(histories)
        first = owners[alone[owners] == 0]
        alone[first] = n
    return Runs(holders, found, alone)


def overlaps(sequences: Sequence[np.ndarray], histories: Histories, window: int = WINDOW) -> Overlaps:
    """Compare every window of the sequences with every history as sets of items.

    Args:
        sequences: item numbers; one that is shorter than a window is a window.
        histories: those of the users, one each.
        window: steps.
    """
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    pairs = np.unique(histories.joined().astype(np.int64) * len(histories) + users)
    items, owners = pairs // len(histories), pairs % len(histories)
    most, near = np.zeros(len(histories), dtype=np.int64), []
    for sequence in sequences:
        for start in range(max(len(sequence) - window, 0) + 1):
            there = np.unique(sequence[start : start + window])
            bounds = np.searchsorted(items, [there, there + 1]).T
            had = np.concatenate([owners[first:end] for first, end in bounds])
            counts = np.bincount(had, minlength=len(histories))
            np.maximum(most, counts, out=most)
            near.append(int((counts >= NEAR * len(there)).sum()))
    return Overlaps(np.array(near), most)


def run_scores(sequences: Sequence[np.ndarray], histories: Histories) -> np.ndarray:
    """Return how much of each history the sequences show: its longest run plus the most items of a window, ``[H]``."""
    return (shared_runs(sequences, histories).longest + overlaps(sequences, histories).most).astype(np.float64)


def by_popularity(like: Sequence[np.ndarray], histories: Histories, rng: np.random.Generator) -> list[np.ndarray]:
    """Return sequences as long as others, of items drawn from the log one by one."""
    log = histories.joined()
    return [log[rng.integers(len(log), size=len(sequence))] for sequence in like]


def by_transitions(like: Sequence[np.ndarray], histories: Histories, rng: np.random.Generator) -> list[np.ndarray]:
    """Return sequences as long as others, in which an item is followed as often by another as it is in the log.

    What of them stands in a history comes from co-occurrence alone: each step forgets who made the one before.
    """
    log = histories.joined()
    follows = np.ones(len(log), dtype=bool)
    follows[np.cumsum(histories.lengths) - 1] = False
    order = np.flatnonzero(follows)
    order = order[np.argsort(log[order], kind="stable")]
    sources = log[order]
    out = []
    for sequence in like:
        walk = [int(log[rng.integers(len(log))])]
        while len(walk) < len(sequence):
            first, end = np.searchsorted(sources, [walk[-1], walk[-1] + 1])
            there = order[first + rng.integers(end - first)] + 1 if end > first else rng.integers(len(log))
            walk.append(int(log[there]))
        out.append(np.array(walk))
    return out


def describe(sequences: Sequence[np.ndarray], histories: Histories) -> dict[str, Any]:
    """Return what sequences show of histories, in numbers.

    Returns:
        ``runs``: for each n the distinct runs of n items in the sequences, which share of them is in a history, in one
        user's only, in those of 2 to 4 and of 5 users or more. ``users_with_run``: users who share a run of n items.
        ``users_alone``: users who are the only ones with some run of the sequences of at most n items. ``windows``,
        ``near``, ``near_one``: windows of ``WINDOW`` steps, the share of them that some user has ``NEAR`` of, and that
        one user only has.
    """
    runs, windows = shared_runs(sequences, histories), overlaps(sequences, histories)
    rows = []
    for n, counts in enumerate(runs.holders, start=2):
        total = max(len(counts), 1)
        shares = {
            "found": counts > 0, "one_user": counts == 1, "2_to_4_users": (counts > 1) & (counts < 5),
            "5_or_more": counts > 4,
        }  # fmt: skip
        rows.append({
            "n": n,
            "runs": len(counts),
            **{name: float(which.sum() / total) for name, which in shares.items()},
            "users_with_run": int((runs.longest >= n).sum()),
            "users_alone": int(((runs.alone > 0) & (runs.alone <= n)).sum()),
        })  # fmt: skip
    return {
        "users": len(histories),
        "steps": int(sum(map(len, sequences))),
        "runs": rows,
        "longest_run": int(runs.longest.max(initial=0)),
        "windows": len(windows.near),
        "near": float((windows.near > 0).mean()),
        "near_one": float((windows.near == 1).mean()),
    }


def references(sequences: Sequence[np.ndarray], histories: Histories, seed: int) -> dict[str, dict[str, Any]]:
    """Return ``describe`` of sequences that were copied from nobody: means over ``REFERENCES`` draws of each kind."""
    rng = np.random.default_rng(seed)
    kinds = {"popularity": by_popularity, "transitions": by_transitions}
    return {
        name: _mean([describe(draw(sequences, histories, rng), histories) for _ in range(REFERENCES)])
        for name, draw in kinds.items()
    }


def _mean(found: Sequence[Any]) -> Any:
    """Return the mean of equal structures of numbers, number by number."""
    first = found[0]
    if isinstance(first, dict):
        return {name: _mean([one[name] for one in found]) for name in first}
    if isinstance(first, list):
        return [_mean(list(parts)) for parts in zip(*found, strict=True)]
    return first if all(one == first for one in found) else float(np.mean(found))
