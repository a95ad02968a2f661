"""What a distillation step allocates must not grow with the catalogue."""

from __future__ import annotations

import copy

import numpy as np
import polars as pl
import torch

from allocations import Allocations
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


def distillation(n_items: int) -> Foster:
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
    return Foster(Setting(data, model, OneCheckpoint(model), options, 0, Engine("cpu")), options)


def largest_allocation(n_items: int) -> int:
    run = distillation(n_items)
    with Allocations() as allocations:
        run.step(1)
        run.step(2)
    return allocations.largest


def test_a_step_allocates_the_same_for_fifty_times_the_items():
    small, large = largest_allocation(1000), largest_allocation(50_000)
    assert small < 50_000, "a tensor with a byte an item would not be seen"
    assert large <= 1.1 * small


def test_the_models_and_keys_of_a_distillation_are_no_copies_of_tables():
    run = distillation(1000)
    best = run.setting.best
    for model in (run.outer, run.inner):
        assert model.catalogue is best.catalogue and model.tower.features is best.tower.features
        assert model.tower.adapter is not best.tower.adapter
    table = best.tower.features.vectors.untyped_storage().data_ptr()
    assert run.synthetic.keys.untyped_storage().data_ptr() == table


def test_a_copy_of_a_loaded_model_shares_its_item_table(tmp_path):
    loaded = TextRecommender.from_pretrained(distillation(1000).setting.best.save_pretrained(tmp_path / "model"))
    with Allocations() as allocations:
        copied = copy.deepcopy(loaded)
    assert copied.item_table().untyped_storage().data_ptr() == loaded.item_table().untyped_storage().data_ptr()
    assert allocations.largest < loaded.item_table().nbytes
