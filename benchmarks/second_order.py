"""Memory and time of an outer step over the unroll length: FOSTER, gradient matching, Farzi and TD3.

    python benchmarks/second_order.py games/ --text title,category --out results/games

The log is prepared and a teacher trained for a few steps, unless both are in `--out`: what a step costs depends on the
teacher's shape and not on how good it is. What varies is the number of inner steps of one outer step: `inner_steps` of
FOSTER, dc and Farzi, `unroll` of TD3, whose `inner_steps` are as many, so that no steps without a graph come before
(published: up to 160 of them). What stays: teacher, M = 20 sequences of L = 50, all of it in every step (FOSTER without
its short windows), 1,024 items in the softmax of an inner step, 256 real histories. Farzi and TD3 read 5 and 10
sequences an inner step, as is their default, FOSTER and dc all; `whole` are Farzi and TD3 with all, too. `default` is
FOSTER with its own inner steps.

A measurement is a process of its own with one thread. A distiller with one inner step makes a step beforehand, which
loads libraries; the one that is measured is new. Memory is the peak of what is resident during its steps, over what is
resident before the first; the kernel's mark of the peak is set back there (Linux with glibc only). Each is written to
`--out` as JSON when it is finished and is not made again. Processor seconds are what counts where other programs run
beside.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from provenance import commit
from time_to_quality import machine

HERE = Path(__file__).resolve().parents[1] / "src"
METHODS = ("foster", "dc", "farzi", "td3")
SEQUENCES, LENGTH = 20, 50
PUBLISHED = 40  # TD3's W
TEACHER_STEPS = 300
MIB = 2**20


def options(method: str, unroll: int, variant: str) -> dict[str, Any]:
    """Return the options of a measurement: those of the method, and what all have in common."""
    from foster.distillation.baselines.soft_steps import CANDIDATES

    given: dict[str, Any] = {"sequences": SEQUENCES, "length": LENGTH, "batch_size": 256, "inner_steps": unroll}
    if method in ("foster", "dc"):
        given["subset"] = CANDIDATES  # what Farzi and TD3 sample
    if method == "foster":
        given["window"] = 0
        if variant == "default":
            del given["inner_steps"]
    if method == "td3":
        given["unroll"] = unroll
    if variant == "whole":
        given["inner_batch"] = SEQUENCES
    return given


def resident(field: str) -> float:
    """Return a field of this process's memory in MiB: VmRSS, what is resident now; VmHWM, the most that was."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Make outer steps in this process; return their seconds and memory."""
    import torch

    from foster.data.dataset import Dataset
    from foster.distillation.distill import Distiller, distiller_of, read_teacher
    from foster.distillation.options import OPTIONS, CondenseOptions
    from foster.distillation.setting import Setting
    from foster.engine import Engine
    from foster.version import __version__

    torch.set_num_threads(1)
    method, unroll, variant = given.one
    chosen = OPTIONS[method](**options(method, int(unroll), variant))
    data = Dataset.read(given.out / "data")
    best, trajectory = read_teacher(data, given.out / "teacher", chosen)

    def build(chosen: CondenseOptions) -> Distiller:
        return distiller_of(Setting(data, best, trajectory, chosen, given.seed, Engine("cpu")))

    build(OPTIONS[method](**options(method, 1, "own"))).step(1)
    distiller = build(chosen)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else steps reuse what the set-up freed, and seem to need less
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again from here
    before = resident("VmRSS")
    seconds, cpu_seconds = [], []
    for step in range(1, given.steps + 1):
        start, cpu = time.perf_counter(), time.process_time()
        distiller.step(step)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu)
        print(f"  step {step}: {seconds[-1]:.1f} s, {resident('VmHWM') - before:,.0f} MiB", file=sys.stderr, flush=True)
    return {
        "method": method,
        "unroll": chosen.model_dump()["unroll" if method == "td3" else "inner_steps"],
        "variant": variant,
        "seed": given.seed,
        "steps": given.steps,
        "peak_mib": resident("VmHWM") - before,
        "before_mib": before,
        "seconds": statistics.median(seconds),
        "cpu_seconds": statistics.median(cpu_seconds),
        "all_cpu_seconds": cpu_seconds,
        "options": chosen.model_dump(),
        "model": best.options.model_dump(),
        "items": best.n_items,
        "data": data.info.name,
        "fingerprint": data.info.fingerprint,
        "versions": {"foster": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": machine(),
    }


def prepare(given: argparse.Namespace) -> None:
    """Make what all measurements start from, unless it is there."""
    if not (given.out / "data").exists():
        command = ["prepare", given.data, "--text", given.text, "--out", str(given.out / "data")]
        subprocess.run([sys.executable, "-m", "foster", *command], env=environment(), check=True)
    if not (given.out / "teacher").exists():
        command = ["pretrain", str(given.out / "data"), "--steps", str(TEACHER_STEPS), "--seed", str(given.seed)]
        command += ["--out", str(given.out / "teacher")]
        subprocess.run([sys.executable, "-m", "foster", *command], env=environment(), check=True)


def environment() -> dict[str, str]:
    """Return the environment of a process that measures."""
    return {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}


def run(given: argparse.Namespace, method: str, unroll: int, variant: str) -> None:
    """Make one measurement in a process of its own, unless it is there."""
    out = given.out / f"{method}-{variant}-{unroll}.json"
    if out.exists():
        return
    command = [sys.executable, __file__, given.data, "--text", given.text, "--out", str(given.out)]
    command += ["--seed", str(given.seed), "--steps", str(given.steps), "--one", method, str(unroll), variant]
    print(f"{method}, {variant}, {unroll}", file=sys.stderr, flush=True)
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    record = {"commit": commit(HERE), **json.loads(done.stdout)}
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read(out: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return all measurements of a folder by method, variant and unroll length."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("*-*-*.json")]
    return {(record["method"], record["variant"], record["unroll"]): record for record in records}


def table(out: Path) -> str:
    """Return the curve, a line a length, and the ratios at TD3's published one, as Markdown."""
    records = read(out)
    lines = ["| unroll | " + " | ".join(METHODS) + " |", "|---" * (len(METHODS) + 1) + "|"]
    for unroll in sorted({unroll for _, variant, unroll in records if variant == "own"}):
        cells = [cell(records.get((method, "own", unroll))) for method in METHODS]
        lines.append(f"| {unroll} | " + " | ".join(cells) + " |")
    lines += ["", "Cells are MiB; processor seconds (wall seconds) of an outer step.", ""]
    shown = [record for record in records.values() if record["variant"] == "default" or record["unroll"] == PUBLISHED]
    shown.sort(key=lambda record: (METHODS.index(record["method"]), -record["unroll"], record["variant"]))
    bases = [record for record in shown if record["method"] == "foster"]
    heads = ["", "MiB; s", *(f"over FOSTER's {base['unroll']}: MiB, s" for base in bases)]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for record in shown:
        name = f"{record['method']}, {record['unroll']}" + ", all 20 sequences" * (record["variant"] == "whole")
        ratios = [", ".join(f"{record[x] / base[x]:.1f}" for x in ("peak_mib", "cpu_seconds")) for base in bases]
        lines.append("| " + " | ".join([name, cell(record), *ratios]) + " |")
    return "\n".join(lines)


def cell(record: dict[str, Any] | None) -> str:
    """Return a measurement in a table's cell."""
    return "{peak_mib:,.0f}; {cpu_seconds:.2f} ({seconds:.2f})".format(**record) if record else "-"


def plot(out: Path) -> Path | None:
    """Draw both curves, where matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    records = read(out)
    figure = Figure(figsize=(10, 4), layout="constrained")
    titles = {
        "peak_mib": "peak memory over that before the steps, MiB",
        "cpu_seconds": "processor seconds an outer step",
    }
    for place, (field, title) in enumerate(titles.items()):
        axes = figure.add_subplot(1, 2, place + 1)
        for method in METHODS:
            keys = sorted(key for key in records if key[:2] == (method, "own"))
            axes.plot([key[2] for key in keys], [records[key][field] for key in keys], marker="o", label=method)
        axes.axvline(PUBLISHED, linestyle="--", color="grey")
        axes.set(xlabel="inner steps an outer step", ylabel=title, xscale="log", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(out / "curve.png", dpi=100)
    return out / "curve.png"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("data", help="folder with interactions.* and items.*")
    parser.add_argument("--text", required=True, help="text columns, as for 'foster prepare'")
    parser.add_argument("--out", type=Path, required=True, help="folder of the measurements")
    parser.add_argument("--unrolls", type=int, nargs="+", default=[1, 5, 10, 20, PUBLISHED, 80])
    parser.add_argument("--steps", type=int, default=3, help="outer steps that are timed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given)))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    prepare(given)
    run(given, "foster", 0, "default")
    for unroll in given.unrolls:
        for method in METHODS:
            run(given, method, unroll, "own")
        if unroll == PUBLISHED:
            for method in ("farzi", "td3"):
                run(given, method, unroll, "whole")
    print(table(given.out))
    plot(given.out)


if __name__ == "__main__":
    main()
