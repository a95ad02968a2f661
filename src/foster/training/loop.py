"""One training loop for everything: the full log, distilled sequences, coresets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from foster.artefacts import not_finite
from foster.data.batches import BatchDraws, pad
from foster.data.dataset import Dataset
from foster.data.histories import Histories
from foster.engine import Engine, deterministic, matrix_type, multiplying, seeded
from foster.errors import Diverged
from foster.evaluation.evaluate import Evaluator
from foster.evaluation.metrics import metrics_of, ndcg_by_group
from foster.models.recommender import TextRecommender
from foster.progress import Progress
from foster.training.losses import next_item_loss
from foster.training.options import (
    FEW_USERS,
    GOES_ON,
    GOES_ON_SHARE,
    MOST_STEPS,
    PASSES,
    WARM,
    TrainOptions,
    batch_size_of,
)
from foster.unfinished import State, Unfinished

POWER = 6.94  # of the mean of weights, which is as wide then (one deviation) as a tenth of the steps made
CLIP = 1.0  # largest norm of a step's gradient: without it wide models may be spoilt by the steps after warm-up
WINDOW = 50  # targets of a long history that a step has, at the default length; whatever the model's, for all alike
Validate = Callable[[TextRecommender], float]
Watch = Callable[[int, float], None]


class Source(Protocol):
    """Where training losses come from."""

    def loss(self, model: TextRecommender, candidates: int) -> Tensor:
        """Draw a batch and return its loss."""
        ...

    def state(self) -> State:
        """Return what the next draws depend on."""
        ...

    def load_state(self, state: State) -> None:
        """Go on from a state, with the same arguments as its source had."""
        ...


@runtime_checkable
class Record(Protocol):
    """Looks at a model in training, and can be gone on with."""

    def __call__(self, step: int, model: TextRecommender) -> None:
        """Look at the model after ``step`` steps."""
        ...

    def state(self) -> State:
        """Return what was recorded."""
        ...

    def load_state(self, state: State) -> None:
        """Go on from a state."""
        ...


class LogSource(BatchDraws):
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
        self.histories: Histories = data.need_training_histories()
        self.max_length = max_length
        self.engine = engine
        self.lengths: np.ndarray = np.minimum(self.histories.lengths, max_length)
        self.batch_size: int = batch_size_of(options, len(self.histories))
        self.rows: np.ndarray = np.arange(len(self.histories)) if rows is None else rows
        super().__init__(self.lengths[self.rows], self.batch_size, seed)

    def batch(self) -> Tensor:
        """Return the next padded batch ``[batch, length]``, as a whole in every process."""
        return self._padded(self._windows())

    def _windows(self) -> Histories:
        length = self.max_length + 1  # the last item is a target only
        histories = self.histories[self.rows[next(self.batches)]]
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


def on_log(options: TrainOptions, data: Dataset, share: float = 1.0) -> TrainOptions:
    """Return a recipe that says how many steps it makes on a log: its own, or those that a log of that size wants.

    Args:
        options: the recipe; its own number stays.
        data: the log.
        share: of the usual number.
    """
    if options.steps is not None:
        return options
    targets = data.training_histories().lengths - 1
    windows = len(targets) * targets.sum() / max(np.minimum(targets, WINDOW).sum(), 1)  # that make a pass
    passes = PASSES * max(len(targets) / FEW_USERS, 1)
    steps = min(passes * windows / batch_size_of(options, len(targets)), MOST_STEPS)
    return options.model_copy(update={"steps": max(math.ceil(share * steps), 1)})


def going_on(options: TrainOptions, data: Dataset) -> TrainOptions:
    """Return the recipe of a model that starts from a teacher of a log: by default a tenth of the steps, at a low rate.

    Args:
        options: the recipe; what is set stays.
        data: the log.
    """
    recipe = on_log(GOES_ON, data, GOES_ON_SHARE)
    return options.over(recipe.model_copy(update={"warmup": min(recipe.warmup, recipe.total_steps // WARM)}))


def _targets(windows: Histories) -> int:
    """Return how many items of histories follow another one."""
    return int(windows.lengths.sum()) - len(windows)


@dataclass
class Fit:
    """What a training run gave.

    Attributes:
        steps: optimiser steps that were made.
        best_step: the step up to which the weights were averaged that the model has now.
        best_ndcg: its NDCG@10 on the validation users, or None without validation.
        by_group: what each of some random groups of these users gives to that; see ``ndcg_by_group``.
        history: one ``{"step", "loss", "ndcg@10"}`` a validation.
        seconds: wall time, validations included.
        precision: number type of the matrix products.
    """

    steps: int = 0
    best_step: int = 0
    best_ndcg: float | None = None
    by_group: list[float] | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    precision: str = "float32"


def validation_users(data: Dataset, users: int) -> np.ndarray:
    """Return the numbers of a fixed draw of at most ``users`` users with a validation target, sorted."""
    tried = np.unique(data.held_out("validation").users)
    chosen: np.ndarray = np.sort(tried[np.random.default_rng(0).permutation(len(tried))[:users]])
    return chosen


class Validator:
    """Gives a model's NDCG@10.

    Args:
        evaluator: of the targets that count.

    Attributes:
        by_group: of the last model, what each of some random groups of users gives to that; see ``ndcg_by_group``.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator: Evaluator = evaluator
        self.by_group: list[float] = []

    def __call__(self, model: TextRecommender) -> float:
        """Return NDCG@10."""
        ranks = self.evaluator.ranks(model)
        self.by_group = ndcg_by_group(ranks, self.evaluator.held_out.users)
        return metrics_of(ranks)["ndcg@10"]


def validator(data: Dataset, users: int, engine: Engine) -> Validator:
    """Return what gives a model's NDCG@10 on the validation targets of a fixed draw of at most ``users`` users."""
    return Validator(Evaluator(data, "validation", users=validation_users(data, users), engine=engine))


class Average:
    """The mean of a model's weights over its latest steps, about a tenth of all that were made.

    While the rate is high, weights wander about what they are to become: their mean is far better than any of them, and
    validation says less by chance. Power-function averaging (Karras et al., CVPR 2024, arXiv 2312.02696, section 3.1):
    how far back the mean reaches grows with the steps, so that nothing is to be set.

    Args:
        parameters: those that training changes.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self.mean: list[Tensor] = [p.detach().clone() for p in parameters]

    def update(self, step: int) -> None:
        """Take in the weights after a step (from 1)."""
        # The mean over steps t' of a density proportional to t'^POWER.
        get_ema_multi_avg_fn((1 - 1 / step) ** (POWER + 1))(self.mean, self._parameters, None)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have its mean for a while."""
        own = [p.detach().clone() for p in self._parameters]
        self.put(self.mean)
        try:
            yield
        finally:
            self.put(own)

    @torch.no_grad()
    def put(self, weights: list[Tensor]) -> None:
        """Set the model's weights."""
        for parameter, weight in zip(self._parameters, weights, strict=True):
            parameter.copy_(weight)


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
    part: Unfinished | None = None,
) -> Fit:
    """Train a model in place; it ends with the mean of its weights (see ``Average``) that was best on validation.

    Without validation, or with a patience of 0, it ends with the last one.

    Args:
        model: the recommender.
        source: of losses.
        options: the recipe.
        seed: of the dropout.
        validate: gives NDCG@10; called every ``eval_every`` steps with the mean in the model, for early stopping and to
            choose the weights if there is a patience.
        record: called with the number of steps made and the model as the optimiser has it, from step 0 on.
        watch: called with the step and the NDCG@10 of each validation; what it raises ends the training. Of a run that
            goes on, also with those that were before.
        engine: device and processes.
        progress: name of the bar on stderr, a line a minute where that is no terminal; None for no bar.
        part: the state of a run that was cut off, to go on with; and where it is saved at each validation.

    Raises:
        Diverged: the loss is not finite, or weights or the optimiser's state are not at a validation, or where one
            would be.
    """
    engine = engine or Engine(str(model.device))
    with seeded(seed * 1013 + engine.rank, engine.device):
        return _fit(model, source, options, validate, record, watch, engine, progress, part)


def _fit(
    model: TextRecommender,
    source: Source,
    options: TrainOptions,
    validate: Validate | None,
    record: Callable[[int, TextRecommender], None] | None,
    watch: Watch | None,
    engine: Engine,
    progress: str | None,
    part: Unfinished | None,
) -> Fit:
    start = time.perf_counter()
    parameters = model.trained_parameters()
    groups = model.parameter_groups(options.lr)
    optimiser = torch.optim.AdamW(groups, weight_decay=options.weight_decay, fused=True)
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda made: schedule(made + 1, options))
    products = matrix_type(options.precision, engine.device)
    result, best, average = Fit(precision=str(products).removeprefix("torch.")), None, Average(parameters)
    run = _Run(model, source, optimiser, rates, average, record, result, engine)
    model.train()
    if part is not None and (saved := part.take("fit")) is not None:
        best = part.take("best")
        run.load_state(saved)
        start -= result.seconds
        if watch is not None:
            for look in result.history:
                watch(int(look["step"]), look["ndcg@10"])
    elif record is not None:
        record(0, model)
    steps, done = range(result.steps + 1, options.total_steps + 1), result.steps
    for step in Progress(steps, what=progress, total=options.total_steps, initial=done, shown=progress is not None):
        with multiplying(products, engine.device):
            loss = source.loss(model, options.candidates)
        due = step % options.eval_every == 0 or step == options.total_steps
        # To read a loss of a device, or that of other processes, would mean to wait for it.
        if loss.is_cpu and engine.world == 1 and not math.isfinite(loss.item()):
            raise _diverged("the loss", step, options)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        engine.average_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimiser.step()
        rates.step()
        average.update(step)
        result.steps = step
        if due:
            (loss,) = engine.average([loss])
            _check_finite(model, optimiser, loss, step, options)
        if record is not None:
            record(step, model)
        better = False
        if validate is not None and due:
            with average.in_place():
                ndcg = validate(model)
                better = options.patience > 0 and (best is None or ndcg > (result.best_ndcg or 0.0))
                if better:
                    best = model.trained_state()
            model.train()
            result.history.append({"step": step, "loss": loss.item(), "ndcg@10": ndcg})
            if watch is not None:
                watch(step, ndcg)
            if better or options.patience == 0:
                result.best_step, result.best_ndcg = step, ndcg
                result.by_group = validate.by_group if isinstance(validate, Validator) else None
            elif step - result.best_step >= options.patience * options.eval_every:
                break
        if part is not None and due and step < options.total_steps:
            result.seconds = time.perf_counter() - start
            part.save(f"step {step}", fit=run.state(), **({"best": best} if better else {}))
    if best is not None:
        model.load_trained_state(best)
    else:
        average.put(average.mean)
        result.best_step = result.steps
    model.eval()
    result.seconds = time.perf_counter() - start
    return result


@dataclass(frozen=True)
class _Run:
    """All that the steps to come depend on, but for the best weights so far."""

    model: TextRecommender
    source: Source
    optimiser: torch.optim.Optimizer
    rates: torch.optim.lr_scheduler.LRScheduler
    average: Average
    record: Callable[[int, TextRecommender], None] | None
    result: Fit
    engine: Engine

    def state(self) -> State:
        return {
            "model": self.model.trained_state(),
            "optimiser": self.optimiser.state_dict(),
            "rates": self.rates.state_dict(),
            "average": self.average.mean,
            "source": self.source.state(),
            "random": self.engine.random_states(),
            "record": self.record.state() if isinstance(self.record, Record) else None,
            "result": vars(self.result),
        }

    def load_state(self, state: State) -> None:
        self.model.load_trained_state(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rates.load_state_dict(state["rates"])
        for own, saved in zip(self.average.mean, state["average"], strict=True):
            own.copy_(saved)
        self.source.load_state(state["source"])
        if isinstance(self.record, Record):
            self.record.load_state(state["record"])
        vars(self.result).update(state["result"])
        self.engine.set_random_states(state["random"])


def _check_finite(
    model: TextRecommender, optimiser: torch.optim.Optimizer, loss: Tensor, step: int, options: TrainOptions
) -> None:
    """Raise Diverged where training has diverged; from there on it can only go on so."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    moments = {
        f"the mean square of the gradient of {name}": state["exp_avg_sq"]
        for name, parameter in trained.items()
        if (state := optimiser.state.get(parameter))
    }
    if name := not_finite({"the loss": loss, **trained, **moments}):
        raise _diverged(name, step, options)


def _diverged(name: str, step: int, options: TrainOptions) -> Diverged:
    return Diverged(f"training diverged: {name} is not finite at step {step}; lower --lr, which is {options.lr:g}")


def schedule(step: int, options: TrainOptions) -> float:
    """Return the factor of the learning rate at ``step`` (from 1): linear warm-up, then half a cosine to zero."""
    warm = min(1.0, step / max(options.warmup, 1))
    return warm * 0.5 * (1 + math.cos(math.pi * (step - 1) / options.total_steps))
