"""Numbers in few bits."""

from __future__ import annotations

import pytest
import torch

from foster.condensed.codes import is_packed, levels_of, pack, rounded, rounded_for_scores, unpack


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [8, 7])
def test_labels_are_kept_in_four_bits(width):
    codes = normal(3, 5, width)
    codes[0, 0] = 0
    packed, scales = pack(codes, 4)
    assert (packed.dtype, packed.shape) == (torch.uint8, (3, 5, 4))
    again = unpack(packed, scales, 4, width)
    steps = codes.abs().amax(-1, keepdim=True) / 7
    assert ((again - codes).abs() <= 0.51 * steps).all()
    assert again.abs().amax(-1) == pytest.approx(codes.abs().amax(-1), rel=1e-3)


@pytest.mark.parametrize(("bits", "error"), [(1, 0.363), (2, 0.1175)])
def test_rounding_a_normal_row_has_the_error_of_the_best_quantiser(bits, error):
    values = normal(50, 4000)
    found = (rounded(values, bits) - values).square().mean() / values.square().mean()
    assert found.item() == pytest.approx(error, rel=0.02)  # Max, 1960, table I


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("width", [16, 13])
def test_what_is_rounded_is_packed_without_loss(bits, width):
    values = rounded(normal(6, width), bits)
    packed, scales = pack(values, bits)
    assert packed.shape == (6, -(-width * bits // 8))
    again = unpack(packed, scales, bits, width)
    assert torch.allclose(again, values, rtol=1e-3)
    once_more = pack(again, bits)
    assert torch.equal(once_more[0], packed)
    assert torch.equal(once_more[1], scales)
    assert len(again[0].abs().unique()) <= len(levels_of(bits))


@pytest.mark.parametrize("bits", [1, 2])
def test_labels_are_rounded_for_their_scores_and_not_for_their_numbers(bits):
    labels, keys = normal(40, 24), normal(300, 24, seed=1) * torch.linspace(0.1, 3, 24)
    keys = keys @ torch.linalg.qr(normal(24, 24, seed=2))[0]
    covariance = keys.T @ keys / 300 - torch.outer(keys.mean(0), keys.mean(0))

    def wrong_scores(rounded_labels):
        scores = (rounded_labels - labels) @ keys.T
        return (scores - scores.mean(1, keepdim=True)).square().mean().item()

    chosen = rounded_for_scores(labels, bits, covariance)
    assert wrong_scores(chosen) < 0.7 * wrong_scores(rounded(labels, bits))
    assert torch.allclose(unpack(*pack(chosen, bits), bits, 24), chosen, rtol=1e-3)


def test_a_row_of_zeros_stays_one():
    zeros = torch.zeros(2, 8)
    assert unpack(*pack(zeros, 2), 2, 8).abs().max() < 1e-4
    assert rounded_for_scores(zeros, 1, torch.eye(8)).abs().max() < 1e-4


def test_what_stands_behind_packed_rows_is_zero():
    packed, _ = pack(torch.ones(2, 3), 2)
    assert is_packed(packed, 2, 3) and not is_packed(packed, 2, 2) and not is_packed(packed, 2, 5)
    assert is_packed(pack(torch.ones(2, 4), 2)[0], 2, 4)
