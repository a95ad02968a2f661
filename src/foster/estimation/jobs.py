"""What ``pretrain`` and ``distill`` will take, from a short calibration: some of their own steps on this log, here.

Nothing is known of machines or models beforehand.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from foster.artefacts import folder_bytes
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.distillation.baselines.mtt import TrajectoryMatching
from foster.distillation.compact import recipe_of
from foster.distillation.distill import Distiller, distiller_of, fitted, read_teacher, settings_within, write_distilled
from foster.distillation.generated import Generated
from foster.distillation.options import CondenseOptions, DistillOptions
from foster.distillation.setting import JUDGES, SUBSET, Setting
from foster.engine import Engine, deterministic
from foster.errors import InputError
from foster.estimation.estimate import Estimate, Parts, limits_of, one_process, timed
from foster.estimation.steps import (
    SECONDS,
    WARM,
    check_batch,
    count_weights,
    ranking_seconds,
    recipe_parts,
    seconds_a_step,
    synchronise,
    teacher_bytes,
    training_parts,
    untrained,
)
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.text.options import EncoderOptions
from foster.training.imitation import begun
from foster.training.loop import LogSource, going_on, on_log
from foster.training.options import TeacherOptions, TrainOptions
from foster.training.teachers import started_from
from foster.training.trajectory import Checkpoints


@deterministic()
def estimate_pretrain(
    data: Dataset,
    out: str | Path,
    *,
    encoder: EncoderOptions | None = None,
    model: ModelOptions | None = None,
    train: TrainOptions | None = None,
    teacher: TeacherOptions | None = None,
    start_from: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
) -> Estimate:
    """Say what ``pretrain`` will take, from some seconds of its training; arguments are those of ``pretrain``.

    Texts that are encoded on the way are kept in the cache.

    Raises:
        InputError: memory or disk will not do.
    """
    engine = one_process(engine)
    train, teacher = train or TrainOptions(), teacher or TeacherOptions()
    with limits_of(engine, out) as limits:
        if start_from is None:
            made = untrained(data.catalogue, encoder or EncoderOptions(), model or ModelOptions(), seed, engine)
        else:
            made = timed(lambda: started_from(start_from, data, encoder=encoder, model=model, device=engine.device))
            train = going_on(train, data)
        (recommender, making), train = made, on_log(train, data)
        parts = {"texts and model": (making, making), **training_parts(data, recommender, train, seed, engine)}
    disk, weights = teacher_bytes(recommender, train, teacher), count_weights(recommender)
    # Beside what was measured there are the best weights so far.
    return limits.estimate(parts, disk=disk, more_memory=4 * weights)


@deterministic()
def estimate_distill(
    data: Dataset,
    teacher_path: str | Path,
    out: str | Path,
    options: CondenseOptions | None = None,
    *,
    seed: int = 0,
    engine: Engine | None = None,
    encoder_path: str | None = None,
) -> Estimate:
    """Say what ``distill`` will take, from some of its steps and of those of one student.

    Args:
        data: the log.
        teacher_path: a folder that ``pretrain`` wrote.
        out: where the sequences will be written.
        options: the method's.
        seed: of everything that is drawn.
        engine: device.
        encoder_path: another place of the teacher's encoder.

    Raises:
        InputError: memory or disk will not do, a private teacher, or what ``distill`` raises before its first step.
    """
    options, engine = options or DistillOptions(), one_process(engine)
    with limits_of(engine, out) as limits:
        (best, trajectory), loading = timed(
            lambda: read_teacher(data, teacher_path, options, encoder_path=encoder_path, device=engine.device)
        )
        if best.privacy is not None:
            raise InputError("--dry-run: is not there for private teachers; leave it out")
        parts, sequences = distillation_parts(data, best, trajectory, options, seed, engine)
    with TemporaryDirectory() as folder:
        write_distilled(sequences, [], Path(folder))
        disk = folder_bytes(folder)
    return limits.estimate({"teacher": (loading, loading), **parts}, disk=disk)


def distillation_parts(
    data: Dataset, best: TextRecommender, trajectory: Checkpoints, options: CondenseOptions, seed: int, engine: Engine
) -> tuple[Parts, Condensed]:
    """Return what a distillation takes, and its sequences after the steps that were tried."""
    options = fitted(options, best)
    real = TrainOptions(batch_size=options.batch_size, candidates=SUBSET)
    whole = LogSource(data, real, best.options.max_length, seed, engine)
    check_batch(data, best.fresh(seed), real, whole, seed, engine)

    def start() -> tuple[list[Setting], Distiller]:
        settings = [Setting(data, best, trajectory, options, seed, engine)]
        if isinstance(options, DistillOptions) and options.bytes is not None:
            settings = settings_within(settings[0], options, trained=False)
        distiller = distiller_of(settings[-1])
        if isinstance(distiller, TrajectoryMatching):
            distiller.train_experts()
        return settings, distiller

    ((*others, setting), distiller), starting = timed(start)
    maps: Parts = {}

    def train_map(name: str, model: TextRecommender, recipe: TrainOptions) -> None:
        training = training_parts(data, model, recipe, seed, engine).values()
        maps[name] = sum(part[0] for part in training), sum(part[1] for part in training)

    if setting.form.compact:
        train_map(f"compact map ({setting.form.of_map})", setting.best, recipe_of(setting.form))
    if isinstance(options, DistillOptions) and options.targets != "next":
        model, recipe = begun(best, data, seed, updates=options.bytes is None)
        if model is not best:
            train_map("model of public texts", model, recipe)
            if options.bytes is None:
                setting.labeller = model
    seconds: list[float] = []
    while len(seconds) < options.steps and sum(seconds) < SECONDS * (1 if len(seconds) > WARM else 3):
        began = time.perf_counter()
        distiller.step(len(seconds) + 1)
        synchronise(engine)
        seconds.append(time.perf_counter() - began)
    step = float(np.mean(seconds[min(WARM, len(seconds) - 1) :])) if seconds else 0.0
    sequences, export = timed(lambda: distiller.export().rounded())
    if isinstance(distiller, Generated):
        parts = {"start": (starting, starting), **maps, "sequences that the teacher draws": (export, export)}
        if others:
            (labelled,) = others
            labels, labelling = timed(lambda: distiller_of(labelled).export().rounded())
            of_labels, least_of_labels = _judging(labelled, labels)
            written, least = _judging(setting, sequences)
            parts["students of both forms"] = written + labelling + of_labels, least + labelling + least_of_labels
        return parts, sequences
    of_student, least = _judging(setting, sequences)
    students = 1 + math.ceil(options.steps / options.select_every)
    moving: Parts = {}
    if options.steps:
        moving[f"distilling, {options.steps:,} steps of {step:.3g} s"] = options.steps * step, options.steps * step
    parts = {
        "start": (starting, starting),
        **maps,
        **moving,
        f"{students:,} student{'s' if students > 1 else ''}, up to {of_student:.3g} s each": (
            students * (export + of_student),
            students * (export + least),
        ),
    }
    return parts, sequences


def _judging(setting: Setting, sequences: Condensed) -> tuple[float, float]:
    """Return the most and the least seconds of a student of sequences, and of what judges it."""
    engine = setting.engine
    (student, source, recipe, validate), making = timed(lambda: setting.student(sequences))
    of_student = seconds_a_step(student, source, recipe, setting.seed, engine, budget=SECONDS / 2) * recipe.total_steps
    least = of_student
    if validate is not None:
        validation = timed(lambda: validate(student))[1]
        trained = recipe_parts(recipe, of_student / recipe.total_steps, validation).values()
        of_student, least = (sum(part[which] for part in trained) for which in (0, 1))
    judging = making + ranking_seconds(setting.data, student, "validation", JUDGES, engine)
    return of_student + judging, least + judging
