"""Cross-entropy at every position, over sampled items."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

from foster.models.item_tower import FrozenFeatures
from foster.models.kernels import logsumexp_without, missing_rows, padded_rows, widened
from foster.models.recommender import TextRecommender


def sample_items(n_items: int, n: int, generator: torch.Generator) -> Tensor:
    """Draw ``n`` distinct items uniformly, in ascending order; the whole catalogue where ``n >= n_items``.

    Time and memory are of the order of ``n``, whatever the catalogue.
    """
    if n >= n_items:
        return torch.arange(n_items)
    if 2 * n >= n_items:
        return torch.randperm(n_items, generator=generator)[:n].sort().values
    # Draws that fall on items which are there already are made up for. No item is treated unlike another, so that all
    # sets of n are equally likely; dropping some of too many distinct ones would have to be random, too.
    sample = torch.randint(n_items, (n,), generator=generator).unique()
    while len(sample) < n:
        more = torch.randint(n_items, (n - len(sample),), generator=generator)
        sample = torch.cat([sample, more]).unique()
    return sample


def next_item_loss(
    model: TextRecommender,
    items: Tensor,
    candidates: int,
    generator: torch.Generator,
    table: Tensor | None = None,
) -> Tensor:
    """Return the mean cross-entropy of each next item among the items that training may know of.

    Where these are more than ``candidates``, the softmax runs over the positive and a uniform sample, whose items count
    for ``V / n`` each, so that the loss stays an estimate of the full softmax loss.

    Args:
        model: the recommender.
        items: ``[batch, length]`` item indices, padded on the right with -1.
        candidates: items sampled.
        generator: a CPU generator.
        table: ``[V, d]`` the model's item vectors, if these stay as they are.
    """
    real = (items[:, 1:] >= 0).flatten()
    model.tower.mark(items)
    filled = items.clamp(min=0)  # behind the end of a history; states do not see it, and losses there do not count
    sample = sample_items(model.n_known, candidates, generator).to(items.device)
    vectors, place = table, torch.cat([filled.flatten(), sample])
    if vectors is None:
        vectors, place = distinct_vectors(model, place)
    steps, sampled = place.split([filled.numel(), len(sample)])
    steps = steps.view_as(filled)
    states = model.backbone(vectors[steps[:, :-1]]).flatten(0, 1)
    negative = model.scores(padded_rows(states), vectors[sampled])[: len(states)]
    positives = filled[:, 1:].flatten()
    if len(sample) == model.n_known:
        return F.cross_entropy(widened(negative)[real], positives[real])
    positive = (states * vectors[steps[:, 1:].flatten()]).sum(1) / math.sqrt(model.options.dim)
    rest = logsumexp_without(negative, *hits(sample, positives[:, None])) + math.log(model.n_known / len(sample))
    return F.softplus(rest - positive)[real].mean()


def distinct_vectors(model: TextRecommender, items: Tensor) -> tuple[Tensor, Tensor]:
    """Return item vectors ``[n, d]``, each item's once, and where among them each of ``items`` ``[...]`` is.

    The vectors are float32 also where products are in half precision.
    """
    distinct, place = torch.unique(items, return_inverse=True)
    if isinstance(model.tower.features, FrozenFeatures):  # others are dear, and made in shapes of their own
        distinct = F.pad(distinct, (0, missing_rows(len(distinct), distinct)))
    # Gradients of all the places that read one vector are added up in the vectors' own type: on a CPU, in half
    # precision, nothing is added any more from 256 equal ones on.
    return widened(model.tower(distinct)), place


def own_scores(states: Tensor, vectors: Tensor, items: Tensor) -> Tensor:
    """Return ``<states[n], vectors[items[n, k]]>``, ``[rows, k]``: the scores of each row's own items.

    Args:
        states: ``[rows, d]``.
        vectors: ``[n, d]``.
        items: ``[rows, k]``, indices into ``vectors``.
    """
    states, vectors = widened(states), widened(vectors)
    if not states.is_cpu:
        return torch.einsum("nd,nkd->nk", states, vectors[items])
    # A CPU would spend its time gathering vectors; the same sums as a sparse product take a quarter of it.
    bounds = torch.arange(0, items.numel() + 1, items.shape[1])
    values = states.new_zeros(items.numel())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        shape = (len(states), len(vectors))
        where = torch.sparse_csr_tensor(bounds, items.flatten(), values, shape, check_invariants=False)
    return torch.sparse.sampled_addmm(where, states, vectors.T, beta=0.0).values().view_as(items)


def hits(sample: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns of ``[rows, n]`` scores of a sample that belong to one of a row's positives.

    Args:
        sample: ``[n]`` item indices, ascending.
        positives: ``[rows, k]`` item indices, which count apart.
    """
    at = torch.searchsorted(sample, positives).clamp(max=len(sample) - 1)
    rows, columns = torch.nonzero(sample[at] == positives, as_tuple=True)
    return rows, at[rows, columns]


def soft_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of ``-sum_v y_v log q_v`` over rows; ``scores`` and ``targets`` are ``[..., n]``."""
    return -(targets * F.log_softmax(scores, dim=-1)).sum(-1).mean()
