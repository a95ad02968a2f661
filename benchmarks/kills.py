#!/usr/bin/env python3
"""Kill the verbs that make folders, everywhere: nothing that was there is lost, nothing half-written taken for whole.

    python benchmarks/kills.py                        # 100 signals, and a kill at every file operation
    python benchmarks/kills.py --signals 10 --verbs select --seed 1

Each run makes a folder where none is, or replaces one (``--overwrite``) that is exchanged at once, or replaces the
files of one that has to stay, as a mount does. Signals (KILL, INT, TERM) come at random moments; at every single file
operation of a writer that names the place, a process ends at once. After each:

- the folder is the old one, byte for byte, or a whole new one (absent, where nothing was);
- the same command runs to its end, and nothing else is left beside the folder or hidden in it.

Exit status 1 if anything else was seen.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import torch  # noqa: E402

from foster import exchange  # noqa: E402
from foster.artefacts import artefact_kind  # noqa: E402
from foster.cli import main as foster  # noqa: E402
from foster.errors import InputError  # noqa: E402
from foster.manifest import MANIFEST_NAME, verify  # noqa: E402
from synthetic_log import synthetic_log, write_csv  # noqa: E402
from tiny_encoder import build_tiny_encoder  # noqa: E402

WAYS = ("new", "exchanged", "file by file")
OPERATIONS = ("mkdir", "rename", "replace", "rmdir", "unlink", "chmod", "open", "link", "symlink")
MODEL = ("--dim", "8", "--layers", "1", "--max-length", "8")


def commands(root: Path) -> dict[str, list[str]]:
    """Return a short command of every verb that makes a folder, but for ``--out``; what they read is made first."""
    log = write_csv(root / "log.csv", synthetic_log())
    encoder = str(build_tiny_encoder(root / "encoder"))
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
        "train": ["train", distilled, "--steps", "2"],
    }  # fmt: skip
    for verb, out in (("prepare", data), ("pretrain", teacher), ("distill", distilled)):
        if code := waited(started([*verbs[verb], "--out", out])):
            raise SystemExit(f"{verb} ended with {code}")
    return verbs


def started(arguments: list[str], before: Callable[[], None] = lambda: None) -> int:
    """Run a verb in a process of its own, which has all modules loaded; return its number."""
    if pid := os.fork():
        return pid
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    code = 1
    try:
        sys.argv = ["foster", *arguments]
        before()
        foster()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def waited(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def prepared(out: Path, way: str) -> Callable[[], None]:
    """Return what a process does first: for a folder that has to stay, take it for a mount."""

    def stay() -> None:
        plain = os.path.ismount
        os.path.ismount = lambda path: str(path) == str(out) or plain(path)

    return stay if way == "file by file" else lambda: None


def counted(out: Path, at: int, report: int, then: Callable[[], None]) -> Callable[[], None]:
    """Return what makes a process end at its file operation number ``at`` that names the place; 0: say how many."""
    count, place = 0, str(out.parent)

    def dying(plain: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **rest: object) -> object:
            nonlocal count
            if any(str(arg).startswith(place) for arg in args) or rest.get("dir_fd") is not None:
                count += 1
                if at == 0:
                    os.write(report, b".")
                if count == at:
                    os._exit(9)
            return plain(*args, **rest)

        return call

    def patch() -> None:
        then()
        for name in OPERATIONS:
            setattr(os, name, dying(getattr(os, name)))
        io.open = dying(io.open)  # type: ignore[assignment]
        exchange._exchange = dying(exchange._exchange)  # type: ignore[assignment]

    return patch


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same(found: dict[str, bytes], wanted: dict[str, bytes]) -> bool:
    """Whether two folders are equal, but for the seconds that a teacher says it took."""
    apart = {"metrics.jsonl", MANIFEST_NAME} if "trajectory" in " ".join(wanted) else set()
    return {n: d for n, d in found.items() if n not in apart} == {n: d for n, d in wanted.items() if n not in apart}


def check(out: Path, old: dict[str, bytes] | None, new: dict[str, bytes], arguments: list[str], way: str) -> str | None:
    """Return what is wrong after a kill, or None; and run the command again."""
    if out.exists():
        try:
            artefact_kind(out)  # which puts right what was half replaced
            verify(out)
        except InputError as error:
            return str(error)
        found = {name: data for name, data in content(out).items() if not name.startswith(".")}
        if not same(found, new) and found != old:
            return "the folder is neither the old nor the new one"
    elif old is not None:
        return "the old folder is gone"
    again = [*arguments, "--overwrite"] if out.exists() and old is None else arguments
    if code := waited(started(again, prepared(out, way))):
        return f"the command ends with {code} when it is run again"
    if not same(content(out), new):
        return "the command makes something else when it is run again"
    left = [p.name for p in out.parent.iterdir() if p != out]
    left += [p.name for p in out.iterdir() if p.name.startswith(".")]
    return f"left over: {', '.join(left)}" if left else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument("--verbs", default="prepare,pretrain,distill,select,train")
    parser.add_argument("--every", type=int, default=1, help="of the file operations, kill at each so-manieth")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
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
        old = root / "old"
        waited(started([*every["select"], "--seed", "1", "--out", str(old)]))
        whole = content(old)

        def ready(way: str, number: int) -> tuple[Path, dict[str, bytes] | None]:
            out = root / f"at-{number}" / "out"
            out.parent.mkdir()
            if way == "new":
                return out, None
            shutil.copytree(old, out)
            return out, whole

        number, seconds, made = 0, {}, {}
        for verb, line in verbs.items():
            for way in WAYS:
                out, was = ready(way, number := number + 1)
                arguments = [*line, "--out", str(out)] + ["--overwrite"] * (way != "new")
                reads, writes = os.pipe()
                start = time.perf_counter()
                pid = started(arguments, counted(out, 0, writes, prepared(out, way)))
                os.close(writes)
                operations = 0
                while part := os.read(reads, 4096):
                    operations += len(part)
                os.close(reads)
                if code := waited(pid):
                    raise SystemExit(f"{verb} ended with {code}")
                made[verb] = content(out)
                seconds[verb] = time.perf_counter() - start
                shutil.rmtree(out.parent)
                for at in range(1, operations + 1, options.every):
                    out, was = ready(way, number := number + 1)
                    arguments = [*line, "--out", str(out)] + ["--overwrite"] * (way != "new")
                    code = waited(started(arguments, counted(out, at, -1, prepared(out, way))))
                    wrong = check(out, was, made[verb], arguments, way) if code == 9 else f"ended with {code}"
                    said(f"{verb}, {way}, operation {at} of {operations}", wrong)
                    shutil.rmtree(out.parent)
                print(
                    f"{verb}, {way}: killed at {len(range(0, operations, options.every))} file operations", flush=True
                )
        for _ in range(options.signals):
            verb, way = rng.choice(sorted(verbs)), rng.choice(WAYS)
            which = rng.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
            out, was = ready(way, number := number + 1)
            arguments = [*verbs[verb], "--out", str(out)] + ["--overwrite"] * (way != "new")
            pid = started(arguments, prepared(out, way))
            time.sleep(rng.random() * seconds[verb])
            os.kill(pid, which)
            waited(pid)
            said(f"{verb}, {way}, {which.name}", check(out, was, made[verb], arguments, way))
            shutil.rmtree(out.parent)
    print(f"{kills} kills, {failures} that lost or left something")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
