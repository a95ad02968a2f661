"""What a distillation step allocates must not grow with the catalogue."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

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
    """Remembers the number of elements of the largest floating-point tensor that an operation returned."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                self.largest = max(self.largest, value.untyped_storage().nbytes() // value.element_size())
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
    # Item features and keys are tables that are looked up; whatever is as large as they are was copied.
    with Allocations() as allocations:
        run.step(1)
        run.step(2)
    return allocations.largest


def test_a_step_allocates_the_same_for_ten_times_the_items():
    small, large = largest_allocation(400), largest_allocation(4000)
    assert large < 4000 * 8, "a tensor as large as an item table was made"
    assert large <= 1.5 * small
