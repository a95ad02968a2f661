"""Losses on the log, samples and batches."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from allocations import Allocations
from foster.data.batches import EndlessBatches, pad
from foster.training.losses import next_item_loss, own_scores, sample_items
from small_models import HISTORIES, full_loss, small_recommender


def test_whole_catalogue_is_the_full_softmax():
    model = small_recommender()
    loss = next_item_loss(model, pad(HISTORIES, 10), 40, torch.Generator())
    torch.testing.assert_close(loss, full_loss(model))


def test_sampled_softmax_estimates_the_full_one():
    model = small_recommender()
    generator = torch.Generator().manual_seed(0)
    pair = [np.array([3, 5])]
    # exp(loss) is linear in the sampled partition function, so this mean has no bias, unlike that of the losses.
    estimates = [next_item_loss(model, pad(pair, 10), 20, generator).exp().item() for _ in range(2000)]
    exact = next_item_loss(model, pad(pair, 10), 40, generator).exp().item()
    assert np.mean(estimates) == pytest.approx(exact, rel=0.03)


def test_scores_of_own_items_and_their_gradients_are_those_of_gathered_vectors():
    generator = torch.Generator().manual_seed(0)
    items = torch.randint(9, (5, 4), generator=generator)  # neither ascending nor distinct
    grad = torch.randn(5, 4, generator=generator)
    states, vectors = (torch.randn(n, 3, generator=generator, requires_grad=True) for n in (5, 9))
    found, wanted = own_scores(states, vectors, items), torch.einsum("nd,nkd->nk", states, vectors[items])
    torch.testing.assert_close(found, wanted)
    for ours, theirs in zip(
        torch.autograd.grad(found, (states, vectors), grad), torch.autograd.grad(wanted, (states, vectors), grad),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(ours, theirs)


def test_samples_are_distinct_and_ascending():
    sample = sample_items(100, 30, torch.Generator().manual_seed(1))
    assert len(set(sample.tolist())) == 30
    assert sample.tolist() == sorted(sample.tolist())
    assert sample_items(5, 30, torch.Generator()).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("n_items", "n"), [(7, 2), (7, 3), (6, 4), (5, 1)])
def test_every_sample_is_equally_likely(n_items, n):
    """An item is in a share n / V of the samples, two items in n (n - 1) / (V (V - 1)) of them, and so on."""
    generator, draws = torch.Generator().manual_seed(0), 20_000
    counts = Counter(tuple(sample_items(n_items, n, generator).tolist()) for _ in range(draws))
    subsets = math.comb(n_items, n)
    expected = draws / subsets
    assert len(counts) == subsets
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < subsets - 1 + 5 * math.sqrt(2 * (subsets - 1))


def test_a_sample_costs_nothing_that_grows_with_the_catalogue():
    with Allocations() as allocations:
        sample_items(10**7, 512, torch.Generator().manual_seed(0))
    assert allocations.largest <= 512 * 8


def test_batches_cover_every_sequence_once_a_pass():
    lengths = np.random.default_rng(0).integers(1, 20, 103)
    batches = EndlessBatches(lengths, 10, np.random.default_rng(1))
    seen, counts = [], 0
    while counts < 103:
        batch = next(batches)
        counts += len(batch)
        seen += batch.tolist()
    assert sorted(seen) == list(range(103))


def test_batches_have_about_the_same_number_of_steps():
    lengths = np.random.default_rng(0).integers(2, 50, 1600)
    batches = EndlessBatches(lengths, 10, np.random.default_rng(1))
    steps = [lengths[next(batches)].sum() for _ in range(160)]
    assert np.mean(steps) == pytest.approx(lengths.sum() / 160)
    assert min(steps) > 0.7 * np.mean(steps) and max(steps) < 1.4 * np.mean(steps)


def test_a_batch_is_never_empty():
    batches = EndlessBatches(np.array([2, 2, 100]), 1, np.random.default_rng(0))
    assert all(len(next(batches)) for _ in range(20))


@pytest.mark.parametrize("candidates", [40, 20])
def test_the_loss_in_half_precision_is_nearly_the_same(candidates):
    """Rows that are padded for the sake of few shapes do not count."""
    model = small_recommender()
    exact = next_item_loss(model, pad(HISTORIES, 10), candidates, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        halved = next_item_loss(model, pad(HISTORIES, 10), candidates, torch.Generator().manual_seed(0))
    assert halved.dtype == torch.float32
    assert halved.item() == pytest.approx(exact.item(), rel=0.01)
    halved.backward()


def test_padding_keeps_the_newest_items():
    assert pad([np.array([1, 2, 3, 4]), np.array([5])], 3).tolist() == [[2, 3, 4], [5, -1, -1]]
