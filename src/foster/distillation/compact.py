"""A teacher whose map of items takes one or two bits a weight, and its sequence model, if asked for, one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from foster.condensed.codes import rounded
from foster.condensed.packed_labeller import SMALLEST, rounded_parts
from foster.condensed.packed_map import NOISE, bits_of, rounded_part
from foster.data.dataset import Dataset
from foster.distillation.budget import Form
from foster.engine import Engine
from foster.models.item_tower import FrozenFeatures, in_parts
from foster.models.moe import RANK, first_ranks, principal_first
from foster.models.recommender import TextRecommender
from foster.training.imitation import Imitation
from foster.training.loop import LogSource, Source, fit, validator
from foster.training.options import TrainOptions
from foster.training.trajectory import checkpoint_steps
from foster.unfinished import State, Unfinished

LINEAR = TrainOptions(steps=1500, lr=1.5e-3)
EXPERTS = TrainOptions(steps=2000, lr=1e-3)
SMALL = TrainOptions(steps=2000, lr=3e-3)
"""Recipes of a linear map, which has to be found; of what is there already: experts, and what makes labels; and of the
smallest of these, which begins with random weights."""

RIDGE = 1e-2  # of the least-squares map to start from, as a share of the features' mean variance
CHECKPOINTS = 20


def recipe_of(form: Form) -> TrainOptions:
    """Return how the compact teacher of a form is trained."""
    if form.small:
        return SMALL
    return LINEAR if form.linear and not form.labeller else EXPERTS


@dataclass(frozen=True)
class CompactTeacher:
    """A teacher with a rounded map, and checkpoints of its training.

    Attributes:
        model: the teacher.
        steps: after how many steps each checkpoint was.
        states: its weights then.
    """

    model: TextRecommender
    steps: list[int]
    states: list[dict[str, Tensor]]

    @classmethod
    def untrained(cls, teacher: TextRecommender, form: Form, seed: int = 0) -> Self:
        """Return one of the teacher's shape, but for what a form asks for, with random weights.

        Args:
            teacher: the teacher.
            form: of the folder.
            seed: of the weights.
        """
        changed: dict[str, Any] = {"adapter": "linear" if form.linear else teacher.options.adapter, "ids": False}
        if form.small:
            changed |= SMALLEST
        if form.labeller:
            changed["dropout"] = 0.0  # rounding is noise enough: with 0.1 it is worse by 3 to 8 % (research.md, 98)
        model = teacher.fresh(seed, teacher.options.model_copy(update=changed)).eval()
        if form.rank < RANK:
            adapter = model.tower.adapter
            adapter.load_state_dict({name: first_ranks(name, w, form.rank) for name, w in adapter.state_dict().items()})
        return cls(model, [0], [model.trained_state()])

    def __len__(self) -> int:
        return len(self.states)

    def step(self, which: int) -> int:
        """Return the optimiser step of a checkpoint."""
        return self.steps[which]

    def state(self, which: int) -> dict[str, Tensor]:
        """Return the parameters of a checkpoint."""
        return self.states[which]


def compact_teacher(
    teacher: TextRecommender,
    data: Dataset,
    form: Form,
    *,
    seed: int = 0,
    engine: Engine | None = None,
    progress: bool = True,
    part: Unfinished | None = None,
) -> CompactTeacher:
    """Train a map of items that is rounded to few bits, and a sequence model with it, to do what a teacher does.

    The sequence model is rounded, too, where it is to make labels.

    Rounding a map after its training loses much; training it as it will be rounded, with gradients that pass through
    the rounding (Bengio et al., arXiv 1308.3432), loses little. It starts as the teacher's map, or the linear one that
    is nearest to it, and with the teacher's sequence model, but for the smallest one, which is of another kind. Experts
    of a lower rank start as what is nearest to the teacher's. It learns the next items of the log; a linear map and a
    rounded sequence model, which have further to go, the teacher's scores of them, too (Hinton et al., arXiv
    1503.02531).

    Args:
        teacher: the model, with a frozen encoder.
        data: the log.
        form: of the folder: bits of a weight of the map, whether that is linear, whatever the teacher's is, the rank of
            its experts, and whether the sequence model is rounded, or the smallest one.
        seed: of batches, samples and dropout.
        engine: device and processes.
        progress: show a bar on stderr, or a line a minute where that is no terminal.
        part: the state of a run that was cut off, to go on with; and where it is saved.
    """
    engine = engine or Engine(str(teacher.device))
    model, teacher = CompactTeacher.untrained(teacher, form, seed).model, teacher.without_ids()
    if part is not None and (saved := part.take("compact")) is not None:
        model.load_trained_state(saved["model"])
        return CompactTeacher(model.eval(), saved["steps"], _on(saved["states"], engine.device))
    adapter, linear = model.tower.adapter, form.linear
    if not form.small:
        model.backbone.load_state_dict(teacher.backbone.state_dict())
    recipe = recipe_of(form)
    if not linear:
        experts = teacher.tower.adapter.state_dict()
        adapter.load_state_dict(experts if form.rank == RANK else principal_first(experts))
    elif (own := teacher.tower.linear) is not None:
        adapter.load_state_dict(own.state_dict())
    else:
        weights = torch.from_numpy(data.item_counts()).to(model.device).float() + 1
        weights[model.n_known :] = 0
        adapter.load_state_dict(_least_squares(teacher, weights))
    source: Source
    if linear or form.labeller:
        source = Imitation(teacher, data, recipe, seed, engine)
    else:
        source = LogSource(data, recipe, model.options.max_length, seed, engine)
    parts = list(_rounded(model, form))
    for part_of in parts:
        parametrize.register_parametrization(part_of.module, part_of.name, part_of.rounding)
    record = _Checkpoints(checkpoint_steps(recipe.total_steps, CHECKPOINTS), parts, engine.device)
    fit(
        model,
        source,
        recipe,
        seed=seed,
        validate=validator(data, recipe.eval_users, engine),
        record=record,
        engine=engine,
        progress="training a compact map" if progress and engine.is_main else None,
        part=part,
    )
    for part_of in parts:
        parametrize.remove_parametrizations(part_of.module, part_of.name)
    # Its parameters have another order by now than those of a model that is made anew, as it is where a run goes on.
    trained, model = model.trained_state(), CompactTeacher.untrained(teacher, form, seed).model
    model.load_trained_state(trained)
    if part is not None:
        part.save("the compact map", compact={"model": trained, **record.state()}, fit=None, best=None)
    return CompactTeacher(model.eval(), record.steps, record.states)


@dataclass(frozen=True)
class _Part:
    """A part of a model that is rounded.

    Attributes:
        place: name of its module in the model's state.
        module: where it is a parameter.
        name: of the parameter.
        rounding: its parametrisation.
    """

    place: str
    module: nn.Module
    name: str
    rounding: nn.Module


def _rounded(model: TextRecommender, form: Form) -> Iterator[_Part]:
    """Yield what of a model a form rounds: of the map and, where that makes labels, of the sequence model."""
    bits = form.adapter_bits
    for name in model.tower.item_map() or {}:
        if name != NOISE and (bits_of(name, bits) is not None or form.rank < RANK):
            yield _Part(
                "tower.adapter",
                model.tower.adapter,
                name,
                _Rounding(partial(rounded_part, name, bits=bits, rank=form.rank)),
            )
    if form.labeller:
        for place, module, name, own in rounded_parts(model.backbone):
            yield _Part(f"backbone.{place}", module, name, _Rounding(partial(rounded, bits=own)))


class _Checkpoints:
    """Checkpoints of a model whose map is rounded.

    Args:
        due: after which steps.
        parts: what of it is rounded.
        device: where they are.
    """

    def __init__(self, due: list[int], parts: list[_Part], device: torch.device) -> None:
        self.due, self.parts, self.device = set(due), parts, device
        self.steps: list[int] = []
        self.states: list[dict[str, Tensor]] = []

    def __call__(self, step: int, model: TextRecommender) -> None:
        if step in self.due:
            self.steps.append(step)
            self.states.append(_rounded_state(model, self.parts))

    def state(self) -> State:
        return {"steps": self.steps, "states": self.states}

    def load_state(self, state: State) -> None:
        self.steps, self.states = list(state["steps"]), _on(state["states"], self.device)


def _on(states: list[dict[str, Tensor]], device: torch.device) -> list[dict[str, Tensor]]:
    return [{name: tensor.to(device) for name, tensor in state.items()} for state in states]


class _Rounding(nn.Module):
    """Rounds a part of a model; gradients pass through as if it did not.

    Args:
        function: that rounds.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, weight: Tensor) -> Tensor:
        out: Tensor = _StraightThrough.apply(weight, self.function)
        return out


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _least_squares(teacher: TextRecommender, weights: Tensor) -> dict[str, Tensor]:
    """Return weight and bias of the linear map of text features that is nearest to a teacher's item vectors.

    Args:
        teacher: the model.
        weights: how much each item counts, ``[V]``.
    """
    assert isinstance(teacher.tower.features, FrozenFeatures)
    features, table = teacher.tower.features.vectors, teacher.item_table()
    width, weights = features.shape[1], weights / weights.sum()
    mean = weights @ table
    square, product = table.new_zeros(width, width), table.new_zeros(width, table.shape[1])
    start = 0
    for part in in_parts(features):
        rows = slice(start, start + len(part))
        weighed = weights[rows, None] * part
        square += part.T @ weighed
        product += weighed.T @ (table[rows] - mean)
        start += len(part)
    square += RIDGE * square.diagonal().mean() * torch.eye(width, device=square.device)
    return {"weight": torch.linalg.solve(square, product).T.contiguous(), "bias": mean}


def _rounded_state(model: TextRecommender, parts: list[_Part]) -> dict[str, Tensor]:
    """Return a model's trained weights with its parts as they are rounded, under the names of a plain model."""
    state = model.trained_state()
    for part in parts:
        state.pop(f"{part.place}.parametrizations.{part.name}.original")
        state[f"{part.place}.{part.name}"] = getattr(part.module, part.name).detach().clone()
    return state
