"""Sequences that the teacher generates."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from foster.condensed.folder import stored_bytes
from foster.condensed.sequences import Condensed
from foster.distillation.distill import distill
from foster.distillation.generated import Generated, generated_histories, lengths_like
from foster.distillation.options import DistillOptions
from foster.distillation.setting import Setting
from foster.engine import Engine
from foster.errors import InputError
from foster.estimation.jobs import estimate_distill
from foster.models.recommender import TextRecommender
from foster.runs import train
from foster.training.options import GENERATED, MANY
from foster.training.teachers import load_teacher
from foster.training.trajectory import Trajectory
from small_models import small_recommender

NEXT = {"targets": "next", "start": "generated"}


def distilled(setting, seed: int = 0, **changes) -> Condensed:
    return distill(*setting, DistillOptions(**NEXT | {"length": 6} | changes), seed=seed, progress=False)[0]


@torch.no_grad()
def chances(teacher: TextRecommender, history: list[int], temperature: float) -> np.ndarray:
    table = teacher.item_table()
    scores = teacher.scores(teacher.last_states([history], table), table)[0] / temperature
    scores[history] = -torch.inf
    return scores.double().softmax(0).numpy()


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_items_are_drawn_as_often_as_the_teacher_expects_them(temperature):
    teacher = small_recommender().eval()
    with torch.no_grad():
        teacher.tower.adapter.weight *= 8  # so that it expects some items rather than others
    counts = torch.ones(40)
    counts[5:] = 0
    counts[1] = 4
    n = 4000
    made = generated_histories(teacher, np.full(n, 3), counts.repeat(1), temperature, torch.Generator().manual_seed(0))
    firsts = np.bincount([history[0] for history in made], minlength=40) / n
    np.testing.assert_allclose(firsts[:5], [1 / 8, 4 / 8, 1 / 8, 1 / 8, 1 / 8], atol=0.03)
    assert not firsts[5:].any()
    after_one = [history[1] for history in made if history[0] == 1]
    wanted = chances(teacher, [1], temperature)
    found = np.bincount(after_one, minlength=40) / len(after_one)
    np.testing.assert_allclose(found, wanted, atol=4.5 * np.sqrt(wanted.max() / len(after_one)))
    assert wanted.max() > 0.04  # of 40 items: it is no uniform draw that is compared
    assert all(len(set(history)) == 3 for history in made)


def test_a_history_is_no_longer_than_there_are_items_and_never_of_unknown_ones():
    teacher = small_recommender().eval()
    made = generated_histories(teacher, np.array([9, 2]), torch.ones(4), 1.0, torch.Generator().manual_seed(0))
    assert [len(history) for history in made] == [4, 2]
    assert sorted(made[0]) == [0, 1, 2, 3]


def test_sequences_have_lengths_of_the_log_and_nothing_of_the_teacher(setting, tmp_path):
    data, folder = setting
    made = distilled(setting, sequences=40)
    lengths = made.valid.sum(1).numpy()
    assert lengths.tolist() == lengths_like(data.histories("train"), 40, 6, 0).tolist()
    assert set(lengths) <= set(np.minimum(data.histories("train").lengths, 6))
    assert made.codes is None and made.adapter is None and made.items.shape[2] == 1
    assert "nothing of its weights" in made.info["from_real_data"] and "kept_step" not in made.info
    again = Condensed.read(made.save(tmp_path / "out"))
    assert torch.equal(again.items * again.valid[..., None], made.items) and torch.equal(again.weights, made.weights)
    assert again.recipe == made.recipe
    few = again.recipe.model_copy(update={"steps": 3, "candidates": 16})
    student, _ = train(again, train=few, like=load_teacher(folder, data), engine=Engine("cpu"))
    assert len(student.recommend([["i0", "i1"]], 5)[0]) == 5


def test_they_are_the_same_at_a_seed_and_others_at_another(setting):
    one, same, other = distilled(setting, sequences=20), distilled(setting, sequences=20), distilled(setting, 1)
    assert torch.equal(one.items, same.items)
    assert not torch.equal(one.likeliest(), other.likeliest())


@pytest.mark.parametrize("more", [0, 100, 250])
def test_a_folder_is_as_large_as_the_budget_allows_and_no_larger(setting, tmp_path, more):
    with pytest.raises(InputError, match=r"^--bytes 10: 1 sequence takes \d+ bytes; give at least that$") as error:
        distilled(setting, bytes=10)
    least = int(re.search(r"takes? (\d+)", str(error.value)).group(1))
    made = distilled(setting, bytes=least + more)
    made.save(tmp_path / "out")
    assert least + more - 60 < stored_bytes(tmp_path / "out") <= least + more
    assert (len(made) == 1) == (not more)


def test_sequences_that_do_not_meet_the_bytes_are_refused_with_the_figure_that_works(setting):
    with pytest.raises(InputError, match=r"9 sequences take \d+ bytes at most; give at most that, or more") as error:
        distilled(setting, bytes=10**6, sequences=9)
    figure = int(re.search(r"takes? (\d+)", str(error.value)).group(1))
    assert len(distilled(setting, bytes=figure, sequences=9)) == 9
    with pytest.raises(InputError, match=r"9 sequences take \d+ bytes; give at least that, or fewer --sequences"):
        distilled(setting, bytes=figure - 40, sequences=9)
    assert len(distilled(setting, bytes=10**15)) == 50  # as many as the log has histories


def test_students_of_thousands_of_them_take_the_recipe_of_a_log(setting):
    data, folder = setting
    options = DistillOptions(**NEXT | {"sequences": MANY + 1, "length": 6})
    best = load_teacher(folder, data)
    made = Generated(Setting(data, best, Trajectory(folder), options, 0, Engine("cpu")), options).export()
    assert made.recipe == GENERATED and made.recipe.patience == 0


def test_soft_labels_of_pieces_that_the_teacher_generates(setting):
    data, _ = setting
    made = distilled(setting, targets="soft", window=3, sequences=4, student_steps=4, subset=12)
    assert made.codes is not None and "histories that the teacher drew" in made.info["from_real_data"]
    pieces = made.likeliest().view(-1, 3).tolist()
    assert all(len(set(piece)) == 3 for piece in pieces)
    real = [tuple(history[start : start + 3]) for history in data.histories("train") for start in range(len(history))]
    assert any(tuple(piece) not in real for piece in pieces)


def test_they_are_not_moved_and_what_they_take_can_be_estimated(setting, tmp_path):
    with pytest.raises(InputError, match="are not moved; leave steps out"):
        DistillOptions.parse(NEXT | {"steps": 5})
    assert DistillOptions(**NEXT).steps == 0
    estimate = estimate_distill(*setting, tmp_path / "out", DistillOptions(**NEXT | {"length": 6, "bytes": 2500}))
    assert "sequences that the teacher draws" in estimate.parts


def test_a_temperature_is_refused_where_nothing_is_generated():
    for given in ({}, {"start": "pieces", "bytes": 150_000}, {"anonymity": 2, "bytes": 150_000}):
        with pytest.raises(InputError, match="generation_temperature is for start generated"):
            DistillOptions.parse({"generation_temperature": 2.0, **given}, "options")
    for given in ({"start": "generated"}, {"bytes": 150_000}, {"targets": "written", "bytes": 50_000}):
        assert DistillOptions.parse({"generation_temperature": 2.0, **given}, "options").generation_temperature == 2
