"""Experts of a lower rank: cut, filled up, and ordered so that little is lost."""

from __future__ import annotations

import pytest
import torch

from foster.models.moe import EXPERTS, RANK, MoEAdapter, first_ranks, mix, principal_first, rank_of, with_rank


@pytest.fixture(params=[(40, 24), (12, 8)], ids=["wide", "narrower than the rank"])
def experts(request):
    torch.manual_seed(0)
    adapter = MoEAdapter(*request.param, dropout=0.0)
    torch.nn.init.normal_(adapter.shift)
    torch.nn.init.normal_(adapter.gate)
    return {name: weights.detach() for name, weights in adapter.named_parameters()}


def outputs(experts, features):
    parts = {name: experts[name] for name in ("base", "down", "up", "shift")}
    return mix(features, features @ experts["gate"], **parts)


def of_rank(experts, rank):
    return {name: first_ranks(name, weights, rank) for name, weights in experts.items()}


def test_experts_are_cut_and_filled_up_with_zeros(experts):
    cut = {name: with_rank(name, weights, 3) for name, weights in experts.items()}
    assert cut["down"].shape[1] == cut["up"].shape[0] == cut["shift"].shape[0] == 3 * EXPERTS
    assert torch.equal(cut["down"].unflatten(1, (EXPERTS, 3)), experts["down"].unflatten(1, (EXPERTS, RANK))[..., :3])
    assert torch.equal(cut["up"][3:6], experts["up"][RANK : RANK + 3])
    assert all(torch.equal(cut[name], experts[name]) for name in ("base", "gate", "noise"))
    full = of_rank(experts, 3)
    assert {name: weights.shape for name, weights in full.items()} == {n: w.shape for n, w in experts.items()}
    assert full["up"].view(EXPERTS, RANK, -1)[:, 3:].abs().max() == 0
    assert (rank_of(experts), rank_of(full)) == (RANK, 3)
    assert rank_of(of_rank({name: torch.zeros_like(w) for name, w in experts.items()}, 3)) == 1
    torch.manual_seed(1)
    features = torch.randn(20, len(experts["base"]))
    torch.testing.assert_close(outputs(full, features), outputs(cut, features))


def test_the_first_numbers_of_experts_can_stand_for_all(experts):
    ordered = principal_first(experts)
    assert {name: weights.shape for name, weights in ordered.items()} == {n: w.shape for n, w in experts.items()}
    torch.manual_seed(1)
    features = torch.randn(200, len(experts["base"]))
    wanted = outputs(experts, features)
    torch.testing.assert_close(outputs(ordered, features), wanted, rtol=1e-4, atol=1e-4)
    # No product of a lower rank is nearer to an expert's (Eckart and Young).
    for expert in range(EXPERTS):
        rows = slice(expert * RANK, (expert + 1) * RANK)
        whole = experts["down"][:, rows] @ experts["up"][rows]
        found = of_rank(ordered, 3)["down"][:, rows] @ ordered["up"][rows]
        least = torch.linalg.svdvals(whole)[3:].square().sum().sqrt()
        torch.testing.assert_close((whole - found).norm(), least)
