"""Sequences and models that say the same of everything."""

from __future__ import annotations

import math

import torch

from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.models.recommender import TextRecommender

FEW = 0.05  # share of the items that the steps could hold below which sequences count as collapsed
USERS, LISTED = 64, 10  # users whose lists are compared, and how long these are


def collapse_of(sequences: Condensed) -> str | None:
    """Return what is wrong with sequences whose steps all hold nearly the same few items; None for others.

    How many items they hold is the exponential of the entropy of all steps together.
    """
    valid = sequences.valid
    steps, items = int(valid.sum()), len(sequences.catalogue)
    mass = torch.zeros(items, dtype=torch.float64)
    mass.scatter_add_(0, sequences.items[valid].flatten(), sequences.weights[valid].double().flatten())
    held = math.exp(torch.special.entr(mass / mass.sum()).sum().item())
    most = min(steps, items)
    if most < 2 or held >= max(FEW * most, 1.01):
        return None
    drawn = (sequences.info.get("options") or {}).get("start") == "generated"
    remedy = "raise --generation-temperature" if drawn else "lower --lr, or take fewer --steps"
    return (
        f"the sequences have collapsed: their {steps:,} steps hold {held:.1f} different items, as much as that many in "
        f"equal parts would; {remedy}"
    )


def one_ranking(model: TextRecommender, data: Dataset) -> str | None:
    """Return what is wrong with a model that lists the same items to all users, whatever they had; None for others.

    Args:
        model: the recommender.
        data: a log of its items, of whose training histories some are tried.
    """
    histories = data.histories("train")
    rows = torch.linspace(0, len(histories) - 1, min(USERS, len(histories))).long().unique()
    k = min(LISTED, model.n_items - 1)
    if len(rows) < 2 or k < 1:
        return None
    table = model.item_table()
    best = model.scores(model.states(histories[rows.numpy()], table), table).topk(k).indices.sort().values
    if (best != best[0]).any():
        return None
    return (
        f"the model lists the same {k} items first to each of {len(rows)} users, whatever they had before: it has "
        "learned what is popular at most; train it for more --steps, or at another --lr"
    )
