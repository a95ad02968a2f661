"""LiGR: a transformer with gated residual connections (Borisyuk et al., arXiv 2502.03417).

eSASRec (Tikhonovich et al., RecSys 2025, arXiv 2508.06450) is SASRec with these blocks and a sampled softmax.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foster.models.kernels import Dropout, padded_rows, self_attention
from foster.models.transformer import Transformer


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

    def forward(self, x: Tensor, batch: int, length: int, ends: Tensor | None) -> Tensor:
        """Map the steps ``[batch * length, d]`` of all sequences, and rows behind them that do not count.

        With ``ends`` only the last step of each sequence is made; see ``self_attention``.
        """
        mixed = self_attention(self.qkv, self.attention_norm(x), batch, length, self.heads, ends)
        x = x if ends is None else padded_rows(x[ends])
        x = x + torch.sigmoid(self.attention_gate(x)) * self.dropout(self.project(mixed))
        swish, linear = self.feed_in(self.feed_norm(x)).chunk(2, dim=1)
        fed = self.feed_out(self.dropout(F.silu(swish) * linear))
        return x + torch.sigmoid(self.feed_gate(x)) * self.dropout(fed)


class LiGR(Transformer):
    """The transformer of blocks that say how much of what they add counts, with dropout within these, too."""

    block: type[nn.Module] = GatedBlock
