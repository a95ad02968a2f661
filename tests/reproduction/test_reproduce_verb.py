"""``foster reproduce`` as users meet it: what a verb made comes out again, and the exit status says so."""

import json
import re
import subprocess
import sys

import pytest

from command_line import exit_status
from foster.manifest import read_manifest
from synthetic_log import synthetic_log, write_csv

MODEL = ("--dim", 8, "--heads", 1, "--max-length", 8)


@pytest.fixture
def run(capfd, monkeypatch):
    """Call ``foster ARGUMENTS`` in this process and return exit status, stdout and stderr."""

    def call(*arguments):
        capfd.readouterr()
        return exit_status(monkeypatch, *arguments), *capfd.readouterr()

    return call


def test_what_the_verbs_made_comes_out_again(run, tmp_path, tiny_encoder):
    log = write_csv(tmp_path / "log.csv", synthetic_log())
    data, teacher, sequences, coreset, model, finished = (tmp_path / name for name in ("d", "t", "s", "c", "m", "f"))
    common = ("--seed", 5, "--device", "cpu")
    encoder = ("--encoder", tiny_encoder)
    steps = ("--steps", 10, "--eval-every", 5)
    made = (
        ("prepare", log, "--out", data, "--k-core", 2),
        ("pretrain", data, "--out", teacher, *MODEL, *encoder, *steps, "--checkpoints", 3, *common),
        ("distill", data, "--teacher", teacher, "--out", sequences, "--sequences", 3, "--length", 6, *common),
        ("select", "random", data, "--out", coreset, "--sequences", 3, *MODEL, *encoder, *common),
        ("train", sequences, "--out", model, "--validation", data, *steps, *common),
        ("train", sequences, "--out", finished, "--finish", data, *steps, *common),
    )
    for words in made:
        code, _, err = run(*words)
        assert code == 0, err
    about = read_manifest(model).about
    assert [one["kind"] for one in about["inputs"]] == ["distilled", "dataset"] and about["device"] == "cpu"
    for words in (
        (data, "--source", log),
        (teacher, "--data", data),
        (sequences, "--data", data, "--teacher", teacher),
        (coreset, "--data", data),
        (model, "--source", sequences, "--data", data),
        (finished, "--source", sequences, "--data", data),
    ):
        code, out, err = run("reproduce", *words, "--json", "--device", "cpu")
        assert code == 0 and json.loads(out)["equal"], out + err


def test_what_differs_is_exit_status_1_and_bad_input_2(run, tmp_path):
    log = write_csv(tmp_path / "log.csv", synthetic_log())
    assert run("prepare", log, "--out", tmp_path / "d", "--k-core", 2)[0] == 0
    changed = write_csv(log, synthetic_log(seed=1))
    code, out, _ = run("reproduce", tmp_path / "d", "--source", changed)
    assert code == 1 and re.search(r"of 4 files beside manifest\.json differ", out) and "interactions.parquet" in out
    for words, message in {
        (tmp_path / "d",): "--source is missing: log.csv",
        (tmp_path / "d", "--source", log, "--seed", 1): "--seed: the folder says its seed",
        (tmp_path / "none",): "no such folder",
        (tmp_path / "d", "--source", tmp_path / "gone.csv"): "gone.csv",
    }.items():
        code, out, err = run("reproduce", *words)
        assert (code, out, err.count("\n")) == (2, "", 1) and message in err


def test_help_says_what_the_exit_status_means():
    done = subprocess.run([sys.executable, "-m", "foster", "reproduce", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--teacher" in done.stdout and "exit status 0" in " ".join(done.stdout.split())
