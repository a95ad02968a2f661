"""GRU4Rec: session-based recommendation with recurrent networks (Hidasi et al., ICLR 2016)."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from foster.models.kernels import Dropout


class GRU4Rec(nn.Module):
    """Gated recurrent units over item vectors.

    Sequences are padded on the right; a position never sees what comes behind it.

    Args:
        dim: width d of item vectors and states.
        layers: number of recurrent layers.
        dropout: rate on the inputs and between layers.
    """

    def __init__(self, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout: Dropout = Dropout(dropout)
        self.gru: nn.GRU = nn.GRU(dim, dim, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.norm: nn.LayerNorm = nn.LayerNorm(dim)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the states ``[batch, length, d]`` after each step of item vectors ``[batch, length, d]``."""
        # cuDNN has no backward of a recurrent network in eval mode, as distillers need it; torch's own kernels do.
        differentiated = torch.is_grad_enabled() and not self.training
        with torch.backends.cudnn.flags(enabled=False) if differentiated else nullcontext():
            states, _ = self.gru(self.dropout(inputs))
        out: Tensor = self.norm(states)
        return out
