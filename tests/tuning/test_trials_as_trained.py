"""Trials are what ``foster train`` and ``foster pretrain`` make of their options, and are compared with their like."""

import json

import pytest
import torch

pytest.importorskip("optuna")

import foster
from command_line import exit_status
from foster import Condensed, Dataset, EncoderOptions, ModelOptions, TrainOptions, TuneOptions, artefacts
from foster.condensed.contexts import label_windows
from foster.condensed.labels import with_soft_labels
from foster.errors import InputError
from foster.options import MOST_SEED
from foster.training.loop import Fit
from foster.tuning import results
from foster.tuning import search as searching
from foster.tuning import tune as tuning
from foster.tuning.search import UNPRUNED
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
        ("labelled", {"backbone": ["ligr"], "heads": [4]}, {"finish": True}),
        ("coreset", {"adapter": ["linear"], "steps": [8], "eval_every": [4]}, {}),
        ("coreset", {"dropout": {"low": 0.3, "high": 0.4}}, {"finish": True}),
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


def test_what_a_backbone_does_not_read_makes_no_other_training(place, log, tmp_path):
    space = {"backbone": ["sasrec", "mean"], "heads": [1, 2], "layers": [1, 2], "dim": [8, 9], "steps": [4]}
    coreset = Condensed.read(place / "coreset")
    _, frame = tune(coreset, tmp_path / "study", log, space, trials=40, recipe=RECIPE, retrain=20)
    done = frame.filter(frame["state"] == "complete")
    trained = done.filter(done["reason"].is_null())
    read = [
        (row["backbone"], row["dim"], *((row["heads"], row["layers"]) if row["backbone"] == "sasrec" else ()))
        for row in done.to_dicts()
    ]
    assert trained.height == len(set(read)) < len(set(done.select("backbone", "dim", "heads", "layers").iter_rows()))
    for option in set(read):
        assert len({value for value, one in zip(done["value"], read, strict=True) if one == option}) == 1
    # Each is looked at once, and what cannot be trained is no twin of what can.
    assert frame["full_log"].drop_nulls().len() == trained.height
    odd = frame.filter((frame["dim"] == 9) & (frame["heads"] == 2))
    faulty = odd.filter(odd["reason"].str.contains("no multiple").fill_null(False))
    assert set(faulty["state"]) == {"pruned"}
    assert faulty.height == odd.filter(odd["backbone"] == "sasrec").height < odd.height  # a mean has no heads


@pytest.mark.parametrize(
    ("source", "space", "more", "message"),
    [
        ("coreset", {"heads": [1, 2], "dim": [8]}, {"model": ModelOptions(backbone="gru4rec")}, "backbone is gru4rec"),
        ("coreset", {"layers": [1, 2], "backbone": ["mean"]}, {}, "'layers' would have no effect, since the backbone"),
        ("coreset", {"heads": [1, 2], "backbone": ["mean", "gru4rec"]}, {}, "the backbone is mean or gru4rec"),
        ("labelled", {"lm_lr_ratio": [0.1, 0.2]}, {}, "since the language model is frozen; leave it out"),
        ("coreset", {"mixup": [True, False]}, {}, "'mixup' would have no effect"),
        ("labelled", {"mixup": [True, False]}, {"finish": True}, "'mixup' would have no effect"),
        ("data", {"mixup": [True, False]}, {}, "'mixup' would have no effect, since it is for trials on soft labels"),
        ("labelled", {"candidates": [16, 32]}, {}, "'candidates' would have no effect, since the loss of these soft"),
        ("labelled", {"steps": [4, 8]}, {"finish": True}, "'steps' with --finish are those of a part of a training"),
    ],
)
def test_what_no_trial_would_read_is_refused(place, log, tmp_path, source, space, more, message):
    data = log if source == "data" else Condensed.read(place / source)
    with pytest.raises(InputError, match=message):
        tune(data, tmp_path / "study", log, space, recipe=RECIPE, **more)
    assert not (tmp_path / "study").exists()


def test_what_some_trials_read_is_searched(place, log, tmp_path):
    space = {"mixup": [True, False], "finetune": ["frozen", "top:1"], "lm_lr_ratio": [0.01]}
    _, frame = tune(Condensed.read(place / "labelled"), tmp_path / "study", log, space, recipe=TrainOptions(steps=2))
    assert frame["state"].to_list() == ["complete"]


def test_trials_are_pruned_by_those_of_as_many_steps(place, log, tmp_path, monkeypatch):
    """A trial of fewer steps is further at a step, since its rate has fallen by then; at its end it is finished."""
    curves = {8: [0.9, 0.95], 40: [0.1] * 9 + [0.95]}
    made = []

    def train(self, options, watch, part):
        steps = options["steps"]
        curve = curves[steps]
        if len(made) == 13:  # worse than those of its kind, at a quarter of its steps and later
            curve = [0.05] * 10
        if len(made) == 14:  # worse at the end only
            curve = [curve[0]] * len(curve)
        made.append(steps)
        for number, ndcg in enumerate(curve):
            watch(4 * (number + 1), ndcg)
        return Fit(steps=steps, best_step=steps, best_ndcg=max(curve))

    monkeypatch.setattr(searching.Search, "train", train)
    space = {"steps": [8, 40], "dim": {"low": 8, "high": 4000, "step": 8}}
    study, frame = tune(Condensed.read(place / "coreset"), tmp_path / "study", log, space, trials=16, recipe=RECIPE)
    steps, states = frame["steps"].to_list(), frame["state"].to_list()
    assert steps[:13].count(40) >= UNPRUNED <= steps[:13].count(8) and steps[13] == 40
    assert states == ["complete"] * 13 + ["pruned"] + ["complete"] * 2
    assert list(study.trials[13].intermediate_values) == [4, 8, 12]  # not before a quarter of its own 40


@pytest.mark.parametrize(
    ("name", "value"),
    [("validation", "data"), ("encoder", "a"), ("model", {}), ("train", {}), ("options", {}), ("engine", "cpu")],
)
def test_arguments_of_another_kind_are_named(place, log, tmp_path, name, value):
    given = {"validation": log, name: value}
    with pytest.raises(InputError, match=rf"tune: {name} is .*; give a \w+ object"):
        foster.tune(Condensed.read(place / "coreset"), tmp_path / "study", **given)
    with pytest.raises(InputError, match=r"--retrain-steps: belongs to --retrain; add that"):
        tune(Condensed.read(place / "coreset"), tmp_path / "study", log, {"dim": [8]}, retrain_steps=3)
    with pytest.raises(InputError, match="seed -1: give a number"):
        foster.tune(Condensed.read(place / "coreset"), tmp_path / "study", validation=log, seed=-1)


def test_what_the_log_says_is_of_the_search_as_it_is_by_now(place, log, tmp_path):
    coreset, out, space = Condensed.read(place / "coreset"), tmp_path / "study", {"dim": [8, 12, 16], "steps": [4]}

    def said(**more):
        tune(coreset, out, log, space, recipe=RECIPE, **more)
        return (out / "README.md").read_text(), json.loads((out / "results.json").read_text())

    card, found = said(trials=1, retrain=1)
    assert "Trial 0 alone was trained on the full log: there is no other to compare it with." in card
    card, found = said(trials=12)
    first = found["best"][0]["trial"]
    assert first != 0, "the first trial is to be another than the best one"
    assert f"Trial 0 alone was trained on the full log, and the search's best is trial {first} by now" in card
    card, found = said(trials=12, retrain=2)
    assert results.verdict_in_words(found) in card and f"f {len(found['retrained'])}, trial " in card


def test_words_on_trials_that_came_after_the_trainings_on_the_log():
    found = {"verdict": {"search": 3, "best": 5, "regret": 0.1}, "retrained": [{}, {}], "best": [{"trial": 9}, {}]}
    words = results.verdict_in_words(found)
    assert words.startswith("Of these 2, trial 5 is the best on the full log. How much of that is noise is not known.")
    assert words.endswith("The search's best, trial 9, was not trained there; --retrain does that.")
    before = {"search": 3, "best": 3, "regret": 0.0, "other": 5, "behind": 0.01, "noise": 0.02}  # of earlier versions
    rows = [{"trial": 3, "ndcg@10": 0.05}, {"trial": 5, "ndcg@10": 0.04}]
    words = results.verdict_in_words({"verdict": before, "retrained": rows, "best": rows})
    assert words.startswith("Of 2, trial 3 is the best") and words.endswith("noise is not known.")
    alone = {**found, "retrained": [{}], "best": [{"trial": 3}, {"trial": 5}]}
    words = results.verdict_in_words({**alone, "verdict": {"search": 3, "best": 3, "regret": 0.0, "alike": []}})
    assert words.endswith("whether the search was right is seen by two or more (--retrain 2).")


def test_words_on_what_is_noise():
    best = [{"trial": 7, "value": 0.05, "noise": None}]
    others = [{"trial": n, "value": 0.05 - n / 1000, "noise": 0.0021} for n in (1, 2, 3)]
    assert results.alike_in_words({"best": best}) == ""
    said = results.alike_in_words({"best": best + others})
    assert "who do not tell trials 1 and 2 from the best." in said
    assert "who tell trial 7 from all others that are shown." in results.alike_in_words({"best": best + others[2:]})
    before = [{"trial": 1, "value": 0.04}]  # of an earlier version
    assert "is not known" in results.alike_in_words({"best": best + before})
    assert results.behind(others[0], best[0]) == "0.0010 ± 0.0021" and results.behind(before[0], best[0]) == "0.0100"


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        # Of each, NDCG@10 on the full log and two standard errors of how far it is behind the best there.
        (
            [(3, 0.050, None), (5, 0.040, 0.004), (7, 0.030, 0.004)],
            "The search was right: of 3, trial 3 is the best on the full log, too. The validation users tell it from "
            "the others.",
        ),
        (
            [(3, 0.050, None), (5, 0.048, 0.004), (7, 0.047, 0.004)],
            "Of 3, trial 3 is the best on the full log, too. The validation users do not tell trials 5 and 7 from "
            "trial 3.",
        ),
        (
            [(3, 0.040, 0.004), (5, 0.050, None), (7, 0.030, 0.004)],
            "The full log prefers another: of 3, trial 5 is the best there; the search's best, trial 3, is 20.0 % "
            "behind it. The validation users tell it from the others.",
        ),
        (
            [(3, 0.040, 0.011), (5, 0.050, None)],
            "Of 2, trial 5 is the best there; the search's best, trial 3, is 20.0 % behind it. The validation users "
            "do not tell trial 3 from trial 5.",
        ),
        (
            [(3, None, None), (5, 0.050, None)],
            "Of 2, trial 5 alone could be trained on the full log.",
        ),
        (
            [(3, None, None), (5, 0.050, None), (7, 0.040, 0.004)],
            "The full log prefers another: of 3, trial 5 is the best there; the search's best, trial 3, failed there. "
            "The validation users tell it from the others.",
        ),
        (
            [(3, 0.050, None), (5, 0.050, 0.0)],  # a tie
            "Of 2, trial 3 is the best on the full log, too. The validation users do not tell trial 5 from trial 3.",
        ),
        (
            [(3, 0.050, None), (5, 0.040, None)],  # of one user
            "Of 2, trial 3 is the best on the full log, too. How much of that is noise is not known.",
        ),
        ([(3, None, None), (5, None, None)], "None of them could be trained on the full log."),
    ],
)
def test_words_on_the_full_log_say_what_is_noise(figures, words):
    rows = [{"trial": number, "value": 0.1, "ndcg@10": ndcg, "noise": two} for number, ndcg, two in figures]
    best = [{"trial": number} for number, *_ in figures]
    found = {"retrained": rows, "best": best, "verdict": results._verdict(rows)}
    assert results.verdict_in_words(found) == words


def test_users_who_judge_the_search_judge_the_full_log(place, log, tmp_path):
    out = tmp_path / "study"
    tune(Condensed.read(place / "coreset"), out, log, {"dim": [8], "steps": [4]}, recipe=RECIPE, retrain=1)
    stored = json.loads((out / "retrained" / "trial-0" / "config.json").read_text())
    assert stored["training"]["eval_users"] == RECIPE.eval_users


def test_a_training_on_the_log_for_which_memory_does_not_suffice_is_told(place, log, tmp_path, monkeypatch):
    def train(*arguments, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tuning, "train", train)
    out = tmp_path / "study"
    tune(Condensed.read(place / "coreset"), out, log, {"dim": [8], "steps": [4]}, recipe=RECIPE, retrain=1)
    (row,) = json.loads((out / "results.json").read_text())["retrained"]
    assert row["error"] == "not enough memory on the device"


def test_the_greatest_seed_has_a_next_one(place, log, tmp_path):
    space, out = {"dim": [8], "steps": [4]}, tmp_path / "study"
    tune(Condensed.read(place / "coreset"), out, log, space, recipe=RECIPE, retrain=1, seed=MOST_SEED)
    (row,) = json.loads((out / "results.json").read_text())["retrained"]
    assert "error" not in row


def test_validation_items_that_the_sequences_lack_are_named_before_the_search(place, tmp_path):
    rows = synthetic_log(users=80)
    more = [{**row, "item_id": "new", "title": "dark sword"} for row in rows[::9]]
    other = Dataset.prepare([str(write_csv(tmp_path / "log.csv", rows + more))])
    with pytest.raises(InputError, match=r"--validation: log has items .* do not know, item_id 'new' first; give data"):
        tune(Condensed.read(place / "coreset"), tmp_path / "study", other, {"dim": [8]})
    assert not (tmp_path / "study").exists()


def test_what_a_search_tells_of_validation_users_is_not_said_to_be_private(place, log, tmp_path):
    labelled, said = Condensed.read(place / "labelled"), []
    private = Condensed(**{**vars(labelled), "info": {**labelled.info, "privacy": {"epsilon": 8.0}}})
    more = {"validation": log, "space": {"dim": [8], "steps": [2]}, "options": TuneOptions(trials=1)}
    for source, times in ((labelled, 0), (private, 1)):
        tuning.search(source, tmp_path / f"study-{times}", note=said.append, **more)
        assert sum("figures of validation users" in line for line in said) == times


def test_a_study_of_another_version_says_so(place, log, tmp_path, monkeypatch):
    coreset, out, said = Condensed.read(place / "coreset"), tmp_path / "study", []
    more = {"validation": log, "space": {"dim": [8, 12], "steps": [4]}, "train": RECIPE, "note": said.append}
    with monkeypatch.context() as patch:
        patch.setattr(artefacts, "__version__", "0.0.1")
        tuning.search(coreset, out, options=TuneOptions(trials=1), **more)
    assert not any("was begun by" in line for line in said)
    tuning.search(coreset, out, options=TuneOptions(trials=2), **more)
    assert f"{out}: was begun by foster 0.0.1, whose trials may have other numbers; --overwrite begins anew" in said


def test_a_training_on_the_log_that_failed_is_made_again_by_the_next_call(place, log, tmp_path, monkeypatch):
    source, out, space = Condensed.read(place / "coreset"), tmp_path / "study", {"dim": [8, 12], "steps": [4]}
    retrained = lambda: {row["trial"]: row for row in json.loads((out / "results.json").read_text())["retrained"]}  # noqa: E731
    made, tried = tuning.train, []

    def full(*args, **more):
        tried.append(more["model"].dim)
        if len(tried) == 1:
            raise InputError("the disk is full")
        return made(*args, **more)

    monkeypatch.setattr(tuning, "train", full)
    tune(source, out, log, space, recipe=RECIPE, trials=2, retrain=2)
    first = retrained()
    assert sorted("error" in row for row in first.values()) == [False, True]
    tune(source, out, log, space, recipe=RECIPE, trials=2, retrain=2)
    assert tried == [*tried[:2], tried[0]]  # what went well is not made again
    assert not any("error" in row for row in retrained().values()) and len(retrained()) == 2
    tune(source, out, log, space, recipe=RECIPE, trials=2, retrain=2)
    assert len(tried) == 3
