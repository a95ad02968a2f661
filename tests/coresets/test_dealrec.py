"""DEALRec: the linear solvers against dense ones, influence against its definition, and the draw over bins."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from foster.coresets.dealrec import (
    allocate,
    conjugate_gradients,
    coverage,
    dealrec,
    hessian_product,
    influence,
    lissa,
    unit_range,
)
from foster.coresets.gradients import SampleGradients
from foster.coresets.pool import Pool
from foster.data.batches import pad
from foster.data.dataset import Dataset
from foster.data.histories import Histories
from foster.engine import Engine
from foster.errors import InputError
from foster.training.losses import next_item_loss
from small_models import small_recommender
from synthetic_log import synthetic_log


@pytest.fixture(scope="module")
def histories() -> Histories:
    rng = np.random.default_rng(0)
    return Histories.of([(rng.integers(40) + np.arange(rng.integers(2, 11))) % 40 for _ in range(30)])


@pytest.fixture(scope="module")
def teacher(histories):
    """A model that has learned some of the order, so that its loss is curved upwards in most directions."""
    model = small_recommender()
    optimiser = torch.optim.Adam(model.trained_parameters(), lr=1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        next_item_loss(model, pad(histories, 10), 40, torch.Generator()).backward()
        optimiser.step()
    return model


@pytest.fixture(scope="module")
def gradients(teacher, histories) -> SampleGradients:
    return SampleGradients(teacher, teacher.backbone.blocks[-1].project, histories, seed=0)


def losses(teacher, histories, weight: torch.Tensor) -> torch.Tensor:
    """The mean loss of each history, one at a time, as a function of the flat weight of the last projection."""
    out = []
    for history in histories:
        items = torch.from_numpy(history)
        vectors = teacher.item_table()[items[:-1]][None]
        named = {"blocks.0.project.weight": weight.view(8, 8)}
        states = torch.func.functional_call(teacher.backbone, named, (vectors,))[0]
        out.append(F.cross_entropy(states @ teacher.item_table().T / math.sqrt(8), items[1:]))
    return torch.stack(out)


@pytest.fixture(scope="module")
def dense(teacher, histories) -> tuple[torch.Tensor, torch.Tensor]:
    """The Hessian ``[64, 64]`` of the mean loss, and the gradients ``[30, 64]`` of the histories."""
    weight = teacher.backbone.blocks[-1].project.weight.detach().flatten()
    hessian = torch.autograd.functional.hessian(lambda w: losses(teacher, histories, w).mean(), weight)
    rows = torch.autograd.functional.jacobian(lambda w: losses(teacher, histories, w), weight)
    return hessian, rows


def quadratic(lowest: float, size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """A symmetric matrix with eigenvalues from ``lowest`` to 3, and a right-hand side."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    matrix = basis @ torch.diag(torch.linspace(lowest, 3, size, dtype=torch.float64)) @ basis.T
    return matrix, torch.randn(size, generator=generator, dtype=torch.float64)


def damped_solution(matrix: torch.Tensor, v: torch.Tensor, damping: float) -> torch.Tensor:
    return torch.linalg.solve(matrix + damping * torch.eye(len(v), dtype=v.dtype), v)


def test_conjugate_gradients_agree_with_a_dense_solve():
    matrix, v = quadratic(0.0)
    h = conjugate_gradients(lambda x: matrix @ x, v, damping=0.1, tolerance=1e-10)
    torch.testing.assert_close(h, damped_solution(matrix, v, 0.1), rtol=1e-7, atol=1e-7)


def test_conjugate_gradients_stop_at_the_residual_that_is_asked_for():
    matrix, v = quadratic(0.0)
    calls = []
    h = conjugate_gradients(lambda x: calls.append(1) or matrix @ x, v, damping=0.1, tolerance=0.05)
    assert (matrix @ h + 0.1 * h - v).norm() <= 0.05 * v.norm()
    assert len(calls) < len(v)


def test_negative_curvature_doubles_the_damping():
    matrix, v = quadratic(-0.5)
    h = conjugate_gradients(lambda x: matrix @ x, v, damping=0.15, tolerance=1e-10)
    torch.testing.assert_close(h, damped_solution(matrix, v, 0.6), rtol=1e-7, atol=1e-7)


def test_lissa_agrees_with_a_dense_solve():
    matrix, v = quadratic(0.0)
    h = lissa(lambda x: matrix @ x, v, damp=0.05, scale=4.0, depth=600)
    torch.testing.assert_close(h, damped_solution(matrix, v, 0.2), rtol=1e-7, atol=1e-7)


def test_lissa_with_single_samples_is_near_the_dense_solve():
    rng = np.random.default_rng(0)
    samples = torch.from_numpy(rng.normal(size=(50, 12)))
    v = torch.from_numpy(rng.normal(size=12))
    h = lissa(lambda x: (a := samples[rng.integers(50)]) * (a @ x), v, damp=0.0005, scale=2000.0, depth=5000)
    expected = damped_solution(samples.T @ samples / 50, v, 1.0)
    assert (h - expected).norm() < 0.1 * expected.norm()  # the last steps' samples weigh most


def test_lissa_doubles_its_scale_where_it_diverges():
    matrix, v = quadratic(0.0)
    h = lissa(lambda x: matrix @ x, v, damp=0.05, scale=0.7, depth=600)  # 3 / 0.7 > 2, 3 / 1.4 > 2, 3 / 2.8 < 2
    torch.testing.assert_close(h, damped_solution(matrix, v, 0.05 * 2.8), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("solve", [conjugate_gradients, lissa])
@pytest.mark.parametrize("factor", [-1e9, math.nan])
def test_solvers_give_up_in_the_end(solve, factor):
    with pytest.raises(InputError, match="pretrain"):
        solve(lambda x: factor * x, torch.ones(3))


def test_hessian_product_is_that_of_the_dense_hessian(gradients, dense, monkeypatch):
    monkeypatch.setattr("foster.coresets.dealrec.HESSIAN_BATCH", 7)
    hessian, _ = dense
    matrix = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    product = hessian_product(gradients, np.random.default_rng(0).permutation(30), matrix)
    torch.testing.assert_close(product.flatten(), hessian @ matrix.flatten(), rtol=1e-4, atol=1e-6)


def test_influence_is_its_definition(gradients, dense):
    hessian, rows = dense
    assert torch.linalg.eigvalsh(hessian)[0] > -0.01  # so the damping that conjugate gradients start with is enough
    expected = rows @ damped_solution(hessian, rows.mean(0), 0.01)
    found = influence(gradients, np.random.default_rng(0))
    np.testing.assert_allclose(found, expected.numpy(), rtol=0.01, atol=0.005 * float(expected.abs().max()))


def test_lissa_agrees_with_a_dense_solve_in_a_layer(gradients, dense):
    hessian, rows = dense
    h = lissa(lambda x: hessian_product(gradients, np.arange(30), x), gradients.mean(), damp=0.1, depth=100)
    expected = damped_solution(hessian, rows.mean(0), 0.1 * 25)
    assert (h.flatten() - expected).norm() < 1e-3 * expected.norm()


def test_influence_by_lissa_is_near_its_definition(gradients, dense, monkeypatch):
    monkeypatch.setattr("foster.coresets.dealrec.lissa", partial(lissa, depth=300))
    hessian, rows = dense
    expected = rows @ damped_solution(hessian, rows.mean(0), 0.01 * 25)
    found = influence(gradients, np.random.default_rng(0), "lissa")
    assert np.corrcoef(found, expected.numpy())[0, 1] > 0.98


def test_scores_are_clipped_and_scaled():
    scores = np.concatenate([np.arange(2001.0), [1e9, -1e9]])
    scaled = unit_range(scores)
    assert (scaled.min(), scaled.max()) == (0.0, 1.0)
    assert scaled[1000] == pytest.approx(0.5)
    assert (scaled[-2], scaled[-1]) == (1.0, 0.0)
    assert (unit_range(np.full(5, 3.0)) == 0).all()


def test_published_allocation_by_hand():
    # 12 over 4 bins that are not empty: min(1, 12 // 4), min(3, 11 // 3), min(9, 8 // 2), min(20, 4 // 1)
    assert allocate(np.array([9, 0, 3, 20, 1]), 12).tolist() == [4, 0, 3, 4, 1]
    # Fewer rows than bins: nothing for the smallest, one for each of the largest.
    assert allocate(np.array([5, 4, 3, 2, 1]), 2).tolist() == [1, 1, 0, 0, 0]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.data())
def test_allocation_sums_to_the_budget(sizes, data):
    budget = data.draw(st.integers(0, sum(sizes)))
    shares = allocate(np.array(sizes), budget)
    assert shares.sum() == budget
    assert (shares >= 0).all()
    assert (shares <= sizes).all()


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.50001, 1.0, 7.0]) | st.floats(-1, 1), min_size=1, max_size=80),
    st.sampled_from([None, 1, 50]),
    st.data(),
)
def test_coverage_draws_the_budget_of_distinct_rows(scores, bins, data):
    budget = data.draw(st.integers(1, len(scores)))
    rows = coverage(np.array(scores), budget, np.random.default_rng(0), bins)
    assert len(rows) == len(set(rows.tolist())) == budget
    assert set(rows.tolist()) <= set(range(len(scores)))


def test_coverage_by_hand():
    # The tenth with the highest scores goes; of the rest 20 lie in [0, 0.5) and 7 in [0.5, 1], so 10 are 5 and 5.
    scores = np.concatenate([np.linspace(5, 9, 3), np.linspace(0, 0.4, 20), np.linspace(0.6, 1, 7)])
    for seed in range(20):
        rows = coverage(scores, 10, np.random.default_rng(seed), bins=2)
        assert np.bincount(np.digitize(scores[rows], [0.5, 1.01]), minlength=3).tolist() == [5, 5, 0]


def test_coverage_prunes_less_where_too_few_would_stay():
    scores = np.arange(20.0)
    assert set(coverage(scores, 19, np.random.default_rng(0)).tolist()) == set(range(19))
    assert set(coverage(scores, 20, np.random.default_rng(0)).tolist()) == set(range(20))


def test_a_small_budget_has_half_as_many_bins():
    # Nine far apart scores and 90 that are close: 5 bins reach the tail, 50 would mostly draw from the crowd.
    scores = np.concatenate([np.linspace(0.2, 1, 9), np.full(90, 0.0)])
    rows = coverage(scores, 10, np.random.default_rng(0), prune=0)
    assert (rows < 9).sum() == 8
    assert (coverage(scores, 10, np.random.default_rng(0), prune=0, bins=50) < 9).sum() == 9


@pytest.mark.parametrize("solver", ["cg", "lissa"])
@pytest.mark.parametrize("budget", [1, 7, 60])
def test_dealrec_on_a_small_log(teacher, budget, solver, monkeypatch):
    monkeypatch.setattr("foster.coresets.dealrec.lissa", partial(lissa, depth=50))
    rows = pl.DataFrame(synthetic_log())
    data = Dataset.prepare(rows, rows.select("item_id", "title").unique(maintain_order=True), k_core=0)
    kept = data.training_histories().latest(10)

    def pool() -> Pool:
        rng = np.random.default_rng(3)
        return Pool(data, kept, budget, rng, 3, teacher.encoder, teacher.options, Engine("cpu"), teacher)

    chosen = dealrec(pool(), solver)
    assert len(set(chosen.tolist())) == len(chosen) == budget
    assert set(chosen.tolist()) <= set(range(len(kept)))
    assert np.array_equal(chosen, dealrec(pool(), solver))
