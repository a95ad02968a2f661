"""Audit several ways to distil the same log, on the same shadows: what benchmarks/results/privacy.md holds.

python benchmarks/privacy.py DATA --out FOLDER [--users N] [--shadows K] [--steps S] [--student-steps S] [--seed N]
python benchmarks/privacy.py DATA --teacher T  # NDCG@10 of students by how sequences start, with a teacher there is
python benchmarks/privacy.py DATA --pieces     # what 20 x 50 steps of the whole log show, by how they start

One teacher a shadow serves all variants. Scores are kept in FOLDER shadow by shadow: a run that was stopped
goes on where it was, and with --report what is there is reported.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from foster.audit.audit import attacked
from foster.audit.membership import random_halves
from foster.audit.options import AuditOptions
from foster.audit.pieces import describe, references, run_scores, shared_runs, visible_sequences
from foster.audit.shadows import RUNS, Recipe, Shadow, askable, of_users, shadow_of
from foster.audit.signals import label_scores, model_scores
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.data.sampling import packed_histories, shared_walks
from foster.distillation.distill import start_of
from foster.distillation.options import DistillOptions
from foster.engine import Engine
from foster.evaluation.evaluate import Evaluator, evaluate
from foster.evaluation.metrics import ndcg_of_ranks
from foster.models.options import ModelOptions
from foster.runs import train
from foster.text.options import EncoderOptions
from foster.training.options import TrainOptions
from foster.training.teachers import load_teacher

VARIANTS = {
    "": {},
    "anonymity 5: ": {"anonymity": 5},
    "generated: ": {"start": "generated"},
    "a tenth of the labels: ": {"window": 0},  # 1,000 in place of 9,200
    "150 kB: ": {"bytes": 150_000},
    "sequences alone: ": {"targets": "next", "bytes": 100_000},
}


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--pieces", action="store_true")
    parser.add_argument("--users", type=int)
    parser.add_argument("--shadows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--student-steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="such as ',generated: '")
    return parser.parse_args()


def like_foster(data: Dataset) -> Condensed:
    """Return an empty stand-in for a folder: how the sequences are made is in its options."""
    nothing = [history[:2] for history in data.training_histories()[:20]]
    info = {"options": DistillOptions().model_dump()}
    made = Condensed.of_histories(
        nothing, 50, "foster", data.catalogue, encoder=EncoderOptions(), model=ModelOptions(), info=info
    )
    return Condensed(**{**vars(made), "kind": "distilled"})


def one_shadow(shadow: Shadow) -> dict[str, np.ndarray]:
    found = {"teacher": model_scores(shadow.teacher, shadow.histories)}
    quality = {"teacher": evaluate(shadow.teacher, shadow.data).metrics["ndcg@10"]}
    made = {name: shadow.condensed(DistillOptions(**changes)) for name, changes in VARIANTS.items()}
    for name, sequences in [*made.items(), ("coreset ", shadow.coreset())]:
        student = shadow.student(sequences).eval()
        quality[f"{name}student"] = evaluate(student, shadow.data).metrics["ndcg@10"]
        found[f"{name}student"] = model_scores(student, shadow.histories)
        visible = visible_sequences(sequences)
        found[f"{name}sequences"] = run_scores(visible, shadow.histories)
        found[f"{name}{RUNS}"] = shared_runs(visible, shadow.histories).longest
        if name != "coreset ":
            labels = label_scores(sequences, shadow.teacher, shadow.histories)
            if labels is not None:
                found[f"{name}labels"] = labels
    return found | {f"quality {name}": np.array([value]) for name, value in quality.items()}


def pieces(data: Dataset, seed: int) -> None:
    """Print what starting points show of the log: without distillation steps these are what the sequences show."""
    histories = data.histories("train", askable(data))

    def draw(least: int | None) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        if least is None:
            return list(packed_histories(histories, 20, 50, 10, rng))
        return list(shared_walks(histories, 20, 50, 10, least, rng))

    found = {"pieces (default)": describe(draw(None), histories)}
    found |= {f"anonymity {least}": describe(draw(least), histories) for least in (2, 5, 10)}
    found |= references(draw(None), histories, seed)
    for name, part in found.items():
        rows = {row["n"]: row for row in part["runs"]}
        cells = [f"{rows[n]['found']:.1%} ({rows[n]['one_user']:.1%})" for n in (2, 3, 4, 6, 10)]
        cells += [f"{part['near']:.1%} ({part['near_one']:.1%})", f"{rows[16]['users_alone']:.0f} of {part['users']}"]
        print(f"| {name} | {' | '.join(cells)} |")


def quality(data: Dataset, folder: Path, seed: int) -> None:
    """Print NDCG@10 of students of 600 steps on 3,000 test users, and what differs from the default start."""
    users = np.sort(np.random.default_rng(0).permutation(data.n_users)[:3000])
    judge, engine = Evaluator(data, "test", users=users, engine=Engine("cpu")), Engine("cpu")
    teacher = load_teacher(folder, data).eval()
    print("teacher", ndcg_of_ranks(judge.ranks(teacher)).mean())
    first: np.ndarray | None = None
    for name, changes in VARIANTS.items():
        sequences = start_of(data, folder, DistillOptions(**changes), seed=seed, engine=engine).rounded()
        recipe = sequences.recipe.model_copy(update={"steps": 600})
        student, _ = train(sequences, like=teacher, train=recipe, seed=seed, engine=engine)
        found = ndcg_of_ranks(judge.ranks(student.eval()))
        first = found if first is None else first
        more = found - first
        print(name or "pieces", found.mean(), "difference", more.mean(), "error", more.std() / np.sqrt(len(more)))


def main() -> None:
    args = asked()
    for name in set(VARIANTS) - set(args.variants.split(",")):
        del VARIANTS[name]
    if args.teacher:
        quality(Dataset.read(args.data), args.teacher, args.seed)
        return
    if args.pieces:
        pieces(Dataset.read(args.data), args.seed)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    data = Dataset.read(args.data)
    if args.users:
        rng = np.random.default_rng(args.seed)
        data = of_users(data, np.sort(rng.permutation(data.n_users)[: args.users]))
    options = AuditOptions(shadows=args.shadows, shadow_steps=args.steps, shadow_student_steps=args.student_steps)
    recipe = Recipe.of(
        like_foster(data), options, (ModelOptions(), TrainOptions(eval_every=100)), data, args.seed, Engine("cpu")
    )
    members = random_halves(len(askable(data)), args.shadows, args.seed)
    for number, row in enumerate(members):
        path = args.out / f"shadow-{number}.npz"
        if path.exists() or args.report:
            continue
        start, cpu = time.perf_counter(), time.process_time()
        with shadow_of(data, row, recipe, number) as shadow:
            found = one_shadow(shadow)
        np.savez(path, **found)
        print(f"{path}: {time.perf_counter() - start:.0f} s, {time.process_time() - cpu:.0f} s of CPU", flush=True)
    report(data, members, args)


def report(data: Dataset, members: np.ndarray, args: argparse.Namespace) -> None:
    done = [number for number in range(args.shadows) if (args.out / f"shadow-{number}.npz").exists()]
    scores: dict[str, list[np.ndarray]] = {}
    for number in done:
        with np.load(args.out / f"shadow-{number}.npz") as kept:
            for name in kept.files:
                scores.setdefault(name, []).append(kept[name])
    arrays = {name: np.array(values, dtype=np.float64) for name, values in scores.items()}
    members = members[done]
    quality = {name: values[:, 0] for name, values in arrays.items() if name.startswith("quality ")}
    runs = {name: arrays.pop(name) for name in list(arrays) if name.endswith(RUNS)}
    surfaces = {name: values for name, values in arrays.items() if not name.startswith("quality ")}
    _, found = attacked(surfaces | {RUNS: runs[RUNS]}, members, args.seed)
    held_out = {}
    for name, values in runs.items():
        held_out[name] = {
            n: [float((values >= n)[which].mean()) for which in (members, ~members)] for n in (2, 3, 4, 6, 10)
        }
    result = {
        "shadows": len(done), "users": members.shape[1], "membership": found, "held_out": held_out,
        "ndcg@10": {name: values.tolist() for name, values in quality.items()},
    }  # fmt: skip
    (args.out / "report.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
