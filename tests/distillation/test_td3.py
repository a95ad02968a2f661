"""TD3: factors, losses and resets against their definitions, its outer gradient against finite differences."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from test_farzi import (
    ITEMS,
    assert_exports,
    assert_gradient_is_slope,
    assert_only_the_sequences_change,
    small_setting,
    tuned_recommender,
)
from torch.nn import functional as F

from foster.distillation.baselines import soft_steps, td3
from foster.distillation.baselines.soft_steps import ByMixtures, BySample
from foster.distillation.baselines.td3 import TD3, TuckerSequences, last_step_loss, outer_loss, states_before_last
from foster.distillation.options import TD3Options
from foster.errors import InputError
from foster.models.item_tower import FrozenFeatures
from small_models import small_recommender

OPTIONS = TD3Options(
    sequences=4,
    length=7,
    batch_size=16,
    rank=2,
    start_score=5.0,
    inner_steps=4,
    unroll=3,
    inner_batch=3,
    student_steps=4,
)


def run_of(double: bool = False, adapter: str = "linear", **changes) -> TD3:
    options = OPTIONS.model_copy(update=changes)
    return TD3(small_setting(options, double=double, adapter=adapter), options)


def tucker(rank: int) -> tuple[TuckerSequences, torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    table, items = torch.randn(ITEMS, 8, generator=draws), torch.randint(ITEMS, (4, 7), generator=draws)
    return TuckerSequences(table, items, rank, start_score=5.0), table, items


def test_distributions_are_the_literal_tucker_product():
    sequences, table, _ = tucker(2)
    torch.nn.init.normal_(sequences.core)
    factors = (sequences.core, sequences.sequences, sequences.positions, table)
    expected = torch.einsum("ijk,mi,lj,vk->mlv", *factors).softmax(-1)
    torch.testing.assert_close(sequences(), expected)
    assert [tuple(x.shape) for x in factors[:3]] == [(2, 2, 8), (4, 2), (7, 2)]


def test_factors_start_as_the_decomposition_of_real_items():
    full, table, items = tucker(7)
    unit = F.normalize(table - table.mean(0), dim=-1)
    latents = 5 / table.norm(dim=-1).mean() * unit[items]
    torch.testing.assert_close(full(), (latents @ table.T).softmax(-1))
    cut, _, _ = tucker(3)
    rebuilt = torch.einsum("ijk,mi,lj->mlk", cut.core, cut.sequences, cut.positions)
    rows = torch.linalg.svd(latents.flatten(1), full_matrices=False)[0][:, :3]
    columns = torch.linalg.svd(latents.transpose(0, 1).flatten(1), full_matrices=False)[0][:, :3]
    projected = torch.einsum("mn,lo,nok->mlk", rows @ rows.T, columns @ columns.T, latents)
    torch.testing.assert_close(rebuilt, projected, rtol=1e-4, atol=1e-5)


def test_one_pass_gives_both_divergences():
    model = small_recommender().double()
    features = model.public_features(model.encoder).double()
    p = torch.softmax(torch.randn(3, 6, len(features), generator=torch.Generator().manual_seed(0)).double(), -1)
    vectors, losses = model.tower.adapter(features), []
    for target in (5, 2):  # the last step and an interior one
        states = model.backbone(p[:, :target] @ vectors)[:, -1]
        log_q = model.scores(states, vectors).log_softmax(-1)
        losses.append(F.kl_div(log_q, p[:, target], reduction="batchmean"))
    expected = torch.stack(losses).mean()
    found = last_step_loss(model, p @ features, 2, ByMixtures(features))
    entropies = -(p * p.log()).sum(-1)[:, [5, 2]].mean()
    torch.testing.assert_close(found - entropies, expected)
    weights = model.trained_parameters()
    for x, y in zip(
        torch.autograd.grad(found, weights, materialize_grads=True, allow_unused=True),
        torch.autograd.grad(expected, weights, materialize_grads=True, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(x, y)
    model.tower.features = FrozenFeatures.of(features)
    torch.testing.assert_close(last_step_loss(model, p.log(), 2, BySample(torch.arange(len(features)))), found)


@pytest.mark.parametrize("adapter", ["linear", "moe"])
def test_outer_loss_of_padded_histories(adapter):
    model, teacher = small_recommender(adapter=adapter), small_recommender(seed=1, adapter=adapter)
    features = model.public_features(model.encoder)
    histories = [[3, 1, 4, 1], [5, 9], [2, 6, 5]]
    items = torch.tensor([row + [-1] * (4 - len(row)) for row in histories])
    with torch.no_grad():
        stored = states_before_last(teacher, items, features)
        torch.testing.assert_close(stored, teacher.last_states([row[:-1] for row in histories], teacher.item_table()))
        states = model.last_states([row[:-1] for row in histories], model.item_table())
        last = torch.tensor([row[-1] for row in histories])
        expected = F.cross_entropy(model.scores(states, model.item_table()), last) + (states - stored).square().mean()
        torch.testing.assert_close(outer_loss(model, items, stored, features), expected)


@pytest.mark.parametrize("adapter", ["linear", "moe"])
def test_the_outer_gradient_is_the_slope_of_the_real_loss(monkeypatch, adapter):
    monkeypatch.setattr(td3, "CLIP", float("inf"))
    monkeypatch.setattr(soft_steps, "CANDIDATES", 12)
    # All steps have a graph: the plain ones move with S too, which the truncated gradient leaves out by design.
    assert_gradient_is_slope(lambda: run_of(double=True, adapter=adapter, inner_steps=3))


def test_the_outer_gradient_is_clipped():
    run = run_of()
    norm = run.step(1)["gradient_norm"]
    clipped = torch.stack([x.grad.norm() for x in run.synthetic.parameters()]).norm().item()
    assert clipped == pytest.approx(min(norm, 1.0), rel=1e-4)


def test_the_learner_starts_from_early_checkpoints_and_drifts_by_the_plain_steps_only():
    run = run_of(inner_steps=3, reset_every=3)
    early = run.setting.trajectory.state(1)  # step 10 of 30: a third; none lies between 5 and 30 %
    assert {run.reset() for _ in range(20)} == {0, 10, 20, 30}
    run.setting.trajectory.step = lambda which: [0, 10, 50, 100][which]
    assert {run.reset() for _ in range(5)} == {10}
    assert ["reset" in run.step(step) for step in range(1, 5)] == [True, False, False, True]
    assert all(torch.equal(value, early[name]) for name, value in run.learner.items())  # T = W: windows only
    run = run_of(inner_steps=20, unroll=1)
    run.step(1)
    drifted = run.learner
    run.step(2)
    assert any(not torch.equal(value, drifted[name]) for name, value in run.learner.items())


@pytest.mark.parametrize("adapter", ["linear", "moe"])
def test_only_the_sequences_change(adapter):
    assert_only_the_sequences_change(run_of(adapter=adapter))


def test_dropout_leaves_gradients_finite():
    options = OPTIONS
    run = TD3(small_setting(options, small_recommender(ITEMS, dropout=0.2)), options)
    run.model.train()
    torch.manual_seed(0)
    run.step(1)
    assert all(torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0 for x in run.synthetic.parameters())


def test_one_seed_gives_one_result():
    first, second = run_of(), run_of()
    assert [first.step(step) for step in (1, 2)] == [second.step(step) for step in (1, 2)]
    assert torch.equal(first.synthetic.core, second.synthetic.core)


def test_export_keeps_all_that_it_can():
    assert_exports(run_of(), "td3")
    derived = run_of().export().info["from_real_data"]
    assert "teacher's item vectors; they were moved to lower the real loss" in derived


def test_short_sequences_have_an_interior_step():
    run = run_of(length=3)
    assert {run._draw()[1] for _ in range(10)} == {1}
    run.step(1)


def test_a_window_longer_than_the_run_is_refused():
    with pytest.raises(InputError, match="unroll 30 is more than inner_steps 20"):
        TD3Options.parse({"unroll": 30, "inner_steps": 20})


def test_a_tuned_language_model_is_refused_with_the_memory_it_would_take(tiny_encoder):
    setting = small_setting(OPTIONS, tuned_recommender(tiny_encoder))
    with pytest.raises(InputError, match=r"td3: .*30 items, 3 steps.* GiB"):
        TD3(setting, OPTIONS)


def test_a_start_score_that_overflows_is_refused():
    with pytest.raises(ValidationError, match="start_score"):
        TD3Options(start_score=1e38)
    assert TD3Options(start_score=1e6).start_score == 1e6
