"""What transformers over item vectors share: SASRec and LiGR differ in their blocks."""

from __future__ import annotations

from torch import Tensor, nn

from foster.models.kernels import Dropout, padded_rows


class Transformer(nn.Module):
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

    block: type[nn.Module]
    """Its layers, of ``(dim, heads, dropout)``; called with steps, the number of sequences and their length."""

    def __init__(self, dim: int, layers: int, heads: int, max_length: int, dropout: float) -> None:
        super().__init__()
        self.max_length = max_length
        self.positions: nn.Embedding = nn.Embedding(max_length, dim)
        self.dropout: Dropout = Dropout(dropout)
        self.blocks: nn.ModuleList = nn.ModuleList(self.block(dim, heads, dropout) for _ in range(layers))
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
