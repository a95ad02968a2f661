"""NDCG@10 of private teachers and of their students: what the private part of benchmarks/results/privacy.md holds.

python benchmarks/private.py DATA --out FOLDER --budgets 8 2 inf none [--users N] [--student-steps S] [--seed N]

A budget is an epsilon; inf is the same training, clipped and without noise, and none the ordinary one of the same shape
and number of steps. Each result is a line of FOLDER/results.jsonl; budgets that stand there are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np

import foster.runs
from foster.data.dataset import Dataset
from foster.distillation.distill import start_of
from foster.distillation.options import DistillOptions
from foster.engine import Engine
from foster.evaluation.evaluate import Evaluator, evaluate_popularity
from foster.evaluation.metrics import ndcg_of_ranks
from foster.models.privacy import Privacy
from foster.models.recommender import TextRecommender
from foster.runs import pretrain, train
from foster.training.options import PrivacyOptions, TeacherOptions, TrainOptions
from foster.training.private import CLIP, MOST_USERS, RECIPE, SHAPE

DELTA = 1e-6
NO_NOISE = 1e-9  # a multiplier has to be more than zero


def without_noise(options: PrivacyOptions, recipe: TrainOptions, users: int, _: np.random.Generator) -> Privacy:
    """Return a plan of the same sampling and clipping, which promises nothing."""
    return Privacy(
        epsilon=1e9, delta=DELTA, noise_multiplier=NO_NOISE, clip=CLIP, sampling_rate=MOST_USERS / users,
        steps=recipe.total_steps, expected_users=MOST_USERS, accountant="none: there is no noise",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budgets", nargs="+", default=["8", "2", "inf", "none"])
    parser.add_argument("--users", type=int, default=5000, help="test users")
    parser.add_argument("--student-steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results, engine, data = args.out / "results.jsonl", Engine("cpu"), Dataset.read(args.data)
    done = [json.loads(line)["budget"] for line in results.read_text().splitlines()] if results.exists() else []
    users = np.sort(np.random.default_rng(0).permutation(data.n_users)[: args.users])
    judge = Evaluator(data, "test", users=users, engine=engine)

    def note(**found: object) -> None:
        print(json.dumps(found), flush=True)
        with results.open("a") as file:
            file.write(json.dumps(found) + "\n")

    def ndcg(model: TextRecommender) -> list[float]:
        found = ndcg_of_ranks(judge.ranks(model.eval()))
        return [float(found.mean()), float(found.std() / math.sqrt(len(found)))]

    if "random" not in done:
        untrained = TextRecommender.build(data.catalogue, None, SHAPE, seed=args.seed)
        popular = evaluate_popularity(data, users=users).metrics["ndcg@10"]
        note(budget="random", teacher=ndcg(untrained), popularity=popular)
    for budget in args.budgets:
        if budget in done:
            continue
        folder, cpu = args.out / f"teacher-{budget}", time.process_time()
        ordinary = budget == "none"
        plan = foster.runs.plan
        if budget == "inf":
            foster.runs.plan = without_noise
        teacher, _ = pretrain(
            data,
            folder,
            model=SHAPE,
            train=RECIPE.model_copy(update={"batch_size": MOST_USERS}),
            teacher=TeacherOptions(checkpoints=2),
            privacy=None
            if ordinary
            else PrivacyOptions(epsilon=1e9 if budget == "inf" else float(budget), delta=DELTA),
            seed=args.seed,
            engine=engine,
            overwrite=True,
        )
        foster.runs.plan = plan
        of_teacher, of_training = ndcg(teacher), time.process_time() - cpu
        distilled = start_of(data, folder, DistillOptions(), seed=args.seed, engine=engine).rounded()
        recipe = distilled.recipe.model_copy(update={"steps": args.student_steps})
        student, _ = train(distilled, like=teacher, train=recipe, seed=args.seed, engine=engine)
        note(
            budget=budget,
            teacher=of_teacher,
            student=ndcg(student),
            teacher_cpu=of_training,
            cpu=time.process_time() - cpu,
            privacy=None if teacher.privacy is None else teacher.privacy.model_dump(),
        )


if __name__ == "__main__":
    main()
