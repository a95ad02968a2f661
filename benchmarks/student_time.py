"""Seconds that a student takes to 0.98 of the full log, side by side with an older build.

    git worktree add ../before 8908ec4
    python benchmarks/student_time.py beauty/ --text title --before ../before/src --out results/beauty-students

Each build makes all of it with its defaults, by its own commands `prepare`, `pretrain`, `distill`; then a student with
a validation every 100 steps, which says after which step it is as good, and `train` as it is and for one step, which
say what a step takes. One thread, processor seconds, without what the one step takes (imports, texts from the cache,
tables). What is in `--out` is not made again. Validation: the same 5,000 users in both builds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from provenance import commit
from time_to_quality import HERE, SIDES, arguments, by_seed, environment, machine

EVERY = 100
SHARE = 0.98


def foster(source: Path, *words: object) -> float:
    """Run a command of a build; return its processor seconds."""
    print(*words, file=sys.stderr, flush=True)
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "foster", *map(str, words)], env=environment(source), check=True)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime


def judge(distilled: str, data: str, seed: int) -> list[dict[str, float]]:
    """Train a student of whatever build is imported; return its validations. It keeps to what both builds have."""
    from foster import Condensed, Dataset, train

    sequences = Condensed.read(distilled)
    recipe = sequences.recipe.model_copy(update={"eval_every": EVERY, "patience": 10_000})
    _, fit = train(sequences, train=recipe, validation=Dataset.read(data), seed=seed)
    return fit.history


def run(given: argparse.Namespace, side: str, seed: int) -> None:
    """Make what one build makes with one seed, unless it is there."""
    out = given.out / f"{side}-{seed}.json"
    if out.exists():
        return
    source, place = given.before if side == "before" else HERE, given.out / f"{side}-{seed}"
    place.mkdir(exist_ok=True)
    data, teacher, distilled = (place / name for name in ("data", "teacher", "distilled"))
    if not data.exists():
        foster(source, "prepare", given.data, "--text", given.text, "--out", data)
    if not teacher.exists():
        foster(source, "pretrain", data, "--seed", seed, "--out", teacher)
    if not distilled.exists():
        foster(source, "distill", data, "--teacher", teacher, "--seed", seed, "--out", distilled)
    command = [sys.executable, __file__, data, "--text", given.text, "--out", given.out, "--before", given.before]
    command += ["--judge", distilled, "--seeds", str(seed)]
    done = subprocess.run(command, env=environment(source), stdout=subprocess.PIPE, text=True, check=True)
    student = ("train", distilled, "--seed", seed, "--overwrite", "--out")
    seconds = foster(source, *student, place / "timed") - foster(source, *student, place / "one", "--steps", 1)
    trained = (teacher / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    record = {
        "side": side,
        "seed": seed,
        "commit": commit(source),
        "machine": machine(),
        "data": json.loads((data / "dataset.json").read_text(encoding="utf-8"))["fingerprint"],
        "full": max(row["ndcg@10"] for row in map(json.loads, trained) if "ndcg@10" in row),
        "cpu_seconds": seconds,
        "validations": json.loads(done.stdout),
    }
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def to_reach(record: dict[str, Any], ndcg: float) -> tuple[int, float] | None:
    """Return step and processor seconds after which a student first was as good, or None."""
    steps = record["validations"][-1]["step"]
    step = next((done["step"] for done in record["validations"] if done["ndcg@10"] >= ndcg), None)
    return None if step is None else (step, record["cpu_seconds"] * step / steps)


def table(out: Path) -> str:
    """Return what there is in a folder, a line a target."""
    lines = ["seed | 0.98 of | that is | before: step, s | now: step, s | ratio"]
    for seed, before, now in by_seed(out):
        first = to_reach(before, SHARE * before["full"])
        for name, full in (("the full model before", before["full"]), ("its own full model", None)):
            found = [to_reach(record, SHARE * (full or record["full"])) for record in (before, now)]
            said = ["never" if one is None else f"{one[0]:,}, {one[1]:.1f}" for one in found]
            ratio = f"{found[1][1] / first[1]:.2f}" if first and found[1] else ""
            target = f"{SHARE * full:.4f}" if full else " and ".join(f"{SHARE * r['full']:.4f}" for r in (before, now))
            lines.append(" | ".join([str(seed), name, target, *said, ratio]))
        lines.append(f"{seed} | whole students | | {before['cpu_seconds']:.1f} | {now['cpu_seconds']:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Parse and run."""
    parser = arguments(str(__doc__).splitlines()[0], [0])
    parser.add_argument("--judge", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.judge:
        print(json.dumps(judge(given.judge, given.data, given.seeds[0])))
        return
    if given.before is None:
        parser.error("the following arguments are required: --before")
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for side in SIDES:
            run(given, side, seed)
    print(table(given.out))


if __name__ == "__main__":
    main()
