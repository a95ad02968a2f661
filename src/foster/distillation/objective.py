"""The objective of the synthetic sequences: value gap and regulariser. First order only: models are constants here."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from foster.models.recommender import TextRecommender
from foster.training.losses import soft_cross_entropy

EPSILON = 1e-8
NEIGHBOURS = 10  # similar items that L_r compares an item with
HEAVY = 64  # items that L_r compares with theirs, those of most mass


def scores_on_subset(model: TextRecommender, p: Tensor, vectors: Tensor, subset: Tensor | None = None) -> Tensor:
    """Return scores ``[M, L, N]`` after each soft step.

    A soft step is the mixture of item vectors. With experts, students of hard labels read the vector of the mixed
    features instead (``ItemTower.soft_steps``): with ``subset`` given, so does this.

    Args:
        model: a recommender.
        p: ``[M, L, N]`` step distributions over the subset.
        vectors: ``[N, d]`` item vectors of the subset.
        subset: ``[N]`` its items.
    """
    steps = p @ vectors if subset is None else model.tower.soft_steps(p, subset, vectors)
    return model.scores(model.backbone(steps), vectors)


def synthetic_loss(scores: Tensor, p: Tensor, labels: Tensor | None) -> Tensor:
    """Return g: the cross-entropy of scores ``[M, L, N]`` against soft labels or, without these, the next step."""
    if labels is None:
        return soft_cross_entropy(scores[:, :-1], p[:, 1:])
    return soft_cross_entropy(scores, labels)


def value_gap(outer: Tensor, inner: Tensor, p: Tensor, labels: Tensor | None) -> Tensor:
    """Return ``g(S, theta) - g(S, phi)`` from the scores of the outer and the inner model.

    On hard labels that is the penalty of F2SA and BOME: how far the outer model is from what the sequences teach, and
    never below zero where the inner model is at its best. On soft labels, which are the outer model's own predictions
    ``q``, it is exactly ``-KL(q_outer || q_inner)``, never above zero: minimising it seeks steps after which the two
    models disagree, that is contexts that a model of the sequences has not learned yet.

    Args:
        outer: scores ``[M, L, N]``.
        inner: scores ``[M, L, N]``.
        p: ``[M, L, N]`` step distributions.
        labels: ``[M, L, N]`` soft labels, or None for the next step.
    """
    return synthetic_loss(outer, p, labels) - synthetic_loss(inner, p, labels)


def neighbours(features: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest other items of each of ``items``, ``[R, k]``, and w, their weights, with rows summing to 1.

    Args:
        features: ``[N, width]`` frozen text features; weights are cosine similarities of these, none below zero.
        items: ``[R]`` rows of the features.
    """
    unit = F.normalize(features, dim=-1)
    similarity = (unit[items] @ unit.T).scatter_(-1, items[:, None], -torch.inf)
    values, index = similarity.topk(min(NEIGHBOURS, len(unit) - 1), dim=-1)
    weights = values.clamp(min=0)
    return index, weights / weights.sum(-1, keepdim=True).clamp(min=EPSILON)


def regulariser(p: Tensor, targets: Tensor, features: Tensor) -> Tensor:
    """Return L_r: the divergence between the conditional distributions of similar items, in both directions.

    ``A_uv = sum p_{m,t,u} y_{m,t,v}``; ``L_r = sum_uv mass_u w_uv JS(a(.|u) || a(.|v))``, ``a`` the rows of A,
    normalised, and the same for the columns. Rows without mass do not count.

    Args:
        p: ``[rows, N]`` steps.
        targets: ``[rows, N]`` what follows each.
        features: ``[N, width]`` frozen text features.
    """
    return (_divergence(p, targets, features) + _divergence(targets, p, features)) / 2


def _divergence(p: Tensor, targets: Tensor, features: Tensor) -> Tensor:
    mass = targets.sum(-1) @ p
    # The items that carry the mass decide: only their rows of A, and those of their neighbours, are computed.
    heavy = mass.topk(min(HEAVY, len(mass))).indices
    near, weights = neighbours(features, heavy)
    items, position = torch.cat([heavy[:, None], near], -1).unique(return_inverse=True)
    conditional = p[:, items].T @ targets / mass[items, None].clamp(min=EPSILON)
    a, b = conditional[position[:, :1]], conditional[position[:, 1:]]
    log_middle = ((a + b) / 2).clamp(min=EPSILON).log()
    divergence = sum((x * (x.clamp(min=EPSILON).log() - log_middle)).sum(-1) for x in (a, b)) / 2
    share = mass[heavy] / mass[heavy].sum().clamp(min=EPSILON)
    out: Tensor = (share[:, None] * weights * divergence).sum()
    return out


def cooccurrence_regulariser(p: Tensor, features: Tensor) -> Tensor:
    """Return the alternative L_r: minus the pointwise mutual information of similar items in the same sequence.

    ``C = sum_m mean_t(p_m) mean_t(p_m)^T``; ``L_r = - sum_uv share_u w_uv log(C_uv C / (C_u C_v))``, where popularity
    cancels.

    Args:
        p: ``[M, L, N]`` steps.
        features: ``[N, width]`` frozen text features.
    """
    near, weights = neighbours(features, torch.arange(len(features), device=features.device))
    used = p.mean(1)
    counts = (used[:, :, None] * used[:, near]).sum(0)  # C_uv of neighbours
    mass = used.sum(-1) @ used
    total = mass.sum()
    information = ((counts * total + EPSILON) / (mass[:, None] * mass[near] + EPSILON)).log()
    return -((mass / total)[:, None] * weights * information).sum()


def entropy(p: Tensor) -> Tensor:
    """Return the mean entropy of distributions ``[..., N]`` in nats."""
    return -(p * p.clamp(min=EPSILON).log()).sum(-1).mean()
