"""Distribution matching: moments against loops, the gradient against finite differences, and what it may touch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from test_farzi import ITEMS, small_setting, tuned_recommender

from foster.distillation.baselines.dm import DistributionMatching, moment_distance
from foster.distillation.baselines.matching import Matching
from foster.distillation.distill import _check_state
from foster.distillation.options import DMOptions
from foster.errors import Diverged
from small_models import small_recommender

STEP = 1e-6  # of finite differences
OPTIONS = DMOptions(sequences=4, length=8, batch_size=16, subset=12, temperature=0.2, student_steps=4)


@contextmanager
def double_precision() -> Iterator[None]:
    """Make new models in double precision, those that a method draws itself among them."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def one_hot(items: torch.Tensor, n_items: int = ITEMS) -> torch.Tensor:
    return torch.nn.functional.one_hot(items, n_items).to(torch.get_default_dtype())


def assert_gradient_is_slope(make: Callable[[], Matching]) -> None:
    """Compare the gradient that the first step leaves with central differences of the loss that it reports.

    Runs of one seed draw the same, so that only what is moved differs.
    """
    run = make()
    run.step(1)
    gradients = [parameter.grad for group in run.optimiser.param_groups for parameter in group["params"]]
    for which, gradient in enumerate(gradients):
        direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(which))
        losses = []
        for sign in (1, -1):
            run = make()
            moved = [parameter for group in run.optimiser.param_groups for parameter in group["params"]]
            with torch.no_grad():
                moved[which].add_(sign * STEP * direction)
            losses.append(run.step(1)["matching_loss"])
        slope = (gradient * direction).sum().item()
        assert abs(slope) > 1e-4
        assert (losses[0] - losses[1]) / (2 * STEP) == pytest.approx(slope, rel=1e-4)


def assert_only_the_latents_change(run: Matching) -> None:
    fixed = [run.setting.features, run.synthetic.keys, *run.setting.best.parameters()]
    before, latents = [x.detach().clone() for x in fixed], run.synthetic.latents.detach().clone()
    for step in (1, 2):
        record = run.step(step)
        assert np.isfinite([record["matching_loss"], record["gradient_norm"]]).all()
        assert 0 < record["input_entropy"] < np.log(OPTIONS.subset)
    assert all(torch.equal(x, y) for x, y in zip(before, fixed, strict=True))
    assert all(x.grad is None for x in run.setting.best.parameters())
    assert not torch.equal(latents, run.synthetic.latents)


def start_from_one_item_each(run: Matching) -> None:
    """Start far from real histories: each sequence is one item, again and again."""
    with torch.no_grad():
        run.synthetic.latents.copy_(
            run.synthetic.keys[: len(run.synthetic.latents), None].expand_as(run.synthetic.latents)
        )


def assert_exports(run: Matching, method: str) -> None:
    run.step(1)
    exported = run.export()
    dense = torch.zeros(4, 8, ITEMS).scatter_(-1, exported.items, exported.weights)
    whole = run.synthetic(torch.arange(ITEMS)).detach()
    kept = whole * (whole >= whole.topk(16).values[..., -1:])
    torch.testing.assert_close(dense, kept / kept.sum(-1, keepdim=True))
    assert exported.method == method
    assert exported.codes is None
    assert "real histories" in exported.info["from_real_data"]
    assert 0 <= run.setting.student_ndcg(exported).mean() <= 1


def run_of(**changes) -> DistributionMatching:
    options = OPTIONS.model_copy(update=changes)
    return DistributionMatching(small_setting(options), options)


def test_moments_are_those_of_loops_over_the_distance_from_the_end():
    with double_precision():
        network = small_recommender(ITEMS).double()
        draws = torch.Generator().manual_seed(0)
        p = torch.softmax(torch.randn(3, 4, 6, generator=draws), -1)
        subset = torch.tensor([0, 2, 3, 5, 8, 9])
        histories = [[7, 1, 4, 1], [5, 9], [20, 6, 5]]
        real = torch.tensor([row + [-1] * (4 - len(row)) for row in histories])
        features = network.public_features(network.encoder).double()
        network.tower.features = network.tower.features.of(features)
        vectors = network.tower(torch.arange(ITEMS))
        synthetic = network.backbone(p @ vectors[subset])
        states = [network.backbone(vectors[row][None])[0] for row in histories]
        expected = torch.zeros(())
        for distance in range(4):
            there = torch.stack([h[len(h) - 1 - distance] for h in states if len(h) > distance])
            own = synthetic[:, 3 - distance]
            gap = (there.mean(0) - own.mean(0)).square().sum()
            gap = gap + (there.square().mean(0) - own.square().mean(0)).square().sum()
            expected = expected + gap * len(there) / 3
        torch.testing.assert_close(moment_distance(network, real, p, subset), expected)


def test_real_histories_as_synthetic_ones_have_no_distance():
    items = torch.randint(ITEMS, (4, 6), generator=torch.Generator().manual_seed(0))
    network = small_recommender(ITEMS)
    everything = torch.arange(ITEMS)
    assert moment_distance(network, items, one_hot(items), everything).item() == pytest.approx(0, abs=1e-8)
    assert moment_distance(network, items, one_hot(items.flip(0)), everything).item() == pytest.approx(0, abs=1e-8)
    assert moment_distance(network, items, one_hot(items.flip(1)), everything).item() > 0.1


def test_the_gradient_is_the_slope_of_the_loss():
    with double_precision():
        assert_gradient_is_slope(lambda: DistributionMatching(small_setting(OPTIONS, double=True), OPTIONS))


def test_only_the_latents_change():
    assert_only_the_latents_change(run_of())


def test_every_step_has_another_network_and_all_windows_are_compared():
    run = run_of(lr=1e-9, length=10)  # batches have 4 to 10 steps
    moved = torch.zeros(4, 10, dtype=torch.bool)
    losses = set()
    for step in range(1, 30):
        losses.add(run.step(step)["matching_loss"])
        moved |= run.synthetic.latents.grad.abs().sum(-1) > 0
    assert len(losses) == 29
    assert moved.all()


def test_histories_longer_than_the_sequences_are_cut():
    assert np.isfinite(run_of(length=3).step(1)["matching_loss"])


def test_the_loss_falls():
    run = run_of(lr=0.1, batch_size=64, subset=ITEMS)
    start_from_one_item_each(run)
    losses = [run.step(step)["matching_loss"] for step in range(1, 41)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


def test_one_seed_gives_one_result():
    first, second = run_of(), run_of()
    assert [first.step(step) for step in (1, 2)] == [second.step(step) for step in (1, 2)]
    assert torch.equal(first.synthetic.latents, second.synthetic.latents)


def test_export_keeps_the_most_probable_items():
    assert_exports(run_of(), "dm")


def test_the_card_says_where_the_keys_come_from():
    assert "keys learned" in run_of(keys="learned").export().info["from_real_data"]
    assert "keys" not in run_of().export().info["from_real_data"]


def test_networks_stand_on_the_public_language_model(tiny_encoder):
    setting = small_setting(OPTIONS, tuned_recommender(tiny_encoder))
    run = DistributionMatching(setting, OPTIONS)
    assert torch.equal(run.public.fresh(3).tower.features.vectors, setting.features)
    assert_only_the_latents_change(run)


def test_a_state_that_is_not_finite_is_said_before_any_loss_tells():
    run = DistributionMatching(small_setting(OPTIONS, small_recommender(ITEMS, seed=9)), OPTIONS)
    run.step(1)
    _check_state(run.state(), 1, run.options)
    run.optimiser.state[run.synthetic.latents]["exp_avg_sq"][0, 0, 0] = torch.inf
    message = r"distill dm: diverged, optimiser\.state\.0\.exp_avg_sq of its state is not finite at step 1; lower --lr"
    with pytest.raises(Diverged, match=message):
        _check_state(run.state(), 1, run.options)
