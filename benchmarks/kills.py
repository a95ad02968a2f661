#!/usr/bin/env python3
"""Kill the verbs that make folders, everywhere: nothing that was there is lost, nothing half-written taken for whole.

    python benchmarks/kills.py                        # 100 signals, and a kill at every file operation
    python benchmarks/kills.py --signals 10 --verbs select --seed 1

Each run makes a folder (a file, a study) where none is, or replaces one (``--overwrite``) that is exchanged at once, or
replaces the files of one that has to stay, as a mount does; a teacher also with an empty cache. Signals (KILL, INT,
TERM) come at random moments; at every single file operation below the place, those of libraries among them
(safetensors, Polars, SQLite: kills.c, which gcc compiles, sees them all), a process ends at once. After each:

- what is there is the old one, byte for byte, or a whole new one (absent, where nothing was); of a study also what it
  has so far, of a benchmark its figures;
- the same command runs to its end, and nothing else is left beside it or hidden in it. Temporary files of verbs that
  write one file, and of benchmarks, which several processes fill, are left; the next run removes them after a day.

``reproduce`` makes nothing that stays: what it reads must be as it was.

Exit status 1 if anything else was seen.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import torch  # noqa: E402

import foster.tuning.results  # noqa: E402
from foster.artefacts import artefact_kind  # noqa: E402
from foster.cli import main as foster_main  # noqa: E402
from foster.errors import InputError  # noqa: E402
from foster.manifest import MANIFEST_NAME, verify  # noqa: E402
from synthetic_log import synthetic_log, write_csv  # noqa: E402
from tiny_encoder import build_tiny_encoder  # noqa: E402
from zygote import load, write_loaded  # noqa: E402

WAYS = ("new", "exchanged", "file by file")
COLD, CACHE = "with an empty cache", "cache"
LIBRARY = "FOSTER_KILLS"  # variable that names the compiled kills.c
FLAGS = {"inspect": "--html", "evaluate": "--ranks"}  # what names the result, where it is not --out
MODEL = ("--dim", "8", "--layers", "1", "--max-length", "8")


def commands(root: Path) -> dict[str, list[str]]:
    """Return a short command of every verb that makes a folder, but for ``--out``; what they read is made first."""
    log = write_csv(root / "log.csv", synthetic_log())
    encoder = str(build_tiny_encoder(root / "encoder"))
    space = root / "space.yaml"
    space.write_text("dim: [8, 12]\nlr: {low: 0.001, high: 0.01}\n")
    data, teacher, distilled = (str(root / name) for name in ("data", "teacher", "distilled"))
    short = ("--steps", "2", "--eval-every", "1")
    verbs = {
        "prepare": ["prepare", str(log), "--k-core", "0"],
        "pretrain": ["pretrain", data, "--encoder", encoder, *MODEL, *short, "--checkpoints", "2"],
        "distill": [
            "distill", data, "--teacher", teacher, "--sequences", "3", "--length", "6", "--steps", "1",
            "--student-steps", "2",
        ],
        "select": ["select", "random", data, "--sequences", "3", "--encoder", encoder, *MODEL],
        "train": ["train", distilled, "--validation", data, *short],
        "tune": ["tune", distilled, "--validation", data, *short, "--trials", "2", "--space", str(space)],
        "recommend": ["recommend", teacher, "--users", data],
        "export": ["export", distilled, "--to", "jsonl"],
        "audit": ["audit", distilled, data, "--shadows", "0"],
        "inspect": ["inspect", distilled],
        "evaluate": ["evaluate", teacher, data],
        "bench": [
            "bench", data, "--methods", "popularity,random", "--budgets", "3", "--student-steps", "2", "--seeds", "1",
            "--encoder", encoder, *MODEL, *short,
        ],
        "reproduce": ["reproduce", data, "--source", str(log)],
    }  # fmt: skip
    names = {"prepare": data, "pretrain": teacher, "distill": distilled}
    modules = root / "modules"
    for verb, line in verbs.items():
        out = names.get(verb, str(root / f"of-{verb}"))
        arguments = [*line, *out_of(verb, out)]
        if code := waited(started(arguments, loaded=modules)):
            raise SystemExit(f"{verb} ended with {code}")
        load(modules)
    return verbs


def out_of(verb: str, out: Path | str) -> list[str]:
    return [] if verb == "reproduce" else [FLAGS.get(verb, "--out"), str(out)]


def started(
    arguments: list[str], before: Callable[[], None] = lambda: None, loaded: Path | None = None, log: Path | None = None
) -> int:
    """Run a verb in a process of its own, which has all modules loaded; return its number.

    Args:
        arguments: of the command line.
        before: what is done first.
        loaded: file for the names of the modules that it had in the end.
        log: file for what it says on stderr.
    """
    if pid := os.fork():
        return pid
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing if log is None else os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    code = 1
    try:
        sys.argv = ["foster", *arguments]
        before()
        foster_main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        if loaded:
            write_loaded(loaded)
        os._exit(code)


def waited(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def prepared(out: Path, way: str) -> Callable[[], None]:
    """Return what a process does first: for a folder that has to stay, take it for a mount; or take an empty cache."""

    def stay() -> None:
        plain = os.path.ismount
        os.path.ismount = lambda path: str(path) == str(out) or plain(path)

    def start_cold() -> None:
        os.environ["FOSTER_CACHE"] = str(out.parent / CACHE)

    return {"file by file": stay, COLD: start_cold}.get(way, lambda: None)


def counted(out: Path, at: int, report: int, then: Callable[[], None]) -> Callable[[], None]:
    """Return what makes a process end at file operation number ``at`` below the place; 0: write each into a pipe."""

    def arm() -> None:
        then()
        ctypes.CDLL(os.environ[LIBRARY]).kills_at(os.fsencode(out.parent), ctypes.c_long(at), report)

    return arm


def with_library() -> None:
    """Start this script again with kills.c in it."""
    if LIBRARY in os.environ:
        return
    with tempfile.TemporaryDirectory() as place:
        library, source = Path(place) / "kills.so", Path(__file__).with_suffix(".c")
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        names = {LIBRARY: str(library), "LD_PRELOAD": str(library)}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=os.environ | names).returncode)


def content(place: Path) -> dict[str, bytes]:
    """Return the bytes of a file or of a folder's files; of a study how its trials ended, of a benchmark figures."""
    if place.is_file():
        return {"": place.read_bytes()}
    if (place / "study.db").exists():
        ended = [row for row in trials_of(place) if row["state"] in ("complete", "pruned")]
        return {"trials": repr([(row["value"], row["dim"], row["lr"]) for row in ended]).encode()}
    if (place / "bench.json").exists():
        whole = json.loads((place / "results.json").read_bytes()) if (place / "results.json").exists() else {"rows": {}}
        return {"rows": repr([(name, row["ndcg@10"]) for name, row in sorted(whole["rows"].items())]).encode()}
    return {p.relative_to(place).as_posix(): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


def trials_of(study: Path) -> list[dict[str, str]]:
    path = study / "trials.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def same(found: dict[str, bytes], wanted: dict[str, bytes]) -> bool:
    """Whether two folders are equal, but for the seconds that a teacher says it took."""
    apart = {"metrics.jsonl", MANIFEST_NAME} if "trajectory" in " ".join(wanted) else set()
    return {n: d for n, d in found.items() if n not in apart} == {n: d for n, d in wanted.items() if n not in apart}


def ways_of(verb: str) -> tuple[str, ...]:
    """Return how a verb makes what it makes: a file or a study is never replaced file by file, a benchmark never."""
    ways = {"pretrain": (*WAYS, COLD), "reproduce": WAYS[1:2], "evaluate": WAYS[:1], "bench": WAYS[:1]}
    return ways.get(verb, WAYS[:2] if verb in ("tune", "recommend", "inspect") else WAYS)


def check(
    out: Path, old: dict[str, bytes] | None, new: dict[str, bytes], arguments: list[str], way: str, verb: str
) -> str | None:
    """Return what is wrong after a kill, or None; and run the command again."""
    grows = (out / "locks").is_dir() or verb == "bench"  # trial by trial, or run by run
    empty = out.is_dir() and not any(out.iterdir())  # the place of a study that was to be
    if out.exists() and not empty:
        try:
            if out.is_dir() and not grows:
                artefact_kind(out)  # which puts right what was half replaced
                verify(out)
        except InputError as error:
            return str(error)
        found = {name: data for name, data in content(out).items() if not name.startswith(".")}
        if not grows and found != old and not same(found, new):
            return "it is neither the old nor the new one"
    elif old is not None:
        return "the old one is gone"
    once = verb in ("tune", "evaluate", "bench")  # goes on, or writes over its file without being asked
    again = [*arguments, "--overwrite"] if out.exists() and old is None and not once else arguments
    if grows:
        again = [word for word in arguments if word != "--overwrite"]  # it goes on
    if code := waited(started(again, prepared(out, way))):
        return f"the command ends with {code} when it is run again"
    if not same(content(out), new):
        return "the command makes something else when it is run again"
    if grows and waited(started(["inspect", str(out)])):
        return "it cannot be inspected after the command was run again"
    file = verb in ("recommend", "inspect", "evaluate")
    left = [p.name for p in out.parent.iterdir() if p not in (out, out.parent / CACHE)]
    left = [name for name in left if not (file and name.endswith(".tmp"))]
    hidden = [p.name for p in out.iterdir() if p.name.startswith(".")] if out.is_dir() else []
    left += [name for name in hidden if not (verb == "bench" and name.endswith(".tmp"))]
    return f"left over: {', '.join(left)}" if left else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument(
        "--verbs",
        default="prepare,pretrain,distill,select,train,tune,recommend,export,audit,inspect,evaluate,bench,reproduce",
    )
    parser.add_argument("--every", type=int, default=1, help="of the file operations, kill at each so-manieth")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with_library()
    torch.set_num_threads(1)
    foster.tuning.results.drawable = lambda frame: False  # pictures take longer than all the rest
    rng = random.Random(options.seed)
    kills = failures = 0

    def said(what: str, wrong: str | None) -> None:
        nonlocal kills, failures
        kills += 1
        if wrong is not None:
            failures += 1
            print(f"{what}: {wrong}", flush=True)

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        os.environ["FOSTER_CACHE"] = str(root / "cache")
        every = commands(root)
        verbs = {verb: line for verb, line in every.items() if verb in options.verbs.split(",")}
        olds = {verb: root / "old" for verb in verbs}
        olds |= {"recommend": root / "old.parquet", "inspect": root / "old.html", "reproduce": root / "data"}
        waited(started([*every["select"], "--seed", "1", "--out", str(root / "old")]))
        waited(started([*every["recommend"], "-k", "3", "--out", str(root / "old.parquet")]))
        waited(started(["inspect", str(root / "teacher"), "--html", str(root / "old.html")]))

        def ready(verb: str, way: str) -> tuple[Path, dict[str, bytes] | None, list[str]]:
            """Make a place; return it, what is in it, and the command."""
            nonlocal number
            number += 1
            out, old = root / f"at-{number}" / "out", olds[verb]
            out.parent.mkdir()
            if way in WAYS[1:]:
                (shutil.copyfile if old.is_file() else shutil.copytree)(old, out)
            if verb == "reproduce":
                arguments = [str(out) if word == str(root / "data") else word for word in verbs[verb]]
            else:
                arguments = [*verbs[verb], *out_of(verb, out), *(["--overwrite"] if way in WAYS[1:] else [])]
            return out, content(out) if way in WAYS[1:] else None, arguments

        number, seconds, made = 0, {}, {}
        for verb in verbs:
            for way in ways_of(verb):
                out, was, arguments = ready(verb, way)
                reads, writes = os.pipe()
                start = time.perf_counter()
                pid = started(arguments, counted(out, 0, writes, prepared(out, way)))
                os.close(writes)
                with os.fdopen(reads) as lines:
                    operations = [line.split("/")[0].strip() + f" {Path(line.strip()).name}" for line in lines]
                if code := waited(pid):
                    raise SystemExit(f"{verb} ended with {code}")
                made[verb] = content(out)
                seconds[verb] = time.perf_counter() - start
                shutil.rmtree(out.parent)
                for at in range(rng.randrange(options.every) + 1, len(operations) + 1, options.every):
                    out, was, arguments = ready(verb, way)
                    code = waited(started(arguments, counted(out, at, -1, prepared(out, way))))
                    wrong = check(out, was, made[verb], arguments, way, verb) if code == 9 else f"ended with {code}"
                    said(f"{verb}, {way}, operation {at} of {len(operations)} ({operations[at - 1]})", wrong)
                    shutil.rmtree(out.parent)
                print(f"{verb}, {way}: {len(operations)} file operations; {kills} kills so far", flush=True)
        for _ in range(options.signals):
            verb = rng.choice(sorted(verbs))
            way = rng.choice(ways_of(verb))
            which = rng.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
            out, was, arguments = ready(verb, way)
            pid = started(arguments, prepared(out, way))
            time.sleep(rng.random() * seconds[verb])
            os.kill(pid, which)
            waited(pid)
            said(f"{verb}, {way}, {which.name}", check(out, was, made[verb], arguments, way, verb))
            shutil.rmtree(out.parent)
    print(f"{kills} kills, {failures} that lost or left something")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
