"""SASRec: self-attentive sequential recommendation (Kang and McAuley, ICDM 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from foster.models.kernels import Dropout, attend, padded_rows
from foster.models.transformer import Transformer


class Block(nn.Module):
    """Pre-norm causal self-attention and a two-layer feed-forward network, each with a residual connection."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm: nn.LayerNorm = nn.LayerNorm(dim)
        self.qkv: nn.Linear = nn.Linear(dim, 3 * dim)
        self.project: nn.Linear = nn.Linear(dim, dim)
        self.feed_norm: nn.LayerNorm = nn.LayerNorm(dim)
        self.feed: nn.Sequential = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout: Dropout = Dropout(dropout)

    def forward(self, x: Tensor, batch: int, length: int) -> Tensor:
        """Map the steps ``[batch * length, d]`` of all sequences, and rows behind them that do not count."""
        steps, dim = batch * length, x.shape[1]
        qkv = self.qkv(self.attention_norm(x))[:steps].view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = padded_rows(attend(query, key, value).transpose(1, 2).reshape(steps, dim))
        x = x + self.dropout(self.project(mixed))
        return x + self.dropout(self.feed(self.feed_norm(x)))


class SASRec(Transformer):
    """The transformer of pre-norm blocks."""

    block: type[nn.Module] = Block
