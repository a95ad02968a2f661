"""Steps of sequences that are mixtures of items, for tests."""

from __future__ import annotations

import torch


def steps(data, sequences, length, k, seed=3):
    """Return items, all different within a step, and weights that differ."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.stack(
        [torch.randperm(data.n_items, generator=generator)[:k] for _ in range(sequences * length)]
    ).view(sequences, length, k)  # fmt: skip
    weights = torch.rand(sequences, length, k, generator=generator) + 0.05
    return items, weights / weights.sum(-1, keepdim=True)
