"""Dropout, padded rows and the softmax's own gradient against plain torch."""

import pytest
import torch
from torch.nn import functional as F

from foster.models.kernels import BUCKET, Dropout, attend, logsumexp_without, padded_rows, random_bytes


def test_random_bytes_are_uniform_and_follow_the_seed():
    torch.manual_seed(0)
    drawn = random_bytes(256_001)
    assert drawn.shape == (256_001,)
    counts = torch.bincount(drawn.long(), minlength=256)
    assert counts.min() > 800 and counts.max() < 1200  # 1000 expected, deviation 32
    torch.manual_seed(0)
    assert torch.equal(drawn, random_bytes(256_001))


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
def test_dropout_keeps_the_mean_and_the_gradient_of_what_stays(rate):
    torch.manual_seed(0)
    x = torch.ones(400, 500, requires_grad=True)
    out = Dropout(rate)(x)
    assert (out == 0).float().mean().item() == pytest.approx(rate, abs=0.005)
    assert out.mean().item() == pytest.approx(1, abs=0.01)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_dropout_does_nothing_in_evaluation_or_at_rate_zero():
    x = torch.randn(5, 7)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_rows_are_padded_only_where_products_are_halved_on_a_cpu():
    x = torch.randn(BUCKET + 1, 3)
    assert padded_rows(x) is x
    with torch.autocast("cpu", torch.bfloat16):
        padded = padded_rows(x)
        assert padded_rows(padded) is padded
    assert padded.shape == (2 * BUCKET, 3)
    assert torch.equal(padded[: len(x)], x) and not padded[len(x) :].any()


def test_attention_under_autocast_is_that_of_full_precision():
    query, key, value = torch.randn(3, 2, 2, 9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        halved = attend(query.bfloat16(), key.bfloat16(), value.bfloat16())
    wanted = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, wanted, atol=0.05, rtol=0.05)
    torch.testing.assert_close(attend(query, key, value), wanted)


def test_logsumexp_without_some_entries_has_value_and_gradient_of_torch():
    scores = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    rows, columns = torch.tensor([0, 0, 3]), torch.tensor([1, 4, 2])
    mask = torch.zeros(6, 5, dtype=torch.bool)
    mask[rows, columns] = True
    upstream = torch.randn(6, dtype=torch.float64)
    wanted = scores.masked_fill(mask, -torch.inf).logsumexp(1)
    (slope,) = torch.autograd.grad(wanted, scores, upstream)
    found = logsumexp_without(scores, rows, columns)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found, scores, upstream)[0], slope)
    assert scores.isfinite().all()  # the scores themselves stay what they are


def test_logsumexp_of_nothing_is_minus_infinity_without_a_gradient():
    scores = torch.randn(2, 2, requires_grad=True)
    found = logsumexp_without(scores, torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert found[0] == -torch.inf and found[1].isfinite()
    F.softplus(found).sum().backward()
    assert torch.equal(scores.grad[0], torch.zeros(2)) and scores.grad.isfinite().all()


def test_logsumexp_of_half_precision_is_summed_in_single():
    scores = torch.zeros(1, 4096, dtype=torch.bfloat16, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.int64)
    found = logsumexp_without(scores, nothing, nothing)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(8.3178, abs=1e-4)


def test_logsumexp_cannot_be_differentiated_twice_in_silence():
    scores = torch.randn(2, 3, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.int64)
    (slope,) = torch.autograd.grad(
        logsumexp_without(scores, nothing, nothing).square().sum(), scores, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.square().sum().backward()
