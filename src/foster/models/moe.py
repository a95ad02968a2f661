"""The mixture-of-experts adaptor of UniSRec (Hou et al., KDD 2022, arXiv 2206.05941)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EXPERTS = 8
SPREAD = 0.1  # how far experts are apart at the start, as a share of their size
LEAST_NOISE = 1e-2


class MoEAdapter(nn.Module):
    """Text features to item vectors: ``sum_k g_k (x - b_k) W_k`` with gates that depend on the text.

    In training the gates are noisy, ``softmax(x W_1 + noise * softplus(x W_2))`` (equations 3 to 5 of the paper), and
    features are dropped out.

    Args:
        width: of text features.
        dim: width d of item vectors.
        dropout: rate on the features.
    """

    def __init__(self, width: int, dim: int, dropout: float) -> None:
        super().__init__()
        # Nearly alike: of independent experts noisy gates make noisy vectors, and training takes twice the steps.
        common, own = torch.randn(width, dim), torch.randn(EXPERTS, width, dim)
        self.experts = nn.Parameter((common + SPREAD * own) / math.sqrt(width))
        self.biases = nn.Parameter(torch.zeros(EXPERTS, width))
        self.gate = nn.Parameter(torch.zeros(width, EXPERTS))
        self.noise = nn.Parameter(torch.zeros(width, EXPERTS))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Return item vectors ``[..., d]`` of text features ``[..., width]``."""
        logits = features @ self.gate
        if self.training:
            logits = logits + torch.randn_like(logits) * (F.softplus(features @ self.noise) + LEAST_NOISE)
        return mix(self.dropout(features), logits, self.experts, self.biases)


def mix(features: Tensor, logits: Tensor, experts: Tensor, biases: Tensor) -> Tensor:
    """Return ``sum_k g_k (x - b_k) W_k``, ``[..., d]``, with ``g = softmax(logits)``.

    Args:
        features: x, ``[..., width]``.
        logits: ``[..., K]`` of the gates.
        experts: W, ``[K, width, d]``.
        biases: b, ``[K, width]``.
    """
    # (x - b) W is x W - b W, and the b_k W_k are few: subtract them after the items' experts have become one vector.
    gates = torch.softmax(logits, -1)
    mapped = torch.einsum("...w,kwd->...kd", features, experts)
    shift = torch.einsum("kw,kwd->kd", biases, experts)
    return torch.einsum("...k,...kd->...d", gates, mapped) - gates @ shift
