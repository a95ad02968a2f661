"""Runs that are made once: each is a JSON file in a folder, so that a benchmark goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foster.artefacts import write_json
from foster.storage import whole_file

Run = dict[str, Any]


class Finished:
    """The finished runs of a benchmark.

    Args:
        out: folder of the benchmark.
        name: of the folder of runs in it.
        about: what all runs share; those of something else are not mixed in.
    """

    def __init__(self, out: Path, name: str, about: Run) -> None:
        self.folder = out / name
        self.folder.mkdir(parents=True, exist_ok=True)
        path = out / "about.json"
        if path.exists() and (found := json.loads(path.read_text())) != about:
            raise SystemExit(f"{path}: was made with {found}, now {about}; give another --out")
        write(path, about)

    def once(self, name: str, make: Callable[[], Run], shown: Callable[[Run], object]) -> Run:
        """Return a run, which is made if it is not there; what is ``shown`` of it is printed then."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            write(path, made := make())
            print(name, shown(made), flush=True)
        found: Run = json.loads(path.read_text())
        return found


def write(path: Path, content: Run) -> None:
    """Write JSON, as a whole or not at all."""
    with whole_file(path) as part:
        write_json(part, content)
