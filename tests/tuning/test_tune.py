"""Searches on a small log: what they come to, what stops them, and what they refuse."""

import csv
import dataclasses
import importlib.util
import json
import math
import shutil
import sqlite3

import pytest
import yaml

pytest.importorskip("optuna")

from optuna.trial import TrialState

import foster
from foster import Condensed, Dataset, EncoderOptions, ModelOptions, TrainOptions, TuneOptions
from foster.artefacts import artefact_kind, check_free
from foster.condensed.contexts import label_windows
from foster.condensed.labels import with_soft_labels
from foster.errors import InputError
from foster.evaluation.metrics import noise
from foster.inspection.inspect import look_at
from foster.runs import train
from foster.training.loop import Fit, on_log
from foster.tuning import results
from foster.tuning import search as searching
from foster.tuning.folder import MEANT, Worker, claim
from foster.tuning.results import retrained
from foster.tuning.search import KILLED, WORKER, open_study
from foster.tuning.space import DEFAULT
from foster.tuning.tune import search
from synthetic_log import synthetic_log, write_csv

SPACE = {
    "dim": [8, 12],
    "heads": [1, 2],
    "dropout": {"low": 0.0, "high": 0.4},
    "lr": {"low": 1e-3, "high": 3e-2, "log": True},
    "steps": [8],
}
RECIPE = TrainOptions(eval_every=4, eval_users=40)


@pytest.fixture(autouse=True)
def no_picture(request, monkeypatch):
    """Pictures take longer than all the rest."""
    if "picture" not in request.node.name:
        monkeypatch.setattr(results, "drawable", lambda frame: False)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Dataset:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    return Dataset.prepare([str(write_csv(path, synthetic_log(users=80)))])


@pytest.fixture(scope="module")
def coreset(log, tiny_encoder) -> Condensed:
    return foster.select(
        "random", log, 5, encoder=EncoderOptions(encoder=str(tiny_encoder), words=0),
        model=ModelOptions(dim=8, max_length=8, adapter="linear"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def labelled(log, coreset) -> Condensed:
    """Sequences with soft labels, as distilled ones have them."""
    teacher, _ = train(log, encoder=coreset.encoder, model=coreset.model, train=TrainOptions(steps=8, eval_every=8))
    return with_soft_labels(coreset, teacher, label_windows(coreset.items.shape[1], 4))


def tune(source, out, log, trials=6, space=SPACE, recipe=RECIPE, **more):
    of_a_search = ("timeout", "retrain", "retrain_steps", "finish")
    options = TuneOptions(trials=trials, **{name: more.pop(name) for name in of_a_search if name in more})
    return foster.tune(source, out, validation=log, space=space, train=recipe, options=options, **more)


def without(frame, *names):
    """Return rows without what differs between runs of the same search."""
    return frame.filter(frame["state"] != "fail").drop("trial", "seconds", *names).rows()


def test_a_search_ends_with_files_that_can_be_read(labelled, log, tmp_path):
    out = tmp_path / "study"
    study, frame = tune(labelled, out, log, trials=8, retrain=2)
    assert len(study.trials) == frame.height == 8
    assert set(frame["state"]) <= {"complete", "pruned"}
    assert artefact_kind(out) == "study"
    said = json.loads((out / "results.json").read_text(), parse_constant=pytest.fail)
    best = frame.filter(frame["state"] == "complete").sort("value", descending=True)
    assert said["best"][0]["value"] == study.best_value == best["value"][0]
    assert said["importance"] is None and "20 are needed" in (out / "README.md").read_text()
    with (out / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == list(range(8))
    assert {float(row["value"]) for row in rows} == set(frame["value"])
    # The best two on the full log, with another seed, as models that can be used.
    assert len(said["retrained"]) == 2
    on_log = {row["trial"]: row["ndcg@10"] for row in said["retrained"]}
    verdict = said["verdict"]
    assert verdict["best"] == said["trial"] == max(on_log, key=on_log.get)
    groups = {number: retrained(study, number)["by_group"] for number in on_log}
    assert {number: pytest.approx(sum(own)) for number, own in groups.items()} == on_log
    two = noise(*groups.values())
    assert {row["trial"]: row["noise"] for row in said["retrained"]} == {
        **dict.fromkeys(on_log, two),
        said["trial"]: None,
    }
    behind = max(on_log.values()) - min(on_log.values())
    (other,) = on_log.keys() - {verdict["best"]}
    assert verdict["alike"] == ([other] if behind <= two else [])
    assert f"{behind:.4f} ± {two:.4f}" in (out / "README.md").read_text()
    assert "by_group" not in said["retrained"][0]
    assert dict(frame.drop_nulls("full_log").select("trial", "full_log").iter_rows()) == on_log
    for number in on_log:
        model = foster.TextRecommender.from_pretrained(out / "retrained" / f"trial-{number}")
        assert model.options.dim == frame["dim"][number]
        assert model.origin["from_real_data"] == "all weights"
    # Nothing but foster's own is there, so that a folder can be replaced.
    check_free(out, overwrite=True)
    again, _ = tune(labelled, out, log, trials=8, retrain=2)
    assert len(again.trials) == 8
    assert json.loads((out / "results.json").read_text())["retrained"] == said["retrained"]
    with pytest.raises(InputError, match=r"the full log for \d steps, now it would be 3; give --retrain-steps as"):
        tune(labelled, out, log, trials=8, retrain=3, retrain_steps=3)


def test_the_best_train_on_the_log_for_as_long_as_is_said(labelled, log, tmp_path):
    tune(labelled, tmp_path / "study", log, trials=2, retrain=1, retrain_steps=3)
    (row,) = json.loads((tmp_path / "study" / "results.json").read_text())["retrained"]
    assert row["steps"] == row["at_most"] == 3


def test_the_best_options_train_the_same_model_again(labelled, log, tmp_path):
    study, frame = tune(labelled, tmp_path / "study", log)
    config = yaml.safe_load((tmp_path / "study" / "best.yaml").read_text())
    best = frame.row(frame["value"].arg_max(), named=True)
    assert {name: config[name] for name in SPACE} == {name: best[name] for name in SPACE}
    # What was given for the trials alone is not in it, nor what is as usual; the shape that was stored is.
    assert set(config) - set(SPACE) == {"encoder", "words", "max_length", "adapter"}
    model = labelled.model.model_copy(update={name: config[name] for name in ("dim", "heads", "dropout")})
    recipe = labelled.recipe.model_copy(update={"lr": config["lr"], "steps": 8, "eval_every": 4, "eval_users": 40})
    _, fit = train(labelled, model=model, train=recipe, validation=log)
    assert fit.best_ndcg == study.best_value
    with pytest.raises(InputError, match="another recipe"):
        tune(labelled, tmp_path / "study", log, recipe=RECIPE.model_copy(update={"weight_decay": 0.5}))


def test_trials_can_go_on_with_the_log(labelled, log, tmp_path):
    space = {name: values for name, values in SPACE.items() if name != "steps"}
    recipe = TrainOptions(steps=6, eval_every=3, eval_users=40, weight_decay=0.2)
    study, frame = tune(labelled, tmp_path / "study", log, trials=3, space=space, recipe=recipe, finish=True)
    config = yaml.safe_load((tmp_path / "study" / "best.yaml").read_text())
    # What is given for the log holds for a whole training on it, too, but for how long it is.
    assert config["weight_decay"] == 0.2 and not {"steps", "eval_every"} & set(config)
    model = labelled.model.model_copy(update={name: config[name] for name in ("dim", "heads", "dropout")})
    _, fit = foster.finish(labelled, log, model=model, train=recipe.model_copy(update={"lr": config["lr"]}))
    assert fit.best_ndcg == study.best_value and fit.steps == 6
    card = (tmp_path / "study" / "README.md").read_text()
    assert ", then on the log" in card and "| trial | NDCG@10 | behind the best | s |" in card
    # How far trials are behind the best, and how much of that is noise.
    groups = {trial.number: trial.user_attrs["by_group"] for trial in study.trials}
    assert all(sum(groups[row["trial"]]) == pytest.approx(row["value"]) for row in frame.to_dicts())
    best = study.best_trial.number
    noises = {number: noise(groups[best], own) for number, own in groups.items() if number != best}
    assert dict(frame.drop_nulls("noise").select("trial", "noise").iter_rows()) == noises


def test_trials_that_go_on_with_the_log_make_a_quarter_of_its_steps(labelled, log, tmp_path, monkeypatch):
    """A tenth ranked options less as the log does (benchmarks/results/rank_agreement.md)."""
    made = []

    def finished(source, data, **more):
        made.append(more["train"].steps)
        return None, Fit(best_ndcg=0.5)

    monkeypatch.setattr(searching, "finish", finished)
    tune(labelled, tmp_path / "study", log, trials=1, space={"lr": [0.01]}, recipe=None, finish=True)
    assert made == [on_log(TrainOptions(), log, 0.25).steps] > [on_log(TrainOptions(), log, 0.1).steps]


def test_a_study_of_trials_of_another_part_of_the_log_is_refused(tmp_path):
    meant = dict.fromkeys(MEANT) | {"validation": {"fingerprint": "a"}}
    claim(tmp_path / "study", meant)  # as an earlier version did, which did not say so
    with pytest.raises(InputError, match="is a study of trials that go on with the log for another part of its steps"):
        claim(tmp_path / "study", meant | {"share": 0.25})


def test_one_seed_gives_one_search_and_features_are_shared(coreset, log, tmp_path):
    _, first = tune(coreset, tmp_path / "a", log)
    _, second = tune(coreset, tmp_path / "b", log)
    _, other = tune(coreset, tmp_path / "c", log, seed=1)
    assert without(first) == without(second)
    assert first["lr"].to_list() != other["lr"].to_list()
    alone, fit = train(
        coreset, model=coreset.model.model_copy(update={"dim": 12}), train=RECIPE.model_copy(update={"steps": 8})
    )
    like, same = train(
        coreset, model=alone.options, train=RECIPE.model_copy(update={"steps": 8}), like=alone.fresh(7, coreset.model)
    )
    assert alone.item_table().equal(like.item_table()) and fit.best_step == same.best_step


def test_the_log_itself_can_be_searched(log, tiny_encoder, tmp_path):
    encoder = EncoderOptions(encoder=str(tiny_encoder), words=0)
    more = {"encoder": encoder, "model": ModelOptions(dim=8, max_length=8)}
    space = {name: SPACE[name] for name in ("heads", "lr", "steps")}
    study, frame = tune(log, tmp_path / "study", None, trials=3, space=space, retrain=1, **more)
    config = yaml.safe_load((tmp_path / "study" / "best.yaml").read_text())
    assert (config["dim"], config["max_length"], config["eval_every"]) == (8, 8, 4)
    _, fit = train(
        log,
        encoder=encoder,
        model=ModelOptions(dim=8, max_length=8, heads=config["heads"]),
        train=RECIPE.model_copy(update={"lr": config["lr"], "steps": 8}),
    )
    assert fit.best_ndcg == study.best_value
    # With the same seed the full log would say the same once more.
    assert frame["full_log"].drop_nulls().to_list() != [study.best_value]


def test_test_targets_are_never_looked_at(coreset, log, tmp_path, monkeypatch):
    held_out = Dataset.held_out

    def only_validation(self, split, *rest):
        assert split == "validation"
        return held_out(self, split, *rest)

    monkeypatch.setattr(Dataset, "held_out", only_validation)
    tune(coreset, tmp_path / "study", log, trials=2, retrain=1)


def test_the_options_without_a_search_are_the_first_trial(coreset, log, tmp_path):
    space = {"dim": [8, 12], "lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    _, frame = tune(coreset, tmp_path / "a", log, trials=2, space=space, recipe=TrainOptions(steps=20, eval_every=10))
    assert frame["default"].to_list() == [True, False]
    assert (frame["dim"][0], frame["lr"][0]) == (8, coreset.recipe.lr)
    low = {**space, "lr": {"low": 1e-4, "high": 9e-4}, "dim": [8]}  # neither the coreset's rate nor the log's
    assert coreset.recipe.lr > 9e-4 < TrainOptions().lr
    _, frame = tune(coreset, tmp_path / "low", log, trials=2, space=low, recipe=TrainOptions(steps=4, eval_every=2))
    assert not frame["default"].any()
    _, frame = tune(coreset, tmp_path / "b", log, trials=2)  # 20 steps are not usual
    assert not frame["default"].any()


def test_the_first_trial_has_the_rate_of_the_log_where_that_of_students_is_no_part_of_the_space(
    labelled, log, tmp_path
):
    quick = dataclasses.replace(labelled, recipe=labelled.recipe.model_copy(update={"lr": 2 * DEFAULT["lr"]["high"]}))
    _, frame = foster.tune(
        quick, tmp_path / "study", validation=log, options=TuneOptions(trials=1), train=TrainOptions(steps=2)
    )
    assert frame["default"].to_list() == [True]
    assert (frame["lr"][0], frame["dim"][0]) == (TrainOptions().lr, ModelOptions().dim)


def stop_at(monkeypatch, number, error):
    """Make the training of one trial end with an error after its first validation."""
    usual, made = searching.train, []

    def train_or_stop(*arguments, watch, **more):
        made.append(1)

        def stop(step, ndcg):
            watch(step, ndcg)
            if len(made) == number:
                raise error

        return usual(*arguments, watch=stop, **more)

    monkeypatch.setattr(searching, "train", train_or_stop)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_a_search_that_is_stopped_goes_on_as_if_it_had_not_been(coreset, log, tmp_path, monkeypatch, error):
    monkeypatch.setattr(searching, "STARTUP", 3)  # so that later trials follow from earlier ones
    _, whole = tune(coreset, tmp_path / "whole", log, trials=7)
    with monkeypatch.context() as patch:
        stop_at(patch, 5, error)
        with pytest.raises(type(error)):
            tune(coreset, tmp_path / "study", log, trials=7)
    said = json.loads((tmp_path / "study" / "results.json").read_text())
    assert sum(said["trials"].values()) == 4  # what was stopped is no trial
    _, frame = tune(coreset, tmp_path / "study", log, trials=7)
    assert frame.filter(frame["state"] == "fail")["reason"].to_list() == ["stopped"]
    assert without(frame) == without(whole)


def test_a_disk_that_is_full_for_a_moment_stops_a_search_and_fails_no_trial(coreset, log, tmp_path, monkeypatch):
    monkeypatch.setattr(searching, "STARTUP", 3)
    _, whole = tune(coreset, tmp_path / "whole", log, trials=7)
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    with monkeypatch.context() as patch:
        stop_at(patch, 5, error)
        with pytest.raises(InputError, match="there is no room left"):
            tune(coreset, tmp_path / "study", log, trials=7)
    _, frame = tune(coreset, tmp_path / "study", log, trials=7)
    assert frame.filter(frame["state"] == "fail")["reason"].to_list() == ["stopped"]
    assert without(frame) == without(whole)


@pytest.mark.parametrize("finish", [False, True])
def test_a_trial_that_was_cut_off_loses_one_validation_interval(coreset, log, tmp_path, monkeypatch, finish):
    space, recipe = {"lr": {"low": 0.003, "high": 0.01}}, TrainOptions(steps=8, eval_every=2, eval_users=40, patience=0)
    given = {"trials": 2, "space": space, "recipe": recipe, "finish": finish}
    study, whole = tune(coreset, tmp_path / "whole", log, **given)
    looks = [trial.intermediate_values for trial in study.trials]
    trained = searching.Search._trained

    def cut(self, trial, options, watch):
        def watched(step, ndcg):
            watch(step, ndcg)
            if (trial.number, step) == (1, 6):
                raise KeyboardInterrupt

        return trained(self, trial, options, watched)

    with monkeypatch.context() as patch:
        patch.setattr(searching.Search, "_trained", cut)
        with pytest.raises(KeyboardInterrupt):
            tune(coreset, tmp_path / "study", log, **given)
    assert (tmp_path / "study" / "trial-1.part" / "state.json").is_file()
    assert artefact_kind(tmp_path / "study") == "study" and look_at(tmp_path / "study").sections()
    check_free(tmp_path / "study", overwrite=True)
    options, lines = TuneOptions(trials=2, finish=finish), []
    again = search(
        coreset, tmp_path / "study", validation=log, space=space, train=recipe, options=options, say=lines.append
    )
    assert "trial-1.part: goes on after step 4, where a run of this command was cut off" in lines[0]
    assert without(again.frame) == without(whole)
    assert [t.intermediate_values for t in again.study.trials if t.state.name != "FAIL"] == looks
    assert not list((tmp_path / "study").glob("trial-*"))


def test_what_was_changed_in_a_study_is_refused(coreset, log, tmp_path):
    out, other = tmp_path / "study", tmp_path / "other"
    for place, seed in ((out, 0), (other, 1)):
        tune(coreset, place, log, trials=2, retrain=1, seed=seed)
    shutil.copytree(out, tmp_path / "whole")
    with sqlite3.connect(out / "study.db") as database:
        changes = {
            "trial 0": "update trial_values set value = 0.9 where trial_id = 1",
            "trial 1": "update trial_params set param_value = 0.2 where trial_id = 2 and param_name = 'dropout'",
            "trial 0 ": "update trial_user_attributes set value_json = '7' where trial_id = 1 and key = 'best_step'",
            "retrained": "update study_user_attributes set value_json = replace(value_json, '0.', '0.1') "
            "where key like 'retrained%'",
            "trial 0 is missing": "update trials set state = 'FAIL' where number = 0",
        }
    database.close()

    def refused(match):
        with pytest.raises(InputError, match=match):
            tune(coreset, out, log, trials=3, retrain=1)
        shutil.rmtree(out)
        shutil.copytree(tmp_path / "whole", out)

    for what, change in changes.items():
        with sqlite3.connect(out / "study.db") as database:
            assert database.execute(change).rowcount
        database.close()
        refused(rf"study\.db: is damaged, or was changed \({what.strip()}")
    (out / "study.db").unlink()
    refused(r"study\.db: is damaged, or was changed \(it is missing")
    shutil.copy(other / "study.db", out / "study.db")
    refused("it is of another study")
    content = bytearray((out / "study.db").read_bytes())
    content[4096:4120] = bytes(24)  # the head of a page
    (out / "study.db").write_bytes(content)
    refused(r"study\.db: is damaged, or was changed")
    (out / "study.db").write_bytes(b"no database at all")
    refused(r"study\.db: is damaged, or was changed")
    (out / "manifest.json").unlink()
    refused(r"manifest\.json: is missing; copy the study again, or begin anew with --overwrite")
    (out / "config.json").unlink()
    refused(r"config\.json: is missing; copy the study again, or remove what is left of it")
    (out / "config.json").write_text((out / "config.json").read_text().replace('"seed": 0', '"seed": 1'))
    refused(r"config\.json: is not the file that manifest\.json lists")
    (out / "trials.csv").write_text("trial,state,value\n")
    with pytest.raises(InputError, match=r"trials\.csv: is not the file that manifest\.json lists"):
        look_at(out)
    tune(coreset, out, log, trials=3, retrain=1)  # tables are written anew from the study
    assert look_at(out).sections()


def test_a_killed_trial_is_made_again_and_given_up_at_last(coreset, log, tmp_path):
    _, whole = tune(coreset, tmp_path / "whole", log, trials=4)
    out = tmp_path / "study"
    tune(coreset, out, log, trials=2)

    def die():
        """Begin a trial as another process does, and be gone."""
        tuned = search(coreset, out, validation=log, space=SPACE, train=RECIPE, options=TuneOptions(trials=2))
        work = searching.Search(out, SETTING["it"], 3, None, None, print)
        assert work._next() is not None
        work.close()
        return tuned.study

    original = searching.Search.__init__
    SETTING = {}

    def remember(self, out, setting, *rest):
        SETTING.setdefault("it", setting)
        original(self, out, setting, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching.Search, "__init__", remember)
        study = die()
        assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
        _, frame = tune(coreset, out, log, trials=4)
        assert frame["reason"].to_list()[2:] == ["its process was killed", None, None]
        assert without(frame) == without(whole)
    # One that kills its process again and again is not tried for ever.
    space = SETTING["it"].space
    with open_study(out) as study:
        study.enqueue_trial(study.trials[-1].params | {"lr": 0.0123}, {searching.KILLS: KILLED - 1})
        study.ask(space.distributions()).set_user_attr(WORKER, "gone")
    _, frame = tune(coreset, out, log, trials=5)
    assert (frame["state"][-1], frame["reason"][-1]) == ("pruned", "its process was killed 3 times")


def test_other_processes_are_left_alone(coreset, log, tmp_path):
    out = tmp_path / "study"
    tune(coreset, out, log, trials=1)
    other = Worker(out)
    with open_study(out) as study:
        study.ask(searching.Space.parse(SPACE).distributions()).set_user_attr(WORKER, other.name)
    _, frame = tune(coreset, out, log, trials=3)
    assert sorted(frame["state"]) == sorted(["complete", "running", "complete"])
    with pytest.raises(InputError, match="another process is at work"):
        tune(coreset, out, log, trials=3, overwrite=True)
    other.close()
    _, frame = tune(coreset, out, log, trials=1, overwrite=True)
    assert frame.height == 1


def test_trials_that_cannot_be_trained_are_pruned_with_a_reason(coreset, log, tmp_path):
    said = []
    space = {"dim": [8, 9], "heads": [2], "lr": {"low": 0.001, "high": 0.01}, "steps": [5]}
    tuned = search(
        coreset, tmp_path / "study", validation=log, space=space, where="space.yaml", options=TuneOptions(trials=8),
        note=said.append,
    )  # fmt: skip
    assert "cannot be trained (dim 9 is no multiple of heads 2, for one)" in said[0]
    odd = tuned.frame.filter(tuned.frame["dim"] == 9)
    assert odd.height > 0 and set(odd["state"]) == {"pruned"}
    assert set(odd["reason"]) == {"dim 9 is no multiple of heads 2"}
    assert set(tuned.frame.filter(tuned.frame["dim"] == 8)["state"]) == {"complete"}


def test_a_search_without_a_finished_trial_says_why(coreset, log, tmp_path):
    with pytest.raises(InputError, match=r"no trial could be finished: training diverged.*lower --lr"):
        tune(coreset, tmp_path / "study", log, trials=2, space={"lr": [1e30]}, recipe=TrainOptions(steps=20))
    with (tmp_path / "study" / "trials.csv").open() as file:
        assert "diverged" in file.read()


def test_the_same_options_are_not_trained_twice(coreset, log, tmp_path):
    _, frame = tune(coreset, tmp_path / "study", log, trials=6, space={"dim": [8, 12], "steps": [5]}, retrain=5)
    assert len(set(frame["value"])) == len(set(frame["dim"])) == 2
    twins = frame.filter(frame["reason"].is_not_null())
    assert twins.height == 4 and all(reason.startswith("the same training as trial") for reason in twins["reason"])
    assert frame["full_log"].drop_nulls().len() == 2


def test_importance_and_a_picture(coreset, log, tmp_path):
    space = {"lr": {"low": 1e-5, "high": 3e-2, "log": True}, "dim": [8, 12], "steps": [10]}
    tune(coreset, tmp_path / "study", log, trials=24, space=space, recipe=TrainOptions(eval_every=10))
    said = json.loads((tmp_path / "study" / "results.json").read_text())
    assert set(said["importance"]) == set(space)
    assert math.isclose(sum(said["importance"].values()), 1)
    assert max(said["importance"], key=said["importance"].get) == "lr"
    assert "| lr | 0." in (tmp_path / "study" / "README.md").read_text()
    if importlib.util.find_spec("matplotlib") is not None:
        assert (tmp_path / "study" / "results.png").read_bytes().startswith(b"\x89PNG")


def test_no_trial_begins_after_the_time_is_over(coreset, log, tmp_path):
    with pytest.raises(InputError, match="no trial could be finished: there was no time"):
        tune(coreset, tmp_path / "study", log, timeout=1e-9)
    study, _ = tune(coreset, tmp_path / "study", log, trials=1)
    assert len(study.trials) == 1


def test_a_study_of_something_else_is_not_touched(coreset, labelled, log, tmp_path):
    out = tmp_path / "study [1]?#%"  # no address of a database has such characters
    tune(coreset, out, log, trials=1)
    before = (out / "study.db").read_bytes()
    cases = {
        "other data to train on": {"source": labelled},
        r"another space \('dim'": {"space": {**SPACE, "dim": [8]}},
        r"another recipe \('eval_every': 4, now 6\)": {"recipe": RECIPE.model_copy(update={"eval_every": 6})},
        r"another recipe \('weight_decay'": {"recipe": TrainOptions(weight_decay=0.3, eval_every=4, eval_users=40)},
        r"other options of the model \('layers': 2, now 1\)": {"model": ModelOptions(layers=1)},
        "another seed": {"seed": 3},
    }
    for message, change in cases.items():
        arguments = {"source": coreset, "out": out, "log": log, **change}
        with pytest.raises(InputError, match=message):
            tune(**arguments)
    assert (out / "study.db").read_bytes() == before
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes.txt, which foster did not write"):
        tune(coreset, out, log, overwrite=True)


def test_what_does_not_go_together_is_refused_before_a_folder_is_made(coreset, labelled, log, tmp_path, monkeypatch):
    cases = [
        ("--validation is missing", {"log": None}),
        ("'lr' is searched, but also given as 0.5", {"recipe": TrainOptions(lr=0.5)}),
        ("'batch_size': a step on sequences", {"space": {"batch_size": [8]}}),
        ("'batch_size': a step on sequences", {"recipe": TrainOptions(batch_size=8)}),
        ("'ids': these sequences", {"source": labelled, "space": {"ids": [True, False]}}),
        ("no options in it go together", {"space": {"dim": [9]}}),
        ("unknown option", {"space": {"lrr": [9]}}),
    ]
    for message, change in cases:
        with pytest.raises(InputError, match=message):
            tune(**{"source": coreset, "out": tmp_path / "study", "log": log, **change})
    with pytest.raises(InputError, match="other data than the log"):
        other = write_csv(tmp_path / "log.csv", synthetic_log(users=70))
        tune(log, tmp_path / "study", Dataset.prepare([str(other)]))
    with pytest.raises(InputError, match=r"--finish: .* is other data"):
        tune(coreset, tmp_path / "study", Dataset.prepare([str(other)]), finish=True)
    with pytest.raises(InputError, match="--finish: is for sequences"):
        tune(log, tmp_path / "study", None, finish=True)
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'foster\[tune\]'"):
        tune(coreset, tmp_path / "study", log)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize("pages", [12, 28])  # the second is full after some trials
def test_a_full_disk_is_no_damage_and_loses_nothing(coreset, log, tmp_path, monkeypatch, pages):
    connect = sqlite3.connect

    def full(*arguments, **more):
        connection = connect(*arguments, **more)
        connection.execute(f"PRAGMA max_page_count={pages}")  # of which SQLite says the same
        return connection

    out = tmp_path / "study"
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", full)
        for _ in range(2):
            with pytest.raises(InputError, match=r"study\.db: there is no room left on its disk; make some, and the s"):
                tune(coreset, out, log, trials=9)
    assert not list(out.glob(".*")), "of a database that could not be made nothing is left"
    before = [] if pages == 12 else _finished(out)
    assert bool(before) == (pages == 28)
    study, _ = tune(coreset, out, log, trials=9)
    done = [(trial.params, trial.value) for trial in study.get_trials(states=(TrialState.COMPLETE,))]
    assert done[: len(before)] == before and len(done) >= 5


def _finished(out):
    with open_study(out) as study:
        return [(trial.params, trial.value) for trial in study.get_trials(states=(TrialState.COMPLETE,))]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_model_of_the_full_log_that_is_gone_is_made_again(coreset, log, tmp_path, damaged):
    out, lines = tmp_path / "study", []
    options = TuneOptions(trials=2, retrain=1, retrain_steps=3)
    given = {"validation": log, "space": SPACE, "train": RECIPE, "options": options}
    before = search(coreset, out, **given).results["retrained"]
    (folder,) = (out / "retrained").iterdir()
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:100])
    if not damaged:
        shutil.rmtree(folder)
    assert search(coreset, out, **given, say=lines.append).results["retrained"] == before
    assert f"{folder}: is gone, or damaged; if trial" in lines[0]
    assert (folder / "model.safetensors").read_bytes() == weights
    assert search(coreset, out, **given, say=lines.append).results["retrained"] == before and len(lines) == 3


def test_nothing_else_comes_into_the_folder_of_a_study(coreset, log, tmp_path):
    tune(coreset, tmp_path / "study", log, trials=1)
    with pytest.raises(InputError, match="study, which foster made and could not be read any more; go elsewhere"):
        check_free(tmp_path / "study" / "model")


def test_trials_that_are_shorter_than_the_full_training_are_so_alone(log, tiny_encoder, tmp_path):
    encoder = EncoderOptions(encoder=str(tiny_encoder), words=0)
    given = {"encoder": encoder, "model": ModelOptions(dim=8, max_length=8), "space": {"lr": [0.003]}, "trials": 1}
    tune(log, tmp_path / "short", None, recipe=RECIPE.model_copy(update={"steps": 4}), retrain=1, **given)
    (row,) = json.loads((tmp_path / "short" / "results.json").read_text())["retrained"]
    assert row["at_most"] == on_log(TrainOptions(), log).total_steps > 4
    said = (tmp_path / "short" / "best.yaml").read_text()
    assert "# Given for the trials alone, and to be given again for one like them: --eval-every 4 --steps 4.\n" in said
    assert "# Its seed was 0, on the full log 1.\n" in said
    assert not {"steps", "eval_every"} & yaml.safe_load(said).keys()
    # Trials that are as long as that training share what belongs to its length.
    recipe = TrainOptions(eval_every=4, eval_users=40)
    tune(log, tmp_path / "whole", None, recipe=recipe, **given)
    assert yaml.safe_load((tmp_path / "whole" / "best.yaml").read_text())["eval_every"] == 4


def test_a_forgotten_finish_is_what_is_named(coreset, log, tmp_path):
    given = {"space": {"lr": [0.003]}, "recipe": RECIPE.model_copy(update={"steps": 4}), "trials": 1}
    tune(coreset, tmp_path / "study", log, finish=True, **given)
    with pytest.raises(InputError, match=r"is a study of trials that go on with the log, or do not \(--finish\)"):
        tune(coreset, tmp_path / "study", log, **given)


def test_a_first_trial_that_is_not_the_default_is_told(coreset, log, tmp_path):
    lines = []
    given = {"validation": log, "train": RECIPE, "options": TuneOptions(trials=1)}
    search(coreset, tmp_path / "study", space={"dim": [8], "lr": [0.5], "steps": [4]}, say=lines.append, **given)
    assert lines[0] == "the defaults are not in the space: the first trial is drawn as the others are"


def test_no_folder_is_named(coreset, log):
    with pytest.raises(InputError, match="tune: out is None, of type NoneType; give a str or a Path"):
        foster.tune(coreset, None, validation=log)
