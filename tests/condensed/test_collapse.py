"""What has collapsed is said, and nothing else."""

import numpy as np
import polars as pl
import pytest
import torch

from foster.condensed.collapse import collapse_of, one_ranking
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from small_models import small_recommender


def sequences_of(items: torch.Tensor, weights: torch.Tensor | None = None) -> Condensed:
    model = small_recommender()
    weights = torch.full(items.shape, 1 / items.shape[2]) if weights is None else weights
    return Condensed("distilled", "dm", items, weights, None, None, model.catalogue, model.encoder, model.options)


def test_sequences_of_one_item_have_collapsed():
    alike = sequences_of(torch.full((5, 8, 1), 7))
    said = collapse_of(alike)
    assert said is not None and said.startswith("the sequences have collapsed: their 40 steps hold 1.0 different items")
    assert said.endswith("lower --lr, or take fewer --steps")
    alike.info["options"] = {"start": "generated"}
    assert str(collapse_of(alike)).endswith("raise --generation-temperature")
    nearly = torch.tensor([0.999, 0.001]).expand(5, 8, 2)
    assert collapse_of(sequences_of(torch.tensor([7, 3]).expand(5, 8, 2).contiguous(), nearly.contiguous()))


@pytest.mark.parametrize(
    "items", [torch.arange(40).view(5, 8, 1), torch.arange(3).repeat(2, 6, 1), torch.tensor([[[4]]])]
)
def test_others_have_not(items):
    """Sharp steps are none of it, nor is a single step."""
    assert collapse_of(sequences_of(items)) is None


def log() -> Dataset:
    rows = [(f"u{u}", str((5 * u + 3 * t) % 40), t) for u in range(12) for t in range(6)]
    texts = pl.DataFrame({"item_id": [str(i) for i in range(40)], "title": [f"item {i}" for i in range(40)]})
    return Dataset.prepare(
        pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"), texts, k_core=0
    )


def test_a_model_that_says_the_same_to_all_is_told_from_one_that_does_not():
    data, model = log(), small_recommender()
    assert one_ranking(model, data) is None
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.zero_()
        norm = [parameter for name, parameter in model.backbone.named_parameters() if parameter.dim() == 1][-1]
        norm.copy_(torch.from_numpy(np.linspace(1, 2, len(norm))).float())
    said = one_ranking(model, data)
    assert said is not None and said.startswith("the model lists the same 10 items first to each of 12 users")
