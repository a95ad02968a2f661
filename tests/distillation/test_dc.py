"""Gradient matching: the distance against the formula, second derivatives against finite differences."""

from __future__ import annotations

from itertools import pairwise

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

from foster.distillation.baselines.dc import GradientMatching, gradient_distance
from foster.distillation.baselines.matching import next_step_loss
from foster.distillation.functional import gradients
from foster.distillation.options import DCOptions
from foster.errors import InputError
from foster.training.losses import next_item_loss
from small_models import small_recommender

OPTIONS = DCOptions(
    sequences=4,
    length=8,
    batch_size=16,
    subset=12,
    temperature=0.2,
    reset_every=2,
    inner_steps=2,
    student_steps=4,
)


def run_of(**changes) -> GradientMatching:
    options = OPTIONS.model_copy(update=changes)
    return GradientMatching(small_setting(options), options)


def test_distance_is_one_minus_the_cosine_of_each_row_of_weights():
    own = {"weight": torch.tensor([[1.0, 0.0], [3.0, 4.0]]), "bias": torch.tensor([1.0, 2.0])}
    wanted = {"weight": torch.tensor([[0.0, 2.0], [4.0, 3.0]]), "bias": torch.tensor([-5.0, 2.0])}
    assert gradient_distance(own, wanted).item() == pytest.approx(1 + (1 - 24 / 25))
    stacked = [{"experts": gradient["weight"].expand(3, 2, 2)} for gradient in (own, wanted)]
    assert gradient_distance(*stacked).item() == pytest.approx(3 * (1 + (1 - 24 / 25)))


def test_real_histories_as_synthetic_ones_have_no_distance():
    model = small_recommender(ITEMS)
    items = torch.randint(ITEMS, (4, 10), generator=torch.Generator().manual_seed(0))
    parameters = dict(model.named_parameters())
    wanted = gradients(next_item_loss(model, items, ITEMS, torch.Generator()), parameters)
    own = gradients(next_step_loss(model, one_hot(items), torch.arange(ITEMS)), parameters)
    # The last position predicts nothing: its row has no gradient, and counts 1 whatever the sequences are.
    assert gradient_distance(own, wanted).item() == pytest.approx(1, abs=1e-3)
    other = gradients(next_step_loss(model, one_hot(items.flip(1)), torch.arange(ITEMS)), parameters)
    assert gradient_distance(other, wanted).item() > 5


@pytest.mark.parametrize("adapter", ["linear", "moe"])
def test_the_gradient_is_the_slope_of_the_loss(adapter):
    with double_precision():
        assert_gradient_is_slope(
            lambda: GradientMatching(small_setting(OPTIONS, double=True, adapter=adapter), OPTIONS)
        )


def test_only_the_latents_change():
    assert_only_the_latents_change(run_of())


def test_the_model_is_trained_on_the_sequences_and_random_again_after_some_steps():
    run = run_of(reset_every=2, inner_steps=2)
    weights = [run.model.trained_state()]
    models = [run.model]
    for step in range(1, 5):
        run.step(step)
        weights.append(run.model.trained_state())
        models.append(run.model)
    assert [a is b for a, b in pairwise(models)] == [True, True, False, True]
    assert all(not torch.equal(a["tower.adapter.weight"], b["tower.adapter.weight"]) for a, b in pairwise(weights))
    assert run.model_optimiser.state_dict()["state"][0]["step"] == 4


def test_without_inner_steps_the_model_stays_random():
    run = run_of(inner_steps=0)
    before = run.model.trained_state()
    run.step(1)
    assert all(torch.equal(value, before[name]) for name, value in run.model.trained_state().items())


def test_the_loss_falls():
    """Below that of sequences that stay: models and batches are drawn anew at every step, so that losses vary."""
    last = []
    for lr in (0.1, 1e-9):
        run = run_of(lr=lr, batch_size=64, subset=ITEMS, inner_steps=0, reset_every=1)
        start_from_one_item_each(run)
        last.append(np.mean([run.step(step)["matching_loss"] for step in range(1, 81)][-20:]))
    assert last[0] < 0.9 * last[1]


def test_dropout_leaves_gradients_finite():
    run = GradientMatching(small_setting(OPTIONS, small_recommender(ITEMS, dropout=0.2)), OPTIONS)
    assert not run.model.training
    run.model.train()
    torch.manual_seed(0)
    run.step(1)
    assert torch.isfinite(run.synthetic.latents.grad).all()
    assert run.synthetic.latents.grad.abs().sum() > 0


def test_one_seed_gives_one_result():
    first, second = run_of(), run_of()
    assert [first.step(step) for step in (1, 2, 3)] == [second.step(step) for step in (1, 2, 3)]
    assert torch.equal(first.synthetic.latents, second.synthetic.latents)


def test_export_keeps_the_most_probable_items():
    assert_exports(run_of(), "dc")


def test_a_tuned_language_model_is_refused_with_the_memory_it_would_take(tiny_encoder):
    setting = small_setting(OPTIONS, tuned_recommender(tiny_encoder))
    with pytest.raises(InputError, match=r"dc: .*12 items, 1 steps.* GiB"):
        GradientMatching(setting, OPTIONS)
