"""A recommender on random features, for tests that need no encoder."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from foster.data.catalogue import Catalogue
from foster.models.item_tower import FrozenFeatures, Whitening
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.text.options import EncoderOptions

HISTORIES = [np.array([3, 5, 7, 1]), np.array([2, 9]), np.array([30, 31, 32])]


def small_recommender(
    n_items: int = 40,
    seed: int = 0,
    dropout: float = 0.0,
    adapter: str = "linear",
    ids: bool = False,
    backbone: str = "sasrec",
) -> TextRecommender:
    """Return a model over items "0".."n-1"; the features are the same for every seed, the weights are not."""
    vectors = torch.randn(n_items, 12, generator=torch.Generator().manual_seed(7))
    whitening = Whitening.fit(vectors)
    catalogue = Catalogue([str(i) for i in range(n_items)], [f"item {i}" for i in range(n_items)])
    options = ModelOptions(
        dim=8, layers=1, heads=2, max_length=10, dropout=dropout, adapter=adapter, ids=ids, backbone=backbone
    )
    torch.manual_seed(seed)
    return TextRecommender(
        catalogue, EncoderOptions(), options, FrozenFeatures.of(whitening(vectors)), whitening
    ).eval()


def full_loss(model: TextRecommender) -> torch.Tensor:
    """Return the mean next-item loss of the histories over all items, computed one history after another."""
    losses = []
    for history in HISTORIES:
        vectors = model.item_table()
        states = model.backbone(vectors[torch.from_numpy(history[:-1])][None])[0]
        losses.append(F.cross_entropy(model.scores(states, vectors), torch.from_numpy(history[1:]), reduction="none"))
    return torch.cat(losses).mean()
