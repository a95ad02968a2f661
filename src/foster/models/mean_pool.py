"""Mean pooling: the average of a history's item vectors, the simplest sequence model: order does not count."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foster.models.kernels import Dropout


class MeanPool(nn.Module):
    """A feed-forward network over the mean of all item vectors so far, with a residual connection.

    Args:
        dim: width d of item vectors and states.
        dropout: rate on the inputs and on the residual branch.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout: Dropout = Dropout(dropout)
        self.feed_norm: nn.LayerNorm = nn.LayerNorm(dim)
        self.feed: nn.Sequential = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.norm: nn.LayerNorm = nn.LayerNorm(dim)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the states ``[batch, length, d]`` after each step of item vectors ``[batch, length, d]``."""
        counts = torch.arange(1, inputs.shape[1] + 1, device=inputs.device)
        x = self.dropout(inputs).cumsum(1) / counts[:, None]
        out: Tensor = self.norm(x + self.dropout(self.feed(self.feed_norm(x))))
        return out
