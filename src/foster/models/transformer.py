"""What transformers over item vectors share: SASRec and LiGR differ in their blocks."""

from __future__ import annotations

import torch
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
    """Its layers, of ``(dim, heads, dropout)``; called with steps, number and length of sequences, and ``ends``."""

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
        return self._run(inputs, None).view(inputs.shape)

    def last(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Return the state after the last step of each sequence, as ``forward`` has it; the last block makes no others.

        Args:
            inputs: as for ``forward``.
            lengths: int64 ``[batch]``, at least 1: how many steps each sequence has.

        Returns:
            ``[batch, d]``.
        """
        batch, length, _ = inputs.shape
        return self._run(inputs, length * torch.arange(batch, device=inputs.device) + lengths - 1)

    def _run(self, inputs: Tensor, ends: Tensor | None) -> Tensor:
        batch, length, dim = inputs.shape
        x = padded_rows(self.dropout(inputs + self.positions.weight[:length]).view(-1, dim))
        for number, block in enumerate(self.blocks, 1):
            x = block(x, batch, length, ends if number == len(self.blocks) else None)
        out: Tensor = self.norm(x[: batch * length if ends is None else batch])
        return out
