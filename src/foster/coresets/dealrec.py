"""DEALRec: influence and effort scores, drawn so as to cover their range.

Lin et al., *Data-efficient Fine-tuning for LLM-based Recommendation*, SIGIR 2024, arXiv 2401.17197. Departures: samples
are whole histories; the surrogate is the text-based teacher where the paper trains a SASRec on ids; the target model is
a student with random weights instead of a large language model (see ``effort``); both scores are clipped at percentiles
before they are scaled; by default the linear system is solved by conjugate gradients and a small budget has fewer bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from foster.coresets.gradients import SampleGradients, effort, last_block
from foster.coresets.pool import Pool
from foster.errors import InputError

Solver = Literal["cg", "lissa"]
Product = Callable[[Tensor], Tensor]

EFFORT_WEIGHT = 0.3  # lambda of the paper for Games
CLIP = (0.1, 99.9)  # percentiles beyond which scores are cut, since a few outliers would squash the scale
MOST_BINS = 50  # as published
CURVATURE_SAMPLES = 1024  # histories whose mean loss stands for the log's in the Hessian of conjugate gradients
HESSIAN_BATCH = 64  # histories whose second-order graph is alive at once
DOUBLINGS = 8  # times that damping or scale may double before a solver gives up


def dealrec(pool: Pool, solver: Solver = "cg", bins: int | None = None) -> np.ndarray:
    """Choose histories over the range of ``influence + 0.3 effort``, the hardest tenth left out.

    Args:
        pool: what to choose from; needs a teacher.
        solver: ``cg``, or ``lissa`` as published.
        bins: equal-width bins of the score; 50 as published, by default fewer for small budgets (see ``coverage``).

    Returns:
        int64 ``[budget]`` distinct row numbers.

    Raises:
        InputError: the influence cannot be computed, see ``influence``.
    """
    gradients = SampleGradients(pool.teacher, last_block(pool.teacher).project, pool.histories, pool.seed)
    scores = unit_range(influence(gradients, pool.rng, solver)) + EFFORT_WEIGHT * unit_range(effort(pool))
    return coverage(scores, pool.budget, pool.rng, bins)


def influence(gradients: SampleGradients, rng: np.random.Generator, solver: Solver = "cg") -> np.ndarray:
    """Return ``<h, G_i>`` with ``h = (H + damping I)^-1 v``: how far the loss on the log would rise without sample i.

    v is the mean gradient and H the Hessian of the mean loss, both in the weight of one layer. H is symmetric, so one
    system serves all samples.

    Args:
        gradients: of the U samples in that layer; here the output projection of the last attention layer.
        rng: draws the samples that stand for the log in H.
        solver: ``cg`` solves the system of one sample of histories; ``lissa`` goes through single ones.

    Returns:
        float64 ``[U]``, up to a factor.

    Raises:
        InputError: the system stays indefinite, or the iteration diverges, at every damping that is tried.
    """
    users, mean = len(gradients.histories), gradients.mean()
    if solver == "cg":
        rows = rng.choice(users, min(CURVATURE_SAMPLES, users), replace=False)
        return gradients.inner(conjugate_gradients(lambda x: hessian_product(gradients, rows, x), mean))
    return gradients.inner(lissa(lambda x: hessian_product(gradients, rng.integers(users, size=1), x), mean))


def hessian_product(gradients: SampleGradients, rows: np.ndarray, matrix: Tensor) -> Tensor:
    """Return H times a matrix.

    Args:
        gradients: of samples in one layer's weight ``[out, in]``.
        rows: the samples whose mean loss has the Hessian H in that weight.
        matrix: ``[out, in]``.

    Returns:
        ``[out, in]``.
    """
    rows = rows[np.argsort(gradients.histories.lengths[rows], kind="stable")]
    weight, out = gradients.layer.weight, torch.zeros_like(matrix)
    for part in np.array_split(rows, math.ceil(len(rows) / HESSIAN_BATCH)):
        # The path from the last projection to the loss has no attention, whose fused kernels lack a second derivative.
        (gradient,) = torch.autograd.grad(gradients.loss_of(part), weight, create_graph=True)
        (product,) = torch.autograd.grad(gradient, weight, matrix)
        out += product * (len(part) / len(rows))
    return out


def conjugate_gradients(
    product: Product, v: Tensor, damping: float = 0.01, tolerance: float = 1e-3, iterations: int = 50
) -> Tensor:
    """Solve ``(H + damping I) h = v``, with the damping doubled as often as negative curvature is met.

    The teacher is no exact minimum of the loss, so H may have negative eigenvalues. The last iterate before one is met
    would depend on when that happens; with more damping h is the solution of a system that has one.

    Args:
        product: maps x to ``H x``; shapes as ``v``.
        v: right-hand side.
        damping: to start with; in the unit of H, loss per squared weight.
        tolerance: norm of the residual, as a share of the norm of v, at which to stop.
        iterations: at most; each makes the error smaller, so h is usable where they run out.

    Raises:
        InputError: negative curvature at the largest damping as well.
    """
    return _first_that_works(lambda damping: _conjugate_gradients(product, v, damping, tolerance, iterations), damping)


def _conjugate_gradients(
    product: Product, v: Tensor, damping: float, tolerance: float, iterations: int
) -> Tensor | None:
    """Return h, or None where the system is not positive definite."""
    h, residual, direction = torch.zeros_like(v), v, v
    square = float((v * v).sum())
    goal = tolerance**2 * square
    for _ in range(iterations):
        if square <= goal:
            break
        image = product(direction) + damping * direction
        curvature = float((direction * image).sum())
        if not curvature > 0:  # nor is NaN
            return None
        step = square / curvature
        h, residual = h + step * direction, residual - step * image
        before, square = square, float((residual * residual).sum())
        direction = residual + (square / before) * direction
    return h


def lissa(product: Product, v: Tensor, damp: float = 0.01, scale: float = 25.0, depth: int = 5000) -> Tensor:
    """Solve ``(H + damp scale I) h = v`` as published: ``h <- v + (1 - damp) h - H_z h / scale``, over ``scale``.

    LiSSA (Agarwal et al., JMLR 2017) as in the code of DEALRec, whose defaults these are. Their damping, 0.25, is far
    above the eigenvalues of H at a trained teacher (0.02 and less on Games), so h is nearly v there. Where the
    iteration diverges, it is started again with twice the scale, and so twice the damping.

    Args:
        product: maps x to ``H_z x`` with a new sample z at each call; shapes as ``v``.
        v: right-hand side.
        damp: share of h that a step forgets.
        scale: to start with; the eigenvalues of H are to be smaller.
        depth: steps.

    Raises:
        InputError: it diverges at the largest scale as well.
    """
    return _first_that_works(lambda scale: _lissa(product, v, damp, scale, depth), scale)


def _lissa(product: Product, v: Tensor, damp: float, scale: float, depth: int) -> Tensor | None:
    """Return h, or None where the iteration diverges."""
    # With eigenvalues of H_z from 0 to scale no iterate is longer than |v| / damp; single samples have some below 0.
    longest = 2 * float(v.norm()) / damp
    h = v
    for _ in range(depth):
        h = v + (1 - damp) * h - product(h) / scale
        if not float(h.norm()) <= longest:  # nor is NaN
            return None
    return h / scale


def _first_that_works(attempt: Callable[[float], Tensor | None], value: float) -> Tensor:
    """Return the first result of ``attempt`` that is not None, with the value doubled each time."""
    for _ in range(DOUBLINGS + 1):
        found = attempt(value)
        if found is not None:
            return found
        value *= 2
    raise InputError(
        "select dealrec: no influence can be computed, the teacher is too far from a minimum of its loss; "
        "train it longer with 'foster pretrain --steps N'"
    )


def unit_range(scores: np.ndarray) -> np.ndarray:
    """Clip scores at the percentiles ``CLIP`` and map them to [0, 1]; constant ones become 0. Shape ``[U]``."""
    low, high = np.percentile(scores, CLIP)
    return (scores.clip(low, high) - low) / ((high - low) or 1.0)


def coverage(
    scores: np.ndarray, budget: int, rng: np.random.Generator, bins: int | None = None, prune: float = 0.1
) -> np.ndarray:
    """Draw rows so that they cover the range of the scores, the highest ones left out.

    Coverage-centric selection (Zheng et al., ICLR 2023), as DEALRec uses it: equal-width bins, of which the smallest
    ones are taken whole. With 50 bins and a budget below 50 the smallest bins would get nothing, and the draw would be
    nearly uniform; so there are by default half as many bins as rows to draw, at most 50.

    Args:
        scores: ``[U]``.
        budget: M rows to draw, at most U.
        rng: source of the draw.
        bins: equal-width bins; 50 as published.
        prune: share of the rows, with the highest scores, that is left out; less where fewer than M would stay.

    Returns:
        int64 ``[M]`` distinct row numbers.
    """
    bins = bins or min(MOST_BINS, max(budget // 2, 1))
    kept = max(len(scores) - int(prune * len(scores)), budget)
    rows = np.argsort(scores, kind="stable")[:kept]
    edges = np.linspace(scores[rows[0]], scores[rows[-1]], bins + 1)
    place = np.digitize(scores[rows], edges[1:-1])
    shares = allocate(np.bincount(place, minlength=bins), budget)
    return np.concatenate(
        [rng.choice(rows[place == which], share, replace=False) for which, share in enumerate(shares)]
    )


def allocate(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Divide a budget over bins: from the smallest on, each gets an equal share of what is left, or all that it has.

    The shares always sum to the budget: the bins that follow are no smaller, so they hold what a bin leaves to them.

    Args:
        sizes: rows in each bin, ``[bins]``; empty bins get nothing.
        budget: rows to draw, at most ``sizes.sum()``.

    Returns:
        int64 ``[bins]`` rows to draw from each.
    """
    shares = np.zeros_like(sizes)
    order = [which for which in np.argsort(sizes, kind="stable") if sizes[which]]
    for number, which in enumerate(order):
        shares[which] = min(sizes[which], budget // (len(order) - number))
        budget -= shares[which]
    return shares
