"""The losses of soft labels: scores like the teacher's over the whole catalogue at once, or probabilities like its."""

from __future__ import annotations

import torch
from torch import Tensor

from foster.models.item_tower import ROWS, FrozenFeatures, ItemTower
from foster.models.kernels import widened
from foster.training.losses import soft_cross_entropy


class ScoreMatching:
    """Half the mean squared difference of two models' scores over the items, each model's centred.

    A softmax does not see a constant, so that scores count up to one. For a small difference this is the divergence
    of the softmax at a high temperature (Hinton et al., arXiv 1503.02531, section 2.1; Kim et al., IJCAI 2021, arXiv
    2105.08919, find it the better loss for distillation; so did validation here, see benchmarks/research.md).

    Scores are inner products, so the mean over items needs no scores: with C the covariance of item vectors e and of
    label keys k, it is ``(h C_ee h - 2 h C_ek y + y C_kk y) / 2``. Where item vectors stay as they are, or are a linear
    map of frozen text features, C follows from the covariance of these, which is computed once: a step is exact over
    the whole catalogue and does not depend on its size.

    Otherwise C is that of a sample, and the sampled items are contexts too: an item's vector is a state whose label is
    its key, so that items score one another as the teacher's do (relational distillation, Park et al., CVPR 2019, arXiv
    1904.05068). From that a tuned language model learns its items, from the few contexts it does not.

    Args:
        tower: of the student.
        keys: ``[V, r]``; a label ``y`` scores item v as ``<y, keys[v]>``.
        table: item vectors ``[V, d]`` of the student, if these stay as they are.
        known: over how many items the mean is, the first so many; None for all.

    Attributes:
        samples: whether a call takes a sample of the items.
    """

    def __init__(self, tower: ItemTower, keys: Tensor, table: Tensor | None = None, known: int | None = None) -> None:
        self.samples: bool = table is None and tower.linear is None
        self.moves: bool = table is None
        if self.samples:
            self.keys = keys
            return
        if table is None:
            assert isinstance(tower.features, FrozenFeatures)  # others are not linear
            table = tower.features.vectors
        table, keys = table[:known], keys[:known]
        self.own: Tensor = covariance(table, table)
        self.cross: Tensor = covariance(table, keys)
        self.label: Tensor = covariance(keys, keys)

    def __call__(
        self,
        states: Tensor,
        labels: Tensor,
        tower: ItemTower,
        sample: Tensor | None = None,
        sampled: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            states: ``[n, d]``, scaled such that the student scores item v as ``<state, tower(v)>``.
            labels: ``[n, r]``.
            tower: of the student.
            sample: item indices ``[N]``, where there is no closed form.
            sampled: ``[N, d]``, what the tower gives for them.
        """
        states = widened(states)
        if self.samples:
            assert sample is not None and sampled is not None
            vectors, keys = _centred(widened(sampled)), _centred(self.keys[sample])
            own, cross, label = covariance(vectors, vectors), covariance(vectors, keys), covariance(keys, keys)
            # Of the size of states, whose squared norm is about 1.
            items = _mismatch(vectors, keys, own, cross, label) / label.trace()
            return _mismatch(states, labels, own, cross, label) + items
        own, cross = self.own, self.cross
        if self.moves:
            assert tower.linear is not None  # else there would be a sample
            weight = tower.linear.weight
            with torch.autocast(weight.device.type, enabled=False):
                own, cross = weight @ own @ weight.T, weight @ cross
        return _mismatch(states, labels, own, cross, self.label)


class ProbabilityMatching:
    """The cross-entropy of labels over a sample of the items.

    For students with other text features than those that the labels refer to, or with a linear map where these are of
    experts. They cannot score every item as the labels do, and a squared difference, in which all items count alike,
    would be spent on items that nobody takes.

    Args:
        keys: ``[V, r]``; a label ``y`` scores item v as ``<y, keys[v]>``.
    """

    samples = True

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys

    def __call__(
        self,
        states: Tensor,
        labels: Tensor,
        tower: ItemTower,
        sample: Tensor | None = None,
        sampled: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar; arguments are those of ``ScoreMatching``, with a sample."""
        assert sample is not None and sampled is not None
        targets = widened(labels @ self.keys[sample].T).softmax(-1)
        return soft_cross_entropy(widened(states @ sampled.T), targets)


def _mismatch(states: Tensor, labels: Tensor, own: Tensor, cross: Tensor, label: Tensor) -> Tensor:
    with torch.autocast(states.device.type, enabled=False):  # a small difference of large sums
        square = (states @ own - 2 * labels @ cross.T).mul(states).sum(-1) + (labels @ label).mul(labels).sum(-1)
        return square.mean() / 2


def _centred(vectors: Tensor) -> Tensor:
    return vectors - vectors.mean(0)


def covariance(left: Tensor, right: Tensor) -> Tensor:
    """Return the covariance ``[a, b]`` of the columns of ``[n, a]`` and ``[n, b]`` over their rows."""
    with torch.autocast(left.device.type, enabled=False):
        if torch.float16 not in (left.dtype, right.dtype):
            return left.T @ right / len(left) - torch.outer(left.mean(0), right.mean(0))
        product = torch.zeros(left.shape[1], right.shape[1], device=left.device)
        left_sum, right_sum = product.new_zeros(left.shape[1]), product.new_zeros(right.shape[1])
        for parts in zip(left.split(ROWS), right.split(ROWS), strict=True):
            a, b = map(widened, parts)
            product += a.T @ b
            left_sum += a.sum(0)
            right_sum += b.sum(0)
        return product / len(left) - torch.outer(left_sum, right_sum) / len(left) ** 2
