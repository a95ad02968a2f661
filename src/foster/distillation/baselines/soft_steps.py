"""What Farzi and TD3 share: soft steps over all items, how a model reads them, and what is kept of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from foster.distillation.objective import entropy
from foster.distillation.setting import Setting
from foster.models.recommender import TextRecommender
from foster.training.losses import sample_items, soft_cross_entropy

STORED_ITEMS = 128  # items kept of each step, since the steps of these methods stay rather flat
CANDIDATES = 1024  # items sampled for a softmax, as in training on the log

CrossEntropy = Callable[[Tensor, slice | list[int]], Tensor]
"""From states ``[m, n, d]`` and the n steps that they predict to their mean cross-entropy."""


class Reading(Protocol):
    """How a model reads soft steps, and over which items its softmax runs."""

    def __call__(self, model: TextRecommender, steps: Tensor) -> tuple[Tensor, CrossEntropy]:
        """Return the vectors ``[m, L - 1, d]`` of all steps but the last, and what compares predictions with steps."""
        ...


@dataclass(frozen=True)
class ByMixtures:
    """Over all items, by a linear adapter; steps are their mean text features ``[m, L, width]``.

    Attributes:
        features: ``[V, width]`` text features.
    """

    features: Tensor

    def __call__(self, model: TextRecommender, steps: Tensor) -> tuple[Tensor, CrossEntropy]:
        """Return vectors and loss of the steps."""

        def cross_entropy(states: Tensor, predicted: slice | list[int]) -> Tensor:
            targets = steps[:, predicted].flatten(0, 1)
            return mixture_cross_entropy(model, states.flatten(0, 1), targets, self.features)

        return model.tower.adapter(steps[:, :-1]), cross_entropy


@dataclass(frozen=True)
class BySample:
    """Over a sample of the items, by any adapter; steps are logits over all ``[m, L, V]``.

    Attributes:
        items: ``[N]`` the sample.
    """

    items: Tensor

    def __call__(self, model: TextRecommender, steps: Tensor) -> tuple[Tensor, CrossEntropy]:
        """Return vectors and loss of the steps."""
        p = torch.softmax(steps[..., self.items], -1)
        vectors = model.tower(self.items)

        def cross_entropy(states: Tensor, predicted: slice | list[int]) -> Tensor:
            return soft_cross_entropy(model.scores(states, vectors), p[:, predicted])

        return p[:, :-1] @ vectors, cross_entropy


class SoftSequences(Protocol):
    """Sequences of which every step is a distribution over all items."""

    def logits(self) -> Tensor:
        """Return the logarithms of the step distributions, constants aside, ``[M, L, V]``."""
        ...


def readable(setting: Setting, sequences: SoftSequences) -> tuple[Tensor, Tensor]:
    """Return the steps of sequences in the form that a ``reading`` takes, with their graph, and their distributions."""
    logits = sequences.logits()
    p = torch.softmax(logits, -1)
    return logits if setting.best.tower.linear is None else p @ setting.wide_features, p.detach()


def reading(setting: Setting) -> Reading:
    """Return how the inner step that is drawn now reads sequences."""
    if setting.best.tower.linear is not None:
        return ByMixtures(setting.wide_features)
    return BySample(sample_items(setting.best.n_known, CANDIDATES, setting.generator).to(setting.engine.device))


def mixture_cross_entropy(model: TextRecommender, states: Tensor, targets: Tensor, features: Tensor) -> Tensor:
    """Return the mean of ``-sum_v y_v log q_v`` over rows, q the model's softmax over all items.

    The map of the adapter is applied to states and not to the V features: fewer products, and constants beside them.
    Its bias adds the same to all scores of a row, which a softmax does not see.

    Args:
        model: a recommender with a frozen encoder and a linear adapter.
        states: ``[n, d]``.
        targets: ``[n, width]`` mean text features under y, ``y @ features``.
        features: ``[V, width]`` text features.
    """
    adapter = model.tower.linear
    assert adapter is not None
    queries = states @ adapter.weight / math.sqrt(model.options.dim)
    return ((queries @ features.T).logsumexp(-1) - (queries * targets).sum(-1)).mean()


def most_probable(p: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return what is kept of step distributions ``[M, L, V]``: the ``STORED_ITEMS`` most probable items of each step.

    Returns:
        items int64 ``[M, L, k]``, their probabilities renormalised to sum to 1, and the mean mass that they had.
    """
    weights, items = p.topk(min(STORED_ITEMS, p.shape[-1]), dim=-1)
    mass = weights.sum(-1, keepdim=True)
    return items, weights / mass, mass.mean().item()


def describe(p: Tensor) -> dict[str, float]:
    """Return what is logged of step distributions: mean entropy in nats, and the mass that export keeps."""
    return {"input_entropy": entropy(p).item(), "kept_mass": most_probable(p)[2]}
