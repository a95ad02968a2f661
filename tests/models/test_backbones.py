"""Sequence models: HSTU and LiGR against their equations, and what all of them keep to."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from foster.distillation.functional import second_order
from foster.models.hstu import HSTU
from foster.models.ligr import LiGR
from foster.models.options import ModelOptions
from small_models import small_recommender

NAMES = get_args(ModelOptions.model_fields["backbone"].annotation)
ATTENTIVE = {"hstu": HSTU, "ligr": LiGR}


def made(name: str, dropout: float = 0.0) -> nn.Module:
    """Return a sequence model of width 8 whose weights are all random, those that start as zeros or ones, too."""
    backbone = small_recommender(dropout=dropout, backbone=name).backbone
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return backbone.double()


def steps(batch: int = 3, length: int = 7) -> torch.Tensor:
    return torch.randn(batch, length, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_hstu_is_its_equations_step_by_step():
    model, inputs = made("hstu"), steps()
    wanted = []
    for sequence in inputs:
        x = sequence + model.positions.weight[: len(sequence)]
        for unit in model.units:
            u, v, q, k = (F.layer_norm(x, (8,)) @ unit.uvqk.weight.T).sigmoid().chunk(4, 1)
            # SiLU(a) = a * sigmoid(a)
            u, v, q, k = (
                part * whole
                for part, whole in zip(
                    (u, v, q, k), (F.layer_norm(x, (8,)) @ unit.uvqk.weight.T).chunk(4, 1), strict=True
                )
            )
            rows = []
            for t in range(len(x)):
                heads = []
                for head, part in enumerate((slice(0, 4), slice(4, 8))):
                    total = torch.zeros(4, dtype=torch.float64)
                    for s in range(t + 1):
                        score = q[t, part] @ k[s, part] + unit.relative[head, t - s]
                        total = total + score * score.sigmoid() * v[s, part]
                    heads.append(total / (t + 1))
                rows.append(torch.cat(heads))
            x = x + (u * F.layer_norm(torch.stack(rows), (8,))) @ unit.project.weight.T + unit.project.bias
        wanted.append(model.norm(x))
    torch.testing.assert_close(model(inputs), torch.stack(wanted))


def test_gru4rec_is_its_equations_with_a_residual_connection():
    model, inputs = made("gru4rec"), steps()
    gru = model.recurrent
    wanted = []
    for sequence in inputs:
        x = sequence
        for layer in range(gru.num_layers):
            w, u, b, c = (getattr(gru, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            h, states = torch.zeros(8, dtype=torch.float64), []
            for step in x:
                (r, z, n), (rh, zh, nh) = (w @ step + b).chunk(3), (u @ h + c).chunk(3)
                reset, update = (r + rh).sigmoid(), (z + zh).sigmoid()
                h = (1 - update) * (n + reset * nh).tanh() + update * h
                states.append(h)
            x = torch.stack(states)
        wanted.append(F.layer_norm(sequence + x, (8,), model.norm.weight, model.norm.bias))
    torch.testing.assert_close(model(inputs), torch.stack(wanted))


def test_ligr_is_its_equations():
    model, inputs = made("ligr"), steps()
    length = inputs.shape[1]
    x = inputs + model.positions.weight[:length]
    later = torch.ones(length, length).triu(1).bool()
    for block in model.blocks:
        heads = []
        query, key, value = block.qkv(block.attention_norm(x)).chunk(3, -1)
        for part in (slice(0, 4), slice(4, 8)):
            scores = (query[..., part] @ key[..., part].transpose(1, 2)) / 2
            heads.append(scores.masked_fill(later, -torch.inf).softmax(-1) @ value[..., part])
        gate = 1 / (1 + torch.exp(-block.attention_gate(x)))
        x = x + gate * block.project(torch.cat(heads, -1))
        first, second = (block.feed_norm(x) @ block.feed_in.weight.T).split(32, -1)
        fed = (first * first.sigmoid() * second) @ block.feed_out.weight.T
        x = x + block.feed_gate(x).sigmoid() * fed
    torch.testing.assert_close(model(inputs), model.norm(x))


@pytest.mark.parametrize("name", NAMES)
def test_states_depend_on_nothing_behind_them_and_on_no_other_sequence(name):
    model, inputs = made(name), steps()
    states = model(inputs)
    padded = torch.cat([inputs, 1e3 * torch.ones(3, 3, 8, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(model(padded)[:, :7], states)
    for row in range(3):  # contexts of one sequence are rows of a batch as others are
        torch.testing.assert_close(model(inputs[row : row + 1])[0], states[row])
    inputs = inputs.requires_grad_()
    (slope,) = torch.autograd.grad(model(inputs)[1, 3].sum() + model(inputs)[1, 3].square().sum(), inputs)
    assert slope[1, :4].abs().amin(1).gt(0).all()
    assert not slope[[0, 2]].any() and not slope[1, 4:].any()


@pytest.mark.parametrize("name", ["sasrec", "ligr"])
def test_the_last_state_alone_is_that_among_all(name):
    model, inputs, lengths = made(name), steps(), torch.tensor([7, 1, 4])
    states = model(inputs)[torch.arange(3), lengths - 1]
    torch.testing.assert_close(model.last(inputs, lengths), states)
    with torch.autocast("cpu", torch.bfloat16):
        halved = model.float().last(inputs.float(), lengths)
    torch.testing.assert_close(halved.double(), states, atol=0.1, rtol=0.1)


def test_hstu_does_not_depend_on_the_longest_history():
    short, long = (HSTU(8, 2, 2, length, 0.0).eval() for length in (10, 1000))
    weights = short.state_dict()
    for name, tensor in long.state_dict().items():
        own = weights[name]
        if own.shape == tensor.shape:
            tensor.copy_(own)
        elif name.startswith("positions"):
            tensor[:10] = own
        else:
            tensor[:, :10] = own
    torch.testing.assert_close(long(steps().float()), short(steps().float()))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_those_of_gradients_are_slopes(name):
    model, inputs = made(name), steps(2, 3).requires_grad_()
    names, weights = zip(*model.named_parameters(), strict=True)

    def states(inputs: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (inputs,))

    with second_order():
        arguments = (inputs, *weights)
        assert torch.autograd.gradcheck(states, arguments, fast_mode=True)
        assert torch.autograd.gradgradcheck(states, arguments, fast_mode=True)


@pytest.mark.parametrize("name", ATTENTIVE)
def test_dropout_is_random_in_training_only_and_keeps_the_size(name):
    model, inputs = made(name, dropout=0.2), steps()
    model.eval()
    torch.testing.assert_close(model(inputs), model(inputs))
    model.train()
    assert not torch.allclose(model(inputs), model(inputs))


@pytest.mark.parametrize("name", ATTENTIVE)
def test_half_precision_is_near_and_has_gradients_everywhere(name):
    model, inputs = made(name).float(), steps().float()
    states = model(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        halved = model(inputs)
    assert halved.shape == states.shape
    torch.testing.assert_close(halved.float(), states, atol=0.1, rtol=0.1)
    halved.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ATTENTIVE)
def test_one_that_cannot_be_is_refused(name):
    with pytest.raises(ValueError, match="no multiple of heads"):
        ModelOptions(backbone=name, dim=9, heads=2)
    assert ModelOptions(backbone="gru4rec", dim=9, heads=2).dim == ModelOptions(backbone="mean", dim=9, heads=2).dim
