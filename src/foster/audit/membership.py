"""Was a user in the log? The likelihood-ratio attack, and how well it does.

LiRA (Carlini et al., IEEE S&P 2022, arXiv 2112.03570): what a model says of a user is compared with what models trained
with and without that user say. Here the unit is a user with all of the history, not one record.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

RATES = (0.001, 0.01)  # of false positives
BOOTSTRAP = 500
LEVEL = 0.95


def random_halves(users: int, shadows: int, seed: int) -> np.ndarray:
    """Draw which users are members of each shadow: bool ``[K, U]``, half of them, each shadow apart from the others.

    Were the halves complements of one another, the memberships in the others would tell the one that is guessed.
    """
    rng = np.random.default_rng([seed, users])
    members = np.zeros((shadows, users), dtype=bool)
    for row in members:
        row[rng.permutation(users)[: users // 2]] = True
    return members


def likelihood_ratios(scores: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return how much likelier each user's score is if the user is a member, each shadow judged by all others.

    Scores of a user with and without membership are taken for normal. With few shadows their variances are those of all
    users together (section VI.A of the paper), and a mean of n scores is as uncertain as that makes it.

    Args:
        scores: ``[K, U]``.
        members: bool ``[K, U]``.

    Returns:
        log-ratios ``[K, U]``.
    """
    shadows = len(scores)
    out = np.empty(scores.shape)
    for target in range(shadows):
        others = np.arange(shadows) != target
        inside, outside = (_moments(scores[others], which[others]) for which in (members, ~members))
        # A user who was always or never a member of the others differs by what members differ on average.
        both = (inside.n > 0) & (outside.n > 0)
        shift = float((inside.mean - outside.mean)[both].mean()) if both.any() else 0.0
        inside, outside = inside.filled(outside, shift), outside.filled(inside, -shift)
        out[target] = inside.log_density(scores[target]) - outside.log_density(scores[target])
    return out


@dataclass(frozen=True)
class _Moments:
    n: np.ndarray
    mean: np.ndarray
    variance: float

    def filled(self, other: _Moments, shift: float) -> _Moments:
        there = self.n > 0
        return _Moments(np.where(there, self.n, other.n), np.where(there, self.mean, other.mean + shift), self.variance)

    def log_density(self, scores: np.ndarray) -> np.ndarray:
        variance = self.variance * (1 + 1 / np.maximum(self.n, 1))
        out: np.ndarray = -0.5 * ((scores - self.mean) ** 2 / variance + np.log(variance))
        return out


def _moments(scores: np.ndarray, which: np.ndarray) -> _Moments:
    n = which.sum(0)
    mean = np.where(which, scores, 0).sum(0) / np.maximum(n, 1)
    freedom = int((n - 1).clip(min=0).sum())
    square = float((np.where(which, scores - mean, 0) ** 2).sum())
    scale = max(float(np.abs(scores).max(initial=0)), 1.0)
    return _Moments(n, mean, max(square / max(freedom, 1), (1e-6 * scale) ** 2))


def attack_results(ratios: np.ndarray, members: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Return how well ratios tell members: area under the curve and true positives at few false ones.

    Intervals are the 2.5 and 97.5 % quantiles of a bootstrap over users, whose K ratios stay together. Those of true
    positive rates are no narrower than Clopper and Pearson's for as many trials as there are users: a rate of nothing
    out of so many would look certain otherwise.

    Args:
        ratios: ``[K, U]``; higher for a likelier member.
        members: bool ``[K, U]``.
        seed: of the bootstrap.
    """
    shadows, users = ratios.shape
    curve = _Curve(ratios, members)
    whole = curve(np.ones(users))
    rng = np.random.default_rng(seed)
    draws = np.array([curve(np.bincount(rng.integers(users, size=users), minlength=users)) for _ in range(BOOTSTRAP)])
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    out: dict[str, Any] = {"auc": whole[0], "auc_interval": [float(low[0]), float(high[0])]}
    for place, rate in enumerate(RATES, start=1):
        exact = clopper_pearson(round(whole[place] * users), users)
        out[f"tpr@{rate:g}"] = whole[place]
        out[f"tpr@{rate:g}_interval"] = [min(float(low[place]), exact[0]), max(float(high[place]), exact[1])]
    return out | {"targets": shadows, "users": users}


class _Curve:
    """The receiver operating characteristic of pooled ratios, for any weights of the users.

    Args:
        ratios: ``[K, U]``.
        members: bool ``[K, U]``.
    """

    def __init__(self, ratios: np.ndarray, members: np.ndarray) -> None:
        order = np.argsort(-ratios, axis=None, kind="stable")
        self.users = (np.arange(ratios.size) % ratios.shape[1])[order]
        self.members = members.ravel()[order]
        ranked = ratios.ravel()[order]
        self.ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # ties are passed at once

    def __call__(self, weights: np.ndarray) -> list[float]:
        """Return the area, and true positive rates at ``RATES``."""
        weighed = weights[self.users].astype(np.float64)
        true, false = (np.cumsum(np.where(which, weighed, 0)) for which in (self.members, ~self.members))
        tpr, fpr = (np.append(0, x[self.ends]) / max(x[-1], 1) for x in (true, false))
        area = float((np.diff(fpr) * (tpr[1:] + tpr[:-1])).sum() / 2)
        return [area, *(float(tpr[np.searchsorted(fpr, rate + 1e-12, "right") - 1]) for rate in RATES)]


def clopper_pearson(hits: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the exact interval of a share of which ``hits`` of ``n`` independent trials are known."""
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else _solve(lambda p: 1 - _binomial(hits - 1, n, p) - tail)
    high = 1.0 if hits == n else _solve(lambda p: tail - _binomial(hits, n, p))
    return low, high


def _binomial(k: int, n: int, p: float) -> float:
    """Return the probability of at most k of n."""
    log = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, log)))


def _solve(rising: Callable[[float], float]) -> float:
    low, high = 1e-12, 1 - 1e-12
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
