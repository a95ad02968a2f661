"""Devices, and several processes against one."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from foster.artefacts import read_metrics
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.engine import Engine, LaunchWarning, deterministic, matrix_type
from foster.errors import InputError
from foster.evaluation.evaluate import evaluate
from foster.models.item_tower import FrozenFeatures
from foster.models.recommender import TextRecommender
from foster.runs import train
from foster.training.options import TrainOptions
from processes import in_processes
from small_models import small_recommender

SCRIPT = """
import json, sys
import torch
from foster.engine import Engine
from test_engine import evaluated

engine = Engine(sys.argv[2])
parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.ones(3))]
parameters[0].grad = torch.full((2,), float(engine.rank))
parameters[2].grad = torch.arange(3.0) * engine.rank
engine.average_gradients(parameters)
result = {
    "world": engine.world,
    "averaged": [None if x.grad is None else x.grad.tolist() for x in parameters],
    "ranks": evaluated(engine),
}
with open(f"{sys.argv[1]}/{engine.rank}.json", "w") as file:
    json.dump(result, file)
engine.close()
"""


def evaluated(engine: Engine) -> list[float]:
    """Return the test ranks of a fixed model on a fixed log with an odd number of users.

    Items come in groups that are nearly tied, so that the last digits of scores, which depend on what is computed
    beside them, decide.
    """
    rows = [(f"u{u}", str((3 * u + 5 * t) % 2000), t) for u in range(701) for t in range(4 + u % 7)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [str(i) for i in range(2000)], "title": [f"item {i}" for i in range(2000)]})
    model = small_recommender(2000)
    vectors = model.tower.features.vectors
    model.tower.features = FrozenFeatures.of(vectors[torch.arange(2000) % 40] + 3e-6 * vectors)
    return evaluate(model, Dataset.prepare(log, items, k_core=0), engine=engine).ranks.tolist()


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_rank_to_the_last_digit_as_one(tmp_path, processes):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    device = "auto" if processes == 3 else "cpu"
    in_processes(
        processes, script, tmp_path, device, PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), *sys.path])
    )
    alone, mean = evaluated(Engine("cpu")), (processes - 1) / 2
    assert len(set(alone)) > 100
    for rank in range(processes):
        result = json.loads((tmp_path / f"{rank}.json").read_text())
        averaged = [[mean, mean], None, [0, mean, 2 * mean]]
        assert result == {"world": processes, "averaged": averaged, "ranks": alone}


def test_the_command_line_in_two_processes_writes_and_prints_once_what_one_does(tmp_path, tiny_encoder):
    from synthetic_log import synthetic_log, write_csv

    data = Dataset.prepare(write_csv(tmp_path / "log.csv", synthetic_log()))
    data.save(tmp_path / "data")
    model = ("--dim", "8", "--heads", "1", "--dropout", "0", "--encoder", str(tiny_encoder), "--adapter", "linear")
    steps = ("--steps", "4", "--eval-every", "2", "--checkpoints", "3")
    few = ("--sequences", "3", "--length", "6", "--steps", "2", "--select-every", "2", "--targets", "next")
    # No --device: processes find one another where there is no accelerator, too.
    teacher = ["pretrain", "data", "--out", "teacher", *model, *steps, "--json"]
    distill = ["distill", "data", "--teacher", "teacher", "--out", "distilled", *few, "--json"]
    student = ["train", "distilled", "--out", "model", "--validation", "data", "--dropout", "0.5", "--json"]
    judge = ["evaluate", "model", "data", "--json"]
    for command in (teacher, distill, student, judge):
        done = in_processes(2, "-m", "foster", *command, cwd=tmp_path)
        content = json.loads(done.stdout)
        assert done.stderr.count("2 processes take part, on cpu\n") == 1
    assert content["users"] == data.n_users
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "distilled", "log.csv", "model", "teacher"]

    both, once = TextRecommender.from_pretrained(tmp_path / "teacher"), Engine("cpu")
    recipe = TrainOptions(steps=4, eval_every=2)
    _, fit = train(data, encoder=both.encoder, model=both.options, train=recipe, engine=once)
    logged = [record["loss"] for record in read_metrics(tmp_path / "teacher")[:-1]]
    assert logged == pytest.approx([record["loss"] for record in fit.history], rel=1e-3)
    # Students of sequences are the same, dropout and all: every process makes each, with one thread as those did.
    # With another number sums are rounded otherwise, and then another step may be the best.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sequences, found = Condensed.read(tmp_path / "distilled"), TextRecommender.from_pretrained(tmp_path / "model")
    alone, _ = train(sequences, model=found.options, validation=data, engine=once)
    torch.set_num_threads(threads)
    for name, weights in alone.trained_state().items():
        torch.testing.assert_close(found.trained_state()[name], weights, rtol=1e-3, atol=1e-4)


def test_a_launcher_that_started_fewer_than_it_was_asked_for_is_named(monkeypatch):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes"]
    command = ["-m", "foster", "evaluate", "no-model", "no-data"]
    for asked in ("1", "2"):
        done = subprocess.run([*launch, asked, *command], capture_output=True, text=True, timeout=240, check=False)
        assert "foster: no-model: no such folder\n" in done.stderr
        assert ("started this one only" in done.stderr) == (asked == "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    with pytest.warns(LaunchWarning, match="MPI started 3 processes .* not connected, .*torchrun --nproc_per_node"):
        Engine("cpu")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    with warnings.catch_warnings(action="error"):
        Engine("cpu")


def test_processes_that_do_not_find_one_another_are_an_error(monkeypatch):
    class Lone:
        device, process_index, num_processes = torch.device("cpu"), 0, 1

    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("accelerate.Accelerator", lambda **options: Lone())
    with pytest.raises(InputError, match="2 processes were started, but 1 found one another"):
        Engine("cpu")


def test_more_processes_than_devices_are_an_error(monkeypatch):
    sizes = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "3")
    for name, value in {**sizes, "RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
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


@pytest.mark.parametrize(
    ("capabilities", "device", "wanted"),
    [
        ({"avx512_bf16": True}, "cpu", torch.bfloat16),
        ({"amx_bf16": True, "avx512_bf16": False}, "cpu", torch.bfloat16),
        ({"avx2": True, "avx512_bf16": False}, "cpu", torch.float32),
        ({}, "cpu", torch.float32),
        ({"avx512_bf16": True}, "cuda", torch.float32),
    ],
)
def test_products_are_halved_where_a_cpu_has_instructions_for_it(monkeypatch, capabilities, device, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert matrix_type("auto", torch.device(device)) == wanted
    assert matrix_type("float32", torch.device(device)) == torch.float32
    assert matrix_type("bfloat16", torch.device(device)) == torch.bfloat16
