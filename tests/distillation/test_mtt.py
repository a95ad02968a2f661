"""Trajectory matching: unrolled SGD against plain SGD, its gradient against finite differences, experts."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from test_dm import (
    assert_exports,
    assert_gradient_is_slope,
    assert_only_the_latents_change,
    double_precision,
    one_hot,
    start_from_one_item_each,
)
from test_farzi import ITEMS, small_setting, tuned_recommender

from foster.distillation.baselines.mtt import TrajectoryMatching, path_distance, sgd_path
from foster.distillation.functional import second_order
from foster.distillation.options import MTTOptions
from foster.errors import InputError
from foster.training.losses import next_item_loss
from small_models import small_recommender

OPTIONS = MTTOptions(
    sequences=4,
    length=8,
    batch_size=16,
    subset=12,
    temperature=0.2,
    experts=2,
    expert_steps=6,
    checkpoint_every=2,
    ahead=1,
    inner_steps=3,
    student_steps=4,
)


def run_of(**changes) -> TrajectoryMatching:
    options = OPTIONS.model_copy(update=changes)
    return TrajectoryMatching(small_setting(options), options)


def test_sgd_on_real_histories_is_sgd_on_the_log():
    model = small_recommender(ITEMS)
    start = model.trained_state()
    items = torch.randint(ITEMS, (4, 9), generator=torch.Generator().manual_seed(0))
    everything = torch.arange(ITEMS)
    with second_order():
        reached = sgd_path(model, start, [one_hot(items)] * 3, [everything] * 3, torch.tensor(0.3))
    assert all(torch.equal(value, start[name]) for name, value in model.trained_state().items())
    expert = copy.deepcopy(model)
    optimiser = torch.optim.SGD(expert.trained_parameters(), lr=0.3)
    for _ in range(3):
        optimiser.zero_grad()
        next_item_loss(expert, items, ITEMS, torch.Generator()).backward()
        optimiser.step()
    target = expert.trained_state()
    for name, value in reached.items():
        torch.testing.assert_close(value, target[name])
    assert path_distance(reached, target, start).item() == pytest.approx(0, abs=1e-6)


def test_distance_is_each_tensors_share_of_the_experts_way():
    start = {"a": torch.zeros(2), "b": torch.zeros(3)}
    target = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([0.0, 0.0, 0.1])}
    assert path_distance(start, target, start).item() == pytest.approx(1)
    half = {name: value / 2 for name, value in target.items()}
    assert path_distance(half, target, start).item() == pytest.approx(0.25)
    assert path_distance({"a": target["a"], "b": -target["b"]}, target, start).item() == pytest.approx(2)


@pytest.mark.parametrize("adapter", ["linear", "moe"])
def test_the_gradients_of_sequences_and_learning_rate_are_slopes_of_the_loss(adapter):
    with double_precision():
        assert_gradient_is_slope(
            lambda: TrajectoryMatching(small_setting(OPTIONS, double=True, adapter=adapter), OPTIONS)
        )


def test_only_the_latents_change():
    run = run_of()
    run.train_experts()
    paths, rate = copy.deepcopy(run.paths), run.log_rate.item()
    assert_only_the_latents_change(run)
    for before, after in zip(paths, run.paths, strict=True):
        assert all(torch.equal(value, y[name]) for x, y in zip(before, after, strict=True) for name, value in x.items())
    assert run.log_rate.item() != rate  # the learning rate is learned with them


def test_experts_start_at_random_and_learn():
    run = run_of(experts=2, expert_steps=31, checkpoint_every=10, batch_size=64)
    run.train_experts()
    model = run.setting.best.fresh(0)
    batch = run.setting.source.batch()
    first = []
    for path in run.paths:
        assert len(path) == 4
        losses = []
        for state in (path[0], path[-1]):
            model.load_trained_state(state)
            losses.append(next_item_loss(model, batch, ITEMS, torch.Generator()).item())
        assert losses[1] < losses[0] - 0.1
        first.append(path[0]["tower.adapter.weight"])
    assert not torch.equal(*first)


def test_starts_leave_room_for_the_target():
    run = run_of(ahead=2)
    assert {run.step(step)["start"] for step in range(1, 11)} == {0, 2}


def test_the_loss_falls():
    run = run_of(lr=0.1, batch_size=64, subset=ITEMS, experts=1)
    start_from_one_item_each(run)
    losses = [run.step(step)["matching_loss"] for step in range(1, 21)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_dropout_leaves_gradients_finite():
    run = TrajectoryMatching(small_setting(OPTIONS, small_recommender(ITEMS, dropout=0.2)), OPTIONS)
    run.setting.best.train()
    torch.manual_seed(0)
    run.step(1)
    assert torch.isfinite(run.synthetic.latents.grad).all()
    assert run.synthetic.latents.grad.abs().sum() > 0


def test_one_seed_gives_one_result():
    first, second = run_of(), run_of()
    assert [first.step(step) for step in (1, 2)] == [second.step(step) for step in (1, 2)]
    assert torch.equal(first.synthetic.latents, second.synthetic.latents)


def test_export_keeps_the_most_probable_items():
    assert_exports(run_of(), "mtt")


def test_experts_too_short_for_a_target_are_refused():
    with pytest.raises(InputError, match=r"expert_steps 10 end before the first target.* 20"):
        MTTOptions.parse({"expert_steps": 10, "checkpoint_every": 10, "ahead": 2})


def test_a_tuned_language_model_is_refused_with_the_memory_it_would_take(tiny_encoder):
    setting = small_setting(OPTIONS, tuned_recommender(tiny_encoder))
    with pytest.raises(InputError, match=r"mtt: .*12 items, 3 steps.* GiB"):
        TrajectoryMatching(setting, OPTIONS)
