"""Synthetic sequences S: latents whose similarity to item keys gives a distribution over items at every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foster.models.kernels import widened


class SyntheticSequences(nn.Module):
    """Latents ``[M, L, k]``; ``p_{m,t} = softmax_v(cos(s_{m,t}, k_v) / tau)`` over a subset of the items.

    Free logits collapse to one-hot steps, since the value gap is linear in p. A cosine is bounded, so that the
    temperature bounds the entropy from below.

    Args:
        keys: ``[V, k]`` fixed item keys, of any length and precision: those that are read are normalised, and no second
            table is made of them.
        items: ``[M, L]`` real items to start from: latents are their keys.
        temperature: tau.
    """

    def __init__(self, keys: Tensor, items: Tensor, temperature: float) -> None:
        super().__init__()
        self.keys = keys
        self.latents: nn.Parameter = nn.Parameter(self.unit_keys(items))
        self.temperature = temperature

    def unit_keys(self, index: Tensor | slice) -> Tensor:
        """Return the keys of some items, of length 1: ``[..., k]``."""
        return F.normalize(widened(self.keys[index]), dim=-1)

    def forward(self, subset: Tensor) -> Tensor:
        """Return step distributions over the items ``[N]`` of the subset: ``[M, L, N]``."""
        similarity = F.normalize(self.latents, dim=-1) @ self.unit_keys(subset).T
        return torch.softmax(similarity / self.temperature, -1)

    @torch.no_grad()
    def top(self, k: int, chunk: int = 4096) -> tuple[Tensor, Tensor]:
        """Return the k most probable items of each step over the whole catalogue.

        Memory is O(M L chunk), whatever the catalogue.

        Returns:
            items int64 ``[M, L, k]`` and their probabilities, renormalised to sum to 1.
        """
        latents = F.normalize(self.latents, dim=-1)
        best, items = latents.new_empty(*latents.shape[:2], 0), None
        for start in range(0, len(self.keys), chunk):
            part = latents @ self.unit_keys(slice(start, start + chunk)).T
            index = torch.arange(start, start + part.shape[-1], device=part.device).expand_as(part)
            both, ids = torch.cat([best, part], -1), index if items is None else torch.cat([items, index], -1)
            best, place = both.topk(min(k, both.shape[-1]), -1)
            items = ids.gather(-1, place)
        assert items is not None
        return items, torch.softmax(best / self.temperature, -1)
