"""Per-sample gradients against one backward pass a sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from foster.coresets import gradients
from foster.coresets.gradients import SampleGradients, effort, last_block
from foster.coresets.pool import Pool
from foster.data.batches import pad
from foster.data.histories import Histories
from foster.engine import Engine
from foster.errors import InputError
from foster.training.losses import next_item_loss
from small_models import small_recommender

CANDIDATES = 15
LAYERS = {
    "feed": lambda model: model.backbone.blocks[-1].feed[2],
    "project": lambda model: model.backbone.blocks[-1].project,
    "qkv": lambda model: model.backbone.blocks[0].qkv,
}


def histories(n: int = 23) -> Histories:
    rng = np.random.default_rng(1)
    return Histories.of([rng.integers(0, 40, length) for length in rng.integers(2, 12, n)])


def direct(model, layer, history, seed: int, candidates: int = CANDIDATES) -> torch.Tensor:
    """The gradient of the training loss of one history; the same seed gives the same sample of items."""
    loss = next_item_loss(model, pad([history], 11), candidates, torch.Generator().manual_seed(seed))
    return torch.autograd.grad(loss, layer.weight)[0]


@pytest.fixture(params=LAYERS)
def case(request):
    model = small_recommender(dropout=0.5)
    layer = LAYERS[request.param](model)
    expected = torch.stack([direct(model, layer, history, 4) for history in histories()])
    return SampleGradients(model.train(), layer, histories(), 4, CANDIDATES), expected


@pytest.mark.parametrize("batch", [1, 5, 128])
def test_all_sums_agree_with_one_backward_pass_a_sample(case, batch, monkeypatch):
    monkeypatch.setattr(gradients, "BATCH", batch)
    samples, expected = case
    matrix = torch.randn(expected.shape[1:], generator=torch.Generator().manual_seed(2))
    norms, inner = samples.norms(), samples.inner(matrix)
    assert norms.dtype == inner.dtype == np.float64
    np.testing.assert_allclose(norms, expected.flatten(1).norm(dim=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inner, (expected * matrix).sum((1, 2)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(samples.mean(), expected.mean(0), rtol=1e-5, atol=1e-6)


def test_the_whole_catalogue_is_the_full_softmax():
    model = small_recommender()
    layer = LAYERS["feed"](model)
    expected = [direct(model, layer, history, 0, candidates=40).norm().item() for history in histories()]
    norms = SampleGradients(model, layer, histories(), 0, candidates=40).norms()
    np.testing.assert_allclose(norms, expected, rtol=1e-5, atol=1e-6)


def test_loss_has_the_mean_gradient_and_a_second_derivative(case):
    samples, expected = case
    rows, weight = np.array([20, 3, 11]), samples.layer.weight
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))

    def slope() -> torch.Tensor:
        (gradient,) = torch.autograd.grad(samples.loss_of(rows), weight, create_graph=True)
        return gradient

    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(slope(), expected[rows].mean(0), rtol=1e-5, atol=1e-6)
        (product,) = torch.autograd.grad((slope() * direction).sum(), weight)
        before, step = weight.detach().clone(), 3e-3
        with torch.no_grad():
            weight.copy_(before + step * direction)
        ahead = slope().detach()
        with torch.no_grad():
            weight.copy_(before - step * direction)
        behind = slope().detach()
    torch.testing.assert_close(product, (ahead - behind) / (2 * step), rtol=2e-2, atol=2e-4)


def test_the_model_is_left_as_it_was(case):
    samples, _ = case
    before = {name: p.detach().clone() for name, p in samples.model.named_parameters()}
    samples.norms()
    for name, parameter in samples.model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad
        assert parameter.grad is None
    assert not samples.layer._forward_hooks


def test_effort_is_the_gradient_norm_of_the_untrained_student():
    teacher, rng = small_recommender(n_items=2100, seed=1), np.random.default_rng(0)  # more than are sampled
    pool = Pool(None, histories(), 5, rng, 9, teacher.encoder, teacher.options, Engine("cpu"), teacher)
    student = teacher.fresh(9).eval()
    layer = student.backbone.blocks[-1].feed[2]
    expected = [direct(student, layer, history, 9, candidates=2048).norm().item() for history in histories()]
    np.testing.assert_allclose(effort(pool), expected, rtol=1e-5, atol=1e-6)


def test_another_sequence_model_has_no_last_block():
    model = small_recommender()
    other = model.fresh(0, model.options.model_copy(update={"backbone": "gru4rec"}))
    with pytest.raises(InputError, match="not of gru4rec: give a SASRec teacher"):
        last_block(other)
