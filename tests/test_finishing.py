"""Training on sequences first and on their log afterwards."""

import json

import pytest
import torch

import foster
from command_line import exit_status
from foster import Condensed, Dataset, EncoderOptions, ModelOptions, TrainOptions, finishing
from foster.condensed.contexts import label_windows
from foster.condensed.labels import with_soft_labels
from foster.errors import InputError
from foster.models.recommender import NOT_STATED
from foster.training.loop import on_log
from synthetic_log import synthetic_log, write_csv

RECIPE = TrainOptions(steps=6, eval_every=3)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Dataset:
    path = tmp_path_factory.mktemp("log")
    Dataset.prepare([str(write_csv(path / "log.csv", synthetic_log(users=80)))]).save(path / "data")
    return Dataset.read(path / "data")


@pytest.fixture(scope="module")
def labelled(log, tiny_encoder) -> Condensed:
    encoder, shape = EncoderOptions(encoder=str(tiny_encoder), words=0), ModelOptions(dim=8, heads=1, max_length=8)
    coreset = foster.select("random", log, 5, encoder=encoder, model=shape)
    teacher, _ = foster.train(log, encoder=encoder, model=shape, train=TrainOptions(steps=8, eval_every=8))
    made = with_soft_labels(coreset, teacher, label_windows(coreset.items.shape[1], 4)).rounded()
    return Condensed(**{**vars(made), "recipe": made.recipe.model_copy(update={"steps": 5})})


def test_it_is_a_training_on_the_log_from_the_weights_of_a_student(labelled, log):
    model, fit = foster.finish(labelled, log, train=RECIPE, seed=3)
    student, _ = foster.train(labelled, train=labelled.recipe.model_copy(update={"warmup": 2}), seed=3)
    shape = labelled.model.model_copy(update={"dropout": ModelOptions().dropout})
    again, same = foster.train(
        log, encoder=labelled.encoder, model=shape, train=RECIPE, start=student.trained_state(), seed=3
    )
    assert fit.best_ndcg == same.best_ndcg and fit.steps == 6
    state, other = model.trained_state(), again.trained_state()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert "5 coreset sequences (random)" in model.origin["from_real_data"]
    assert model.origin["from_real_data"].startswith(again.origin["from_real_data"])


def test_dropout_is_of_the_log_and_the_first_steps_are_few(labelled, log, monkeypatch):
    seen, inner = [], finishing.train_on

    def watched(source, **more):
        seen.append((source, more["model"].dropout, more["train"].steps, more.get("validation")))
        return inner(source, **more)

    monkeypatch.setattr(finishing, "train_on", watched)
    monkeypatch.setattr(finishing, "STUDENT_STEPS", 4)
    foster.finish(labelled, log, model=labelled.model.model_copy(update={"dropout": 0.3}), train=RECIPE)
    assert seen == [(labelled, 0.0, 4, None), (log, 0.3, 6, None)]


def test_steps_that_are_not_given_are_a_quarter_of_those_of_the_log_and_of_sequences_the_stored_ones(labelled, log):
    recipe = TrainOptions(batch_size=40, eval_users=9)
    whole, few = on_log(recipe, log).total_steps, foster.finish(labelled, log, train=recipe)[1].steps
    assert few == -(-whole // 4) and 1 < few < whole == foster.train(
        log, encoder=labelled.encoder, model=labelled.model, train=recipe
    )[1].steps  # fmt: skip
    assert foster.train(labelled, train=TrainOptions(lr=0.01))[1].steps == labelled.recipe.steps == 5


def test_sequences_of_a_frozen_teacher_leave_the_language_model_to_the_log(labelled, log, monkeypatch):
    seen, inner = [], finishing.train_on

    def watched(source, **more):
        made = inner(source, **more)
        seen.append((more["model"].finetune, more.get("start"), made[0].trained_state()))
        return made

    monkeypatch.setattr(finishing, "train_on", watched)
    shape = labelled.model.model_copy(update={"finetune": "top:1"})
    model, _ = foster.finish(labelled, log, model=shape, train=RECIPE.model_copy(update={"warmup": 1}))
    (first, _, own), (second, start, _) = seen
    assert (first, second) == ("frozen", "top:1")
    assert own and all(torch.equal(start[name], own[name]) for name in own)
    public = [name for name in start if name not in own]
    assert all(name.startswith("tower.features.") for name in public)
    assert any(not torch.equal(model.trained_state()[name], start[name]) for name in public)


def test_hard_labels_choose_their_weights_on_the_log(labelled, log, monkeypatch):
    recipe = TrainOptions(steps=6, eval_every=2, patience=1)
    unlabelled = {"codes": None, "adapter": None, "windows": (), "draws": None, "recipe": recipe}
    seen, inner = [], finishing.train_on
    monkeypatch.setattr(
        finishing, "train_on", lambda *a, **more: seen.append(more.get("validation")) or inner(*a, **more)
    )
    foster.finish(Condensed(**{**vars(labelled), **unlabelled}), log, train=RECIPE)
    assert seen == [log, None]


def test_another_log_is_refused(labelled, tmp_path):
    other = Dataset.prepare([str(write_csv(tmp_path / "log.csv", synthetic_log(users=70)))])
    with pytest.raises(InputError, match=r"--finish: .* is other data than that which the sequences were made from"):
        foster.finish(labelled, other)


def test_sequences_that_do_not_state_their_log_are_not_said_to_be_of_another(labelled, log):
    private = Condensed(**{**vars(labelled), "info": {**labelled.info, "data_fingerprint": NOT_STATED}})
    with pytest.raises(InputError, match="--finish: the sequences do not state which log they were made from"):
        foster.finish(private, log)


def test_the_verb(labelled, log, tmp_path, monkeypatch, capfd):
    labelled.save(tmp_path / "s")
    log.save(tmp_path / "d")
    finish = ("--finish", tmp_path / "d")
    flags = ("--steps", 6, "--eval-every", 3, "--seed", 3, "--device", "cpu")
    assert exit_status(monkeypatch, "train", tmp_path / "s", *finish, "--out", tmp_path / "m", *flags) == 0
    assert f"{finishing.STUDENT_STEPS} steps on the sequences come first, then 6 on the log" in capfd.readouterr().err
    _, fit = foster.finish(labelled, log, train=RECIPE, seed=3)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["fit"]["best_ndcg"] == fit.best_ndcg
    arguments = json.loads((tmp_path / "m" / "manifest.json").read_text())["arguments"]
    assert arguments == {"student_steps": finishing.STUDENT_STEPS}
    refused = {
        "--validation: the data set of --finish validates": ("s", *finish, "--validation", tmp_path / "d"),
        "--finish: is for sequences": ("d", *finish),
    }
    for message, (source, *words) in refused.items():
        assert exit_status(monkeypatch, "train", tmp_path / source, "--out", tmp_path / "n", *words) == 2
        assert message in capfd.readouterr().err and not (tmp_path / "n").exists()
