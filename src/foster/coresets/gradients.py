"""Gradients of single samples in one linear layer, without a matrix for each sample.

Of a linear layer with inputs a_t and, at its outputs, gradients g_t, a sample's gradient is ``G = sum_t g_t a_t^T``.
What scores need of it are sums over positions: ``<H, G> = sum_t g_t^T H a_t`` and
``||G||_F^2 = sum_ts (g_t . g_s)(a_t . a_s)``. So a batch of samples costs one forward and one short backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foster.coresets.pool import Pool
from foster.data.batches import pad
from foster.data.histories import Histories
from foster.errors import InputError
from foster.models.recommender import TextRecommender
from foster.models.sasrec import Block, SASRec
from foster.training.losses import sample_items

BATCH = 128  # samples whose gradients are computed at once


class SampleGradients:
    """The gradient of each sample's loss in the weight of one linear layer.

    The loss of a sample, a history, is the mean over its positions of the cross-entropy of the next item, over the
    positive and a sample of the items that is drawn once and is the same for all; as in ``next_item_loss``, its items
    count for ``V / n`` each. Item vectors are computed once and are constants. Dropout is off: the model is put into
    evaluation mode.

    Args:
        model: the recommender.
        layer: a linear layer of its backbone, weight ``[out, in]``.
        histories: U samples of two items or more, oldest first; the last ``max_length + 1`` items of each count.
        seed: of the sample of items.
        candidates: items sampled.
    """

    def __init__(
        self, model: TextRecommender, layer: nn.Linear, histories: Histories, seed: int, candidates: int = 2048
    ) -> None:
        self.model: TextRecommender = model.eval()
        self.layer = layer
        self.histories = histories
        self.table: Tensor = model.item_table()
        generator = torch.Generator().manual_seed(seed)
        self.sample: Tensor = sample_items(model.n_known, candidates, generator).to(model.device)

    def norms(self) -> np.ndarray:
        """Return the Frobenius norm of each sample's gradient, float64 ``[U]``."""
        out = np.empty(len(self.histories))
        for rows, inputs, gradients in self._batches():
            squares = ((inputs @ inputs.mT) * (gradients @ gradients.mT)).sum((1, 2))
            out[rows] = squares.clamp(min=0).sqrt().cpu().numpy()
        return out

    def inner(self, matrix: Tensor) -> np.ndarray:
        """Return the inner product of each sample's gradient with a matrix ``[out, in]``, float64 ``[U]``."""
        out = np.empty(len(self.histories))
        for rows, inputs, gradients in self._batches():
            out[rows] = ((gradients @ matrix) * inputs).sum((1, 2)).cpu().numpy()
        return out

    def mean(self) -> Tensor:
        """Return the gradient of the mean loss over all samples, ``[out, in]``."""
        total = torch.zeros_like(self.layer.weight)
        for _, inputs, gradients in self._batches():
            total += gradients.flatten(0, 1).T @ inputs.flatten(0, 1)
        return total / len(self.histories)

    def loss_of(self, rows: np.ndarray) -> Tensor:
        """Return the mean loss of some samples, with its graph.

        Fused attention has no second derivative: inside ``sdpa_kernel(SDPBackend.MATH)`` the loss can be
        differentiated twice.

        Args:
            rows: numbers of the samples.
        """
        return self._total_loss(rows) / len(rows)

    def _batches(self) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Yield sample numbers ``[b]``, the layer's inputs ``[b, T, in]`` and the gradients ``[b, T, out]``."""
        order = np.argsort(self.histories.lengths, kind="stable")
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            yield rows, *self._inputs_and_gradients(rows)

    @torch.enable_grad()
    def _inputs_and_gradients(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        kept: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            # Cut here, the backward pass ends at the layer, and what came before it keeps no graph.
            leaf = output.detach().requires_grad_()
            kept.extend([inputs[0].detach(), leaf])
            return leaf

        with self.layer.register_forward_hook(keep):
            loss = self._total_loss(rows)
        inputs, outputs = kept
        # Samples do not touch each other, so the gradient of the sum holds that of each; padding has none.
        (gradients,) = torch.autograd.grad(loss, outputs)
        shape = (len(rows), -1)  # the layer sees the steps of all samples one after another
        return inputs.unflatten(0, shape), gradients.unflatten(0, shape)

    def _total_loss(self, rows: np.ndarray) -> Tensor:
        """Return the sum of the losses of some samples."""
        length = self.model.options.max_length + 1  # the last item is a target only
        items = pad(self.histories[rows], length).to(self.table.device)
        real = items[:, 1:] >= 0
        states = self.model.backbone(self.table[items[:, :-1].clamp(min=0)])[real]
        share = (real / real.sum(1, keepdim=True))[real]
        return (self._position_losses(states, items[:, 1:][real]) * share).sum()

    def _position_losses(self, states: Tensor, positives: Tensor) -> Tensor:
        """Return the cross-entropy ``[n]`` of the items ``[n]`` that follow the states ``[n, d]``."""
        positive = (states * self.table[positives]).sum(1, keepdim=True) / math.sqrt(self.model.options.dim)
        negative = self.model.scores(states, self.table[self.sample])
        negative = negative + math.log(self.model.n_known / len(self.sample))
        negative = negative.masked_fill(self.sample == positives[:, None], -torch.inf)
        scores = torch.cat([positive, negative], 1)
        return F.cross_entropy(scores, torch.zeros_like(positives), reduction="none")


def effort(pool: Pool) -> np.ndarray:
    """Return how much each history would move an untrained student: its gradient norm, float64 ``[U]``.

    The effort score of DEALRec (Lin et al., SIGIR 2024, arXiv 2401.17197) and r_i of GORACS (arXiv 2506.04015). There
    the gradient is in a low-rank adapter of the last layer of a language model; here it is in the second linear layer
    of the feed-forward network of the student's last block.
    """
    layer = last_block(pool.untrained).feed[2]
    assert isinstance(layer, nn.Linear)
    return SampleGradients(pool.untrained, layer, pool.histories, pool.seed).norms()


def last_block(model: TextRecommender) -> Block:
    """Return the last block of a SASRec, whose gradients say what a history is worth.

    Raises:
        InputError: another sequence model.
    """
    if not isinstance(model.backbone, SASRec):
        raise InputError(
            f"gradients of histories are taken in the last block of SASRec, not of {model.options.backbone}: give a "
            "SASRec teacher and --backbone sasrec, or another method; students of the coreset can have any backbone"
        )
    block = model.backbone.blocks[-1]
    assert isinstance(block, Block)
    return block
