"""HSTU: hierarchical sequential transduction units (Zhai et al., ICML 2024, arXiv 2402.17152)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foster.models.kernels import Dropout, halved_on_cpu, padded_rows


class HSTU(nn.Module):
    """Causal aggregation without a softmax, gated by each step itself.

    Of the paper's relative bias the part by position is here. The part by time is not: models read items in their
    order, without times. Sequences are padded on the right; a position never sees what comes behind it.

    Args:
        dim: width d of item vectors and states.
        layers: number of units.
        heads: of the aggregation; divides ``dim``.
        max_length: longest history L the positions are learned for.
        dropout: rate on the inputs and on what each unit adds, before its last map.
    """

    def __init__(self, dim: int, layers: int, heads: int, max_length: int, dropout: float) -> None:
        super().__init__()
        self.max_length = max_length
        self.positions: nn.Embedding = nn.Embedding(max_length, dim)
        self.dropout: Dropout = Dropout(dropout)
        self.units: nn.ModuleList = nn.ModuleList(Unit(dim, heads, max_length, dropout) for _ in range(layers))
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
        place = torch.arange(length, device=inputs.device)
        back = place[:, None] - place
        shares = (back >= 0).to(self.positions.weight.dtype) / (place[:, None] + 1)
        x = padded_rows(self.dropout(inputs + self.positions.weight[:length]).view(-1, dim))
        for unit in self.units:
            x = unit(x, batch, length, back.clamp(min=0), shares)
        out: Tensor = self.norm(x[: batch * length]).view(inputs.shape)
        return out


class Unit(nn.Module):
    """Pointwise aggregation of the steps so far, normalised, gated, and added to the step.

    One map with SiLU gives gate U, value V, query Q and key K. Layers are normalised without weights, as in the paper's
    code: maps follow, which have some.
    """

    def __init__(self, dim: int, heads: int, max_length: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm: nn.LayerNorm = nn.LayerNorm(dim, elementwise_affine=False)
        self.uvqk: nn.Linear = nn.Linear(dim, 4 * dim, bias=False)
        self.relative: nn.Parameter = nn.Parameter(torch.empty(heads, max_length))
        self.mixed_norm: nn.LayerNorm = nn.LayerNorm(dim, elementwise_affine=False)
        self.dropout: Dropout = Dropout(dropout)
        self.project: nn.Linear = nn.Linear(dim, dim)
        nn.init.normal_(self.relative, std=0.02)

    def forward(self, x: Tensor, batch: int, length: int, back: Tensor, shares: Tensor) -> Tensor:
        """Map the steps ``[batch * length, d]`` of all sequences, and rows behind them that do not count.

        Args:
            x: the steps.
            batch: number of sequences.
            length: of each.
            back: ``[length, length]`` how far behind a step another one is.
            shares: see ``aggregate``.
        """
        steps, dim = batch * length, x.shape[1]
        gate, others = F.silu(self.uvqk(self.norm(x))).split([dim, 3 * dim], dim=1)
        others = others[:steps].view(batch, length, 3, self.heads, dim // self.heads)
        value, query, key = others.permute(2, 0, 3, 1, 4)
        mixed = aggregate(query, key, value, self.relative[:, back], shares)
        mixed = padded_rows(mixed.transpose(1, 2).reshape(steps, dim))
        return x + self.project(self.dropout(gate * self.mixed_norm(mixed)))


def aggregate(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, shares: Tensor) -> Tensor:
    """Return ``shares * silu(q k' + bias) v``, ``[batch, heads, length, d / heads]``.

    The paper divides by a fixed length. Here a sum over t steps is divided by t: what follows normalises it, so that
    only its size before that differs, and states do not depend on padding or on ``max_length``.

    Args:
        query: ``[batch, heads, length, d / heads]``.
        key: of the same shape.
        value: of the same shape.
        bias: ``[heads, length, length]``.
        shares: ``[length, length]``, 1 / t in the first t places of row t, and zero behind.
    """
    if not halved_on_cpu(query):
        return (F.silu(query @ key.transpose(2, 3) + bias) * shares) @ value
    # As for ``attend``: small products take longer in half precision.
    with torch.autocast("cpu", enabled=False):
        query, key, value = query.float(), key.float(), value.float()
        return (F.silu(query @ key.transpose(2, 3) + bias) * shares) @ value
