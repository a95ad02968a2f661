"""Whitening, and the tables of features that it makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from allocations import Allocations
from foster.condensed.score_matching import covariance
from foster.errors import InputError
from foster.models import item_tower
from foster.models.item_tower import FrozenFeatures, Whitening, mapped
from foster.models.moe import MoEAdapter
from foster.text.words import word_vectors
from small_models import small_recommender


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_equal_vectors_are_an_error(scale):
    one = scale * torch.randn(1, 12, generator=torch.Generator().manual_seed(0))
    rounding = 1 + 1e-7 * torch.randn(40, 12, generator=torch.Generator().manual_seed(1))
    with pytest.raises(InputError, match="the catalogue has one item"):
        Whitening.fit(one)
    for vectors in (one.expand(40, 12), one * rounding, torch.zeros(3, 12)):
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


@pytest.mark.parametrize(("items", "words"), [(90, 400), (500, 4000), (2000, 400), (2000, 4000)])
def test_features_of_new_words_are_as_long_as_others(items, words):
    rng = np.random.default_rng(0)
    common = 1 / np.arange(1, words + 1)
    texts = [" ".join(f"w{w}" for w in rng.choice(words, 9, p=common / common.sum())) for _ in range(items)]
    vectors = word_vectors(texts, 512)
    whitening = Whitening.fit(vectors, words=512)
    known = whitening(vectors).norm(dim=1).mean().item()
    assert known == pytest.approx(512**0.5, rel=1e-3)
    two_new = [f"{text.rsplit(' ', 2)[0]} new{i} other{i}" for i, text in enumerate(texts[:200])]
    all_new = [" ".join(f"n{i}x{j}" for j in range(9)) for i in range(200)]
    for new in (two_new, all_new):
        assert 0.4 * known < whitening(word_vectors(new, 512)).norm(dim=1).mean() < 2 * known


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(item_tower, "ROWS", 60)
    monkeypatch.setattr("foster.condensed.score_matching.ROWS", 60)


def test_whitening_copies_a_small_part_of_the_vectors_at_a_time(small_parts):
    vectors = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    with Allocations() as allocations:
        Whitening.fit(vectors)
    assert allocations.peak <= 0.3 * vectors.nbytes


def test_whitening_in_parts_is_that_of_the_whole(monkeypatch):
    vectors = torch.randn(500, 12, generator=torch.Generator().manual_seed(0)) @ torch.randn(12, 12)
    whole = Whitening.fit(vectors)
    monkeypatch.setattr(item_tower, "ROWS", 60)
    parts = Whitening.fit(vectors)
    assert torch.equal(parts.mean, whole.mean)
    torch.testing.assert_close(parts.matrix, whole.matrix, rtol=1e-6, atol=1e-7)


def half(n: int = 200) -> torch.Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(0)).half()


def test_vectors_in_half_precision_are_computed_with_in_single(small_parts):
    vectors, other = half(), torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    features = FrozenFeatures.of(vectors)
    assert features(torch.tensor([3, 7])).dtype == torch.float32 and features.vectors.dtype == torch.float16
    wide = vectors.float()
    torch.testing.assert_close(features(torch.tensor([3, 7])), wide[[3, 7]])
    for left, right in ((vectors, vectors), (vectors, other), (other, vectors)):
        torch.testing.assert_close(covariance(left, right), covariance(left.float(), right.float()))
    torch.manual_seed(0)
    experts = {name: weights.detach() for name, weights in MoEAdapter(12, 6, 0.0).named_parameters()}
    for weights in ({"weight": torch.randn(6, 12)}, experts):
        torch.testing.assert_close(mapped(vectors, weights), mapped(wide, weights))


@pytest.mark.parametrize("loaded", [False, True])
def test_features_that_are_added_come_behind_the_old_ones(loaded):
    calls, old = [], torch.zeros(3, 2)
    features = FrozenFeatures(lambda: calls.append(1) or old, 2)
    if loaded:
        assert len(features) == 3
    for number in range(2000):  # one by one, which used to be a chain of calls
        features = features.extended(["text"], torch.full((1, 2), float(number)))
    assert len(calls) == loaded, "features are computed when they are first needed"
    assert features.vectors[:, 0].tolist() == [0, 0, 0, *range(2000)]
    assert len(features) == 2003 and len(calls) == 1


@pytest.mark.parametrize("adapter", ["moe", "linear"])
def test_the_table_of_all_items_is_that_of_inference_in_training_too(adapter):
    model = small_recommender(adapter=adapter, dropout=0.5, ids=True)
    model.tower.mark(torch.arange(20))
    table = model.item_table()
    model.train()
    assert not torch.equal(model.tower(torch.arange(40)), table)  # noise of gates, dropout of own vectors
    assert torch.equal(model.item_table(), table)
    assert all(module.training for module in model.modules())
