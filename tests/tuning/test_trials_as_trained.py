"""Trials are what ``foster train`` and ``foster pretrain`` make of their options, and are compared with their like."""

import json

import pytest

pytest.importorskip("optuna")

import foster
from command_line import exit_status
from foster import Condensed, Dataset, EncoderOptions, ModelOptions, TrainOptions, TuneOptions
from foster.condensed.contexts import label_windows
from foster.condensed.labels import with_soft_labels
from foster.tuning import results
from synthetic_log import synthetic_log, write_csv

RECIPE = TrainOptions(eval_every=4, eval_users=40)


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Pictures take longer than all the rest."""
    monkeypatch.setattr(results, "drawable", lambda frame: False)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_encoder):
    """Make the folders ``data``, ``coreset`` and ``labelled``, whose item map has experts; return where they are."""
    place = tmp_path_factory.mktemp("place")
    log = Dataset.prepare([str(write_csv(place / "log.csv", synthetic_log(users=80)))])
    log.save(place / "data")
    encoder, shape = EncoderOptions(encoder=str(tiny_encoder), words=0), ModelOptions(dim=8, max_length=8)
    coreset = foster.select("random", log, 5, encoder=encoder, model=shape)
    coreset.save(place / "coreset")
    teacher, _ = foster.train(log, encoder=encoder, model=shape, train=TrainOptions(steps=8, eval_every=8))
    made = with_soft_labels(coreset, teacher, label_windows(coreset.items.shape[1], 4)).rounded()
    recipe = made.recipe.model_copy(update={"steps": 16, "eval_every": 8})
    Condensed(**{**vars(made), "recipe": recipe}).save(place / "labelled")
    return place


@pytest.fixture
def log(place):
    return Dataset.read(place / "data")


def tune(source, out, log, space, trials=1, recipe=None, **more):
    of_a_search = ("timeout", "retrain", "retrain_steps", "finish")
    options = TuneOptions(trials=trials, **{name: more.pop(name) for name in of_a_search if name in more})
    return foster.tune(source, out, validation=log, space=space, train=recipe, options=options, **more)


@pytest.mark.parametrize(
    ("source", "space", "more"),
    [
        # Students with another map of items, or with a tuned language model, have another recipe than the stored shape.
        ("labelled", {"adapter": ["linear"]}, {}),
        ("labelled", {"finetune": ["top:1"], "lr": [0.001]}, {}),
        ("labelled", {"backbone": ["hstu"], "dim": [12]}, {}),
        ("labelled", {"backbone": ["ligr"], "heads": [4], "steps": [8]}, {"finish": True}),
        ("coreset", {"adapter": ["linear"], "steps": [8], "eval_every": [4]}, {}),
        ("coreset", {"dropout": {"low": 0.3, "high": 0.4}, "steps": [8]}, {"finish": True}),
        # The encoder that is given is the default one, and not that of the sequences.
        ("labelled", {"dim": [8]}, {"encoder": {"words": 512}}),
    ],
)
def test_train_makes_the_best_trial_again_from_its_file(place, log, tmp_path, monkeypatch, source, space, more):
    condensed = Condensed.read(place / source)
    if "encoder" in more:
        more = {"encoder": condensed.encoder.model_copy(update=more["encoder"])}
    study, _ = tune(condensed, tmp_path / "study", log, space, **more)
    judged = "--finish" if more.get("finish") else "--validation"
    assert exit_status(
        monkeypatch, "train", place / source, judged, place / "data", "--config", tmp_path / "study" / "best.yaml",
        "--out", tmp_path / "model", "--device", "cpu",
    ) == 0  # fmt: skip
    assert json.loads((tmp_path / "model" / "config.json").read_text())["fit"]["best_ndcg"] == study.best_value
