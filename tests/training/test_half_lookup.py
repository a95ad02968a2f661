"""Gradients of items that are read often, where products are in half precision."""

from __future__ import annotations

import pytest
import torch

from foster.engine import multiplying
from foster.training.losses import distinct_vectors
from small_models import small_recommender


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("adapter", ["linear", "moe"])
def test_a_frequent_item_keeps_its_share_of_the_gradient(adapter, ids):
    items = torch.zeros(4096, dtype=torch.int64)
    items[:8] = 1
    model = small_recommender(adapter=adapter, ids=ids)
    with multiplying(torch.bfloat16, torch.device("cpu")):
        vectors, place = distinct_vectors(model, items)
        vectors.retain_grad()
        (vectors[place] / len(items)).sum().backward()
    torch.testing.assert_close(vectors.grad[:2, 0].tolist(), [4088 / 4096, 8 / 4096])
