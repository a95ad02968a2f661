"""Cross-entropy at every position, over sampled items."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

from foster.models.recommender import TextRecommender


def sample_items(n_items: int, n: int, generator: torch.Generator) -> Tensor:
    """Draw ``n`` distinct items uniformly, in ascending order; the whole catalogue where ``n >= n_items``."""
    if n >= n_items:
        return torch.arange(n_items)
    return torch.randperm(n_items, generator=generator)[:n].sort().values


def next_item_loss(model: TextRecommender, items: Tensor, candidates: int, generator: torch.Generator) -> Tensor:
    """Return the mean cross-entropy of each next item among the items that training may know of.

    Where these are more than ``candidates``, the softmax runs over the positive and a uniform sample, whose items count
    for ``V / n`` each, so that the loss stays an estimate of the full softmax loss.

    Args:
        model: the recommender.
        items: ``[batch, length]`` item indices, padded on the right with -1.
        candidates: items sampled.
        generator: a CPU generator.
    """
    inputs, positives = items[:, :-1], items[:, 1:]
    real = positives >= 0
    positives = positives[real]
    sample = sample_items(model.n_known, candidates, generator).to(items.device)
    distinct, place = torch.unique(torch.cat([inputs[real], positives, sample]), return_inverse=True)
    vectors = model.tower(distinct)
    n = len(positives)
    embedded = vectors.new_zeros(*inputs.shape, vectors.shape[1])
    embedded[real] = vectors[place[:n]]
    states = model.backbone(embedded)[real]
    negative = model.scores(states, vectors[place[2 * n :]])
    if len(sample) == model.n_known:
        return F.cross_entropy(negative, positives)
    positive = (states * vectors[place[n : 2 * n]]).sum(1, keepdim=True) / math.sqrt(model.options.dim)
    rest = without(negative, sample, positives[:, None]).logsumexp(1) + math.log(model.n_known / len(sample))
    return F.softplus(rest - positive[:, 0]).mean()


def own_scores(states: Tensor, vectors: Tensor, items: Tensor) -> Tensor:
    """Return ``<states[n], vectors[items[n, k]]>``, ``[rows, k]``: the scores of each row's own items.

    Args:
        states: ``[rows, d]``.
        vectors: ``[n, d]``.
        items: ``[rows, k]``, indices into ``vectors``.
    """
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


def without(scores: Tensor, sample: Tensor, positives: Tensor) -> Tensor:
    """Return scores ``[rows, n]`` of a sample, minus infinity where the sample holds one of a row's positives.

    Args:
        scores: of the sampled items.
        sample: ``[n]`` item indices, ascending.
        positives: ``[rows, k]`` item indices, which count apart.
    """
    at = torch.searchsorted(sample, positives).clamp(max=len(sample) - 1)
    rows, columns = torch.nonzero(sample[at] == positives, as_tuple=True)
    return scores.index_put((rows, at[rows, columns]), scores.new_tensor(-torch.inf))


def soft_cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of ``-sum_v y_v log q_v`` over rows; ``scores`` and ``targets`` are ``[..., n]``."""
    return -(targets * F.log_softmax(scores, dim=-1)).sum(-1).mean()
