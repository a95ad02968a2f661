"""What a benchmark writes in the end."""

from __future__ import annotations

import csv
import json

import pytest

from bench_records import ABOUT, ranks, records_of
from foster.bench.results import write_results
from foster.bench.summary import summarise


def test_files(tmp_path):
    records = records_of()
    rows = summarise(records, ranks)
    write_results(tmp_path, rows, ABOUT, records)
    assert json.loads((tmp_path / "results.json").read_text())["rows"].keys() == rows.keys()
    with (tmp_path / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(records) and {line["seed"] for line in lines} == {"0", "1"}
    assert float(lines[0]["ndcg@10"]) == records[0]["metrics"]["ndcg@10"]
    table = (tmp_path / "results.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith("| foster"))
    assert f"{rows['foster']['ndcg@10']:.4f} ± {rows['foster']['ndcg@10_sd']:.4f}" in row
    assert f"{rows['foster']['break_even']:.1f}" in row


def test_files_are_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    records = records_of()
    rows = summarise(records, ranks)
    write_results(tmp_path, rows, ABOUT, records)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(csv.DictWriter, "writerows", full)
    with pytest.raises(OSError, match="no space"):
        write_results(tmp_path, rows, ABOUT, records)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
