"""GORACS: histories whose optimal transport to the validation users is cheap (Mei et al., arXiv 2506.04015).

The worth of a coreset S is ``OT(uniform on S, uniform on validation users; Cost)``, the cost being a distance of text
embeddings less a reward for large gradients: the test loss is at most the training loss on S plus a multiple of the
distance between the two. S is grown greedily and then improved by exchanges (the paper's ITRA, Algorithm 1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from foster.coresets.gradients import effort
from foster.coresets.pool import Pool
from foster.data.histories import Histories
from foster.errors import InputError
from foster.models.kernels import widened

REWARD = 0.1  # lambda, the weight of the gradient norms: the authors' for sequential recommendation on Games
VALIDATION_USERS = 1000  # at most; bounds the cost matrix, 200 MB for 50,000 histories
SURPLUS = 2  # the greedy search ends at this many times the budget, whatever its rows weigh
EXCHANGES = 100  # at most, as the authors'
CUT = 10  # rows on each side among which exchanges are tried; the authors' 30 is for a budget of 1,024
PIVOTS = 300_000  # of the network simplex, as the authors'
CHUNK = 4096  # rows of the cost matrix that are worked on at once
TINY = np.finfo(np.float32).tiny  # keeps equal costs finite


def goracs(pool: Pool) -> np.ndarray:
    """Choose the histories from which the validation users are reached at the least cost.

    The authors embed prompts with a sentence encoder; here an embedding is the mean of the whitened public text
    features of a history's items, target included. Their gradient norms are of a summed loss; ours are of the mean over
    a history's steps, which makes those of short histories the largest and prefers these. The validation split is used
    for the selection, so results on that split benefit from it.

    Returns:
        int64 ``[budget]`` row numbers, each once.

    Raises:
        InputError: the package POT is missing.
    """
    require_pot()
    features = widened(pool.untrained.public_features(pool.untrained.encoder))
    cost = cost_matrix(embed(pool.histories, features), embed(_validation_users(pool), features), effort(pool))
    return exchange(cost, greedy(cost, pool.budget))[0]


def require_pot() -> None:
    """Make sure that POT, an extra, is there, before anything costly is done.

    Raises:
        InputError: it is missing.
    """
    try:
        import ot  # type: ignore[import-not-found, import-untyped] # noqa: F401
    except ImportError as error:
        raise InputError("goracs needs the package POT; run: pip install 'foster[baselines]'") from error


def _validation_users(pool: Pool) -> Histories:
    """Return the histories before some validation targets, these included, cut as the pool's are."""
    data = pool.data
    targets = data.held_out("validation")
    targets = targets[pool.rng.permutation(len(targets))[:VALIDATION_USERS]]
    with_targets = Histories(data.sequence_items, data.offsets[targets.users], targets.positions + 1)
    return with_targets.latest(pool.model.max_length)


def embed(histories: Histories, features: Tensor) -> Tensor:
    """Return the mean of the features of each history's items, scaled to length one.

    Args:
        histories: n of them, none empty.
        features: of the items, ``[V, width]``.

    Returns:
        ``[n, width]``.
    """
    items = torch.from_numpy(histories.joined().astype(np.int64))
    starts = torch.from_numpy(np.cumsum(histories.lengths) - histories.lengths)
    device = features.device
    return F.normalize(F.embedding_bag(items.to(device), features, starts.to(device), mode="mean"), dim=1)


def cost_matrix(train: Tensor, validation: Tensor, gradient_norms: np.ndarray) -> np.ndarray:
    """Return what it costs that a history stands for a validation user, scaled to 0..1.

    It is ``D - lambda r 1^T``, with Euclidean distances D and gradient norms r, each divided by its maximum.

    Args:
        train: embeddings ``[U, width]``.
        validation: embeddings ``[Q, width]``.
        gradient_norms: r, ``[U]``.

    Returns:
        float32 ``[U, Q]``; beyond the distances no second matrix of that size is made.
    """
    cost: np.ndarray = torch.cdist(train, validation).cpu().numpy()
    cost /= max(cost.max(), TINY)
    cost -= (REWARD * gradient_norms / max(gradient_norms.max(), TINY)).astype(cost.dtype)[:, None]
    cost -= cost.min()
    cost /= max(cost.max(), TINY)
    return cost


def greedy(cost: np.ndarray, budget: int) -> np.ndarray:
    """Choose rows one by one, each time the one that most lowers ``sum_j min_{s in S} Cost_sj`` (Eq. 14).

    The weight of a row is the share of the columns that are nearest to it. Rows that lose all of it to later ones are
    dropped, so the search goes on until ``budget`` rows have weight. It ends early where no row is a gain, or at
    ``SURPLUS`` times the budget; then the first rows without weight fill up.

    Args:
        cost: ``[U, Q]``.
        budget: rows wanted, at most U.

    Returns:
        int64 ``[budget]``, each row once.
    """
    nearest = cost.max(axis=0)
    chosen: list[int] = []
    weights: np.ndarray = np.zeros(0)
    while np.count_nonzero(weights) < budget and len(chosen) < min(SURPLUS * budget, len(cost)):
        gains = np.concatenate([np.minimum(rows - nearest, 0).sum(axis=1) for rows in _chunks(cost)])
        gains[chosen] = np.inf
        best = int(gains.argmin())
        if gains[best] == 0 and len(chosen) >= budget:
            break
        chosen.append(best)
        nearest = np.minimum(nearest, cost[best])
        weights = np.bincount(cost[chosen].argmin(axis=0), minlength=len(chosen))
    return np.array(chosen)[np.argsort(weights == 0, kind="stable")[:budget]]


def exchange(cost: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Swap chosen rows for others as long as that lowers the optimal transport.

    Tried are pairs of the ``CUT`` chosen rows with the largest score F and the ``CUT`` others with the smallest, the
    most promising first; the first pair that helps is taken. The end is when none does, or after ``EXCHANGES``.

    Args:
        cost: ``[U, Q]``.
        chosen: distinct rows S, ``[M]``; a single row is kept, as ``greedy`` chooses the best one.

    Returns:
        The rows ``[M]``, and the transport at the start and after each exchange: it only falls.
    """
    value, duals = transport(cost[chosen])
    values = [value]
    while len(chosen) > 1 and len(values) <= EXCHANGES:
        scores = exchange_scores(cost, chosen, duals)
        others = np.setdiff1d(np.arange(len(cost)), chosen)
        leaving = np.argsort(-scores[chosen], kind="stable")[:CUT]
        entering = others[np.argsort(scores[others], kind="stable")[:CUT]]
        for place, row in itertools.product(leaving, entering):
            trial = chosen.copy()
            trial[place] = row
            value, trial_duals = transport(cost[trial])
            if value < values[-1]:
                chosen, duals = trial, trial_duals
                values.append(value)
                break
        else:
            break
    return chosen, values


def exchange_scores(cost: np.ndarray, chosen: np.ndarray, duals: np.ndarray) -> np.ndarray:
    """Return F, what each row adds to the dual objective of the transport from S, up to a constant (Eq. 16).

    With the other rows' duals u held, column j pays ``f_ij = min_{s in S, s != i} (Cost_sj - u_s)`` without row i. Row
    i with the dual y adds ``mean_j min(Cost_ij - y - f_ij, 0) + y / M``, and F_i is the maximum over y. It is at the
    R-th smallest ``Cost_ij - f_ij``, ``R = ceil(Q / M)``: the row serves its share of the columns, those that gain
    most. (The authors' code takes the R-th largest, where this is no maximum.)

    Args:
        cost: ``[U, Q]``.
        chosen: distinct rows S, ``[M]`` with M of two or more.
        duals: u, ``[M]``.

    Returns:
        ``[U]``.
    """
    budget, columns = len(chosen), cost.shape[1]
    share = math.ceil(columns / budget)

    def score(rows: np.ndarray, prices: np.ndarray) -> np.ndarray:
        served = np.partition(rows - prices, share - 1, axis=1)[:, :share]
        y = served[:, -1]
        return (served - y[:, None]).sum(axis=1) / columns + y / budget

    reduced = cost[chosen] - duals.astype(cost.dtype)[:, None]
    least, second = np.partition(reduced, 1, axis=0)[:2]
    scores = np.concatenate([score(rows, least) for rows in _chunks(cost)])
    is_least = np.arange(budget)[:, None] == reduced.argmin(axis=0)
    scores[chosen] = score(cost[chosen], np.where(is_least, second, least))
    return scores


def transport(cost: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the exact optimal transport from uniform rows to uniform columns, and the duals of the rows.

    Args:
        cost: ``[M, Q]``.

    Returns:
        The transport, and u ``[M]``.
    """
    from ot import emd2

    rows, columns = (np.full(n, 1 / n) for n in cost.shape)
    value, log = emd2(rows, columns, cost.astype(np.float64), numItermax=PIVOTS, log=True)
    return float(value), log["u"]


def _chunks(cost: np.ndarray) -> Iterator[np.ndarray]:
    """Yield ``CHUNK`` rows after another: temporary arrays stay small."""
    return (cost[start : start + CHUNK] for start in range(0, len(cost), CHUNK))
