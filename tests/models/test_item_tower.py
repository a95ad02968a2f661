"""Whitening where text vectors do not differ."""

from __future__ import annotations

import pytest
import torch

from foster.errors import InputError
from foster.models.item_tower import Whitening


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_equal_vectors_are_an_error(scale):
    one = scale * torch.randn(1, 12, generator=torch.Generator().manual_seed(0))
    rounding = 1 + 1e-7 * torch.randn(40, 12, generator=torch.Generator().manual_seed(1))
    for vectors in (one.expand(40, 12), one * rounding, one, torch.zeros(3, 12)):
        with pytest.raises(InputError, match=rf"the texts of all {len(vectors)} items have the same vector"):
            Whitening.fit(vectors)


def test_nearly_equal_vectors_are_told_apart():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(1, 12, generator=generator) + 1e-3 * torch.randn(40, 12, generator=generator)
    out = Whitening.fit(vectors)(vectors)
    assert out.isfinite().all() and out.std(0).min() > 0.5


def test_directions_without_variance_stay_finite_and_small():
    vectors = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    vectors[:, 3] = 7.0
    vectors[:, 5] = vectors[:, 4]
    out = Whitening.fit(vectors)(vectors)
    assert out.isfinite().all()
    assert out[:, 3].abs().max() < 1e-3
    assert out.norm(dim=1).mean().item() == pytest.approx(12**0.5, rel=1e-4)
