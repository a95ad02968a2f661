"""SASRec: self-attentive sequential recommendation (Kang and McAuley, ICDM 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from foster.models.kernels import Dropout, attend, padded_rows


class SASRec(nn.Module):
    """A causal transformer over item vectors.

    Sequences are padded on the right. Attention is causal, so a position never sees the padding behind it and no mask
    is needed. Attention weights are not dropped out: with both the fused kernels stay usable.

    Args:
        dim: width d of item vectors and states.
        layers: number of transformer blocks.
        heads: attention heads; divides ``dim``.
        max_length: longest history L the positions are learned for.
        dropout: rate on the inputs and the residual branches.
    """

    def __init__(self, dim: int, layers: int, heads: int, max_length: int, dropout: float) -> None:
        super().__init__()
        self.max_length = max_length
        self.positions: nn.Embedding = nn.Embedding(max_length, dim)
        self.dropout: Dropout = Dropout(dropout)
        self.blocks: nn.ModuleList = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
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
