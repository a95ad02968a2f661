"""Distilling within a budget in bytes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from foster.condensed.folder import stored_bytes
from foster.condensed.sequences import Condensed
from foster.distillation.budget import Form
from foster.distillation.compact import CompactTeacher, compact_teacher
from foster.distillation.distill import distill, settings_within
from foster.distillation.foster import Foster
from foster.distillation.options import DistillOptions
from foster.distillation.setting import Setting
from foster.engine import Engine
from foster.errors import InputError
from foster.models.recommender import TextRecommender
from foster.runs import train
from foster.training.options import EXPERT_STEPS, TrainOptions
from foster.training.teachers import load_teacher
from foster.training.trajectory import Trajectory

SMALL = {"length": 6, "window": 3, "steps": 0, "student_steps": 4, "batch_size": 16, "subset": 12}


def distilled(setting, **changes):
    return distill(*setting, DistillOptions(**SMALL | changes), progress=False)[0]


def figure(error) -> int:
    """Return the size that an error says would work."""
    return int(re.search(r"takes? (\d+) bytes", str(error.value)).group(1))


@pytest.fixture(scope="module")
def least(setting):
    wanted = r"^--bytes 10: the smallest map of items and 1 sequence of 6 steps take \d+ bytes"
    with pytest.raises(InputError, match=wanted) as error:
        distilled(setting, bytes=10)
    return figure(error)


def test_bytes_are_of_labels_or_of_generated_sequences():
    assert DistillOptions(bytes=50_000).start == "pieces"
    options = DistillOptions(bytes=50_000, targets="next")
    assert options.start == "generated" and options.steps == 0
    with pytest.raises(InputError, match="with targets next bytes is for start generated; else give sequences"):
        DistillOptions.parse({"bytes": 50_000, "targets": "next", "start": "long"})


def test_sequences_are_moved_by_default_where_labels_are_the_next_steps():
    assert DistillOptions().steps == 0
    assert DistillOptions(targets="next").steps == 200
    assert DistillOptions(targets="next", steps=3).steps == 3


@pytest.mark.parametrize("more", [0, 300, 1500])
def test_a_folder_is_as_large_as_the_budget_allows_and_no_larger(setting, least, tmp_path, more):
    made = distilled(setting, bytes=least + more)
    made.save(tmp_path / "out")
    # Compressed items take a little less than was counted on.
    assert least + more - 400 < stored_bytes(tmp_path / "out") <= least + more
    if not more:
        assert len(made) == 1
    again = Condensed.read(tmp_path / "out")
    assert torch.equal(again.codes, made.codes)
    assert torch.equal(again.items, made.items)
    assert torch.equal(again.adapter["weight"], made.adapter["weight"])
    assert again.windows == ((0, 3), (3, 6))
    told = made.info["from_real_data"]
    assert (
        "states and map of items of a model that does what the teacher does" in told and "teacher's adapter" not in told
    )


def test_more_bytes_hold_more_sequences_and_then_a_finer_map(setting, least):
    few, more, many = (distilled(setting, bytes=least + extra) for extra in (0, 1000, 30_000))
    assert len(few) < len(more) < len(many)
    assert [part.adapter_bits for part in (few, many)] == [1, 2]
    assert [part.label_bits for part in (few, many)] == [2, 2]


def test_a_budget_for_the_ordinary_form_gives_it(setting):
    ordinary = distilled(setting, bytes=200_000)
    assert (ordinary.adapter_bits, ordinary.label_bits, ordinary.items.shape[2]) == (16, 4, 16)
    assert "base" in ordinary.adapter  # the teacher's own experts


def test_sequences_that_do_not_meet_the_bytes_are_refused_with_the_figure_that_works(setting, least):
    with pytest.raises(InputError, match=r"3 sequences of 6 steps take \d+ bytes; .* or fewer --sequences") as error:
        distilled(setting, bytes=least, sequences=3)
    assert len(distilled(setting, bytes=figure(error), sequences=3)) == 3
    with pytest.raises(InputError, match=r"3 sequences take \d+ bytes at most; give at most that, or more") as error:
        distilled(setting, bytes=10**6, sequences=3)
    assert len(distilled(setting, bytes=figure(error), sequences=3)) == 3


def test_students_learn_from_a_compact_folder(setting, least, tmp_path):
    data, _ = setting
    distilled(setting, bytes=least + 1500).save(tmp_path / "out")
    model, fit = train(Condensed.read(tmp_path / "out"), train=TrainOptions(steps=60, eval_every=20), validation=data)
    assert fit.history[-1]["loss"] < fit.history[0]["loss"]
    # Labels on a linear map are for students with the teacher's experts, which learn items better than it is.
    assert model.options.adapter == "moe"
    # No labelled context is longer: a student would learn nothing of further places.
    assert model.options.max_length == SMALL["window"]


def test_students_of_a_linear_map_have_the_teachers_experts_and_fewer_steps(setting, least):
    data, folder = setting
    asked = {"bytes": least + 1500, "student_steps": 5000, "targets": "soft"}
    options = DistillOptions(**SMALL | asked)
    teacher, trajectory = load_teacher(folder, data), Trajectory(folder)
    begun = Setting(data, teacher, trajectory, options, 0, Engine("cpu"))
    (experts,) = settings_within(begun, options, trained=False)
    made = Foster(experts, experts.options).export()
    assert set(made.adapter) == {"weight"}
    assert (made.model.adapter, made.recipe.steps) == ("moe", EXPERT_STEPS)
    linear = replace(experts, original=CompactTeacher.untrained(teacher, Form(linear=True)).model)
    made = Foster(linear, linear.options).export()
    assert (made.model.adapter, made.recipe.steps) == ("linear", 5000)


def test_experts_of_few_bits_are_stored_as_they_were_trained(setting, least, tmp_path):
    made = distilled(setting, bytes=60_000)
    assert (made.adapter_bits, made.items.shape[2]) == (2, 1)
    assert "base" in made.adapter
    made.save(tmp_path / "out")
    again = Condensed.read(tmp_path / "out")
    for name, weights in made.adapter.items():
        assert torch.equal(again.adapter[name], weights), name
    for column in made.adapter["down"].T:
        assert len(column.abs().unique()) <= 2


@pytest.mark.parametrize("bits", [1, 2])
def test_the_weights_of_a_compact_map_have_a_few_values_a_row(setting, bits):
    data, teacher = setting
    made = compact_teacher(TextRecommender.from_pretrained(teacher), data, Form(bits, linear=True))
    for row in made.model.tower.item_map()["weight"]:
        assert len(row.abs().unique()) <= 2 ** (bits - 1)
    checkpoint = made.model.fresh(0)
    checkpoint.load_trained_state(made.state(len(made) - 1))
    assert len(checkpoint.tower.adapter.weight[0].abs().unique()) <= 2 ** (bits - 1)


def test_moving_the_sequences_of_a_compact_folder(setting, least):
    made, log = distill(
        *setting, DistillOptions(**SMALL | {"steps": 4, "select_every": 2}, bytes=least + 1000), progress=False
    )
    assert {"gap", "gradient_norm", "student_ndcg@10"} <= log[-1].keys()
    assert made.items.shape[1:] == (6, 1)
