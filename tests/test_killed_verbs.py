"""Verbs that a signal ends, and that are started again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foster.unfinished import STATE_NAME
from synthetic_log import synthetic_log, write_csv

MODEL = ["--dim", "8", "--layers", "1", "--max-length", "8"]


def started(arguments: list[str], stderr: Path) -> subprocess.Popen[bytes]:
    """Run a verb in a process of its own, with one thread. A fork of pytest's would hang: it has threads by then."""
    command = [sys.executable, "-m", "foster", *map(str, arguments)]
    with stderr.open("wb") as file:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, env=environment)


def made(arguments: list[str], out: Path) -> str:
    """Run a verb to its end; return what it says."""
    log = out.with_name("stderr")
    code = started([*arguments, "--out", out], log).wait()
    assert code == 0, log.read_text()
    return log.read_text()


def content(folder: Path) -> dict[str, bytes]:
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    manifest = json.loads(files.pop("manifest.json"))
    if "trajectory" in " ".join(files):  # which says how long it took
        del files["metrics.jsonl"], manifest["files"]["metrics.jsonl"], manifest["sha256"]
    return files | {"manifest.json": json.dumps(manifest).encode()}


@pytest.fixture(scope="module")
def verbs(tmp_path_factory, tiny_encoder) -> dict[str, list[str]]:
    """Commands that take long, but for ``--out``; what they read is made."""
    root = tmp_path_factory.mktemp("verbs")
    log = write_csv(root / "log.csv", synthetic_log(200))
    data, teacher, distilled = root / "data", root / "teacher", root / "distilled"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOSTER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        made(["prepare", log, "--k-core", "0"], data)
        recipe = ["--batch-size", "32", "--eval-every", "5", "--eval-users", "50"]
        pretrain = ["pretrain", data, "--encoder", tiny_encoder, *MODEL, *recipe, "--checkpoints", "4"]
        made([*pretrain, "--steps", "10"], teacher)
        sizes = ["--sequences", "4", "--length", "8", "--student-steps", "10"]
        distill = ["distill", data, "--teacher", teacher, *sizes]
        made(distill, distilled)
    return {
        "pretrain": [*pretrain, "--steps", "100"],
        "distill": [*distill, "--steps", "200", "--select-every", "20"],
        "train": ["train", distilled, "--steps", "400", "--eval-every", "5", "--validation", data],
    }


@pytest.mark.parametrize(
    ("verb", "how"), [("pretrain", signal.SIGKILL), ("distill", signal.SIGKILL), ("train", signal.SIGTERM)]
)
def test_a_verb_that_is_killed_goes_on(verb, how, verbs, tmp_path):
    made(verbs[verb], tmp_path / "whole")
    out, part = tmp_path / "out", tmp_path / "out.part"
    process = started([*verbs[verb], "--out", out], tmp_path / "killed")
    while not (part / STATE_NAME).exists():
        time.sleep(0.001)
        assert process.poll() is None, (tmp_path / "killed").read_text()
    time.sleep(0.2)  # until the process itself knows that it has saved
    process.send_signal(how)
    assert process.wait() == (-9 if how == signal.SIGKILL else 143)
    assert not out.exists() and (part / STATE_NAME).exists()
    if how == signal.SIGTERM:
        assert "out.part: keeps the state of step " in (tmp_path / "killed").read_text()
    other = started([*verbs[verb], "--lr", "0.5", "--out", out], tmp_path / "other")
    assert other.wait() == 2
    (line,) = (tmp_path / "other").read_text().splitlines()
    assert "out.part: is of an unfinished run with lr 0.0" in line and "and this one has 0.5" in line
    said = made(verbs[verb], out)
    assert said.startswith(f"{out}.part: goes on after step "), said
    assert content(out) == content(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir() if "out" in path.name} == {"out"}
    shutil.rmtree(tmp_path)
