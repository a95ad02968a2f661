"""What a job will take, from a short calibration: some of its own steps on this log, with these options, here.

Nothing is known of machines or models beforehand. Steps are those that ``fit`` and the distillers make.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
from torch import Tensor

from foster.artefacts import folder_bytes
from foster.condensed.sequences import Condensed
from foster.data.batches import POOL_BATCHES
from foster.data.catalogue import Catalogue
from foster.data.dataset import Dataset
from foster.data.split import TargetSplit
from foster.distillation.baselines.mtt import TrajectoryMatching
from foster.distillation.compact import EXPERTS, LINEAR
from foster.distillation.distill import DISTILLERS, Distiller, read_teacher, within_bytes, write_distilled
from foster.distillation.options import CondenseOptions, DistillOptions
from foster.distillation.setting import JUDGES, SUBSET, Checkpoints, Setting
from foster.engine import Engine, deterministic, matrix_type, multiplying, seeded
from foster.errors import InputError
from foster.evaluation.evaluate import evaluate
from foster.memory import free_memory
from foster.models.item_tower import FrozenFeatures, Whitening
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.report.measure import Measure
from foster.text.cache import embed_texts, unknown_texts
from foster.text.encoder import TextEncoder
from foster.text.options import EncoderOptions
from foster.training.loop import LogSource, Source, fit, validation_users, validator
from foster.training.options import TeacherOptions, TrainOptions
from foster.training.trajectory import checkpoint_steps

T = TypeVar("T")
Parts = dict[str, tuple[float, float]]
"""Seconds of the parts of a job by name: every step made, and stopped as early as can be."""

SECONDS = 5.0  # how long steps of one kind are tried
WARM = 2  # first steps, which take longer
FEW = 32  # longest histories of which the memory of a batch is told
TEXTS = 256  # texts that are encoded to see how long all take
JUDGED = 2_000  # users that are ranked to see how long all take


@dataclass(frozen=True)
class Estimate:
    """What a job will take.

    Attributes:
        seconds: wall time if every step is made.
        least_seconds: wall time if training stops as early as validation lets it; the same without early stopping.
        memory_bytes: peak of the memory of the process, and of its accelerator.
        disk_bytes: what it writes.
        free_memory_bytes: what the process could take beside what it had.
        free_disk_bytes: where it writes.
        parts: seconds of each part of the work, every step made.
    """

    seconds: float
    least_seconds: float
    memory_bytes: int
    disk_bytes: int
    free_memory_bytes: int
    free_disk_bytes: int
    parts: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--dry-run --json`` prints."""
        return {**vars(self), "out": None}

    def as_text(self) -> str:
        """Return what ``--dry-run`` prints."""
        least = ""
        if self.least_seconds < self.seconds:
            least = f", or {_time(self.least_seconds)} where validation stops all training as early as it can"
        lines = [f"time       {_time(self.seconds)} if all steps are made{least}"]
        lines += [f"           {_time(seconds):<9} {name}" for name, seconds in self.parts.items()]
        lines.append(f"memory     {_size(self.memory_bytes)}; {_size(self.free_memory_bytes)} are free")
        lines.append(f"disk       {_size(self.disk_bytes)}; {_size(self.free_disk_bytes)} are free")
        return "\n".join([*lines, "nothing was written"])


@deterministic()
def estimate_pretrain(
    data: Dataset,
    out: str | Path,
    *,
    encoder: EncoderOptions | None = None,
    model: ModelOptions | None = None,
    train: TrainOptions | None = None,
    teacher: TeacherOptions | None = None,
    seed: int = 0,
    engine: Engine | None = None,
) -> Estimate:
    """Say what ``pretrain`` will take, from some seconds of its training; arguments are those of ``pretrain``.

    Texts that are encoded on the way are kept in the cache.

    Raises:
        InputError: memory or disk will not do.
    """
    engine = one_process(engine)
    train, teacher, model = train or TrainOptions(), teacher or TeacherOptions(), model or ModelOptions()
    with limits_of(engine, out) as limits:
        recommender, start = untrained(data.catalogue, encoder or EncoderOptions(), model, seed, engine)
        parts = {"texts and model": (start, start), **training_parts(data, recommender, train, seed, engine)}
    disk, weights = teacher_bytes(recommender, train, teacher), count_weights(recommender)
    # Beside what was measured there are the best weights so far.
    return limits.estimate(parts, disk=disk, more_memory=4 * weights)


@deterministic()
def estimate_distill(
    data: Dataset,
    teacher: str | Path,
    out: str | Path,
    options: CondenseOptions | None = None,
    *,
    seed: int = 0,
    engine: Engine | None = None,
    encoder: str | None = None,
) -> Estimate:
    """Say what ``distill`` will take, from some of its steps and of those of one student.

    Args:
        data: the log.
        teacher: a folder that ``pretrain`` wrote.
        out: where the sequences will be written.
        options: the method's.
        seed: of everything that is drawn.
        engine: device.
        encoder: another place of the teacher's encoder.

    Raises:
        InputError: memory or disk will not do, or what ``distill`` raises before its first step.
    """
    options, engine = options or DistillOptions(), one_process(engine)
    with limits_of(engine, out) as limits:
        (best, trajectory), loading = timed(
            lambda: read_teacher(data, teacher, options, encoder=encoder, device=engine.device)
        )
        parts, sequences = distillation_parts(data, best, trajectory, options, seed, engine)
    with TemporaryDirectory() as folder:
        write_distilled(sequences, [], Path(folder))
        disk = folder_bytes(folder)
    return limits.estimate({"teacher": (loading, loading), **parts}, disk=disk)


class Limits:
    """What there is before a calibration, and what that took."""

    def __init__(self, engine: Engine, out: str | Path) -> None:
        place = Path(out).resolve()
        while not place.exists():
            place = place.parent
        self.free, self.disk = free_memory(), shutil.disk_usage(place).free
        self.before = psutil.Process().memory_info().rss
        self.out, self.measure = out, Measure(engine.device)

    def estimate(self, parts: Parts, *, disk: int, more_memory: int = 0) -> Estimate:
        """Return the estimate.

        Args:
            parts: of the job.
            disk: bytes to be written.
            more_memory: bytes that the job takes beside those of the calibration.

        Raises:
            InputError: memory or disk will not do.
        """
        memory = self.measure.peak_bytes + more_memory
        _refuse_memory(memory - self.before, self.free)
        if disk > self.disk:
            raise InputError(f"{self.out}: takes about {_size(disk)}, but {_size(self.disk)} are free there")
        seconds, least = (sum(part[which] for part in parts.values()) for which in (0, 1))
        named = {name: part for name, (part, _) in parts.items()}
        return Estimate(seconds, least, memory, disk, self.free, self.disk, named)


@contextmanager
def limits_of(engine: Engine, out: str | Path) -> Iterator[Limits]:
    """Measure a calibration; where memory ends in it, it would end in the job."""
    limits = Limits(engine, out)
    try:
        with limits.measure:
            yield limits
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise InputError(f"memory will not do: {_first_line(error)}") from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # what torch says on a CPU
            raise
        raise InputError(f"memory will not do: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _refuse_memory(needed: float, free: int) -> None:
    if needed > free:
        raise InputError(
            f"memory will not do: about {_size(needed)} are needed and {_size(free)} are free; lower --batch-size, "
            "--dim or what else is large, or take another machine"
        )


def one_process(engine: Engine | None) -> Engine:
    """Return the engine, by default a new one.

    Raises:
        InputError: there are several processes.
    """
    engine = engine or Engine()
    if engine.world > 1:
        raise InputError("--dry-run: works in one process; start it without torchrun")
    return engine


def untrained(
    catalogue: Catalogue, encoder: EncoderOptions, options: ModelOptions, seed: int, engine: Engine
) -> tuple[TextRecommender, float]:
    """Return a model, and the seconds that making it will take.

    Where many texts of a frozen encoder are not in the cache, some are encoded, and random vectors stand for all: how
    long a step takes does not depend on what they say.
    """
    missing = unknown_texts(catalogue.texts, encoder)
    if len(missing) > TEXTS and options.finetune == "frozen":
        loaded = TextEncoder.load(encoder, engine.device)
        some = missing[:: len(missing) // TEXTS]
        began = time.perf_counter()
        vectors = embed_texts(some, progress=False, encoder=loaded)
        seconds = (time.perf_counter() - began) / len(some) * len(missing)
        width = vectors.shape[1] + encoder.words
        random = torch.randn(len(catalogue), width + (catalogue.popularity is not None), dtype=vectors.dtype)
        features = FrozenFeatures.of(random.to(engine.device))
        whitening = Whitening(torch.zeros(width), torch.eye(width))
        return TextRecommender(catalogue, encoder, options, features, whitening).to(engine.device), seconds

    def build() -> TextRecommender:
        return TextRecommender.build(catalogue, encoder, options, seed=seed, device=engine.device)

    if missing:
        build()  # the texts are encoded now, and will be there
    return timed(build)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what some work gives, and its seconds."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def training_parts(data: Dataset, model: TextRecommender, options: TrainOptions, seed: int, engine: Engine) -> Parts:
    """Return what training on the log takes; the model is trained a little.

    Raises:
        InputError: memory will not do for a batch of the longest histories.
    """
    length = model.options.max_length
    source, start = timed(lambda: LogSource(data, options, length, seed, engine))
    _check_batch(data, model, options, source, seed, engine)
    longest = np.argsort(source.lengths, kind="stable")[-source.batch_size :]
    seconds_a_step(model, LogSource(data, options, length, seed, engine, longest), options, seed, engine, most=1)
    # Batches differ in length. Those of one pass over a pool have all lengths that there are.
    rng = np.random.default_rng(seed)
    pool = rng.permutation(len(source.lengths))[: source.batch_size * POOL_BATCHES]
    drawn = LogSource(data, options, length, seed, engine, pool)
    batches = math.ceil(len(pool) / source.batch_size)
    step = seconds_a_step(model, drawn, options, seed, engine, a_pass=batches)
    validate = validator(data, options.eval_users, engine)
    _, validation = timed(lambda: validate(model))
    return {"histories": (start, start), **recipe_parts(options, step, validation)}


def recipe_parts(options: TrainOptions, step: float, validation: float) -> Parts:
    """Return the parts of a training: every step made, and stopped as early as validation can."""
    least = min(options.steps, options.eval_every * (1 + options.patience)) if options.patience else options.steps
    trained = f"training, {options.steps:,} steps of {step:.3g} s"
    times = math.ceil(options.steps / options.eval_every)
    validated = f"validation, {times:,} times {validation:.3g} s"
    return {
        trained: (options.steps * step, least * step),
        validated: (times * validation, math.ceil(least / options.eval_every) * validation),
    }


def seconds_a_step(
    model: TextRecommender,
    source: Source,
    options: TrainOptions,
    seed: int,
    engine: Engine,
    *,
    most: int | None = None,
    a_pass: int = 1,
    budget: float = SECONDS,
) -> float:
    """Make some steps as ``fit`` makes them and return the seconds of one.

    Args:
        model: is trained a little.
        source: of losses.
        options: the recipe.
        seed: of dropout.
        engine: device.
        most: steps; None for as many as the recipe has.
        a_pass: steps after which all kinds of batches have come; whole passes are counted where there is time.
        budget: seconds that the steps may take, about.
    """
    times: list[float] = []

    def look(step: int, _: TextRecommender) -> None:
        _synchronise(engine)
        times.append(time.perf_counter())
        passes, left = divmod(step - WARM, a_pass)
        spent = times[-1] - times[min(WARM, step)]
        if spent > 3 * budget or (spent > budget and passes and not left):
            raise _EnoughError

    steps = most or options.steps
    with contextlib.suppress(_EnoughError):
        fit(model, source, options.model_copy(update={"steps": steps}), seed=seed, record=look, engine=engine)
    warm = min(WARM, len(times) - 2)
    return (times[-1] - times[warm]) / (len(times) - 1 - warm)


class _EnoughError(Exception):
    """Enough steps were made."""


def _synchronise(engine: Engine) -> None:
    if engine.device.type != "cpu":
        torch.accelerator.synchronize(engine.device)


def _check_batch(
    data: Dataset, model: TextRecommender, options: TrainOptions, source: LogSource, seed: int, engine: Engine
) -> None:
    """Raise InputError if a batch of the longest histories cannot fit into memory, from small ones.

    Activations that a step keeps for its gradient are counted; they grow with the batch. With weights, gradients and
    the state of the optimiser that is less than what a step takes, so that nothing is refused that would run.
    """
    if engine.device.type != "cpu":
        return  # there an end of memory is an error that can be caught
    longest = np.argsort(source.lengths, kind="stable")[::-1]
    whole, free = min(source.batch_size, len(longest)), free_memory()
    last, size, before, kept = 0, min(FEW, max(whole // 2, 1)), 0, 0
    # Larger batches share more items: the larger the last one, the less the rest is overestimated.
    while True:
        small = options.model_copy(update={"batch_size": size})
        part = LogSource(data, small, model.options.max_length, seed, engine, longest[:size])
        before, kept = kept, _kept_bytes(model, part, options, seed)
        if size == whole or (before and (4 * size >= whole or 8 * kept > free)):
            break
        last, size = size, min(2 * size, whole)
    each = (kept - before) / (size - last)
    _refuse_memory(kept + each * (whole - size) + 4 * 4 * count_weights(model), free)


def _kept_bytes(model: TextRecommender, source: LogSource, options: TrainOptions, seed: int) -> int:
    """Return the bytes that the graph of a loss keeps, those of weights and text vectors aside."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    features = model.tower.features
    there = [
        *model.parameters(),
        *model.buffers(),
        *([features.vectors] if isinstance(features, FrozenFeatures) else []),
    ]
    model.train()
    with (
        seeded(seed, model.device),
        multiplying(matrix_type(options.precision, model.device), model.device),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        loss = source.loss(model, options.candidates)
    for tensor in there:
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    del loss
    return sum(kept.values())


def distillation_parts(
    data: Dataset, best: TextRecommender, trajectory: Checkpoints, options: CondenseOptions, seed: int, engine: Engine
) -> tuple[Parts, Condensed]:
    """Return what a distillation takes, and its sequences after the steps that were tried."""
    real = TrainOptions(batch_size=options.batch_size, candidates=SUBSET)
    whole = LogSource(data, real, best.options.max_length, seed, engine)
    _check_batch(data, best.fresh(seed), real, whole, seed, engine)

    def start() -> tuple[Setting, Distiller]:
        setting = Setting(data, best, trajectory, options, seed, engine)
        if isinstance(options, DistillOptions) and options.bytes is not None:
            setting = within_bytes(setting, options, trained=False)
        distiller = DISTILLERS[options.method](setting, setting.options)
        if isinstance(distiller, TrajectoryMatching):
            distiller.train_experts()
        return setting, distiller

    (setting, distiller), starting = timed(start)
    compact: Parts = {}
    if setting.form.compact:
        recipe = LINEAR if setting.form.linear else EXPERTS
        training = training_parts(data, setting.best, recipe, seed, engine).values()
        compact["compact map"] = sum(part[0] for part in training), sum(part[1] for part in training)
    seconds: list[float] = []
    while len(seconds) < options.steps and sum(seconds) < SECONDS * (1 if len(seconds) > WARM else 3):
        began = time.perf_counter()
        distiller.step(len(seconds) + 1)
        _synchronise(engine)
        seconds.append(time.perf_counter() - began)
    step = float(np.mean(seconds[min(WARM, len(seconds) - 1) :])) if seconds else 0.0
    sequences, export = timed(lambda: distiller.export().rounded())
    (student, source, recipe, validate), making = timed(lambda: setting.student(sequences))
    of_student = seconds_a_step(student, source, recipe, seed, engine, budget=SECONDS / 2) * recipe.steps
    least = of_student
    if validate is not None:
        validation = timed(lambda: validate(student))[1]
        trained = recipe_parts(recipe, of_student / recipe.steps, validation).values()
        of_student, least = (sum(part[which] for part in trained) for which in (0, 1))
    judging = making + ranking_seconds(data, student, "validation", JUDGES, engine)
    students = 1 + math.ceil(options.steps / options.select_every)
    moving: Parts = {}
    if options.steps:
        moving[f"distilling, {options.steps:,} steps of {step:.3g} s"] = options.steps * step, options.steps * step
    parts = {
        "start": (starting, starting),
        **compact,
        **moving,
        f"{students:,} student{'s' if students > 1 else ''}, up to {of_student + judging:.3g} s each": (
            students * (export + of_student + judging),
            students * (export + least + judging),
        ),
    }
    return parts, sequences


def ranking_seconds(data: Dataset, model: TextRecommender, split: TargetSplit, most: int, engine: Engine) -> float:
    """Return the seconds of ranking at most so many users, from some of them."""
    targets = data.held_out(split).users
    users = np.unique(targets)[:most] if split == "test" else validation_users(data, most)
    some = np.sort(np.random.default_rng(0).permutation(users)[:JUDGED])
    _, seconds = timed(lambda: evaluate(model, data, split, users=some, engine=engine))
    return seconds * len(users) / len(some)


def count_weights(model: TextRecommender) -> int:
    """Return how many numbers training changes."""
    return sum(parameter.numel() for parameter in model.trained_parameters())


def teacher_bytes(model: TextRecommender, train: TrainOptions, teacher: TeacherOptions) -> int:
    """Return the size of a teacher's folder."""
    checkpoints = len(checkpoint_steps(train.steps, teacher.checkpoints)) * (2 if teacher.half else 4)
    return (
        (4 + checkpoints) * count_weights(model)
        + 4 * (model.n_items * model.options.dim + sum(tensor.numel() for tensor in model.whitening.buffers()))
        + catalogue_bytes(model.catalogue)
    )


def catalogue_bytes(catalogue: Catalogue) -> int:
    """Return the size of a catalogue in a folder."""
    with TemporaryDirectory() as folder:
        catalogue.save(Path(folder))
        return folder_bytes(folder)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _size(size: float) -> str:
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(int(math.log10(max(size, 1)) // 3), len(units) - 1)
    value = size / 1000**power
    return f"{value:.0f} {units[power]}" if value >= 10 or not power else f"{value:.1f} {units[power]}"
