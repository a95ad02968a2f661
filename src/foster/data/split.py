"""How a log is divided into training, validation and test: leave-one-out, or by time."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Self, get_args

import numpy as np

from foster.data.defaults import LEAVE_ONE_OUT
from foster.errors import InputError, did_you_mean

TargetSplit = Literal["validation", "test"]
TargetRule = Literal["last", "random", "successive"]

TARGET_RULES: tuple[TargetRule, ...] = get_args(TargetRule)
TARGET_SEED = 0  # of the draw of random targets

_TIME = "time:"
_SHARE = re.compile(r"0?\.\d+")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Interactions that are to be predicted, each from all that its user did before it.

    Attributes:
        users: int64 [n], user numbers, ascending; a user can have several targets.
        positions: int64 [n], where each target stands in ``sequence_items``; ascending within a user.
    """

    users: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        """Return n."""
        return len(self.users)

    def __getitem__(self, index: slice | np.ndarray) -> Self:
        """Return some of them."""
        return type(self)(self.users[index], self.positions[index])

    @property
    def n_users(self) -> int:
        """How many users have a target."""
        return len(np.unique(self.users))

    def of_users(self, users: Iterable[int]) -> Self:
        """Return all targets of each of the users, in the order of these."""
        wanted = np.fromiter(users, dtype=np.int64)
        first = np.searchsorted(self.users, wanted, "left")
        counts = np.searchsorted(self.users, wanted, "right") - first
        starts = np.repeat(first - np.cumsum(counts) + counts, counts)
        return self[starts + np.arange(counts.sum())]


@dataclass(frozen=True, eq=False)
class Partition:
    """Which part of each sequence is for what.

    Attributes:
        train_ends: int64 [U], where the training history of each user ends in ``sequence_items``; it begins where the
            sequence does, and can be empty.
        validation: targets of the validation.
        test: targets of the test.
    """

    train_ends: np.ndarray
    validation: HeldOut
    test: HeldOut

    def of(self, split: TargetSplit) -> HeldOut:
        """Return the targets of a split."""
        return self.test if split == "test" else self.validation


def parse_split(split: str) -> tuple[Fraction, ...]:
    """Return the shares of the interactions that a split by time cuts at, none for leave-one-out.

    Raises:
        ValueError: it is neither "leave-one-out", nor "time:Q" or "time:Q1:Q2" with shares between 0 and 1, ascending.
    """
    if split == LEAVE_ONE_OUT:
        return ()
    shares = split.removeprefix(_TIME).split(":")
    if not split.startswith(_TIME) or len(shares) > 2 or not all(map(_SHARE.fullmatch, shares)):
        raise ValueError("give leave-one-out, time:0.9, or time:0.8:0.9 (shares between 0 and 1)")
    cuts = tuple(Fraction(share if share[0] == "0" else f"0{share}") for share in shares)
    if cuts[0] == 0 or list(cuts) != sorted(set(cuts)):
        raise ValueError("give shares above 0, the one that ends training first, as in time:0.8:0.9")
    return cuts


def split_options(split: str, targets: str | None) -> tuple[tuple[Fraction, ...], TargetRule | None]:
    """Return the shares of a split and the rule of its targets, "last" where a split by time has none.

    Raises:
        InputError: there is no such split, or no such rule.
    """
    try:
        shares = parse_split(split)
    except ValueError as error:
        raise InputError(f"--split {split}: {error}") from error
    if targets is None:
        return shares, "last" if shares else None
    if not shares:
        raise InputError(f"--targets {targets}: is for a split by time; add --split time:0.9, or leave it out")
    for rule in TARGET_RULES:
        if rule == targets:
            return shares, rule
    hint = did_you_mean(targets, TARGET_RULES)
    raise InputError(f"--targets {targets}: unknown{hint}; give {', '.join(TARGET_RULES)}")


def split_name(shares: Iterable[Fraction]) -> str:
    """Return how a split by time is written: one way for 0.9, .9 and 0.90."""
    return _TIME + ":".join(str(float(share)) for share in shares)


def cut_time(timestamps: np.ndarray, share: Fraction) -> int | float:
    """Return the least time such that at least ``share`` of the timestamps ``[n]`` are at it or before."""
    place = math.ceil(len(timestamps) * share) - 1
    cut: int | float = np.partition(timestamps, place)[place].item()
    return cut


def leave_one_out(offsets: np.ndarray) -> Partition:
    """Return the last interaction of each user as test target, the one before it as validation target.

    Args:
        offsets: int64 [U + 1], where the sequences begin and end; each is at least two long.
    """
    users = np.arange(len(offsets) - 1)
    ends = offsets[1:]
    return Partition(ends - 2, HeldOut(users, ends - 2), HeldOut(users, ends - 1))


def by_time(
    offsets: np.ndarray, timestamps: np.ndarray, cuts: tuple[int | float, ...], rule: TargetRule, seed: int | None
) -> Partition:
    """Return what comes after the last cut as test, with targets of the users who did something before.

    With one cut the last interaction of a user at or before it is the validation target, if there is one before that;
    training ends before it. With two cuts training ends at the first one, and validation is what comes between them, by
    the rule of the test.

    Args:
        offsets: int64 [U + 1].
        timestamps: [n] of the interactions, ascending within a user.
        cuts: one or two times, ascending; what happened at a cut is before it.
        rule: which interactions of a period are targets: each user's last one, one at random, or all, one after
            another.
        seed: of the random ones.
    """
    starts, ends = offsets[:-1], offsets[1:]
    users = np.repeat(np.arange(len(starts)), np.diff(offsets))
    after = [starts + np.bincount(users[timestamps <= cut], minlength=len(starts)) for cut in cuts]
    test = _targets(starts, after[-1], ends, rule, seed)
    if len(cuts) == 2:
        return Partition(after[0], _targets(starts, after[0], after[1], rule, seed), test)
    tried = np.flatnonzero(after[0] - starts >= 2)
    train_ends = after[0].copy()
    train_ends[tried] -= 1
    return Partition(train_ends, HeldOut(tried, train_ends[tried]), test)


def _targets(starts: np.ndarray, first: np.ndarray, ends: np.ndarray, rule: TargetRule, seed: int | None) -> HeldOut:
    """Return the targets among the positions from ``first`` to ``ends`` of each user with something before them."""
    users = np.flatnonzero((first > starts) & (ends > first))
    first, ends = first[users], ends[users]
    if rule == "last":
        return HeldOut(users, ends - 1)
    if rule == "random":
        # Python's generator: its numbers are the same in all versions, so that a stored data set keeps its targets.
        rng = random.Random(seed)
        drawn = np.array([rng.random() for _ in users])
        return HeldOut(users, first + (drawn * (ends - first)).astype(np.int64))
    counts = ends - first
    positions = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    return HeldOut(np.repeat(users, counts), positions)
