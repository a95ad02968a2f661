"""Devices, and two processes against one."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from foster.data.dataset import Dataset
from foster.engine import Engine, deterministic
from foster.errors import InputError
from foster.evaluation.evaluate import evaluate
from small_models import small_recommender
from two_processes import in_two_processes

SCRIPT = """
import json, sys
import torch
from foster.engine import Engine
from test_engine import evaluated

engine = Engine("cpu")
parameter = torch.nn.Parameter(torch.zeros(2))
parameter.grad = torch.full((2,), float(engine.rank))
engine.average_gradients([parameter])
result = {"world": engine.world, "gradient": parameter.grad.tolist(), "ranks": evaluated(engine)}
with open(f"{sys.argv[1]}/{engine.rank}.json", "w") as file:
    json.dump(result, file)
engine.close()
"""


def evaluated(engine: Engine) -> list[float]:
    """Return the test ranks of a fixed model on a fixed log with an odd number of users."""
    rows = [(f"u{u}", str((3 * u + 5 * t) % 40), t) for u in range(61) for t in range(6)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [str(i) for i in range(40)], "title": [f"item {i}" for i in range(40)]})
    data = Dataset.prepare(log, items, k_core=0)
    return evaluate(small_recommender(), data, engine=engine).ranks.tolist()


def test_two_processes_rank_and_average_as_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    in_two_processes(script, tmp_path, PYTHONPATH=str(Path(__file__).parent))
    alone = evaluated(Engine("cpu"))
    assert len(alone) == 61
    for rank in (0, 1):
        result = json.loads((tmp_path / f"{rank}.json").read_text())
        assert result == {"world": 2, "gradient": [0.5, 0.5], "ranks": alone}


def test_the_command_line_in_two_processes_writes_and_prints_once(tmp_path, tiny_encoder):
    from synthetic_log import synthetic_log, write_csv

    data = Dataset.prepare(write_csv(tmp_path / "log.csv", synthetic_log()))
    data.save(tmp_path / "data")
    model = ("--dim", "8", "--heads", "1", "--encoder", str(tiny_encoder), "--steps", "4", "--eval-every", "2")
    few = ("--sequences", "3", "--length", "6", "--steps", "2", "--select-every", "2", "--student-steps", "2")
    once = ("--device", "cpu", "--json")
    teacher = ["pretrain", "data", "--out", "teacher", "--checkpoints", "3", *model, *once]
    distill = ["distill", "data", "--teacher", "teacher", "--out", "distilled", *few, *once]
    student = ["train", "distilled", "--out", "model", "--validation", "data", *once]
    judge = ["evaluate", "teacher", "data", *once]
    for command in (teacher, distill, student, judge):
        done = in_two_processes("-m", "foster", *command, cwd=tmp_path)
        content = json.loads(done.stdout)
    assert content["users"] == data.n_users
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "distilled", "log.csv", "model", "teacher"]


def test_more_processes_than_devices_are_an_error(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"3 processes .* 2 accelerators; .*--device cpu"):
        Engine()


def test_an_absent_device_is_named():
    with pytest.raises(InputError, match="--device cuda:97"):
        Engine("cuda:97")
    with pytest.raises(InputError, match="--device nonsense"):
        Engine("nonsense")


@pytest.mark.parametrize("cuda", [True, False])
def test_cuda_must_be_deterministic(monkeypatch, cuda):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    with deterministic():
        assert torch.is_deterministic_algorithms_warn_only_enabled() != cuda


def test_deterministic_leaves_the_setting_as_it_was():
    with deterministic():
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert np.isfinite(evaluated(Engine("cpu"))).all()


def test_a_build_for_accelerators_takes_the_cpu_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert Engine("auto").device.type == "cpu"
