"""What a distillation step allocates must not grow with the catalogue."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foster.data.catalogue import Catalogue
from foster.data.dataset import Dataset
from foster.distillation.foster import Foster
from foster.distillation.options import DistillOptions
from foster.distillation.setting import Setting
from foster.engine import Engine
from foster.models.item_tower import FrozenFeatures, Whitening
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.text.options import EncoderOptions


class Allocations(TorchDispatchMode):
    """Remembers the bytes of the largest tensor, of whatever numbers, that an operation made and did not only view."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        there = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor) and value.untyped_storage().data_ptr() not in there:
                self.largest = max(self.largest, value.untyped_storage().nbytes())
        return out


class OneCheckpoint:
    """A trajectory that is only the start."""

    def __init__(self, model: TextRecommender) -> None:
        self._state = model.trained_state()

    def __len__(self) -> int:
        return 1

    def step(self, which: int) -> int:
        return 0

    def state(self, which: int) -> dict[str, torch.Tensor]:
        return self._state


def largest_allocation(n_items: int) -> int:
    rows = [(f"u{u}", f"i{(7 * u + 3 * t) % n_items}", t) for u in range(60) for t in range(8)]
    rows += [(f"all{i}", f"i{(i + t) % n_items}", t) for i in range(0, n_items, 5) for t in range(5)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{i}" for i in range(n_items)], "title": [f"t{i}" for i in range(n_items)]})
    data = Dataset.prepare(log, items, k_core=0)
    assert data.n_items == n_items
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(n_items, 16))).float()
    whitening = Whitening.fit(vectors)
    model = TextRecommender(
        Catalogue(data.item_ids, data.texts),
        EncoderOptions(),
        ModelOptions(dim=8, layers=1, heads=1, max_length=8),
        FrozenFeatures.of(whitening(vectors)),
        whitening,
    )
    options = DistillOptions(sequences=3, length=6, subset=32, batch_size=16, regulariser_weight=0.1)
    run = Foster(Setting(data, model, OneCheckpoint(model), options, 0, Engine("cpu")), options)
    with Allocations() as allocations:
        run.step(1)
        run.step(2)
    return allocations.largest


def test_a_step_allocates_the_same_for_fifty_times_the_items():
    small, large = largest_allocation(1000), largest_allocation(50_000)
    assert small < 50_000, "a tensor with a byte an item would not be seen"
    assert large <= 1.1 * small
