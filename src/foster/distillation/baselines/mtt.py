"""Trajectory matching (MTT): Cazenavette et al., *Dataset Distillation by Matching Training Trajectories*, 2022."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from foster.distillation.baselines.matching import Matching, next_step_loss
from foster.distillation.functional import Parameters, call_with, detached, gradients, require_frozen, second_order
from foster.distillation.objective import EPSILON
from foster.distillation.options import MTTOptions
from foster.distillation.setting import Setting
from foster.models.recommender import TextRecommender
from foster.unfinished import State


class TrajectoryMatching(Matching):
    """Sequences on which a few SGD steps lead to where many SGD steps on the log lead.

    A step takes a checkpoint of an expert, trains a student from there on S, with a graph, and moves S and the
    student's learning rate by the squared distance to a later checkpoint, as a share of the expert's own way. The
    distance is taken for each tensor and averaged: else the large ones decide alone.

    Experts are trained here by plain SGD from random weights. The recorded trajectory of the teacher does not serve: it
    is AdamW's, whose steps SGD on S cannot retrace. Experts are short, since the paper too starts from early
    checkpoints only. Adapter and sequence model are matched; dropout is off.

    Args:
        setting: log, teacher and random streams; of the teacher only the shape is used.
        options: the method's.

    Raises:
        InputError: a tuned language model.
    """

    derived = "were moved so that SGD on them follows SGD on the log"

    def __init__(self, setting: Setting, options: MTTOptions) -> None:
        require_frozen(setting.best, options.method, setting.subset_size, options.inner_steps)
        super().__init__(setting, options)
        self.options = options
        self.log_rate: nn.Parameter = nn.Parameter(
            torch.tensor(math.log(options.student_lr), device=setting.engine.device)
        )
        self.optimiser.add_param_group({"params": [self.log_rate], "lr": options.rate_lr})
        self.paths: list[list[Parameters]] = []  # trained when the first step needs them

    def state(self) -> State:
        """Return the latents, the learning rate, the optimiser and the experts' paths."""
        return super().state() | {"log_rate": self.log_rate, "paths": self.paths}

    def load_state(self, state: State) -> None:
        """Go on from a state."""
        super().load_state(state)
        self.log_rate.data.copy_(state["log_rate"])
        device = self.setting.engine.device
        self.paths = [[{n: x.to(device) for n, x in point.items()} for point in path] for path in state["paths"]]

    def train_experts(self) -> None:
        """Train the experts, if that was not done yet."""
        while len(self.paths) < self.options.experts:
            self.paths.append(self._expert())

    def _expert(self) -> list[Parameters]:
        """Train a random model on the log and return its checkpoints, step 0 included."""
        options = self.options
        model = self.setting.best.fresh(int(self.setting.rng.integers(2**31))).eval()
        optimiser = torch.optim.SGD(model.trained_parameters(), lr=options.expert_lr)
        path = [model.trained_state()]
        for step in range(1, options.expert_steps + 1):
            optimiser.zero_grad(set_to_none=True)
            self.setting.source.loss(model, self.setting.subset_size).backward()
            self.setting.engine.average_gradients(model.trained_parameters())
            optimiser.step()
            if step % options.checkpoint_every == 0:
                path.append(model.trained_state())
        return path

    def step(self, step: int) -> dict[str, Any]:
        """Match one stretch of an expert's path; return what is logged."""
        options, rng = self.options, self.setting.rng
        self.train_experts()
        path = self.paths[int(rng.integers(len(self.paths)))]
        at = int(rng.integers(len(path) - options.ahead))
        start, target = path[at], path[at + options.ahead]
        subsets = [self.setting.subset() for _ in range(options.inner_steps)]
        sequences = [self.synthetic(subset) for subset in subsets]
        with second_order():
            reached = sgd_path(self.setting.best, start, sequences, subsets, self.log_rate.exp())
            record = self.descend(path_distance(reached, target, start), sequences[0])
        return record | {"start": at * options.checkpoint_every, "student_lr": self.log_rate.exp().item()}


def sgd_path(
    model: TextRecommender, start: Parameters, sequences: Sequence[Tensor], subsets: Sequence[Tensor], rate: Tensor
) -> Parameters:
    """Return the weights after SGD on soft sequences, as a function of the sequences and of the learning rate.

    Args:
        model: the recommender; it stays as it is.
        start: weights to start from.
        sequences: ``[M, L, N]`` step distributions, for each SGD step.
        subsets: ``[N]`` items, for each SGD step.
        rate: the learning rate, a scalar.
    """
    parameters = detached(start)
    for p, subset in zip(sequences, subsets, strict=True):
        loss = call_with(model, parameters, next_step_loss, p, subset)
        slopes = gradients(loss, parameters, create_graph=True)
        parameters = {name: value - rate * slopes[name] for name, value in parameters.items()}
    return parameters


def path_distance(reached: Parameters, target: Parameters, start: Parameters) -> Tensor:
    """Return ``|reached - target|^2 / |start - target|^2`` of each tensor, averaged (equation 2 of the paper)."""

    def square(a: Tensor, b: Tensor) -> Tensor:
        return ((a - b) ** 2).sum()

    shares = [
        square(value, target[name]) / square(start[name], target[name]).clamp(min=EPSILON)
        for name, value in reached.items()
    ]
    return torch.stack(shares).mean()
