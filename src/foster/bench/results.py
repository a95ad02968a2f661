"""What a benchmark writes in the end: its table as Markdown, its rows as JSON, its runs as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foster.json_text import to_json
from foster.manifest import whole_files
from foster.report.tables import Record, markdown

BENCH_NAME = "bench.json"  # of which log and options a benchmark is
RESULTS = ("results.md", "results.json", "results.csv")
PLOT_NAME = "results.png"
KIND = "bench"
SEALS = ("file", "bench", "ranks_sha256", "sha256")  # fields of a record by which it is known to be whole


def write_results(out: Path, rows: Mapping[str, Record], about: Record, records: Iterable[Record]) -> None:
    """Write ``results.md``, ``results.json`` (rows), ``results.csv`` (one line a run) and the manifest into a folder.

    The manifest lists ``bench.json`` and ``results.png``, too, if they are there.
    """
    table, structured, lines = RESULTS
    flat = [_flat(record) for record in records]
    names = list(dict.fromkeys(name for row in flat for name in row))
    first = ["name", "method", "budget", "seed"]
    there = [name for name in (BENCH_NAME, PLOT_NAME) if (out / name).exists()]
    stated = {name: about[name] for name in ("data_fingerprint", "seeds", "device") if name in about}
    options = {name: about[name] for name in ("encoder", "model", "train", "teacher") if name in about}
    with whole_files(out, {"kind": KIND, **stated, "options": options}, also=there) as place:
        place(table).write_text(markdown(rows, about), encoding="utf-8")
        place(structured).write_text(to_json({"about": about, "rows": rows}, indent=2) + "\n", encoding="utf-8")
        with place(lines).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*first, *(name for name in names if name not in first)])
            writer.writeheader()
            writer.writerows(flat)


def _flat(record: Record) -> dict[str, Any]:
    """Return a record as one line: metrics of new items get a prefix, and options stay in its file."""
    new = {f"new_{name}": value for name, value in record.get("new_items", {}).items()}
    apart = ("metrics", "new_items", "student_options", *SEALS)
    rest = {key: value for key, value in record.items() if key not in apart}
    return {**record["metrics"], **new, **rest}
