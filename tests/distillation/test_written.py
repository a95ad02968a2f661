"""Folders of few bytes: histories that the teacher writes, and a compact map of its items."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from foster.cli.output import report_condensed
from foster.condensed.folder import stored_bytes, written_bytes
from foster.condensed.labels import student_recipe
from foster.condensed.sequences import Condensed
from foster.condensed.sources import HistoryBatches, student_source
from foster.distillation import generated
from foster.distillation.budget import COMPACT, ORDINARY, judged_forms, may_be_written
from foster.distillation.distill import distill, settings_within
from foster.distillation.generated import lengths_like
from foster.distillation.options import DistillOptions
from foster.distillation.setting import Setting
from foster.engine import Engine
from foster.errors import InputError
from foster.estimation.jobs import estimate_distill
from foster.runs import train
from foster.training import options as recipes
from foster.training.options import GENERATED, HARD_LABELS, MANY, TrainOptions
from foster.training.teachers import load_teacher
from foster.training.trajectory import Trajectory


def steps_of(histories: int) -> int:
    return math.ceil(60 * histories / 256)


def many_times(sequences: Condensed) -> Condensed:
    """Return the same histories again and again, more than a step of training sees at once."""
    times = 1 + MANY // len(sequences)
    return replace(sequences, items=sequences.items.repeat(times, 1, 1), weights=sequences.weights.repeat(times, 1, 1))


def distilled(setting, **changes) -> Condensed:
    options = DistillOptions(**{"length": 6, "batch_size": 16, "targets": "written"} | changes)
    return distill(*setting, options, progress=False)[0]


@pytest.fixture(scope="module")
def least(setting) -> int:
    """Return the fewest bytes that hold the smallest map and a history."""
    message = r"^--bytes 10: the smallest map of items and 1 history take \d+ bytes"
    with pytest.raises(InputError, match=message) as error:
        distilled(setting, bytes=10)
    return int(re.search(r"take (\d+) bytes", str(error.value)).group(1))


@pytest.fixture(scope="module")
def made(setting, least) -> Condensed:
    return distilled(setting, bytes=least + 400)


@pytest.mark.parametrize("more", [0, 40, 400])
def test_a_folder_is_as_large_as_the_budget_allows_and_no_larger(setting, least, tmp_path, more):
    sequences = distilled(setting, bytes=least + more)
    sequences.save(tmp_path / "out")
    assert least + more - 150 < stored_bytes(tmp_path / "out") <= least + more
    again = Condensed.read(tmp_path / "out")
    assert torch.equal(again.likeliest()[again.valid], sequences.likeliest()[sequences.valid])
    assert torch.equal(again.adapter["weight"], sequences.adapter["weight"])
    assert again.codes is None and again.draws is None and again.windows == ()
    assert (again.recipe, again.model) == (sequences.recipe, sequences.model)
    assert again.info == sequences.info


def test_a_folder_says_what_of_it_came_from_the_teacher(made):
    assert made.model.dropout == recipes.WRITTEN_DROPOUT
    # Few histories are not seen more often than many.
    assert made.recipe == recipes.WRITTEN.model_copy(
        update={"steps": steps_of(len(made)), "warmup": steps_of(len(made)) // 5}
    )
    assert (made.adapter_bits, made.model.adapter, made.items.shape[2]) == (1, "linear", 1)
    assert len(made.adapter["weight"][0].abs().unique()) == 1  # one bit
    told = made.info["from_real_data"]
    assert "drawn from the predictions of the teacher" in told and "its map of items (adapter)" in told
    assert "nothing of its weights" not in told
    stated = made.info["options"]
    assert (stated["targets"], stated["start"], stated["sequences"]) == ("written", "generated", len(made))


def test_more_bytes_hold_more_histories_and_then_a_finer_map(setting, made, least):
    more = distilled(setting, bytes=least + 900)
    finer = distilled(setting, bytes=least + 6000)
    assert len(made) < len(more) < len(finer)
    assert [part.adapter_bits for part in (made, more, finer)] == [1, 1, 2]
    # They are more than the log has users: what they can teach beside a map does not end there.
    assert len(finer) > len(setting[0].histories("train"))
    lengths = finer.valid.sum(1).sort().values
    drawn = lengths_like(setting[0].histories("train"), len(finer), 6, 0)
    assert lengths.tolist() == sorted(drawn.tolist())


def test_histories_are_written_by_the_teacher_and_not_by_its_compact_copy(setting, least):
    data, folder = setting
    teacher = load_teacher(folder, data)
    options = DistillOptions(length=6, batch_size=16, bytes=least + 400)
    begun = Setting(data, teacher, Trajectory(folder), options, 0, Engine("cpu"))
    labelled, written = settings_within(begun, options, trained=False)
    assert written.original is labelled.original is teacher and written.best is labelled.best is not teacher
    assert written.best.options.adapter == "linear" and written.options.targets == "written"
    assert written.form.written and not labelled.form.written


def test_histories_that_compress_well_fill_the_budget_too(setting, least, tmp_path, monkeypatch):
    def few(teacher, lengths, *rest, **shown):
        rng = np.random.default_rng(0)
        return [rng.integers(5, size=length) for length in lengths]

    monkeypatch.setattr(generated, "generated_histories", few)
    sequences = distilled(setting, bytes=least + 3000)
    sequences.save(tmp_path / "out")
    assert least + 2900 < stored_bytes(tmp_path / "out") <= least + 3000
    assert int(sequences.valid.sum()) > 3000  # items: more than one a byte


def test_one_seed_writes_one_folder(setting, made, least):
    again = distilled(setting, bytes=least + 400)
    assert torch.equal(again.items, made.items) and torch.equal(again.adapter["weight"], made.adapter["weight"])


@pytest.mark.parametrize(
    "asked", [{"targets": "soft"}, {"sequences": 3}, {"window": 3}, {"start": "long"}, {"anonymity": 2}, {"steps": 1}]
)
def test_what_needs_labels_gets_labels(asked):
    free = DistillOptions(bytes=3000)
    assert [may_be_written(free, form) for form in (ORDINARY, *COMPACT)] == [False, True, True, True]
    assert not may_be_written(DistillOptions(bytes=300_000), COMPACT[0])
    assert not any(may_be_written(DistillOptions(bytes=3000, **asked), form) for form in (ORDINARY, *COMPACT))


@pytest.mark.parametrize("better", ["written", "soft"])
def test_validation_users_choose_between_labels_and_written_histories(setting, least, monkeypatch, better):
    """What is chosen is to the number what is made where it is asked for."""
    judged = []

    def ndcg(setting, sequences, progress=None):
        judged.append("written" if sequences.codes is None else "soft")
        return np.full(5, 0.2 if judged[-1] == better else 0.1)

    monkeypatch.setattr(Setting, "student_ndcg", ndcg)
    sizes = {"length": 6, "batch_size": 16, "student_steps": 4, "bytes": least + 400}
    chosen, log = distill(*setting, DistillOptions(**sizes), progress=False)
    asked, same_log = distill(*setting, DistillOptions(**sizes, targets=better), progress=False)
    assert judged[:2] == ["soft", "written"]
    assert torch.equal(chosen.items, asked.items) and chosen.info == asked.info
    assert [(row["targets"], row["student_ndcg@10"]) for row in log[:2]] == [
        ("soft", pytest.approx(0.2 if better == "soft" else 0.1)),
        ("written", pytest.approx(0.2 if better == "written" else 0.1)),
    ]
    assert log[2:] == same_log and log[["soft", "written"].index(better)]["sequences"] == len(chosen)
    names = ["written histories", "soft labels"] if better == "written" else ["soft labels", "written histories"]
    assert judged_forms([*log, "no record", {"targets": "soft"}]) == [
        (names[0], pytest.approx(0.2)),
        (names[1], pytest.approx(0.1)),
    ]
    assert (chosen.codes is None) == (better == "written")


def test_a_command_says_which_form_was_chosen_and_why(made, tmp_path, capsys):
    out = made.save(tmp_path / "out")
    log = [
        {"targets": form, "sequences": 3, "student_ndcg@10": ndcg} for form, ndcg in (("soft", 0.1), ("written", 0.2))
    ]
    report_condensed(made, out, 1.0, as_json=False, log=log)
    said = capsys.readouterr().out
    short = "; written histories, whose short student has validation NDCG@10 0.2000 (soft labels 0.1000)\n"
    assert said.endswith(short)
    report_condensed(made, out, 1.0, as_json=True, log=log)
    assert json.loads(capsys.readouterr().out)["forms"] == {"written histories": 0.2, "soft labels": 0.1}
    report_condensed(made, out, 1.0, as_json=True)
    assert "forms" not in json.loads(capsys.readouterr().out)


def test_all_that_takes_long_says_how_far_it_is_and_nothing_does_without_progress(setting, least, monkeypatch, capsys):
    monkeypatch.setattr("foster.progress.LINE_SECONDS", 0.0)
    options = DistillOptions(length=6, batch_size=16, student_steps=4, bytes=least + 400)
    distill(*setting, options, progress=False)
    assert {line.split(":")[0] for line in capsys.readouterr().err.splitlines()} <= {"encoding texts"}
    distill(*setting, options)
    shown = capsys.readouterr().err
    for work in ("training a compact map", "the teacher writes", "a student of soft labels judges"):
        assert f"{work}: 100%" in shown
    assert "a student of written histories judges: 100%" in shown


def test_written_targets_are_of_few_bytes_and_of_nothing_else(setting, least):
    with pytest.raises(InputError, match="--targets written: is for a folder of few bytes; add --bytes"):
        distilled(setting)
    for wrong, message in (({"start": "long"}, "leave start out"), ({"steps": 2}, "targets written, are not moved")):
        with pytest.raises(InputError, match=message):
            DistillOptions.parse({"bytes": 9000, "targets": "written", **wrong})
    with pytest.raises(InputError, match="--sequences: with --targets written --bytes says how many there are"):
        distilled(setting, bytes=least + 4000, sequences=3)
    for targets in ("written", "next"):
        with pytest.raises(InputError, match=f"with targets {targets} there are none; leave window out"):
            DistillOptions.parse({"bytes": 9000, "targets": targets, "window": 5})
    with pytest.raises(InputError, match="leave anonymity out"):
        DistillOptions.parse({"bytes": 9000, "targets": "written", "anonymity": 2})
    # Where bytes hold no label they hold histories, whether these were asked for or not.
    assert distilled(setting, bytes=least).codes is None
    assert distill(*setting, DistillOptions(length=6, batch_size=16, bytes=least), progress=False)[0].codes is None


@pytest.mark.parametrize("targets", ["soft", "written", "next"])
def test_popularity_counts_among_the_bytes(setting, least, tmp_path, targets):
    data, folder = setting
    teacher = load_teacher(folder, data)
    catalogue = replace(data.catalogue, popularity=[float(n) for n in range(data.n_items)])
    sequences = distilled(setting, bytes=least + 2000, targets=targets, student_steps=4)
    more = replace(sequences, catalogue=catalogue)
    more.save(tmp_path / "out")
    assert written_bytes(more) == stored_bytes(tmp_path / "out") > written_bytes(sequences) + 100
    assert teacher.catalogue.popularity is None


def test_a_budget_beyond_reason_is_not_filled(setting, monkeypatch):
    monkeypatch.setattr(generated, "ENOUGH", 40)
    assert len(distilled(setting, bytes=10**15)) == 10 * len(setting[0].histories("train"))
    ordinary = distilled(setting, bytes=10**15, targets="soft", student_steps=4, window=3, subset=12)
    assert len(ordinary) == len(setting[0].histories("train"))


def test_students_start_with_the_map_and_move_it(setting, made):
    data, folder = setting
    model = load_teacher(folder, data).fresh(1, made.model)
    source = student_source(made, model, 0)
    assert torch.equal(model.tower.adapter.weight, made.adapter["weight"])
    source.loss(model, 8).backward()
    assert model.tower.adapter.weight.grad.abs().sum() > 0
    shape = made.model.model_copy(update={"dropout": 0.0})
    student, fit = train(made, model=shape, train=TrainOptions(steps=80, lr=1e-2, eval_every=20), validation=data)
    assert fit.history[-1]["loss"] < fit.history[0]["loss"]
    assert student.options == shape
    assert "its map of items" in student.origin["from_real_data"]


def test_experts_of_few_bits_stay_as_they_are(setting):
    """So much could hold the ordinary form, but has written histories where they are asked for."""
    data, folder = setting
    made = distilled(setting, bytes=200_000)
    assert made.adapter_bits == 2 and {"base", "down", "up"} <= made.adapter.keys() and len(made) > MANY
    assert made.recipe == recipes.WRITTEN_FIXED
    model = load_teacher(folder, data).fresh(1, made.model)
    source = student_source(made, model, 0)
    source.loss(model, 8).backward()
    assert all(parameter.grad is None for parameter in model.tower.parameters())
    assert any(parameter.grad.any() for parameter in model.backbone.parameters())
    # The loss is that of a student whose items move, before they do.
    moving = HistoryBatches(made, model, 0)
    model.eval()
    assert student_source(made, model, 0, start=True).loss(model, 8).item() == pytest.approx(
        moving.loss(model, 8).item(), rel=1e-5
    )


def test_students_of_another_kind_learn_as_of_histories_alone(made):
    experts = made.model.model_copy(update={"adapter": "moe"})
    assert student_recipe(made, made.encoder, made.model) == made.recipe
    for sequences, alone in ((made, HARD_LABELS), (many_times(made), GENERATED)):
        recipe = student_recipe(sequences, sequences.encoder, experts)
        assert (recipe.lr, recipe.patience) == (alone.lr, 0)
        assert recipe.steps == min(alone.steps, 4 * made.recipe.steps)
    assert student_recipe(made, made.encoder, experts, TrainOptions(steps=7)) == TrainOptions(steps=7)
    few = replace(made, recipe=made.recipe.model_copy(update={"steps": 5}))
    assert student_recipe(few, few.encoder, experts).steps == 20


def test_an_estimate_counts_the_map(setting, least, tmp_path):
    options = DistillOptions(length=6, batch_size=16, bytes=least + 400)
    estimate = estimate_distill(*setting, tmp_path / "out", options)
    both = {"compact map (linear, 1 bit a weight)", "sequences that the teacher draws", "students of both forms"}
    assert both <= estimate.parts.keys()
    asked = DistillOptions(length=6, batch_size=16, bytes=least + 400, targets="written")
    assert "students of both forms" not in estimate_distill(*setting, tmp_path / "out", asked).parts
