"""SASRec: self-attentive sequential recommendation (Kang and McAuley, ICDM 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from foster.models.kernels import Dropout, padded_rows, self_attention
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

    def forward(self, x: Tensor, batch: int, length: int, ends: Tensor | None) -> Tensor:
        """Map the steps ``[batch * length, d]`` of all sequences, and rows behind them that do not count.

        With ``ends`` only the last step of each sequence is made; see ``self_attention``.
        """
        mixed = self_attention(self.qkv, self.attention_norm(x), batch, length, self.heads, ends)
        x = x if ends is None else padded_rows(x[ends])
        x = x + self.dropout(self.project(mixed))
        return x + self.dropout(self.feed(self.feed_norm(x)))


class SASRec(Transformer):
    """The transformer of pre-norm blocks."""

    block: type[nn.Module] = Block
