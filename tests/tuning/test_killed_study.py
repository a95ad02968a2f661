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
from foster.errors import InputError
from foster.manifest import seal
from foster.tuning.folder import LOCKS, place_of
from foster.tuning.search import open_study

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
    for name in ("README.md.0.tmp", "trials.csv.0.tmp", "study.db.0.tmp", "study.db.0.tmp-wal"):
        (tmp_path / "study" / f".{name}").write_text("part")  # as if it had been killed while it wrote them
    check_free(tmp_path / "study", overwrite=True)
    assert started(tmp_path, "study").wait() == 0, log.read_text()
    assert "trial 0: " not in log.read_text() and "trial 1: " not in log.read_text()  # they are not made again
    found = trials(tmp_path / "study")
    cut = [row for row in found if row["state"] == "fail"]
    assert [row["reason"] for row in cut] in ([], ["its process was killed"])
    assert [row for row in found if row["state"] != "fail"] == trials(tmp_path / "whole") and len(found) - len(cut) == 4
    assert not list((tmp_path / "study").glob(".*"))


def test_the_database_has_all_its_tables_from_its_first_moment(tmp_path, monkeypatch):
    """Whoever is killed while optuna makes them leaves none that the next one could not open."""
    import optuna

    plain, found = optuna.create_study, []

    def noted(**more):
        found.append((tmp_path / "study.db").exists())
        return plain(**more)

    monkeypatch.setattr(optuna, "create_study", noted)
    (tmp_path / "config.json").write_text("{}")
    seal(tmp_path)
    with open_study(tmp_path) as study:
        study.enqueue_trial({"lr": 0.5})
    with open_study(tmp_path) as study:
        assert len(study.get_trials(deepcopy=False)) == 1
    assert found == [False, True, True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "manifest.json", "study.db"]


def test_what_a_killed_retraining_leaves_is_no_hindrance(tmp_path):
    (tmp_path / "study" / "retrained" / ".trial-0.foster-20260101T000000-host-12345678-9-abc").mkdir(parents=True)
    (tmp_path / "study" / "retrained" / "trial-0.part").mkdir()
    (tmp_path / "study" / "retrained" / "trial-0.part" / ".tmpAbC123").write_text("half a fi")
    (tmp_path / "study" / "config.json").write_text('{"foster": "1", "kind": "study"}')
    check_free(tmp_path / "study", overwrite=True)


def test_what_is_left_of_a_study_that_was_just_to_be_made_is_no_hindrance(tmp_path):
    """As a kill leaves it before the first file is in its place."""
    out = tmp_path / "study"
    (out / LOCKS).mkdir(parents=True)
    for name in ("config", "manifest"):
        (out / f".{name}.json.0a1b.tmp").write_text("{")
    assert place_of(out, overwrite=False) is None
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        place_of(out, overwrite=False)
