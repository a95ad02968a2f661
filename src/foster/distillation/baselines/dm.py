"""Distribution matching (DM): Zhao and Bilen, *Dataset Condensation with Distribution Matching*, WACV 2023."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from foster.distillation.baselines.matching import Matching
from foster.distillation.options import DMOptions
from foster.distillation.setting import Setting
from foster.models.item_tower import FrozenFeatures
from foster.models.recommender import TextRecommender


class DistributionMatching(Matching):
    """Synthetic histories whose states under random networks have the moments of real histories' states.

    Every step draws a new network, random but for the public text encoder, and moves S along the gradient of

    ``sum_k |mean_X h_k - mean_S h_k|^2 + |mean_X h_k^2 - mean_S h_k^2|^2``

    where ``h_k`` is the state k steps before the end of a history. The published method compares means of a class of
    images; there are no classes here, and the mean over 20 sequences says little, so that second moments are added.
    Most real histories are short, and a batch has similar lengths: S is compared in a window of the batch's length,
    else most of its steps would have no counterpart. First order: networks are constants.

    Args:
        setting: log, teacher and random streams; of the teacher only the shape is used.
        options: the method's.
    """

    derived = "were moved towards the moments that states of real histories have under random networks"

    def __init__(self, setting: Setting, options: DMOptions) -> None:
        super().__init__(setting, options)
        self.options = options
        best = setting.best
        features = FrozenFeatures.of(setting.features)  # of the public encoder, whatever the teacher's was tuned to
        frozen = best.options.model_copy(update={"finetune": "frozen"})
        public = TextRecommender(best.catalogue, best.encoder, frozen, features, best.whitening)
        self.public: TextRecommender = public.to(best.device)

    def step(self, step: int) -> dict[str, Any]:
        """Match the moments of one real batch under one random network; return what is logged."""
        network = self.public.fresh(int(self.setting.rng.integers(2**31))).eval().requires_grad_(False)
        real = self.setting.source.batch()[:, : self.options.length]
        subset = self.setting.subset()
        steps = real.shape[1]
        start = int(self.setting.rng.integers(self.options.length - steps + 1))
        p = self.synthetic(subset)[:, start : start + steps]
        return self.descend(moment_distance(network, real, p, subset), p)


def moment_distance(network: TextRecommender, real: Tensor, p: Tensor, subset: Tensor) -> Tensor:
    """Return the squared distance of the first two moments of states, summed over the distance from the end.

    Each distance counts by the share of real histories that are long enough for it.

    Args:
        network: gives the states.
        real: ``[B, T]`` item indices of histories, padded on the right with -1. They are embedded as they are: the
            subset need not have their items.
        p: ``[M, T, N]`` step distributions over the subset.
        subset: ``[N]`` items.
    """
    with torch.no_grad():
        distinct, place = torch.unique(real.clamp(min=0), return_inverse=True)
        states = network.backbone(network.tower(distinct)[place])
        lengths = (real >= 0).sum(1, keepdim=True)
        steps = lengths - 1 - torch.arange(real.shape[1], device=real.device)  # [B, T], newest step first
        there = (steps >= 0).to(states.dtype)[..., None]
        states = states.gather(1, steps.clamp(min=0)[..., None].expand_as(states))
        count = there.sum(0)
        wanted = [(states**power * there).sum(0) / count.clamp(min=1) for power in (1, 2)]
    own = network.backbone(p @ network.tower(subset)).flip(1)
    distance = sum(((moment - (own**power).mean(0)) ** 2) for power, moment in zip((1, 2), wanted, strict=True))
    out: Tensor = (distance * count / len(real)).sum()
    return out
