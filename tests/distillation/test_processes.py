"""Several processes share a batch: their averaged gradients are those of one process."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from test_farzi import ITEMS, small_setting
from torch import Tensor, nn

from foster.data.dataset import Dataset
from foster.distillation.distill import DISTILLERS
from foster.distillation.options import OPTIONS
from foster.engine import Engine
from foster.training.loop import LogSource
from foster.training.options import TrainOptions
from processes import in_processes
from small_models import small_recommender

SCRIPT = """
import json, sys
from foster.engine import Engine
from test_processes import first_gradients

engine = Engine("cpu")
with open(f"{sys.argv[1]}/{engine.rank}.json", "w") as file:
    json.dump(first_gradients(engine), file)
engine.close()
"""

STEPS = [
    ("foster", {"subset": 12}),
    ("foster", {"subset": 12, "targets": "next", "gap_rule": "bome", "gap_weight": 10.0}),
    ("dm", {"subset": 12}),
    ("dc", {"subset": 12}),
    ("mtt", {"subset": 12, "expert_steps": 6, "checkpoint_every": 2, "ahead": 1, "inner_steps": 3}),
    ("farzi", {"inner_steps": 3, "inner_batch": 3, "width": 6}),
    ("td3", {"inner_steps": 4, "unroll": 3, "inner_batch": 3, "rank": 2}),
]
"""Distillers with options of which one step says all."""


def long_log() -> Dataset:
    """Return a log of which some histories are longer than the model reads."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", str((3 * u + 5 * t) % 40), t) for u in range(21) for t in range(int(rng.integers(4, 21)))]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    texts = pl.DataFrame({"item_id": [str(i) for i in range(40)], "title": [f"item {i}" for i in range(40)]})
    return Dataset.prepare(log, texts, k_core=0)


def first_gradients(engine: Engine) -> dict[str, list[list[float]]]:
    """Return the gradients of some steps of training and of every distiller, all parameters in a row, by name.

    They differ in last digits after the first step, and Adam makes much of these where a gradient is nothing: weights
    stay as they were.
    """
    # Histories are longer than the model reads, batches of odd size, and the last one of a pool is a single history.
    data, options = long_log(), TrainOptions(batch_size=5)
    out: dict[str, list[Tensor]] = {}
    for adapter in ("linear", "moe"):
        model = small_recommender(adapter=adapter)
        source = LogSource(data, options, model.options.max_length, 0, engine)
        for candidates in (15, 15, 15, 40, 40):
            model.zero_grad()
            source.loss(model, candidates).backward()
            engine.average_gradients(model.parameters())
            out.setdefault(f"train {adapter}", []).append(_row(model.parameters()))
    sizes = {"sequences": 4, "length": 8, "batch_size": 15, "student_steps": 4, "steps": 1}
    for method, more in STEPS:
        options = OPTIONS[method](**sizes, **more)
        setting = small_setting(options, small_recommender(ITEMS, seed=9, adapter="moe"), engine=engine)
        run = DISTILLERS[method](setting, options)
        record = run.step(1)
        models = [run.outer, run.inner] if method == "foster" else []
        numbers = [torch.tensor([record[name] for name in sorted(record)])]
        moved = _row([*run.synthetic.parameters(), *(x for model in models for x in model.parameters())])
        out[f"{method} {more}"] = [moved, *numbers]
    return {name: [row.tolist() for row in rows] for name, rows in out.items()}


def _row(parameters: Iterable[nn.Parameter]) -> Tensor:
    return torch.cat([torch.zeros_like(x).flatten() if x.grad is None else x.grad.flatten() for x in parameters])


def test_averaged_gradients_are_those_of_one_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
    in_processes(2, script, tmp_path, PYTHONPATH=os.pathsep.join(paths))
    one = first_gradients(Engine("cpu"))
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found.keys() == one.keys()
        for name, rows in one.items():
            for expected, row in zip(rows, found[name], strict=True):
                assert np.abs(expected).max() > 1e-3, name
                np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-6, err_msg=name)
