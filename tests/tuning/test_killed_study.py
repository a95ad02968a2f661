"""A search whose process is killed, and that is started again."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("optuna")

from foster.artefacts import check_free

TRIALS = 4


def started(folder: Path, out: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "foster", "tune", "coreset", "--validation", "data", "--space", "space.yaml"]
    with (folder / f"{out}.log").open("wb") as file:
        return subprocess.Popen(
            [*command, "--trials", str(TRIALS), "--out", out],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=file, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def trials(study: Path) -> list[dict[str, str]]:
    with (study / "trials.csv").open(newline="") as file:
        return [{name: row[name] for name in ("state", "value", "lr", "reason")} for row in csv.DictReader(file)]


def test_trials_that_are_done_survive_and_the_one_that_was_cut_off_is_made_again(log_and_coreset):
    tmp_path = log_and_coreset
    (tmp_path / "space.yaml").write_text("lr: {low: 1e-4, high: 1e-2}\nsteps: [60]\neval_every: [2]\n")
    assert started(tmp_path, "whole").wait() == 0
    process, log = started(tmp_path, "study"), tmp_path / "study.log"
    while "trial 1: " not in log.read_text():
        time.sleep(0.005)
        assert process.poll() is None, log.read_text()
    process.kill()
    process.wait()
    for name in ("README.md", "trials.csv"):  # as if it had been killed while it wrote them
        (tmp_path / "study" / f".{name}.0.tmp").write_text("part")
    check_free(tmp_path / "study", overwrite=True)
    assert started(tmp_path, "study").wait() == 0, log.read_text()
    assert "trial 0: " not in log.read_text() and "trial 1: " not in log.read_text()  # they are not made again
    found = trials(tmp_path / "study")
    cut = [row for row in found if row["state"] == "fail"]
    assert [row["reason"] for row in cut] in ([], ["its process was killed"])
    assert [row for row in found if row["state"] != "fail"] == trials(tmp_path / "whole") and len(found) - len(cut) == 4
    assert not list((tmp_path / "study").glob(".*"))
