"""Adam (Kingma and Ba, ICLR 2015) as a function of its state, and the gradient through its steps.

A graph over T steps holds T graphs of the model. ``reverse_adam`` holds one: it goes back from step to step and replays
each from its recorded state, as the reverse-mode Adam of Farzi (Sachdeva et al., arXiv 2310.09983) does, except that
states are stored and not computed backwards from later ones, which drifts in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from foster.distillation.functional import Parameters, detached, gradients

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
ROOT_FLOOR = 1e-12  # sqrt has no derivative at 0: below this root the second moment counts as constant

InnerLoss = Callable[[Parameters, Tensor, int], Tensor]
"""Loss from the parameters, the synthetic data and the number of the step (from 0), which fixes what is drawn."""


@dataclass(frozen=True)
class AdamState:
    """Parameters and moments after ``step`` updates.

    Attributes:
        parameters: theta, by name.
        first: m, moving average of the gradient, not corrected for its start at 0.
        second: v, moving average of the squared gradient, likewise.
        step: updates made.
    """

    parameters: Parameters
    first: Parameters
    second: Parameters
    step: int = 0

    @classmethod
    def start(cls, parameters: Parameters) -> Self:
        """Return the state before the first update."""
        zeros = {name: torch.zeros_like(value) for name, value in parameters.items()}
        return cls(parameters, zeros, zeros)

    def to(self, device: torch.device | str) -> AdamState:
        """Return the state on another device."""
        parameters, first, second = (
            {name: value.to(device) for name, value in group.items()}
            for group in (self.parameters, self.first, self.second)
        )
        return AdamState(parameters, first, second, self.step)


def adam_step(state: AdamState, gradient: Parameters, lr: float) -> AdamState:
    """Return the state after one update; differentiable in the state and in the gradient.

    Args:
        state: before the update.
        gradient: of the loss at ``state.parameters``.
        lr: learning rate alpha.
    """
    step = state.step + 1
    first = {name: BETA1 * state.first[name] + (1 - BETA1) * g for name, g in gradient.items()}
    second = {name: BETA2 * state.second[name] + (1 - BETA2) * g * g for name, g in gradient.items()}
    parameters = {
        name: value - lr * first[name] / (1 - BETA1**step) / (_root(second[name], step) + EPSILON)
        for name, value in state.parameters.items()
    }
    return AdamState(parameters, first, second, step)


def train(
    loss: InnerLoss, state: AdamState, synthetic: Tensor, steps: int, lr: float, record: list[AdamState] | None = None
) -> AdamState:
    """Make Adam steps on the synthetic data without a graph over them.

    Args:
        loss: of the inner problem.
        state: where to start.
        synthetic: the data.
        steps: how many.
        lr: learning rate.
        record: gets the state before each step, moved to the CPU.

    Returns:
        The last state.
    """
    for _ in range(steps):
        if record is not None:
            record.append(state.to("cpu"))
        parameters = detached(state.parameters)
        gradient = gradients(loss(parameters, synthetic, state.step), parameters)
        state = adam_step(state, gradient, lr)
    return state


def reverse_adam(
    loss: InnerLoss, states: Sequence[AdamState], synthetic: Tensor, adjoint: Parameters, lr: float
) -> Tensor:
    """Return the gradient in the synthetic data of a function of the parameters after the recorded steps.

    Each step is replayed for one double backward pass. What came before the first recorded state counts as constant,
    so that the last W states of a longer run give the gradient truncated to W steps.

    Args:
        loss: of the inner problem; the same values for the same arguments as when the states were recorded.
        states: before each step, as ``train`` records them.
        synthetic: the data.
        adjoint: gradient of the function in the last parameters.
        lr: learning rate of the steps.

    Returns:
        Of the shape of ``synthetic``.
    """
    synthetic = synthetic.detach().requires_grad_()
    total = torch.zeros_like(synthetic)
    adjoint = {name: value.clone() for name, value in adjoint.items()}
    first = {name: torch.zeros_like(value) for name, value in adjoint.items()}
    second = {name: torch.zeros_like(value) for name, value in adjoint.items()}
    for recorded in reversed(states):
        state = recorded.to(synthetic.device)
        parameters = detached(state.parameters)
        gradient = gradients(loss(parameters, synthetic, state.step), parameters, create_graph=True)
        after = adam_step(state, {name: g.detach() for name, g in gradient.items()}, lr)
        correction1, correction2 = 1 - BETA1**after.step, 1 - BETA2**after.step
        direction = {}  # the adjoint of the gradient
        for name, g in gradient.items():
            root = _root(after.second[name], after.step)
            pull = lr * adjoint[name] / (root + EPSILON)
            first[name] -= pull / correction1
            slope = torch.where(root > ROOT_FLOOR, 1 / (2 * root * correction2), 0)
            second[name] += pull * after.first[name] / correction1 / (root + EPSILON) * slope
            direction[name] = (1 - BETA1) * first[name] + 2 * (1 - BETA2) * g.detach() * second[name]
            first[name] *= BETA1
            second[name] *= BETA2
        *back, part = torch.autograd.grad(
            list(gradient.values()),
            [*parameters.values(), synthetic],
            list(direction.values()),
            allow_unused=True,
            materialize_grads=True,
        )
        for name, value in zip(parameters, back, strict=True):
            adjoint[name] += value
        total += part
    return total


def _root(second: Tensor, step: int) -> Tensor:
    """Return the square root of the corrected second moment."""
    return (second / (1 - BETA2**step)).clamp(min=ROOT_FLOOR**2).sqrt()
