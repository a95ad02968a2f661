"""Teachers that start from another one, to tune the language model that is frozen there."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from command_line import exit_status
from foster import (
    Dataset,
    DistillOptions,
    EncoderOptions,
    ModelOptions,
    TeacherOptions,
    TextRecommender,
    TrainOptions,
    distill,
    pretrain,
    runs,
)
from foster.engine import Engine
from foster.errors import InputError
from foster.estimation.jobs import estimate_pretrain
from foster.reproduction.reproduce import reproduce
from foster.training.loop import on_log
from foster.training.options import GOES_ON, GOES_ON_SHARE, PrivacyOptions
from foster.training.trajectory import Trajectory
from foster.unfinished import Unfinished
from small_models import small_recommender
from synthetic_log import synthetic_log, write_csv

SHAPE = ModelOptions(dim=8, layers=1, heads=1, max_length=8)
TOP = SHAPE.model_copy(update={"finetune": "top:1"})
ENGINE = Engine("cpu")
CHECKPOINTS = TeacherOptions(checkpoints=4, half=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_encoder):
    """Return a folder with a data set and a teacher with a frozen language model."""
    place = tmp_path_factory.mktemp("started")
    Dataset.prepare([str(write_csv(place / "log.csv", synthetic_log()))]).save(place / "data")
    encoder, recipe = EncoderOptions(encoder=str(tiny_encoder), words=4), TrainOptions(steps=20, eval_every=10)
    data = Dataset.read(place / "data")
    pretrain(data, place / "teacher", encoder=encoder, model=SHAPE, train=recipe, teacher=CHECKPOINTS, engine=ENGINE)
    return place


def started(place, out, **more):
    """Tune the language model of the teacher."""
    more = {"model": TOP, "teacher": CHECKPOINTS, "engine": ENGINE, **more}
    return pretrain(Dataset.read(place / "data"), out, start_from=place / "teacher", **more)


def weights_and_config(folder):
    """Return the bytes of the model, of all checkpoints and of the configuration."""
    files = sorted(folder.rglob("*.safetensors"))
    return [(file.name, file.read_bytes()) for file in [*files, folder / "config.json"]]


@pytest.mark.parametrize("finetune", ["top:1", "lora:2", "all"])
def test_a_teacher_starts_with_the_weights_of_another_and_goes_on_for_a_tenth_of_the_steps(place, tmp_path, finetune):
    model, fit = started(place, tmp_path / "out", model=SHAPE.model_copy(update={"finetune": finetune}))
    before = TextRecommender.from_pretrained(place / "teacher")
    trajectory, data = Trajectory(tmp_path / "out"), Dataset.read(place / "data")
    begun = trajectory.state(0)
    for name, weights in before.trained_state().items():
        assert torch.equal(begun[name], weights), name
    ended = trajectory.state(len(trajectory) - 1)
    own = begun.keys() - before.trained_state().keys()
    assert own and not any(
        torch.equal(begun[name], ended[name]) for name in own if "weight" in name and "lora_A" not in name
    )
    few, whole = (on_log(TrainOptions(), data, share).total_steps for share in (GOES_ON_SHARE, 1.0))
    assert fit.steps == few < whole
    stored = json.loads((tmp_path / "out/config.json").read_text())
    assert stored["training"]["lr"] == GOES_ON.lr and stored["training"]["steps"] == fit.steps
    assert stored["training"]["warmup"] == fit.steps // 8 < GOES_ON.warmup
    assert "started from another teacher" in (tmp_path / "out/README.md").read_text()
    assert stored["model"]["dim"] == 8 and model.encoder.words == 4


def test_what_is_set_counts_and_what_is_not_is_the_teachers(place, tmp_path):
    shape = ModelOptions(finetune="lora:2", dropout=0.1)
    model, fit = started(place, tmp_path / "out", model=shape, train=TrainOptions(steps=3))
    stored = json.loads((tmp_path / "out/config.json").read_text())["training"]
    assert fit.steps == 3 and (stored["lr"], stored["eval_every"]) == (GOES_ON.lr, GOES_ON.eval_every)
    assert model.options == SHAPE.model_copy(update={"finetune": "lora:2", "dropout": 0.1})


def test_an_encoder_that_lies_elsewhere_now_is_taken_and_another_is_not(place, tmp_path, tiny_encoder):
    encoder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    data, recipe = Dataset.read(place / "data"), TrainOptions(steps=2)
    own = EncoderOptions(encoder=str(encoder), words=4)
    pretrain(data, tmp_path / "teacher", encoder=own, model=SHAPE, train=recipe, engine=ENGINE)
    moved = EncoderOptions(encoder=str(encoder.rename(tmp_path / "moved")))
    more = {"start_from": tmp_path / "teacher", "model": TOP, "train": recipe, "engine": ENGINE}
    model, _ = pretrain(data, tmp_path / "out", encoder=moved, **more)
    assert model.encoder.encoder == moved.encoder and model.encoder.words == 4
    again = reproduce(tmp_path / "out", data_path=place / "data", teacher_path=tmp_path / "teacher", engine=ENGINE)
    assert again.equal
    weights = load_file(tmp_path / "moved/model.safetensors")
    generator = torch.Generator().manual_seed(0)
    other = {name: torch.randn(part.shape, generator=generator) for name, part in weights.items()}
    save_file(other, tmp_path / "moved/model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="so that this is not the encoder that it was trained with"):
        pretrain(data, tmp_path / "other", encoder=moved, **more)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("wrong", [3, ["teacher"], small_recommender()], ids=["number", "list", "model"])
def test_a_start_that_is_no_path_is_refused(place, tmp_path, wrong):
    with pytest.raises(InputError, match=r"pretrain: start_from is .*give a str or a Path"):
        pretrain(Dataset.read(place / "data"), tmp_path / "out", start_from=wrong, engine=ENGINE)


def test_a_started_teacher_distils(place, tmp_path):
    started(place, tmp_path / "out", train=TrainOptions(steps=4))
    options = DistillOptions(sequences=3, length=6, student_steps=4)
    sequences, _ = distill(Dataset.read(place / "data"), tmp_path / "out", options, engine=ENGINE, progress=False)
    assert sequences.model.finetune == "top:1" and len(sequences) == 3


def test_a_cut_off_run_goes_on_to_the_same_end(place, tmp_path, monkeypatch):
    recipe, said = TrainOptions(steps=6, eval_every=2), []
    started(place, tmp_path / "whole", train=recipe)
    plain = Unfinished.save

    def cut(self, at, **parts):
        plain(self, at, **parts)
        raise KeyboardInterrupt

    monkeypatch.setattr(Unfinished, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        started(place, tmp_path / "out", train=recipe)
    monkeypatch.undo()
    started(place, tmp_path / "out", train=recipe, say=said.append)
    assert "goes on after step 2" in said[0]
    assert weights_and_config(tmp_path / "out") == weights_and_config(tmp_path / "whole")


def test_it_is_made_again_from_the_teacher_that_it_started_from(place, tmp_path):
    started(place, tmp_path / "out", train=TrainOptions(steps=4))
    assert reproduce(tmp_path / "out", data_path=place / "data", teacher_path=place / "teacher", engine=ENGINE).equal
    with pytest.raises(InputError, match="--teacher is missing: the teacher, from which"):
        reproduce(tmp_path / "out", data_path=place / "data", engine=ENGINE)
    with pytest.raises(InputError, match="was made without it"):
        reproduce(place / "teacher", data_path=place / "data", teacher_path=place / "teacher", engine=ENGINE)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model": TOP.model_copy(update={"dim": 16})}, "--dim 16: .*teacher has 8; leave it out"),
        ({"model": TOP.model_copy(update={"max_length": 9})}, "--max-length 9: .*teacher has 8"),
        ({"model": TOP.model_copy(update={"backbone": "gru4rec"})}, "--backbone gru4rec: .*teacher has sasrec"),
        ({"model": TOP.model_copy(update={"ids": True})}, "--ids: .*teacher has False"),
        ({"model": SHAPE}, "--start-from: is for tuning a language model, .*; add --finetune top:1"),
        ({"model": None}, "--start-from: is for tuning a language model, .*; add --finetune top:1"),
        ({"encoder": {"words": 0}}, "--words 0: .*teacher has 4; leave it out"),
        ({"encoder": {"max_tokens": 8}}, "--max-tokens 8: .*teacher has 64; leave it out"),
        ({"privacy": PrivacyOptions(epsilon=8)}, "--start-from: a private training starts from random weights"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_teacher_is_refused_and_leaves_nothing(place, tmp_path, tiny_encoder, more, message):
    if "encoder" in more:
        more = {"encoder": EncoderOptions(encoder=str(tiny_encoder), **more["encoder"])}
    with pytest.raises(InputError, match=message):
        started(place, tmp_path / "out", **more)
    assert list(tmp_path.iterdir()) == []


def test_a_tuned_teacher_is_tuned_on_in_its_own_way_only(place, tmp_path):
    started(place, tmp_path / "top", train=TrainOptions(steps=2))
    data, recipe = Dataset.read(place / "data"), TrainOptions(steps=2)
    with pytest.raises(InputError, match=r"--finetune all: .*top was tuned by top:1; leave it out"):
        shape = SHAPE.model_copy(update={"finetune": "all"})
        pretrain(data, tmp_path / "out", start_from=tmp_path / "top", model=shape, engine=ENGINE)
    model, _ = pretrain(data, tmp_path / "out", start_from=tmp_path / "top", train=recipe, engine=ENGINE)
    assert model.options.finetune == "top:1"


def test_a_teacher_of_other_data_or_none_is_refused(place, tmp_path):
    other = Dataset.prepare([str(write_csv(tmp_path / "log.csv", synthetic_log(seed=1)))])
    with pytest.raises(InputError, match="trained on other data"):
        pretrain(other, tmp_path / "out", start_from=place / "teacher", model=TOP, engine=ENGINE)
    with pytest.raises(InputError, match="holds a data set"):
        pretrain(other, tmp_path / "out", start_from=place / "data", engine=ENGINE)


def test_the_command_line_takes_the_teachers_shape_and_encoder(place, tmp_path, monkeypatch, capsys):
    flags = ["--start-from", place / "teacher", "--finetune", "top:1", "--device", "cpu"]
    assert exit_status(monkeypatch, "pretrain", place / "data", "--out", tmp_path / "out", *flags) == 0
    started(place, tmp_path / "python", teacher=TeacherOptions())
    assert weights_and_config(tmp_path / "out") == weights_and_config(tmp_path / "python")
    assert exit_status(monkeypatch, "pretrain", place / "data", "--dry-run", *flags) == 0
    capsys.readouterr()
    assert exit_status(monkeypatch, "pretrain", place / "data", "--out", place / "teacher", "--overwrite", *flags) == 2
    assert "is read from, too" in capsys.readouterr().err


@pytest.mark.parametrize("gain", [-0.1, 0.0, 0.1])
def test_a_teacher_that_tuning_did_not_better_is_said(place, tmp_path, monkeypatch, capsys, gain):
    flags = ["--start-from", place / "teacher", "--finetune", "top:1", "--device", "cpu", "--steps", "2"]
    before = json.loads((place / "teacher/config.json").read_text())["fit"]["best_ndcg"]
    monkeypatch.setattr(runs, "validator", lambda *_: lambda model: before + gain)
    assert exit_status(monkeypatch, "pretrain", place / "data", "--out", tmp_path / "out", *flags) == 0
    said = f"out: validation NDCG@10 {before + gain:.4f} is no better than {before:.4f} of "
    assert (said in capsys.readouterr().err) == (gain <= 0)


def test_what_it_takes_is_known_before(place, tmp_path):
    data = Dataset.read(place / "data")
    estimate = estimate_pretrain(data, tmp_path / "out", model=TOP, start_from=place / "teacher", engine=ENGINE)
    steps = on_log(GOES_ON, data, GOES_ON_SHARE).total_steps
    assert any(f"{steps:,} step" in name for name in estimate.parts), estimate.parts
    with pytest.raises(InputError, match="--dim 16"):
        shape = TOP.model_copy(update={"dim": 16})
        estimate_pretrain(data, tmp_path / "out", model=shape, start_from=place / "teacher", engine=ENGINE)
