#!/usr/bin/env python3
"""Run every verb with absurd options on tiny, odd data: it works, or ends in one line with exit status 2.

    python benchmarks/absurd_options.py                  # 250 runs
    python benchmarks/absurd_options.py --runs 40 --seed 1 --verbs pretrain,distill

Each run takes a verb, a log (an ordinary one; one user, few items, equal texts, texts that no encoder reads) and one to
three options with values that nobody means: zero, negative, beyond 64 bits, beyond memory, infinite, not a number. It
has a gigabyte or two of memory and a minute. Of all it counts:

- NaN saved: exit status 0, and a number in a folder or on stdout that is not finite, or no valid JSON;
- tracebacks, or another exit status than 0 and 2;
- more than one line of error. What the command line itself says of a flag (usage) does not count.

Runs that a minute was too short for are told apart. Exit status 1 if one of the three was seen.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

import foster.tuning.results  # noqa: E402
from foster.cli import main as foster_main  # noqa: E402
from foster.distillation.options import OPTIONS  # noqa: E402
from foster.errors import InputError  # noqa: E402
from foster.json_text import of_json  # noqa: E402
from foster.models.options import ModelOptions  # noqa: E402
from foster.options import Options  # noqa: E402
from foster.text.options import EncoderOptions  # noqa: E402
from foster.training.options import TeacherOptions, TrainOptions  # noqa: E402
from synthetic_log import synthetic_log, write_csv  # noqa: E402
from tiny_encoder import build_tiny_encoder  # noqa: E402
from zygote import load, write_loaded  # noqa: E402

SECONDS, SPARE = 60, 2**31
WHOLE = [0, -1, 1, 2, 3, 1000, 10**6, 10**9, 10**12, 2**31, 2**63, 2**64, 10**30]
REAL = ["0", "-1", "1e-300", "1e-45", "1e-9", "1", "100", "1e6", "1e20", "1e38", "1e300", "inf", "-inf", "nan"]
TEXTS = ["", " ", "x" * 300, "../..", "\u7535\u5f71", "0", "-"]
LONG = {
    "steps", "student_steps", "expert_steps", "inner_steps", "unroll", "experts", "trials", "layers", "startup",
}  # fmt: skip
"""Counts that only take their time where they are large."""
SHORT = {"steps": "6", "eval_every": "2", "dim": "8", "layers": "1", "max_length": "8"}
LOGS = ("plain", "one user", "two items", "one item", "same texts", "unread", "large times")


def log_of(kind: str) -> list[dict[str, str | int]]:
    rows = synthetic_log(30)
    if kind == "one user":
        return [row for row in rows if row["user_id"] == "u3"]
    if kind in ("two items", "one item"):
        kept = 1 + (kind == "two items")
        return [{**row, "item_id": f"i{n % kept}", "title": f"red apple {n % kept}"} for n, row in enumerate(rows)]
    if kind == "same texts":
        return [{**row, "title": "red apple"} for row in rows]
    if kind == "unread":
        return [{**row, "title": chr(0x4E00 + int(str(row["item_id"])[1:])) * 3} for row in rows]
    if kind == "large times":
        return [{**row, "timestamp": 9 * 10**17 + int(row["timestamp"])} for row in rows]
    return rows


def value_of(name: str, field: Any, rng: random.Random) -> str | None:
    """Return a value, or None for a flag that takes none."""
    kinds = {field.annotation, *get_args(field.annotation)}
    if bool in kinds:
        return None
    if float in kinds:
        return rng.choice(REAL)
    if int in kinds:
        return str(rng.choice(WHOLE[:5] if name in LONG else WHOLE))
    choices = [part for part in get_args(field.annotation) if isinstance(part, str)]
    return rng.choice([*choices, *TEXTS])


def absurd(groups: list[type[Options]], rng: random.Random) -> dict[str, str | None]:
    """Return one to three options, of which most are within the ranges that are looked at first."""
    owners = {name: group for group in groups for name in group.model_fields}
    chosen: dict[str, str | None] = {}
    for name in rng.sample(sorted(owners), rng.choice([1, 1, 2, 3])):
        group, tries = owners[name], 1 if rng.random() < 0.15 else 20
        for _ in range(tries):
            chosen[name] = value_of(name, group.model_fields[name], rng)
            try:
                group.parse_one(name, True if chosen[name] is None else chosen[name], "options")
                break
            except InputError:
                continue
    if rng.random() < 0.1:
        chosen["seed"] = str(rng.choice([-1, 2**53, 2**53 + 1, 2**64, 10**30]))
    return chosen


def line_of(verb: str, place: Path, log: str, rng: random.Random) -> list[str]:
    """Return the arguments of a run, but for ``--out``."""
    data, encoder = str(place / log / "data"), {"encoder": str(place / "encoder")}
    teacher, distilled, model = (str(place / "plain" / name) for name in ("teacher", "distilled", "model"))
    plain = str(place / "plain" / "data")
    if verb == "prepare":
        values = {
            "k_core": str(rng.choice(WHOLE)),
            "split": rng.choice(["leave-one-out", "time:0.5", "time:nan", "time:1e9", "time:0", "time:0.1:0.05", "x"]),
        }
        return ["prepare", str(place / f"{log}.csv"), *flags(values)]
    if verb == "pretrain":
        groups = [ModelOptions, TrainOptions, TeacherOptions, EncoderOptions]
        return ["pretrain", data, *flags(encoder | SHORT | {"checkpoints": "2"} | absurd(groups, rng))]
    if verb == "distill":
        method = rng.choice(list(OPTIONS))
        small = {"sequences": "3", "length": "6", "steps": "2", "student_steps": "3", "select_every": "1"}
        if method == "mtt":
            small |= {"expert_steps": "20"}
        values = small | absurd([OPTIONS[method]], rng)
        return ["distill", plain, "--teacher", teacher, "--method", method, *flags(values)]
    if verb == "select":
        method = rng.choice(["random", "random-length", "stratified", "herding", "kcenter", "dealrec", "soft-label"])
        values = encoder | absurd([ModelOptions, EncoderOptions], rng) | {"sequences": str(rng.choice(WHOLE))}
        if method in ("herding", "kcenter", "dealrec", "soft-label"):
            return ["select", method, plain, "--teacher", teacher, *flags({"sequences": values["sequences"]})]
        return ["select", method, data, *flags(values)]
    if verb == "train":
        source = rng.choice([distilled, data])
        values = absurd([ModelOptions, TrainOptions], rng)
        values = (encoder | SHORT if source == data else {"steps": "6"}) | values
        return ["train", source, *(["--validation", plain] if source == distilled else []), *flags(values)]
    if verb == "tune":
        values = encoder | SHORT | {"trials": "2"} | absurd([ModelOptions, TrainOptions], rng)
        return ["tune", data, *flags(values)]
    if verb == "evaluate":
        return [
            "evaluate",
            model,
            rng.choice([plain, data]),
            *flags({"split": rng.choice(["test", "validation", "x"])}),
        ]
    if verb == "recommend":
        history = rng.choice(["i1", "", "\u7535\u5f71", "x" * 10**5, "\ud800"])
        return ["recommend", model, "--history", history, "-k", str(rng.choice(WHOLE))]
    return [verb, data] if verb != "check" else ["check", data, *flags(encoder | absurd([EncoderOptions], rng))]


def flags(values: Mapping[str, str | None]) -> list[str]:
    out: list[str] = []
    for name, value in values.items():
        out += [f"--{name.replace('_', '-')}", *([] if value is None else [value])]
    return out


def run(arguments: list[str], place: Path, learn: bool = False) -> tuple[int, str, str]:
    """Run a verb in a process of its own: exit status (-9: too long), stdout, stderr.

    Args:
        arguments: of the command line.
        place: folder for what it prints.
        learn: whether later processes have from the start the modules that it loads.
    """
    out, err = place / "stdout", place / "stderr"
    if not (pid := os.fork()):
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + SPARE, size + SPARE))
        code = 1
        try:
            sys.argv = ["foster", *arguments]
            foster_main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            if learn:
                write_loaded(place / "modules")
            os._exit(code)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            if learn:
                load(place / "modules")
            return code, out.read_text(errors="replace"), err.read_text(errors="replace")
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -9, out.read_text(errors="replace"), err.read_text(errors="replace")


def not_finite(folder: Path) -> str | None:
    """Return a file of a folder with numbers that are not finite, or that is no JSON."""
    for path in sorted(folder.rglob("*")):
        try:
            if path.suffix == ".safetensors":
                if not all(tensor.float().isfinite().all() for tensor in load_file(path).values()):
                    return path.name
            elif path.suffix == ".json":
                of_json(path.read_text(encoding="utf-8"))
            elif path.suffix == ".jsonl":
                for line in path.read_text(encoding="utf-8").splitlines():
                    of_json(line)
        except ValueError as error:
            return f"{path.name} ({error})"
    return None


def judged(code: int, stdout: str, stderr: str, out: Path) -> tuple[str, str] | None:
    """Return what is wrong with a run, or None."""
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith(("warning: ", "trial "))]
    if code == -9:
        return ("too long", "") if "Traceback" not in stderr else ("traceback", lines[-1])
    if code not in (0, 2) or "Traceback" in stderr:
        return "traceback", f"exit {code}: {lines[-1] if lines else ''}"
    if code == 2:
        if lines and lines[0].startswith("Usage:"):
            return None
        return None if len(lines) == 1 and lines[0].startswith("foster: ") else ("lines", " | ".join(lines)[:500])
    try:
        of_json(stdout)
    except ValueError as error:
        return "NaN saved", f"stdout: {error}"
    wrong = not_finite(out) if out.exists() else None
    return ("NaN saved", wrong) if wrong else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=250)
    verbs = (
        "prepare,check,pretrain,pretrain,pretrain,distill,distill,distill,select,train,train,tune,evaluate,recommend"
    )
    parser.add_argument("--verbs", default=verbs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this one alone, and show what it says")
    parser.add_argument("--show", action="store_true", help="print every run and its last line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    foster.tuning.results.drawable = lambda frame: False  # pictures take longer than all the rest
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    rng = random.Random(options.seed)
    counts = dict.fromkeys(("NaN saved", "traceback", "lines", "too long"), 0)
    codes: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["FOSTER_CACHE"] = str(place / "cache")
        prepared(place)
        for number in range(options.runs):
            verb, log = rng.choice(options.verbs.split(",")), rng.choice(LOGS)
            arguments = [*line_of(verb, place, log, rng), "--json"]
            out = place / "out"
            if verb not in ("check", "evaluate", "recommend"):
                arguments += ["--out", str(out)]
            if options.only not in (None, number):
                continue
            code, stdout, stderr = run(arguments, place)
            codes[code] = codes.get(code, 0) + 1
            if options.only is not None:
                print(code, stdout, stderr, sep="\n")
            shown = " ".join(arguments).replace(folder, "")[:600]
            if options.show:
                print(f"{number} {code}: {shown}\n    {(stderr.splitlines() or [''])[-1][:300]}", flush=True)
            if wrong := judged(code, stdout, stderr, out):
                counts[wrong[0]] += 1
                print(f"{number} {wrong[0]}: {shown}\n    {wrong[1]}", flush=True)
            shutil.rmtree(out, ignore_errors=True)
            shutil.rmtree(place / "out.part", ignore_errors=True)
    print(json.dumps({"runs": sum(codes.values()), "by exit status": codes, **counts}))
    return int(any(counts[name] for name in ("NaN saved", "traceback", "lines")))


def prepared(place: Path) -> None:
    """Make what the verbs read: a data set of every log that there can be one of, a teacher, sequences and a model."""
    build_tiny_encoder(place / "encoder")
    for log in LOGS:
        write_csv(place / f"{log}.csv", log_of(log))
        (place / log).mkdir()
        run(["prepare", str(place / f"{log}.csv"), "--k-core", "0", "--out", str(place / log / "data")], place)
    plain = place / "plain"
    data = str(plain / "data")
    short = flags({"encoder": str(place / "encoder")} | SHORT)
    steps = [
        ["pretrain", data, *short, "--checkpoints", "3", "--out", str(plain / "teacher")],
        [
            "distill", data, "--teacher", str(plain / "teacher"), "--sequences", "3", "--length", "6",
            "--student-steps", "3", "--out", str(plain / "distilled"),
        ],
        ["train", str(plain / "distilled"), "--steps", "3", "--out", str(plain / "model")],
        ["tune", str(plain / "distilled"), "--validation", data, "--trials", "1", "--steps", "2", "--out",
         str(plain / "study")],
        ["select", "random", data, *short[:2], "--sequences", "3", "--out", str(plain / "coreset")],
        ["check", data, *short[:2]],
        ["evaluate", str(plain / "model"), data],
        ["recommend", str(plain / "model"), "--history", "i1"],
    ]  # fmt: skip
    for arguments in steps:
        code, _, stderr = run(arguments, place, learn=True)
        if code:
            raise SystemExit(f"{arguments[0]} ended with {code}: {stderr}")


if __name__ == "__main__":
    sys.exit(main())
