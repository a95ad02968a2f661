#!/usr/bin/env python3
"""Readers beside a writer that overwrites, and equal commands at once: no mixture, no traceback, nothing lost.

    python benchmarks/concurrency.py                         # 40,000 reads, 28 pairs
    python benchmarks/concurrency.py --reads 500 --pairs 0

**Reads.** A process writes two folders of one kind in turn in the same place, exchanged at once, or file by file, as
where the place is a mount. Another reads all of it through the public readers. Each reading must be all of the one or
all of the other, never parts of both, and never an error.

**Pairs.** Two processes run the same command for the same place at the same moment; without ``--overwrite`` where
nothing is, or with it where something is. Each must end well, or with one line and exit status 2, and one of them well.
Then the place holds a whole result, the same as when the command runs alone; a second result is where the line says
that it is, and nothing else is left.

Exit status 1 if anything else was seen.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from kills import commands, content, same, started, waited  # noqa: E402

from foster.artefacts import artefact_kind, new_folder  # noqa: E402
from foster.audit.folder import read_audit  # noqa: E402
from foster.condensed.sequences import Condensed  # noqa: E402
from foster.data.dataset import Dataset  # noqa: E402
from foster.errors import InputError  # noqa: E402
from foster.manifest import verify  # noqa: E402
from foster.models.recommender import TextRecommender  # noqa: E402

READERS: dict[str, Callable[[Path], Any]] = {
    "dataset": Dataset.read,
    "distilled": Condensed.read,
    "distilled-packed": Condensed.read,
    "model": TextRecommender.from_pretrained,
    "audit": read_audit,
}
PARTS = {"dataset": 2, "distilled": 3, "distilled-packed": 2, "model": 2, "audit": 11}
"""How the reads are divided: some take ten milliseconds, an audit two."""
PAUSE = 0.4  # seconds at most between two replacements: a reader has to have a chance
SHOWN = 5  # faults of a kind that are printed


def held_by(found: Any) -> list[Any]:
    """Return what was read, in numbers and texts that differ between the seeds."""
    if isinstance(found, Dataset):
        return [found.sequence_items.tolist(), found.timestamps.tolist(), found.texts, found.info.fingerprint]
    if isinstance(found, Condensed):
        labels = None if found.codes is None else found.codes.double().sum().item()
        return [found.items.tolist(), labels, found.catalogue.texts, found.info]
    if isinstance(found, TextRecommender):
        sums = [tensor.double().sum().item() for tensor in (*found.state_dict().values(), found.item_table())]
        return [sums, found.catalogue.texts, found.origin]
    return [found.as_dict()]


def beside_a_writer(kind: str, reads: int, stays: bool, place: Path) -> tuple[int, int, list[str]]:
    """Read a folder while another process writes it; return how many different ones were seen, changes, and faults."""
    out, sources = place / "out", [place / "sources" / str(seed) / kind for seed in (0, 1)]
    read = READERS[kind]
    wanted = [held_by(read(source)) for source in sources]
    shutil.copytree(sources[0], out)
    if not (writer := os.fork()):
        write_in_turn(out, sources, stays)
    faults, seen, last, changes = [], set(), -1, 0
    try:
        for _ in range(reads):
            try:
                which = wanted.index(held_by(read(out)))
                seen.add(which)
                changes += which != last
                last = which
            except ValueError as error:  # none of the two; an InputError is one, too
                faults.append(f"{kind}: {error}" if isinstance(error, InputError) else f"{kind}: a mixture")
    finally:
        os.kill(writer, signal.SIGTERM)
        os.waitpid(writer, 0)
    read(out)
    return len(seen), changes, faults


def write_in_turn(out: Path, sources: list[Path], stays: bool) -> None:
    """Replace a folder by copies of two others until the process is told to stop."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    if stays:
        plain = os.path.ismount
        os.path.ismount = lambda path: str(path) == str(out) or plain(path)
    number = 0
    while not stop:
        number += 1
        with new_folder(out, overwrite=True) as folder:
            shutil.copytree(sources[number % 2], folder, dirs_exist_ok=True)
            (folder / "manifest.json").unlink()
        time.sleep(random.random() * PAUSE)
    os._exit(0)


PAIRED = ("prepare", "pretrain", "distill", "select", "train", "tune", "export")


def pair(verb: str, arguments: list[str], out: Path, alone: dict[str, bytes], was: bool, pause: float) -> list[str]:
    """Run a command twice at once; return what is wrong."""
    line = [*arguments, "--out", str(out), *(["--overwrite"] if was else [])]
    logs = [out.parent.parent / f"{out.parent.name}-{number}.log" for number in (0, 1)]
    pids = []
    for log in logs:
        pids.append(started(line, log=log))
        time.sleep(pause)
    codes = [waited(pid) for pid in pids]
    said = [log.read_text(errors="replace") for log in logs]
    wrong = [f"{verb}: {text}" for text in said if "Traceback" in text]
    wrong += [
        f"{verb}: ended with {code}: {text}" for code, text in zip(codes, said, strict=True) if code not in (0, 2)
    ]
    if 0 not in codes:
        wrong.append(f"{verb}: none ended well: {said}")
    for code, text in zip(codes, said, strict=True):
        lines = [row for row in text.splitlines() if row.startswith("foster: ")]
        if len(lines) != (code == 2):
            wrong.append(f"{verb}: no one line: {text}")
        if kept := re.search(r"what was made is kept in (\S+)", text):
            # A study that has just begun holds no trials yet.
            if verb != "tune" and not same(content(Path(kept[1])), alone):
                wrong.append(f"{verb}: {kept[1]} is not what was made")
            shutil.rmtree(kept[1])
    try:
        if verb != "tune":
            artefact_kind(out), verify(out)
        if not same(content(out), alone):
            wrong.append(f"{verb}: another result than that of one alone")
    except (InputError, OSError) as error:
        wrong.append(f"{verb}: {error}")
    if left := [path.name for path in out.parent.iterdir() if path != out]:
        wrong.append(f"{verb}: left over: {left}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=40_000)
    parser.add_argument("--pairs", type=int, default=28)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["FOSTER_CACHE"] = str(place / "cache")
        if options.pairs:  # first: a process that has read tables has threads, and no fork of it can read any
            verbs = commands(place)
            alone: dict[str, dict[str, bytes]] = {}
            for number in range(options.pairs):
                verb, was = PAIRED[number % len(PAIRED)], number // len(PAIRED) % 2 == 1
                out = place / f"pair-{number}" / "out"
                if verb not in alone:
                    out.parent.mkdir()
                    waited(started([*verbs[verb], "--out", str(out)]))
                    alone[verb] = content(out)
                    shutil.rmtree(out.parent)
                out.parent.mkdir()
                if was:
                    waited(started([*verbs["select"], "--seed", "1", "--out", str(out)]))
                found = pair(verb, verbs[verb], out, alone[verb], was, rng.choice([0, 0, 0.05, 0.3]))
                faults += found
                print(f"pair {number}, {verb}{', --overwrite' if was else ''}", *found, sep="\n  ", flush=True)
        if options.reads:
            damage = runpy.run_path(str(ROOT / "benchmarks" / "damage.py"))
            for seed in (0, 1):
                damage["make"](place / "sources" / str(seed), seed)
            for kind, part in PARTS.items():
                each = options.reads * part // (2 * sum(PARTS.values()))
                for stays in (False, True):
                    start = time.perf_counter()
                    seen, changes, found = beside_a_writer(kind, each, stays, place)
                    shutil.rmtree(place / "out")
                    faults += found
                    way = "file by file" if stays else "exchanged"
                    print(
                        f"{kind}, {way}: {each} reads, {changes} changes seen, {len(found)} mixtures or errors, "
                        f"{time.perf_counter() - start:.0f} s",
                        *found[:SHOWN], sep="\n  ", flush=True,
                    )  # fmt: skip
                    if seen < 2:
                        faults.append(f"{kind}, {way}: nothing was replaced while it was read")
    print(json.dumps({"reads": options.reads, "pairs": options.pairs, "faults": len(faults)}))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
