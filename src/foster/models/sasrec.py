"""SASRec: self-attentive sequential recommendation (Kang and McAuley, ICDM 2018)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SASRec(nn.Module):
    """A causal transformer over item vectors.

    Sequences are padded on the right. Attention is causal, so a position never sees the padding behind it and no
    mask is
    needed; the fused attention kernels stay usable.

    Args:
        dim: width d of item vectors and states.
        layers: number of transformer blocks.
        heads: attention heads; divides ``dim``.
        max_length: longest history L the positions are learned for.
        dropout: rate on the inputs, the attention weights and the residual branches.
    """

    def __init__(self, dim: int, layers: int, heads: int, max_length: int, dropout: float) -> None:
        super().__init__()
        self.max_length = max_length
        self.positions = nn.Embedding(max_length, dim)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the states after each step.

        Args:
            inputs: item vectors, ``[batch, length, d]``, ``length <= max_length``; a soft step is a mixture of item
            vectors.

        Returns:
            ``[batch, length, d]``; the state at ``t`` depends on the steps up to ``t`` only.
        """
        length = inputs.shape[1]
        x = self.dropout(inputs + self.positions.weight[:length])
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Block(nn.Module):
    """Pre-norm causal self-attention and a two-layer feed-forward network, each with a residual connection."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.rate = dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.feed_norm = nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, length, d]`` to the same shape."""
        batch, length, dim = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.rate if self.training else 0.0, is_causal=True
        )
        x = x + self.dropout(self.project(mixed.transpose(1, 2).reshape(batch, length, dim)))
        return x + self.dropout(self.feed(self.feed_norm(x)))
