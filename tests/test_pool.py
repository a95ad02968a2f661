"""benchmarks/pool.py: runs of several machines as one table."""

from __future__ import annotations

import csv
import runpy
import sys
from pathlib import Path

import pytest

from foster.bench.results import write_results

POOL = Path(__file__).parents[1] / "benchmarks" / "pool.py"
ABOUT = {
    "data": "toy",
    "users": 4,
    "items": 9,
    "interactions": 20,
    "split": "leave-one-out",
    "parts": {"test_users": 4, "test_targets": 4},
    "seeds": [0],
}


def record(name, seed, ndcg, seconds):
    return {
        "name": name,
        "method": name,
        "budget": None if name == "full" else 20,
        "seed": seed,
        "student": None,
        "metrics": {"ndcg@10": ndcg, "recall@10": 2 * ndcg},
        "needs_teacher": name == "foster",
        "train_seconds": seconds,
        **({} if name == "full" else {"make_seconds": 45.0, "bytes": 1000, "interactions": 9}),
    }


@pytest.fixture
def runs(tmp_path):
    for number, records in enumerate(
        (
            [record("full", 0, 0.04, 100.0), record("foster", 0, 0.03, 10.0)],
            [record("full", 1, 0.05, 100.0), record("foster", 1, 0.05, 20.0), record("foster", 0, 0.9, 1.0)],
        )
    ):
        (tmp_path / f"machine{number}").mkdir()
        write_results(tmp_path / f"machine{number}", {}, ABOUT, records)
    return tmp_path / "machine0/results.csv", tmp_path / "machine1/results.csv"


def pool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pool.py", *map(str, arguments)])
    runpy.run_path(str(POOL), run_name="__main__")


def test_runs_that_are_there_are_not_added_again(runs, monkeypatch, capsys):
    to, new = runs
    pool(monkeypatch, "add", new, to)
    assert capsys.readouterr().out == "2 runs added\n"
    with to.open(newline="") as file:
        assert [(row["name"], row["seed"], row["ndcg@10"]) for row in csv.DictReader(file)] == [
            ("full", "0", "0.04"), ("foster", "0", "0.03"), ("full", "1", "0.05"), ("foster", "1", "0.05"),
        ]  # fmt: skip


def test_a_table_has_means_over_seeds_of_ratios_within_a_seed(runs, monkeypatch, capsys):
    pool(monkeypatch, "add", runs[1], runs[0])
    capsys.readouterr()
    pool(monkeypatch, "table", runs[0], "--methods", "foster")
    *_, foster, full = capsys.readouterr().out.splitlines()
    assert foster.startswith("| foster | 20 | 2 | 0.0800 ± 0.0283 | 0.0400 ± 0.0141 | 0.88 | 0.88 | 45 | 15 | 8 |")
    assert full.startswith("| full |  | 2 |")
    pool(monkeypatch, "table", runs[0], "--seeds", "1")
    assert "| foster | 20 | 1 | 0.1000 | 0.0500 | 1.00 | 1.00 |" in capsys.readouterr().out


def test_seconds_can_be_of_the_seeds_of_one_kind_of_machine(runs, monkeypatch, capsys):
    pool(monkeypatch, "add", runs[1], runs[0])
    pool(monkeypatch, "table", runs[0], "--methods", "foster", "--timed", "1")
    *_, foster, _ = capsys.readouterr().out.splitlines()
    assert foster.startswith("| foster | 20 | 2 | 0.0800 ± 0.0283 | 0.0400 ± 0.0141 | 0.88 | 0.88 | 45 | 20 | 5 |")


def test_a_table_may_hold_nothing_that_has_a_budget(runs, monkeypatch, capsys):
    pool(monkeypatch, "table", runs[0], "--methods", "popularity")
    assert capsys.readouterr().out.splitlines()[-1].startswith("| full |  | 1 |")


def test_a_plot_is_written_where_it_was_asked_for(runs, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    pool(monkeypatch, "plot", runs[0], "--to", tmp_path / "plot.png", "--title", "toy")
    assert (tmp_path / "plot.png").stat().st_size > 1000
