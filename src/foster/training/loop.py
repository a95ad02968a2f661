"""One training loop for everything: the full log, distilled sequences, coresets."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from foster.artefacts import not_finite
from foster.data.batches import endless_batches, pad
from foster.data.dataset import Dataset
from foster.data.histories import Histories
from foster.engine import Engine, deterministic, matrix_type, multiplying, seeded
from foster.errors import InputError
from foster.evaluation.evaluate import Evaluator
from foster.evaluation.metrics import metrics_of
from foster.models.recommender import TextRecommender
from foster.training.losses import next_item_loss
from foster.training.options import TrainOptions

Validate = Callable[[TextRecommender], float]
Watch = Callable[[int, float], None]


class Source(Protocol):
    """Where training losses come from."""

    def loss(self, model: TextRecommender, candidates: int) -> Tensor:
        """Draw a batch and return its loss."""
        ...


class LogSource:
    """The training part of a log.

    Of a history longer than the model reads, each batch takes a window at random, so that all of it is learned from.
    Several processes draw the same batches and samples, and each takes its share of a batch.

    Args:
        data: the log, in the item order of the model.
        options: batch size and the like.
        max_length: longest history.
        seed: of batches and sampled items.
        engine: device and processes.
        rows: numbers of the histories to learn from, among those of two items or more; None for all of them.

    Attributes:
        lengths: how much of each history a batch takes, ``[histories]``.
        batch_size: histories a batch.
    """

    def __init__(
        self,
        data: Dataset,
        options: TrainOptions,
        max_length: int,
        seed: int,
        engine: Engine,
        rows: np.ndarray | None = None,
    ) -> None:
        self.histories = data.training_histories()
        if not self.histories:
            raise InputError(f"{data.info.name}: no training history has two items; lower --k-core or bring more data")
        self.max_length = max_length
        self.engine = engine
        self.lengths = np.minimum(self.histories.lengths, max_length)
        self.rng = np.random.default_rng([seed, 0])
        self.batch_size = options.batch_size or min(max(len(self.histories) // 16, 32), 256)
        rows = np.arange(len(self.histories)) if rows is None else rows
        self.batches = (rows[batch] for batch in endless_batches(self.lengths[rows], self.batch_size, self.rng))
        self.generator = torch.Generator().manual_seed(seed * 1009)

    def batch(self) -> Tensor:
        """Return the next padded batch ``[batch, length]``, as a whole in every process."""
        return self._padded(self._windows())

    def _windows(self) -> Histories:
        histories, length = self.histories[next(self.batches)], self.max_length + 1  # the last item is a target only
        starts, spare = histories.starts.copy(), histories.lengths - length
        longer = spare > 0
        starts[longer] += self.rng.integers(spare[longer] + 1)
        return Histories(histories.items, starts, np.minimum(starts + length, histories.ends))

    def _padded(self, windows: Histories) -> Tensor:
        return pad(windows, self.max_length + 1).to(self.engine.device)

    def loss(self, model: TextRecommender, candidates: int) -> Tensor:
        """Return the next-item loss of the next batch.

        With several processes it is that of this one's share, weighted such that the mean over the processes is the
        loss of the batch, and the mean of the gradients its gradient.
        """
        windows, world = self._windows(), self.engine.world
        own = windows[self.engine.rank :: world]  # similar lengths are neighbours: shares are alike
        weight = world * _targets(own) / _targets(windows)
        # A process without a share joins in with weight 0: its gradients are waited for.
        return weight * next_item_loss(model, self._padded(own or windows[:1]), candidates, self.generator)


def _targets(windows: Histories) -> int:
    """Return how many items of histories follow another one."""
    return int(windows.lengths.sum()) - len(windows)


@dataclass
class Fit:
    """What a training run gave.

    Attributes:
        steps: optimiser steps that were made.
        best_step: the step whose weights the model has now.
        best_ndcg: its NDCG@10 on the validation users, or None without validation.
        history: one ``{"step", "loss", "ndcg@10"}`` a validation.
        seconds: wall time, validations included.
        precision: number type of the matrix products.
    """

    steps: int = 0
    best_step: int = 0
    best_ndcg: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    precision: str = "float32"


def validation_users(data: Dataset, users: int) -> np.ndarray:
    """Return the numbers of a fixed draw of at most ``users`` users with a validation target, sorted."""
    tried = np.unique(data.held_out("validation").users)
    chosen: np.ndarray = np.sort(tried[np.random.default_rng(0).permutation(len(tried))[:users]])
    return chosen


def validator(data: Dataset, users: int, engine: Engine) -> Validate:
    """Return a function that gives a model's NDCG@10 on validation targets of a fixed draw of users."""
    evaluator = Evaluator(data, "validation", users=validation_users(data, users), engine=engine)
    return lambda model: metrics_of(evaluator.ranks(model))["ndcg@10"]


@deterministic()
def fit(
    model: TextRecommender,
    source: Source,
    options: TrainOptions,
    *,
    seed: int = 0,
    validate: Validate | None = None,
    record: Callable[[int, TextRecommender], None] | None = None,
    watch: Watch | None = None,
    engine: Engine | None = None,
    progress: str | None = None,
) -> Fit:
    """Train a model in place; it ends with its best weights on validation.

    Without validation, or with a patience of 0, it ends with its last ones.

    Args:
        model: the recommender.
        source: of losses.
        options: the recipe.
        seed: of the dropout.
        validate: gives NDCG@10; called every ``eval_every`` steps, for early stopping and to choose the weights if
            there is a patience.
        record: called with the number of steps made and the model, from step 0 on.
        watch: called with the step and the NDCG@10 of each validation; what it raises ends the training.
        engine: device and processes.
        progress: name of the bar on stderr, which shows on a terminal only; None for no bar.

    Raises:
        InputError: training diverged: loss or weights are not finite at a validation, or where one would be.
    """
    engine = engine or Engine(str(model.device))
    with seeded(seed * 1013 + engine.rank, engine.device):
        return _fit(model, source, options, validate, record, watch, engine, progress)


def _fit(
    model: TextRecommender,
    source: Source,
    options: TrainOptions,
    validate: Validate | None,
    record: Callable[[int, TextRecommender], None] | None,
    watch: Watch | None,
    engine: Engine,
    progress: str | None,
) -> Fit:
    start = time.perf_counter()
    parameters = model.trained_parameters()
    groups = model.parameter_groups(options.lr)
    optimiser = torch.optim.AdamW(groups, weight_decay=options.weight_decay, fused=True)
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda made: schedule(made + 1, options))
    products = matrix_type(options.precision, engine.device)
    result, best = Fit(precision=str(products).removeprefix("torch.")), None
    model.train()
    if record:
        record(0, model)
    disable = None if progress else True
    for step in tqdm(range(1, options.steps + 1), desc=progress, file=sys.stderr, disable=disable, mininterval=1):
        with multiplying(products, engine.device):
            loss = source.loss(model, options.candidates)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        engine.average_gradients(parameters)
        optimiser.step()
        rates.step()
        result.steps = step
        due = step % options.eval_every == 0 or step == options.steps
        if due:
            (loss,) = engine.average([loss])
            _check_finite(model, loss, step, options)
        if record:
            record(step, model)
        if validate and due:
            ndcg = validate(model)
            model.train()
            result.history.append({"step": step, "loss": loss.item(), "ndcg@10": ndcg})
            if watch:
                watch(step, ndcg)
            if options.patience == 0:
                result.best_step, result.best_ndcg = step, ndcg
            elif best is None or ndcg > (result.best_ndcg or 0.0):
                best, result.best_step, result.best_ndcg = model.trained_state(), step, ndcg
            elif step - result.best_step >= options.patience * options.eval_every:
                break
    if best is not None:
        model.load_trained_state(best)
    else:
        result.best_step = result.steps
    model.eval()
    result.seconds = time.perf_counter() - start
    return result


def _check_finite(model: TextRecommender, loss: Tensor, step: int, options: TrainOptions) -> None:
    """Raise InputError where training has diverged; from there on it can only go on so."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    name = not_finite({"the loss": loss, **trained})
    if name:
        raise InputError(f"training diverged: {name} is not finite at step {step}; lower --lr, which is {options.lr:g}")


def schedule(step: int, options: TrainOptions) -> float:
    """Return the factor of the learning rate at ``step`` (from 1): linear warm-up, then half a cosine to zero."""
    warm = min(1.0, step / max(options.warmup, 1))
    return warm * 0.5 * (1 + math.cos(math.pi * (step - 1) / options.steps))
