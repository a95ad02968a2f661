"""The mixture-of-experts adaptor of UniSRec (Hou et al., KDD 2022, arXiv 2206.05941)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foster.models.kernels import Dropout

EXPERTS = 8
RANK = 16  # of what each expert adds to the map that all share
SPREAD = 0.1  # size of that at the start, as a share of the common map's
LEAST_NOISE = 1e-2
OF_EXPERTS = {"down": 1, "up": 0, "shift": 0}
"""Weights with some numbers of each expert, one expert after another, and the dimension where these are."""


class MoEAdapter(nn.Module):
    """Text features to item vectors: ``x W + sum_k g_k (x D_k - b_k) U_k`` with gates that depend on the text.

    UniSRec's experts ``(x - b_k) W_k`` (equation 3) are full matrices. These share W, and each adds a product of low
    rank, as in LoRA (Hu et al., ICLR 2022): more accurate here, in less time, with a third of the weights
    (benchmarks/research.md, 59). In training the gates are noisy, ``softmax(x W_1 + noise * softplus(x W_2))``
    (equations 4 and 5), and features are dropped out.

    Args:
        width: of text features.
        dim: width d of item vectors.
        dropout: rate on the features.
    """

    def __init__(self, width: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.base: nn.Parameter = nn.Parameter(torch.randn(width, dim) / math.sqrt(width))
        self.down: nn.Parameter = nn.Parameter(torch.randn(width, EXPERTS * RANK) / math.sqrt(width))
        # Nearly alike: of independent experts noisy gates make noisy vectors, and training takes twice the steps.
        self.up: nn.Parameter = nn.Parameter(torch.randn(EXPERTS * RANK, dim) * SPREAD / math.sqrt(RANK))
        self.shift: nn.Parameter = nn.Parameter(torch.zeros(EXPERTS * RANK))
        self.gate: nn.Parameter = nn.Parameter(torch.zeros(width, EXPERTS))
        self.noise: nn.Parameter = nn.Parameter(torch.zeros(width, EXPERTS))
        self.dropout: Dropout = Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Return item vectors ``[..., d]`` of text features ``[..., width]``."""
        if not self.training:
            return mix(features, features @ self.gate, self.base, self.down, self.up, self.shift)
        logits, noise = (features @ torch.cat([self.gate, self.noise], 1)).split(EXPERTS, -1)
        logits = logits + torch.randn_like(logits) * (F.softplus(noise) + LEAST_NOISE)
        return mix(self.dropout(features), logits, self.base, self.down, self.up, self.shift)


def mix(features: Tensor, logits: Tensor, base: Tensor, down: Tensor, up: Tensor, shift: Tensor) -> Tensor:
    """Return ``x W + sum_k g_k (x D_k - b_k) U_k``, ``[..., d]``, with ``g = softmax(logits)``.

    Args:
        features: x, ``[..., width]``.
        logits: ``[..., K]`` of the gates.
        base: W, ``[width, d]``.
        down: D, ``[width, K * rank]``, the experts side by side.
        up: U, ``[K * rank, d]``.
        shift: b, ``[K * rank]``.
    """
    common, own = (features @ torch.cat([base, down], 1)).split([base.shape[1], down.shape[1]], -1)
    gates = torch.softmax(logits, -1).to(own.dtype)
    gated = (own - shift.to(own.dtype)).unflatten(-1, (gates.shape[-1], -1)) * gates[..., None]
    return common + gated.flatten(-2) @ up


def with_rank(name: str, weights: Tensor, rank: int) -> Tensor:
    """Return weights of experts cut to the first ``rank`` numbers of each, or with zeros behind them; others as given.

    Args:
        name: of the weights in ``MoEAdapter``.
        weights: of experts of any rank.
        rank: that they get.
    """
    if name not in OF_EXPERTS:
        return weights
    dim = OF_EXPERTS[name]
    each = weights.unflatten(dim, (EXPERTS, -1)).movedim(dim + 1, -1)[..., :rank]
    return F.pad(each, (0, rank - each.shape[-1])).movedim(-1, dim + 1).flatten(dim, dim + 1)


def first_ranks(name: str, weights: Tensor, rank: int) -> Tensor:
    """Return weights of experts with zeros behind the first ``rank`` numbers of each; others as given."""
    return with_rank(name, with_rank(name, weights, rank), RANK)


def rank_of(weights: Mapping[str, Tensor]) -> int:
    """Return the rank of experts, zeros behind the first numbers of each aside; 1 at least.

    Args:
        weights: of ``MoEAdapter`` by name.
    """
    used = weights["up"].any(1) | weights["down"].any(0) | (weights["shift"] != 0)
    there = used.view(EXPERTS, -1).any(0).nonzero()
    return int(there[-1]) + 1 if len(there) else 1


def principal_first(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same experts, the numbers of each in the order of what they add: the first ones can stand for all.

    ``D_k U_k`` is written anew by its singular vectors, and ``b_k`` such that ``b_k U_k`` stays.

    Args:
        weights: of ``MoEAdapter`` by name.
    """
    down = weights["down"].unflatten(1, (EXPERTS, -1)).transpose(0, 1)
    up, shift = (weights[name].unflatten(0, (EXPERTS, -1)) for name in ("up", "shift"))
    rank = up.shape[1]
    left, sizes, right = torch.linalg.svd(down @ up, full_matrices=False)
    roots = sizes[:, :rank].sqrt()
    found = {"down": left[..., :rank] * roots[:, None], "up": roots[..., None] * right[:, :rank]}
    found["shift"] = (shift[:, None] @ up @ torch.linalg.pinv(found["up"]))[:, 0]
    flat = {
        "down": found["down"].transpose(0, 1).flatten(1),
        "up": found["up"].flatten(0, 1),
        "shift": found["shift"].flatten(),
    }
    return {**weights, **{name: with_rank(name, part, rank) for name, part in flat.items()}}
