"""What a benchmark writes in the end: its table as Markdown, its rows as JSON, its runs as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foster.json_text import to_json
from foster.report.tables import Record, markdown
from foster.storage import whole_file

RESULTS = ("results.md", "results.json", "results.csv")
PLOT_NAME = "results.png"


def write_results(out: Path, rows: Mapping[str, Record], about: Record, records: Iterable[Record]) -> None:
    """Write ``results.md``, ``results.json`` (rows) and ``results.csv`` (one line a run) into the folder."""
    table, structured, lines = (out / name for name in RESULTS)
    content = {"about": about, "rows": rows}
    for path, text in {table: markdown(rows, about), structured: to_json(content, indent=2) + "\n"}.items():
        with whole_file(path) as part:
            part.write_text(text, encoding="utf-8")
    flat = [_flat(record) for record in records]
    names = list(dict.fromkeys(name for row in flat for name in row))
    first = ["name", "method", "budget", "seed"]
    with whole_file(lines) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*first, *(name for name in names if name not in first)])
        writer.writeheader()
        writer.writerows(flat)


def _flat(record: Record) -> dict[str, Any]:
    """Return a record as one line: metrics of new items get a prefix, and options stay in its file."""
    new = {f"new_{name}": value for name, value in record.get("new_items", {}).items()}
    rest = {key: value for key, value in record.items() if key not in ("metrics", "new_items", "student_options")}
    return {**record["metrics"], **new, **rest}
