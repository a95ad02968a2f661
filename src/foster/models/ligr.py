"""LiGR: a transformer with gated residual connections (Borisyuk et al., arXiv 2502.03417).

eSASRec (Tikhonovich et al., RecSys 2025, arXiv 2508.06450) is SASRec with these blocks and a sampled softmax.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foster.models.kernels import Dropout, attend, padded_rows


class LiGR(nn.Module):
    """A causal transformer over item vectors, whose blocks say how much of what they add counts.

    Sequences are padded on the right; a position never sees what comes behind it. Attention weights are not dropped
    out, as in SASRec here.

    Args:
        dim: width d of item vectors and states.
        layers: number of blocks.
        heads: attention heads; divides ``dim``.
        max_length: longest history L the positions are learned for.
        dropout: rate on the inputs, within the feed-forward networks, and on the residual branches.
    """

    def __init__(self, dim: int, layers: int, heads: int, max_length: int, dropout: float) -> None:
        super().__init__()
        self.max_length = max_length
        self.positions: nn.Embedding = nn.Embedding(max_length, dim)
        self.dropout: Dropout = Dropout(dropout)
        self.blocks: nn.ModuleList = nn.ModuleList(GatedBlock(dim, heads, dropout) for _ in range(layers))
        self.norm: nn.LayerNorm = nn.LayerNorm(dim)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the states after each step.

        Args:
            inputs: item vectors, ``[batch, length, d]``, ``length <= max_length``; a soft step is a mixture of item
            vectors.

        Returns:
            ``[batch, length, d]``; the state at ``t`` depends on the steps up to ``t`` only.
        """
        batch, length, dim = inputs.shape
        x = padded_rows(self.dropout(inputs + self.positions.weight[:length]).view(-1, dim))
        for block in self.blocks:
            x = block(x, batch, length)
        out: Tensor = self.norm(x[: batch * length]).view(inputs.shape)
        return out


class GatedBlock(nn.Module):
    """``x + sigmoid(x W) * f(norm(x))`` with causal self-attention as f, then with a SwiGLU (Shazeer, 2020)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm: nn.LayerNorm = nn.LayerNorm(dim)
        self.qkv: nn.Linear = nn.Linear(dim, 3 * dim)
        self.project: nn.Linear = nn.Linear(dim, dim)
        self.attention_gate: nn.Linear = nn.Linear(dim, dim)
        self.feed_norm: nn.LayerNorm = nn.LayerNorm(dim)
        self.feed_in: nn.Linear = nn.Linear(dim, 8 * dim, bias=False)
        self.feed_out: nn.Linear = nn.Linear(4 * dim, dim, bias=False)
        self.feed_gate: nn.Linear = nn.Linear(dim, dim)
        self.dropout: Dropout = Dropout(dropout)

    def forward(self, x: Tensor, batch: int, length: int) -> Tensor:
        """Map the steps ``[batch * length, d]`` of all sequences, and rows behind them that do not count."""
        steps, dim = batch * length, x.shape[1]
        qkv = self.qkv(self.attention_norm(x))[:steps].view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = padded_rows(attend(query, key, value).transpose(1, 2).reshape(steps, dim))
        x = x + torch.sigmoid(self.attention_gate(x)) * self.dropout(self.project(mixed))
        swish, linear = self.feed_in(self.feed_norm(x)).chunk(2, dim=1)
        fed = self.feed_out(self.dropout(F.silu(swish) * linear))
        return x + torch.sigmoid(self.feed_gate(x)) * self.dropout(fed)
