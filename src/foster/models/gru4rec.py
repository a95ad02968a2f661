"""GRU4Rec: session-based recommendation with recurrent networks (Hidasi et al., ICLR 2016)."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from foster.models.kernels import Dropout


class GRU4Rec(nn.Module):
    """Gated recurrent units over item vectors, with a residual connection around them.

    That is not in the paper. There items have output weights of their own; here states are compared with item vectors,
    and without it wide layers learn a small log by heart before they have found out how (benchmarks/research.md, 84).

    Sequences are padded on the right; a position never sees what comes behind it.

    Args:
        dim: width d of item vectors and states.
        layers: number of recurrent layers.
        dropout: rate on the inputs and after each layer.
    """

    def __init__(self, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout: Dropout = Dropout(dropout)
        self.recurrent: nn.GRU = nn.GRU(dim, dim, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.norm: nn.LayerNorm = nn.LayerNorm(dim)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the states ``[batch, length, d]`` after each step of item vectors ``[batch, length, d]``."""
        # cuDNN has no backward of a recurrent network in eval mode, as distillers need it; torch's own kernels do.
        differentiated = torch.is_grad_enabled() and not self.training
        with torch.backends.cudnn.flags(enabled=False) if differentiated else nullcontext():
            states, _ = self.recurrent(self.dropout(inputs))
        out: Tensor = self.norm(inputs + self.dropout(states))
        return out
