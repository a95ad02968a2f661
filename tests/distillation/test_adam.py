"""Functional Adam against torch's, and its reverse mode against a graph over all steps."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from foster.distillation.baselines.adam import AdamState, adam_step, reverse_adam, train
from foster.distillation.baselines.farzi import next_step_loss
from foster.distillation.baselines.soft_steps import ByMixtures
from foster.distillation.functional import call_with, detached, gradients, second_order
from foster.models.item_tower import FrozenFeatures
from foster.training.losses import next_item_loss
from small_models import small_recommender

LR = 0.03


def toy():
    """Return a smooth loss, parameters of which one plays no part, data, and a function of the last parameters."""
    draws = torch.Generator().manual_seed(0)
    parameters = {
        name: torch.randn(shape, generator=draws, dtype=torch.float64)
        for name, shape in {"weight": (3, 5), "bias": (5,), "unused": (2,)}.items()
    }
    data, real = (torch.randn(4, 3, generator=draws, dtype=torch.float64) for _ in range(2))

    def loss(parameters, data, number):
        return (torch.tanh(data @ parameters["weight"]) + parameters["bias"] * (number + 1)).square().mean()

    return loss, parameters, data, lambda parameters: loss(parameters, real, 0)


def recommender():
    """Return the same of a small recommender and a real batch; a step takes two of three sequences."""
    model, draws = small_recommender().double(), torch.Generator().manual_seed(1)
    features = model.public_features(model.encoder).double()
    mixed = torch.softmax(torch.randn(3, 6, len(features), generator=draws, dtype=torch.float64), -1) @ features
    rows = [torch.randperm(3, generator=draws)[:2] for _ in range(5)]

    def loss(parameters, mixed, number):
        return call_with(model, parameters, next_step_loss, mixed[rows[number]], ByMixtures(features))

    items = torch.randint(len(features), (4, 7), generator=draws)
    model.tower.features = FrozenFeatures.of(features)

    def real(parameters):
        return call_with(model, parameters, next_item_loss, items, len(features), torch.Generator())

    return loss, model.trained_state(), mixed, real


def through_graph(loss, state, data, outer, steps):
    """Return the gradient of ``outer`` in the data through a graph over all steps from ``state``."""
    data = data.clone().requires_grad_()
    for _ in range(steps):
        state = adam_step(state, gradients(loss(state.parameters, data, state.step), state.parameters, True), LR)
    return torch.autograd.grad(outer(state.parameters), data)[0]


def test_functional_adam_is_torch_adam():
    loss, parameters, data, _ = toy()
    state = train(loss, AdamState.start(parameters), data, 7, LR)
    expected = detached(parameters)
    optimiser = torch.optim.Adam(expected.values(), lr=LR)
    for number in range(7):
        optimiser.zero_grad()
        loss(expected, data, number).backward()
        expected["unused"].grad = torch.zeros(2, dtype=torch.float64)
        optimiser.step()
    assert state.step == 7
    for name, value in expected.items():
        torch.testing.assert_close(state.parameters[name], value.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", [toy, recommender])
@pytest.mark.parametrize("window", [5, 2], ids=["all", "last two"])
def test_reverse_adam_is_the_gradient_through_the_unrolled_steps(case, window):
    loss, parameters, data, outer = case()
    with second_order():
        start = train(loss, AdamState.start(parameters), data, 5 - window, LR)
        states = []
        last = train(loss, start, data, window, LR, states)
        leaves = detached(last.parameters)
        found = reverse_adam(loss, states, data, gradients(outer(leaves), leaves), LR)
        start = AdamState(detached(start.parameters), start.first, start.second, start.step)
        expected = through_graph(loss, start, data, outer, window)
    assert expected.norm() > 1e-4
    assert ((found - expected).norm() / expected.norm()).item() < 1e-12


def test_where_the_gradient_is_zero_there_is_no_derivative_of_the_root():
    state = AdamState.start({"x": torch.zeros(2, requires_grad=True)})
    gradient = torch.zeros(2, requires_grad=True)
    after = adam_step(state, {"x": gradient}, LR).parameters["x"]
    assert torch.isfinite(torch.autograd.grad(after.sum(), gradient)[0]).all()

    def flat(parameters, data, number):
        return (parameters["x"] * data * 0).sum()

    states = []
    train(flat, AdamState.start({"x": torch.ones(2)}), torch.ones(2), 2, LR, states)
    assert torch.equal(reverse_adam(flat, states, torch.ones(2), {"x": torch.ones(2)}, LR), torch.zeros(2))


def test_dropout_can_be_differentiated_twice():
    model = small_recommender(dropout=0.2).train()
    features = model.public_features(model.encoder)
    mixed = F.normalize(torch.randn(3, 6, features.shape[1], generator=torch.Generator().manual_seed(0)), dim=-1)

    def loss(parameters, mixed, number):
        torch.manual_seed(number)  # a replay needs the masks of the first time
        return call_with(model, parameters, next_step_loss, mixed, ByMixtures(features))

    states, state = [], model.trained_state()
    with second_order(), torch.random.fork_rng():
        train(loss, AdamState.start(state), mixed, 3, LR, states)
        found = reverse_adam(loss, states, mixed, {name: torch.ones_like(value) for name, value in state.items()}, LR)
    assert torch.isfinite(found).all()
    assert found.abs().sum() > 0
