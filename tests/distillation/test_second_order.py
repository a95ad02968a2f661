"""Distillers that differentiate through training, with the sequence models that are attentive."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_dc import OPTIONS as DC_OPTIONS
from test_dm import assert_gradient_is_slope, double_precision
from test_farzi import OPTIONS as FARZI_OPTIONS
from test_farzi import assert_gradient_is_slope as assert_outer_gradient_is_slope
from test_farzi import small_setting
from test_mtt import OPTIONS as MTT_OPTIONS
from test_td3 import OPTIONS as TD3_OPTIONS

from foster.distillation.baselines import soft_steps
from foster.distillation.baselines.dc import GradientMatching
from foster.distillation.baselines.farzi import Farzi
from foster.distillation.baselines.mtt import TrajectoryMatching
from foster.distillation.baselines.td3 import TD3

METHODS = {"dc": (GradientMatching, DC_OPTIONS), "mtt": (TrajectoryMatching, MTT_OPTIONS)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backbone", ["hstu", "ligr"])
def test_matching_gradients_are_slopes(method, backbone):
    kind, options = METHODS[method]
    with double_precision():
        assert_gradient_is_slope(lambda: kind(small_setting(options, double=True, backbone=backbone), options))


@pytest.mark.parametrize("backbone", ["hstu", "ligr"])
def test_the_outer_gradient_is_the_slope(monkeypatch, backbone):
    monkeypatch.setattr(soft_steps, "CANDIDATES", 12)
    assert_outer_gradient_is_slope(
        lambda: Farzi(small_setting(FARZI_OPTIONS, double=True, backbone=backbone), FARZI_OPTIONS)
    )


@pytest.mark.parametrize("backbone", ["hstu", "ligr"])
def test_a_learned_learner_moves_the_sequences(backbone):
    run = TD3(small_setting(TD3_OPTIONS, backbone=backbone), TD3_OPTIONS)
    before = [x.detach().clone() for x in run.synthetic.parameters()]
    records = [run.step(step) for step in (1, 2)]
    assert np.isfinite([value for record in records for value in record.values()]).all()
    assert not any(torch.equal(x, y) for x, y in zip(before, run.synthetic.parameters(), strict=True))
