"""The objective against closed forms, and that nothing of second order is ever needed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from foster.distillation.objective import (
    cooccurrence_regulariser,
    entropy,
    neighbours,
    regulariser,
    scores_on_subset,
    synthetic_loss,
    value_gap,
)
from foster.distillation.synthetic import SyntheticSequences
from small_models import small_recommender

V, WIDTH = 40, 12


@pytest.fixture
def setting():
    outer, inner = small_recommender(V, seed=1), small_recommender(V, seed=2)
    torch.manual_seed(3)
    synthetic = SyntheticSequences(torch.randn(V, 6), torch.randint(V, (3, 5)), temperature=0.3)
    return outer, inner, synthetic, torch.arange(V)


def test_gap_gradient_on_targets_is_the_closed_form(setting):
    """d gap / d z_v = p_v (D_v - E_p D) / rows with D = log q_inner - log q_outer, through the target side."""
    outer, inner, _, subset = setting
    logits = torch.randn(3, 5, V, requires_grad=True)
    p = logits.softmax(-1)
    q = [scores_on_subset(m, p.detach(), m.tower(subset)) for m in (outer, inner)]
    (gradient,) = torch.autograd.grad(value_gap(*q, p, None), logits)
    advantage = (q[1].log_softmax(-1) - q[0].log_softmax(-1))[:, :-1].detach()
    target = p[:, 1:].detach()
    expected = target * (advantage - (target * advantage).sum(-1, keepdim=True)) / (3 * 4)
    torch.testing.assert_close(gradient[:, 1:], expected, atol=1e-6, rtol=1e-4)
    assert gradient[:, 0].abs().max() == 0


def test_the_soft_gap_is_minus_the_divergence_of_the_models(setting):
    outer, inner, synthetic, subset = setting
    p = synthetic(subset).detach()
    scores = [scores_on_subset(m, p, m.tower(subset)) for m in (outer, inner)]
    q_outer, q_inner = (torch.distributions.Categorical(logits=s) for s in scores)
    divergence = torch.distributions.kl_divergence(q_outer, q_inner)
    gap = value_gap(*scores, p, scores[0].softmax(-1))
    torch.testing.assert_close(gap, -divergence.mean())
    assert gap < 0 and divergence.min() >= 0


@pytest.mark.parametrize("soft", [False, True])
def test_gap_gradient_is_zero_where_both_models_are_equal(setting, soft):
    outer, inner, synthetic, subset = setting
    labels = torch.rand(3, 5, V).softmax(-1) if soft else None

    def gradient(second):
        p = synthetic(subset)
        scores = [scores_on_subset(m, p, m.tower(subset)) for m in (outer, second)]
        return torch.autograd.grad(value_gap(*scores, p, labels), synthetic.latents)[0]

    assert gradient(copy.deepcopy(outer)).abs().max() < 1e-8
    assert gradient(inner).abs().max() > 1e-5


def test_whole_catalogue_as_subset_is_the_full_computation(setting):
    outer, _, synthetic, subset = setting
    similarity = torch.nn.functional.normalize(synthetic.latents, dim=-1) @ synthetic.unit_keys(slice(None)).T
    full = torch.softmax(similarity / 0.3, -1)
    torch.testing.assert_close(synthetic(subset), full)
    table = outer.item_table()
    states = outer.backbone(full @ table)
    expected = -(full[:, 1:] * (states @ table.T / 8**0.5).log_softmax(-1)[:, :-1]).sum(-1).mean()
    actual = synthetic_loss(scores_on_subset(outer, full, outer.tower(subset)), full, None)
    torch.testing.assert_close(actual, expected)


def test_first_order_under_fused_attention(setting, monkeypatch):
    """The fused kernel has no second derivative, so this fails as soon as a graph of a gradient is built."""
    outer, inner, synthetic, subset = setting
    original = torch.autograd.grad

    def guarded(*args, **kwargs):
        assert not kwargs.get("create_graph"), "a graph of a gradient was asked for"
        return original(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", guarded)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        p = synthetic(subset)
        scores = [scores_on_subset(m, p, m.tower(subset)) for m in (outer, inner)]
        (gradient,) = torch.autograd.grad(value_gap(*scores, p, None), [synthetic.latents])
    assert not gradient.requires_grad
    assert gradient.abs().max() > 0


def test_uniform_steps_mix_to_the_mean_item(setting):
    outer, _, _, subset = setting
    vectors = outer.tower(subset)
    uniform = torch.full((1, 2, V), 1 / V)
    torch.testing.assert_close((uniform @ vectors)[0, 0], vectors.mean(0))
    assert entropy(uniform).item() == pytest.approx(torch.tensor(float(V)).log().item(), rel=1e-5)


def test_neighbours_are_others_with_weights_that_sum_to_one():
    torch.manual_seed(0)
    features = torch.randn(V, WIDTH)
    items = torch.tensor([3, 0, 39])
    near, weights = neighbours(features, items)
    assert near.shape == weights.shape == (3, 10)
    assert (near != items[:, None]).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3))
    cosine = torch.nn.functional.cosine_similarity(features[items][:, None], features, dim=-1)
    assert (near[:, 0] == cosine.topk(2).indices[:, 1]).all()


def test_regulariser_is_zero_only_where_similar_items_are_used_alike():
    torch.manual_seed(0)
    features = torch.randn(V, WIDTH)
    follows = torch.rand(1, V).softmax(-1).expand(V, V)
    alike = torch.full((V, V), 1 / V)
    assert regulariser(alike, follows, features).abs() < 1e-6
    assert regulariser(torch.eye(V), torch.eye(V), features) > 0.1


def test_regularisers_are_the_sums_over_all_pairs_that_they_stand_for():
    """Both forms against A and C written out, of N x N numbers: all items are among the 64 of most mass here."""
    torch.manual_seed(0)
    features, p = torch.randn(V, WIDTH), torch.randn(3, 5, V).softmax(-1)
    near, w = neighbours(features, torch.arange(V))
    dense = torch.zeros(V, V).scatter_(-1, near, w)
    steps, follows = p[:, :-1].flatten(0, 1), p[:, 1:].flatten(0, 1)

    def divergence(counts):
        a = counts / counts.sum(-1, keepdim=True)
        middle = (a[:, None] + a[None]) / 2
        both = [(x * (x / middle).log()).sum(-1) for x in (a[:, None], a[None])]
        return (counts.sum(-1, keepdim=True) / counts.sum() * dense * (both[0] + both[1]) / 2).sum()

    counts = steps.T @ follows
    expected = (divergence(counts) + divergence(counts.T)) / 2
    torch.testing.assert_close(regulariser(steps, follows, features), expected, atol=1e-6, rtol=1e-4)

    used = p.mean(1)
    together = used.T @ used
    mass = together.sum(-1)
    information = (together * together.sum() / (mass[:, None] * mass)).log()
    expected = -(mass[:, None] / mass.sum() * dense * information).sum()
    torch.testing.assert_close(cooccurrence_regulariser(p, features), expected, atol=1e-5, rtol=1e-3)


def test_top_items_hold_the_distribution(setting):
    _, _, synthetic, subset = setting
    items, weights = synthetic.top(V, chunk=7)
    with torch.no_grad():
        expected = synthetic(subset)
    torch.testing.assert_close(torch.zeros(3, 5, V).scatter_(-1, items, weights), expected)


def test_cooccurrence_rewards_similar_items_in_one_sequence():
    """Two pairs of similar items: together in a sequence is better than apart, whatever their popularity."""
    features = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    step = torch.eye(4)
    together = torch.stack([step[[0, 1]], step[[2, 3]]])
    apart = torch.stack([step[[0, 2]], step[[1, 3]]])
    assert cooccurrence_regulariser(together, features) < cooccurrence_regulariser(apart, features)
    independent = torch.full((2, 2, 4), 0.25)
    assert cooccurrence_regulariser(independent, features).abs() < 1e-4
