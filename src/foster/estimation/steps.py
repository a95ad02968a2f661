"""Seconds and memory of steps as ``fit`` makes them, of ranking, and sizes of what is written."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from foster.artefacts import folder_bytes
from foster.data.batches import POOL_BATCHES
from foster.data.catalogue import Catalogue
from foster.data.dataset import Dataset
from foster.data.split import TargetSplit
from foster.engine import Engine, matrix_type, multiplying, seeded
from foster.estimation.estimate import Parts, refuse_memory, timed
from foster.evaluation.evaluate import evaluate
from foster.memory import free_memory
from foster.models.item_tower import FrozenFeatures, Whitening
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.text.cache import embed_texts, unknown_texts
from foster.text.encoder import TextEncoder
from foster.text.options import EncoderOptions
from foster.training.loop import LogSource, Source, fit, validation_users, validator
from foster.training.options import TeacherOptions, TrainOptions
from foster.training.trajectory import checkpoint_steps

SECONDS = 5.0  # how long steps of one kind are tried
WARM = 2  # first steps, which take longer
FEW = 32  # longest histories of which the memory of a batch is told
TEXTS = 256  # texts that are encoded to see how long all take
JUDGED = 2_000  # users that are ranked to see how long all take


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


def training_parts(data: Dataset, model: TextRecommender, options: TrainOptions, seed: int, engine: Engine) -> Parts:
    """Return what training on the log takes; the model is trained a little.

    Raises:
        InputError: memory will not do for a batch of the longest histories.
    """
    length = model.options.max_length
    source, start = timed(lambda: LogSource(data, options, length, seed, engine))
    check_batch(data, model, options, source, seed, engine)
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
    most, every = options.total_steps, options.eval_every
    least = min(most, every * (1 + options.patience)) if options.patience else most
    trained = f"training, {most:,} steps of {step:.3g} s"
    times = math.ceil(most / every)
    validated = f"validation, {times:,} times {validation:.3g} s"
    return {
        trained: (most * step, least * step),
        validated: (times * validation, math.ceil(least / every) * validation),
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
        synchronise(engine)
        times.append(time.perf_counter())
        passes, left = divmod(step - WARM, a_pass)
        spent = times[-1] - times[min(WARM, step)]
        if spent > 3 * budget or (spent > budget and passes and not left):
            raise _EnoughError

    steps = most or options.total_steps
    with contextlib.suppress(_EnoughError):
        fit(model, source, options.model_copy(update={"steps": steps}), seed=seed, record=look, engine=engine)
    warm = min(WARM, len(times) - 2)
    return (times[-1] - times[warm]) / (len(times) - 1 - warm)


class _EnoughError(Exception):
    """Enough steps were made."""


def synchronise(engine: Engine) -> None:
    """Wait until the device has done what it was asked for."""
    if engine.device.type != "cpu":
        torch.accelerator.synchronize(engine.device)


def check_batch(
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
    refuse_memory(kept + each * (whole - size) + 4 * 4 * count_weights(model), free)


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
    checkpoints = len(checkpoint_steps(train.total_steps, teacher.checkpoints)) * (2 if teacher.half else 4)
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
