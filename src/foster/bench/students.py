"""Students of a run: the recipes that are tried, and the one that is better on validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from foster.bench.plan import Plan, Say
from foster.bench.rows import Recipe, Run, Student
from foster.condensed.labels import student_recipe
from foster.condensed.sequences import Condensed
from foster.engine import Engine
from foster.errors import InputError
from foster.measure import Measure
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.runs import train
from foster.training.loop import Fit
from foster.training.options import HARD_LABELS, MOST_STEPS, STUDENT, TrainOptions

RECIPES = {"soft": STUDENT, "hard": HARD_LABELS}
"""Recipes that every method's students are trained with; the better one on validation counts."""

MIXED = {"mixed": STUDENT.model_copy(update={"mixup": True})}
LOG = {"log": TrainOptions(steps=MOST_STEPS)}
"""More recipes where budgets are bytes: few soft labels may be mixed, and real histories be as many as a log."""

EARLY = 3  # validations without a better one before a student of hard labels, which are learned by heart, stops
WITH_DROPOUT = ("hard", "log")
"""Recipes with the dropout of the model; the others go without."""


def recipes_of(run: Run, sequences: Condensed) -> dict[str, TrainOptions]:
    """Return the recipes that the students of a run are trained with."""
    soft = sequences.labelled
    recipes = RECIPES if soft else RECIPES | {"soft": RECIPES["soft"].model_copy(update={"patience": EARLY})}
    if not run.in_bytes:
        return recipes
    return recipes | (MIXED if soft else LOG)


def trainings(plan: Plan, run: Run, sequences: Condensed) -> Iterator[tuple[str, ModelOptions, TrainOptions]]:
    """Yield the name, the shape and the recipe of each student of a run."""
    kind, most = run.student or plan.recipe, plan.options.student_steps
    model = kind.model
    if run.student is None and not sequences.labelled and sequences.adapter is not None:
        model = model.model_copy(update={"adapter": sequences.model.adapter})  # to start with their map of items
    for label, recipe in recipes_of(run, sequences).items():
        recipe = student_recipe(sequences, kind.encoder, model, recipe)
        if most is not None:
            recipe = recipe.model_copy(update={"steps": min(recipe.total_steps, most)})
        yield label, model if label in WITH_DROPOUT else model.model_copy(update={"dropout": 0.0}), recipe


def best_student(
    plan: Plan,
    run: Run,
    sequences: Condensed,
    start: dict[str, torch.Tensor] | None,
    engine: Engine,
    say: Say,
) -> tuple[TextRecommender, dict[str, Any]]:
    """Train a student with every recipe; return the better one on validation, and what that took.

    Args:
        plan: of the benchmark.
        run: whose students.
        sequences: to train on.
        start: weights to start from; None for random ones.
        engine: device.
        say: called with a line for a recipe with which they diverge.

    Raises:
        InputError: it diverged with every recipe.
    """
    kind: Student | Recipe = run.student or plan.recipe
    failure: InputError | None = None
    tried: dict[str, tuple[TextRecommender, Fit, float]] = {}
    for label, model, recipe in trainings(plan, run, sequences):
        try:
            with Measure(engine.device) as measure:
                student, fit = train(
                    sequences,
                    encoder=kind.encoder,
                    model=model,
                    train=recipe,
                    validation=plan.data,
                    start=start,
                    seed=run.seed,
                    engine=engine,
                )
        except InputError as error:
            say(f"seed {run.seed}  {run.name:<24} with the recipe for {label} labels: {error}")
            failure = error
            continue
        tried[label] = student, fit, float(measure.peak_bytes)
    if failure and not tried:
        raise failure
    best = max(tried, key=lambda label: tried[label][1].best_ndcg or 0.0)
    student, fit, peak = tried[best]
    return student, {
        **_costs(fit),
        "tuning_seconds": sum(other.seconds for _, other, _ in tried.values()),
        "train_peak_bytes": peak,
        "recipe": best,
    }


def full_student(plan: Plan, student: Student, seed: int, engine: Engine) -> tuple[TextRecommender, dict[str, Any]]:
    """Train another model on the full log; return it and what that took."""
    with Measure(engine.device) as measure:
        model, fit = train(
            plan.data,
            encoder=student.encoder,
            model=student.model,
            train=plan.recipe.train,
            seed=seed,
            engine=engine,
        )
    return model, {**_costs(fit), "train_peak_bytes": measure.peak_bytes}


def _costs(fit: Fit) -> dict[str, Any]:
    return {"train_seconds": fit.seconds, "validation_ndcg@10": fit.best_ndcg, "best_step": fit.best_step}
