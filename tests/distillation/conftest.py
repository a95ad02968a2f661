"""A small log and its teacher, for what is distilled in bytes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from foster.data.dataset import Dataset
from foster.distillation import compact
from foster.engine import Engine
from foster.models.options import ModelOptions
from foster.runs import pretrain
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions
from tiny_encoder import build_tiny_encoder


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Return a log of 50 users and 30 items, and the folder of a teacher of it."""
    folder = tmp_path_factory.mktemp("budget")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOSTER_CACHE", str(folder / "cache"))
        for recipe in ("LINEAR", "EXPERTS"):
            patch.setattr(compact, recipe, TrainOptions(steps=12, batch_size=16, eval_every=6, warmup=2))
        rng = np.random.default_rng(0)
        rows = [(f"u{u}", f"i{(u + 3 * t) % 30}", t) for u in range(50) for t in range(int(rng.integers(6, 12)))]
        log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
        colours, things = ["red", "green", "blue", "dark", "light"], ["dog", "cat", "boat", "song", "tea", "game"]
        texts = [f"{colour} {thing}" for colour in colours for thing in things]
        data = Dataset.prepare(log, pl.DataFrame({"item_id": [f"i{i}" for i in range(30)], "title": texts}), k_core=0)
        pretrain(
            data,
            folder / "teacher",
            encoder=EncoderOptions(encoder=str(build_tiny_encoder(folder / "encoder"))),
            model=ModelOptions(dim=8, layers=1, heads=1, max_length=8),
            train=TrainOptions(steps=12, batch_size=16, eval_every=6, warmup=2),
            teacher=TeacherOptions(checkpoints=4, half=False),
            engine=Engine("cpu"),
        )
        yield data, folder / "teacher"
