"""A teacher in memory gives what the same teacher in a folder gives."""

from __future__ import annotations

import re
import textwrap
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from foster import Dataset, distill, distill_with, estimate_distill, pretrain, select, select_with, train, train_teacher
from foster.distillation.options import DistillOptions, DMOptions
from foster.engine import Engine
from foster.errors import InputError
from foster.manifest import MANIFEST_NAME
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions
from foster.training.trajectory import Recording
from small_models import small_recommender
from synthetic_log import synthetic_log, write_csv
from tiny_encoder import build_tiny_encoder

SMALL = {"sequences": 3, "length": 6, "steps": 2, "select_every": 2, "student_steps": 4, "batch_size": 16}
CPU = Engine("cpu")


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    place = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOSTER_CACHE", str(place / "cache"))
        data = Dataset.prepare(write_csv(place / "log.csv", synthetic_log()), k_core=0)
        asked = {
            "encoder": EncoderOptions(encoder=str(build_tiny_encoder(place / "encoder"))),
            "model": ModelOptions(dim=8, layers=1, heads=1, max_length=8, adapter="linear", ids=True),
            "train": TrainOptions(steps=12, batch_size=16, eval_every=6, warmup=2),
            "teacher": TeacherOptions(checkpoints=4),
            "engine": CPU,
        }
        pretrain(data, place / "teacher", **asked)
        model, trajectory, _ = train_teacher(data, **asked)
        yield SimpleNamespace(data=data, asked=asked, folder=place / "teacher", model=model, trajectory=trajectory)


@pytest.mark.parametrize("options", [DistillOptions(**SMALL), DMOptions(**SMALL)], ids=["foster", "dm"])
def test_distilling_with_a_teacher_in_memory(taught, options, tmp_path):
    known, log = distill(taught.data, taught.folder, options, engine=CPU, progress=False)
    found, other_log = distill_with(taught.data, taught.model, taught.trajectory, options, progress=False)
    assert found.info == known.info and other_log == log
    for name, made in (("known", known), ("found", found)):
        made.save(tmp_path / name)
    files = [file.name for file in (tmp_path / "known").iterdir() if file.name != MANIFEST_NAME]
    assert "sequences.safetensors" in files
    for file in files:
        assert (tmp_path / "found" / file).read_bytes() == (tmp_path / "known" / file).read_bytes(), file


@pytest.mark.parametrize("method", ["random", "herding", "soft-label"])
def test_selecting_with_a_teacher_in_memory(taught, method):
    known = select(method, taught.data, 3, teacher_path=taught.folder, engine=CPU)
    found = select_with(method, taught.data, 3, teacher=taught.model)
    assert torch.equal(found.items, known.items) and found.model == known.model and found.encoder == known.encoder
    assert known.codes is None or torch.equal(known.codes, found.codes)


def test_teachers_that_cannot_be(taught, tmp_path):
    others = Dataset.prepare(write_csv(tmp_path / "log.csv", synthetic_log(seed=7)), k_core=0)
    for model in (taught.model, small_recommender()):  # of other data, and of nobody knows what
        with pytest.raises(InputError, match="the teacher was trained on other data than"):
            distill_with(others, model, taught.trajectory)
        with pytest.raises(InputError, match="the teacher was trained on other data than"):
            select_with("herding", others, 3, teacher=model)
    with pytest.raises(InputError, match="the trajectory has no checkpoint"):
        distill_with(taught.data, taught.model, Recording([0]))


def test_what_the_page_of_the_api_shows(taught):
    page = (Path(__file__).parents[2] / "docs" / "api.rst").read_text(encoding="utf-8")
    (block,) = re.findall(r"\.\. code-block:: python\n\n((?:   .*\n)+)", page)
    small = SimpleNamespace(
        train_teacher=partial(train_teacher, **taught.asked),
        distill_with=partial(distill_with, options=DistillOptions(**SMALL)),
        train=train,
    )
    names = {"foster": small, "data": taught.data}
    exec(textwrap.dedent(block), names)
    assert len(names["sequences"]) == 3 and names["student"].n_items == taught.data.n_items


@pytest.mark.parametrize("options", [DistillOptions, DMOptions])
def test_a_teacher_of_short_histories_has_short_sequences_unless_a_length_is_given(taught, options, tmp_path):
    sizes = {name: value for name, value in SMALL.items() if name != "length"}
    made, _ = distill(taught.data, taught.folder, options(**sizes), engine=CPU, progress=False)
    assert made.items.shape[1] == taught.model.options.max_length
    estimate = estimate_distill(taught.data, taught.folder, tmp_path / "out", options(**sizes), engine=CPU)
    assert estimate.disk_bytes > 0
    with pytest.raises(InputError, match="--length 9: the teacher reads 8 items; give at most that"):
        distill(taught.data, taught.folder, options(**sizes, length=9), engine=CPU, progress=False)
