"""Farzi (Sachdeva et al., *Farzi Data*, arXiv 2310.09983): meta-model matching through Adam, low-rank sequences.

``min over D, W of E_{theta_0} f(theta_T)``, where f is the loss on real data and theta_T comes from T Adam steps on the
synthetic sequences ``p = softmax(D W / tau)``; theta_0 is drawn from trajectories on real data. No code is public.

The synthetic loss sees the sequences through the mean text features of their steps alone: the adapter is linear and p
sums to 1, so that ``sum_v p_v <h, e_v> = <h, adapter(sum_v p_v f_v)>``. The mixtures ``p @ features`` are made once an
outer step, and one backward pass through them serves all T inner steps.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from foster.distillation.baselines.adam import AdamState, reverse_adam, train
from foster.distillation.functional import Parameters, call_with, detached, gradients, require_frozen, second_order
from foster.distillation.objective import entropy
from foster.distillation.options import CondenseOptions
from foster.distillation.setting import Setting
from foster.models import TextRecommender
from foster.training.condensed import Condensed

STORED_ITEMS = 128  # items kept of each step, since the steps of this method and of TD3 stay rather flat
CANDIDATES = 1024  # items sampled for the real loss, as in training on the log


class FarziOptions(CondenseOptions):
    """Farzi's options; the defaults fit a run on some ten thousand items into minutes on a CPU."""

    method: ClassVar[str] = "farzi"
    second_order: ClassVar[bool] = True

    steps: int = Field(40, ge=0, description="outer steps; 0 keeps the starting point")
    select_every: int = Field(20, ge=1, description="steps between students that are trained to judge the sequences")
    width: int = Field(32, ge=1, description="d', width of the latents and of the decoder")
    temperature: float = Field(0.07, gt=0, description="tau of the softmax over all items")
    inner_steps: int = Field(20, ge=1, description="T, Adam steps on the synthetic sequences an outer step")
    inner_lr: float = Field(2e-3, gt=0, description="learning rate of the inner Adam")
    inner_batch: int = Field(5, ge=1, description="synthetic sequences an inner step; all where there are fewer")


class LowRankSequences(nn.Module):
    """Latents D ``[M, L, d']`` and a decoder W ``[d', V]``, both learned: ``p = softmax(D W / tau)``.

    W starts as the d' first principal components of the text features, with columns of norm 1, and D as the columns of
    real items.

    Args:
        features: ``[V, width]`` text features.
        items: ``[M, L]`` real items to start from.
        width: d'; at most the width of the features, which it is cut to.
        temperature: tau.
    """

    def __init__(self, features: Tensor, items: Tensor, width: int, temperature: float) -> None:
        super().__init__()
        centred = features - features.mean(0)
        directions = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -width:]
        codes = F.normalize(centred @ directions, dim=-1)
        self.latents = nn.Parameter(codes[items].clone())
        self.decoder = nn.Parameter(codes.T.clone())
        self.temperature = temperature

    def forward(self) -> Tensor:
        """Return the step distributions ``[M, L, V]``."""
        return torch.softmax(self.latents @ self.decoder / self.temperature, -1)


class Farzi:
    """State of one distillation: the low-rank sequences and their optimiser.

    Args:
        setting: log, teacher and random streams.
        options: Farzi's.

    Raises:
        InputError: the teacher's language model is tuned.
    """

    def __init__(self, setting: Setting, options: FarziOptions) -> None:
        # Steps are replayed one by one, so that one graph over all items is alive at a time.
        require_frozen(setting.best, options.method, setting.best.n_items)
        self.setting, self.options = setting, options
        self.features = setting.features
        self.synthetic = LowRankSequences(
            self.features, setting.real_histories(), options.width, options.temperature
        ).to(setting.engine.device)
        self.optimiser = torch.optim.Adam(self.synthetic.parameters(), lr=options.lr)
        self.model = setting.best.eval()  # its shape; dropout off, since steps are replayed

    def step(self, step: int) -> dict[str, Any]:
        """Train a model from a random checkpoint on S, and move S along the gradient of its loss on real data."""
        options, setting = self.options, self.setting
        state = setting.trajectory.state(int(setting.rng.integers(len(setting.trajectory))))
        start = {name: value.to(self.features) for name, value in state.items()}
        p = self.synthetic()
        mixed = p @ self.features
        rows = [self._rows() for _ in range(options.inner_steps)]

        def inner_loss(parameters: Parameters, steps: Tensor, number: int) -> Tensor:
            return call_with(self.model, parameters, next_step_loss, steps[rows[number]], self.features)

        states: list[AdamState] = []
        with second_order():
            last = train(
                inner_loss, AdamState.start(start), mixed.detach(), options.inner_steps, options.inner_lr, states
            )
            parameters = detached(last.parameters)
            real_loss = call_with(self.model, parameters, setting.source.loss, CANDIDATES)
            adjoint = reverse_adam(
                inner_loss, states, mixed.detach(), gradients(real_loss, parameters), options.inner_lr
            )
        self.optimiser.zero_grad(set_to_none=True)
        mixed.backward(adjoint)
        setting.engine.average_gradients(self.synthetic.parameters())
        norm = nn.utils.get_total_norm([x.grad for x in self.synthetic.parameters() if x.grad is not None])
        self.optimiser.step()
        return {"real_loss": real_loss.item(), "gradient_norm": norm.item(), **describe(p.detach())}

    def _rows(self) -> Tensor:
        m = self.options.sequences
        size = min(self.options.inner_batch, m)
        return torch.from_numpy(self.setting.rng.choice(m, size, replace=False)).to(self.features.device)

    @torch.no_grad()
    def export(self) -> Condensed:
        """Return the sequences as they are now, the most probable items of each step."""
        items, weights, _ = most_probable(self.synthetic())
        return self.setting.condensed(items, weights, "the sequences, which start as real histories")


def next_step_loss(model: TextRecommender, mixed: Tensor, features: Tensor) -> Tensor:
    """Return g: the cross-entropy over all V items of the next step, at every step.

    Args:
        model: a recommender with a frozen encoder.
        mixed: ``[m, L, width]`` mean text features of the steps, ``p @ features``.
        features: ``[V, width]`` text features.
    """
    states = model.backbone(model.tower.adapter(mixed[:, :-1]))
    return mixture_cross_entropy(model, states.flatten(0, 1), mixed[:, 1:].flatten(0, 1), features)


def mixture_cross_entropy(model: TextRecommender, states: Tensor, targets: Tensor, features: Tensor) -> Tensor:
    """Return the mean of ``-sum_v y_v log q_v`` over rows, q the model's softmax over all items.

    The map of the adapter is applied to states and not to the V features: fewer products, and constants beside them.
    Its bias adds the same to all scores of a row, which a softmax does not see.

    Args:
        model: a recommender with a frozen encoder.
        states: ``[n, d]``.
        targets: ``[n, width]`` mean text features under y, ``y @ features``.
        features: ``[V, width]`` text features.
    """
    adapter = model.tower.linear
    assert adapter is not None
    queries = states @ adapter.weight / math.sqrt(model.options.dim)
    return ((queries @ features.T).logsumexp(-1) - (queries * targets).sum(-1)).mean()


def most_probable(p: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return what is kept of step distributions ``[M, L, V]``: the ``STORED_ITEMS`` most probable items of each step.

    Returns:
        items int64 ``[M, L, k]``, their probabilities renormalised to sum to 1, and the mean mass that they had.
    """
    weights, items = p.topk(min(STORED_ITEMS, p.shape[-1]), dim=-1)
    mass = weights.sum(-1, keepdim=True)
    return items, weights / mass, mass.mean().item()


def describe(p: Tensor) -> dict[str, float]:
    """Return what is logged of step distributions: mean entropy in nats, and the mass that export keeps."""
    return {"input_entropy": entropy(p).item(), "kept_mass": most_probable(p)[2]}
