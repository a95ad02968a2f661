"""Time and peak memory of ``foster prepare`` on a large made-up log, side by side with another commit.

    python benchmarks/prepare_speed.py make FOLDER --rows 10000000
    git worktree add ../before COMMIT
    python benchmarks/prepare_speed.py time FOLDER --against ../before/src

`make` writes log.csv, log.parquet (the same rows) and items.csv. `time` runs `prepare` as a process of its own, the two
commits in turns, and prints one line a format: the median of seconds and the largest peak of resident memory. Only
`make` imports more than the standard library: the peak of a process starts from that of the process that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

FORMATS = ("csv", "parquet")
USERS, ITEMS = 500_000, 200_000
CHUNK = 500_000
FIRST_SECOND, LAST_SECOND = 1_420_070_400, 1_577_836_800  # 2015 to 2019
HERE = Path(__file__).resolve().parents[1] / "src"


def chunks(rows: int, seed: int) -> Iterator[pl.DataFrame]:
    """Yield a log in random order: activity of users log-normal, popularity of items after Zipf, Unix seconds."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    # Ids say nothing about how often they occur.
    users = pl.Series("user_id", [f"{number:016x}" for number in _distinct(rng, USERS)])
    items = pl.Series("item_id", item_ids())
    activity = np.cumsum(rng.lognormal(sigma=1.0, size=USERS))
    popularity = np.cumsum(rng.permutation((np.arange(ITEMS) + 20.0) ** -0.9))
    for start in range(0, rows, CHUNK):
        size = min(CHUNK, rows - start)
        yield pl.DataFrame(
            [
                users.gather(np.searchsorted(activity, rng.random(size) * activity[-1])),
                items.gather(np.searchsorted(popularity, rng.random(size) * popularity[-1])),
                pl.Series("rating", rng.integers(1, 6, size)),
                pl.Series("timestamp", rng.integers(FIRST_SECOND, LAST_SECOND, size)),
            ]
        )


def item_ids() -> list[str]:
    """Return the ids of all items."""
    return [f"i{number:07d}" for number in range(ITEMS)]


def item_table(seed: int) -> pl.DataFrame:
    """Return titles of two to eight made-up words, with brands and categories, some of them missing."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    words = np.array(["".join(rng.choice(list("abcdefghilmnoprstuv"), rng.integers(3, 9))) for _ in range(5_000)])
    lengths = rng.integers(2, 9, ITEMS)
    drawn = iter(np.split(rng.choice(words, lengths.sum()), np.cumsum(lengths)[:-1]))
    brands, categories = rng.choice(words, ITEMS), rng.choice(words[:200], ITEMS)
    return pl.DataFrame(
        {
            "item_id": item_ids(),
            "title": [" ".join(title) for title in drawn],
            "brand": [brand if there else None for brand, there in zip(brands, rng.random(ITEMS) < 0.8, strict=True)],
            "category": categories,
        }
    )


def _distinct(rng: np.random.Generator, count: int) -> list[int]:
    """Return distinct 64-bit numbers in the order in which they were drawn."""
    numbers: dict[int, None] = {}
    while len(numbers) < count:
        numbers |= dict.fromkeys(rng.integers(0, 2**63, count - len(numbers)).tolist())
    return list(numbers)


def make(folder: Path, rows: int, seed: int) -> None:
    """Write the log in both formats and the item table; needs memory for one chunk only."""
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    writer = None
    with (folder / "log.csv").open("wb") as text:
        for part in chunks(rows, seed):
            part.write_csv(text, include_header=writer is None)
            table = part.to_arrow()
            writer = writer or parquet.ParquetWriter(folder / "log.parquet", table.schema)
            writer.write_table(table)
    if writer is not None:
        writer.close()
    item_table(seed).write_csv(folder / "items.csv")


@dataclass(frozen=True)
class Run:
    """One ``prepare``: wall-clock and processor seconds, peak resident memory in MiB, the data set's fingerprint."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    fingerprint: str


def prepare(python: str, source: Path, log: Path, items: Path, k_core: int) -> Run:
    """Run ``prepare`` with the package in ``source``."""
    with tempfile.TemporaryDirectory(dir=log.parent) as scratch:
        out = Path(scratch) / "data"
        command = [python, "-m", "foster", "prepare", str(log), str(items), "--out", str(out), "--k-core", str(k_core)]
        start = time.perf_counter()
        process = subprocess.Popen(command, env=_environment(source), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit status {process.returncode} with {source}")
        fingerprint = json.loads((out / "dataset.json").read_text(encoding="utf-8"))["fingerprint"]
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, fingerprint)


def _environment(source: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(source), "PYTHONSAFEPATH": "1"}


def check_source(python: str, source: Path) -> None:
    """Exit where the interpreter would import the package from another place than ``source``."""
    command = [python, "-c", "import foster; print(foster.__file__)"]
    done = subprocess.run(command, env=_environment(source), capture_output=True, text=True, check=True)
    if not Path(done.stdout.strip()).resolve().is_relative_to(source.resolve()):
        raise SystemExit(f"{source}: not what {python} imports; that is {done.stdout.strip()}")


def measure(given: argparse.Namespace) -> None:
    """Time both commits in turns on each format and print one line a format."""
    sources = {"here": given.source} | ({"against": given.against} if given.against else {})
    for source in sources.values():
        check_source(given.python, source)
    for form in given.formats:
        log = given.folder / f"log.{form}"
        subprocess.run(["cat", str(log)], stdout=subprocess.DEVNULL, check=True)  # nobody pays for a cold disk
        runs: dict[str, list[Run]] = {name: [] for name in sources}
        for repeat in range(given.repeats):
            order = list(sources) if repeat % 2 else list(reversed(sources))
            for name in order:
                runs[name].append(prepare(given.python, sources[name], log, given.folder / "items.csv", given.k_core))
        print(line(form, runs), flush=True)


def line(form: str, runs: dict[str, list[Run]]) -> str:
    """Return one line: seconds (processor seconds), peak memory, and ratios of here to against."""
    found = {
        name: (
            statistics.median(run.seconds for run in done),
            statistics.median(run.cpu_seconds for run in done),
            max(run.peak_mib for run in done),
        )
        for name, done in runs.items()
    }
    parts = [f"{name} {wall:.1f} s (cpu {cpu:.1f} s) {peak:,.0f} MiB" for name, (wall, cpu, peak) in found.items()]
    if "against" in found:
        wall, cpu, peak = (a / b for a, b in zip(found["here"], found["against"], strict=True))
        same = len({run.fingerprint for done in runs.values() for run in done}) == 1
        parts += [f"ratio {wall:.2f} (cpu {cpu:.2f}), memory {peak:.2f}", "same data set" if same else "OTHER DATA SET"]
    return f"{form:<8} " + "; ".join(parts)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    maker = verbs.add_parser("make", help="write the log and the items")
    maker.add_argument("folder", type=Path)
    maker.add_argument("--rows", type=int, default=10_000_000)
    maker.add_argument("--seed", type=int, default=0)
    maker.set_defaults(run=lambda given: make(given.folder, given.rows, given.seed))
    timer = verbs.add_parser("time", help="run prepare on them")
    timer.add_argument("folder", type=Path)
    timer.add_argument("--source", type=Path, default=HERE, help="src folder (default: that of this file)")
    timer.add_argument("--against", type=Path, help="src folder of another commit")
    timer.add_argument("--python", default=sys.executable, help="interpreter for both")
    timer.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    timer.add_argument("--k-core", type=int, default=5)
    timer.add_argument("--repeats", type=int, default=3)
    timer.set_defaults(run=measure)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
