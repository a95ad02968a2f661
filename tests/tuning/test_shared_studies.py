"""Several processes share one study."""

import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time

import psutil
import pytest

pytest.importorskip("optuna")

from foster.tuning.search import quiet
from processes import in_processes


@pytest.fixture
def command(log_and_coreset):
    """Return a search on the coreset."""
    return ("-m", "foster", "tune", "coreset", "--validation", "data", "--space", "space.yaml", "--device", "cpu")


@pytest.mark.slow
def test_processes_share_the_trials(tmp_path, command):
    (tmp_path / "space.yaml").write_text("lr: {low: 1e-4, high: 1e-2}\nsteps: [4]\n")
    for more in ((), ("--overwrite",)):
        done = in_processes(2, *command, "--out", "study", "--trials", 5, "--retrain", 2, "--json", *more, cwd=tmp_path)
        found = json.loads(done.stdout)
        assert sum(found["trials"].values()) == 5 and len(found["retrained"]) == 2
        made = re.findall(r"^trial (\d+): .*NDCG@10", done.stderr, re.M)
        assert sorted(map(int, made)) == [0, 1, 2, 3, 4]


def workers(study):
    """Return who has begun trials of a study."""
    if not (study / "study.db").exists():
        return set()
    with sqlite3.connect(study / "study.db") as database:
        try:
            found = database.execute("select value_json from trial_user_attributes where key = 'worker'").fetchall()
        except sqlite3.OperationalError:  # its tables are being made
            return set()
    return set(found)


def until(true, seconds=120.0):
    """Wait for something."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_jobs_are_processes_that_share_the_trials_and_end_together(tmp_path, command):
    (tmp_path / "space.yaml").write_text("lr: {low: 1e-4, high: 1e-2}\n")
    (tmp_path / "options.yaml").write_text("jobs: 2\noverwrite: true\nsteps: 1000000\npatience: 0\n")  # without end
    call = [sys.executable, *command, "--config", "options.yaml", "--out"]
    for ending, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        study = f"study-{status}"
        process = subprocess.Popen(
            [*call, study], cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True, text=True
        )
        until(lambda study=study: len(workers(tmp_path / study)) == 2)
        (helper,) = psutil.Process(process.pid).children()
        if ending == signal.SIGINT:  # as from a terminal: to all
            os.killpg(process.pid, ending)
        else:
            process.terminate()
        _, said = process.communicate(timeout=60)
        assert process.returncode == status, said
        assert not psutil.pid_exists(helper.pid)
        assert "Traceback" not in said and f"stopped; what is done is in {study}" in said


@pytest.mark.slow
def test_what_a_killed_job_leaves_is_done_by_the_other(tmp_path, command):
    (tmp_path / "space.yaml").write_text("lr: {low: 1e-4, high: 1e-2}\nheads: [2, 3]\n")
    call = [sys.executable, *command, "--jobs", "2", "--steps", "300", "--trials", "8", "--json", "--out", "study"]
    process = subprocess.Popen(
        call, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    until(lambda: psutil.Process(process.pid).children())
    psutil.Process(process.pid).children()[0].kill()
    out, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    trials = json.loads(out)["trials"]
    assert sum(trials.values()) == 8 and not {"running", "ended by an error"} & trials.keys()
    assert "a process that shared the work ended with exit status -9" in said
    assert said.count("cannot be trained (dim 8 is no multiple of heads 3") == 1  # not by each process


@pytest.mark.slow
def test_jobs_and_a_launcher_are_one_too_many(tmp_path, command):
    (tmp_path / "space.yaml").write_text("lr: {low: 1e-4, high: 1e-2}\n")
    with pytest.raises(AssertionError, match=r"--jobs 2: torchrun started 2 processes already; leave one out"):
        in_processes(2, *command, "--jobs", 2, "--out", "study", cwd=tmp_path)


def test_a_query_that_ctrl_c_ends_logs_no_traceback():
    pool = logging.getLogger("sqlalchemy.pool.impl.QueuePool")
    assert pool.isEnabledFor(logging.ERROR)
    with quiet():
        assert not pool.isEnabledFor(logging.ERROR)
    assert pool.isEnabledFor(logging.ERROR)
