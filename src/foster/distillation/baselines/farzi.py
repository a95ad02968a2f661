"""Farzi (Sachdeva et al., *Farzi Data*, arXiv 2310.09983): meta-model matching through Adam, low-rank sequences.

``min over D, W of E_{theta_0} f(theta_T)``, where f is the loss on real data and theta_T comes from T Adam steps on the
synthetic sequences ``p = softmax(D W / tau)``; theta_0 is drawn from trajectories on real data. No code is public.

With a linear adapter the synthetic loss sees the sequences through the mean text features of their steps alone, since p
sums to 1: ``sum_v p_v <h, e_v> = <h, adapter(sum_v p_v f_v)>``. The mixtures ``p @ features`` are made once an outer
step, and one backward pass through them serves all T inner steps. With experts every inner step has a sample of the
items of its own, over which p and the model's softmax are taken: all vectors would have to be made anew each time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foster.condensed.sequences import Condensed
from foster.distillation.baselines.adam import AdamState, reverse_adam, train
from foster.distillation.baselines.soft_steps import CANDIDATES, Reading, describe, most_probable, readable, reading
from foster.distillation.functional import Parameters, call_with, detached, gradients, require_frozen, second_order
from foster.distillation.options import FarziOptions
from foster.distillation.setting import Setting
from foster.models.recommender import TextRecommender
from foster.unfinished import State


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
        self.latents: nn.Parameter = nn.Parameter(codes[items].clone())
        self.decoder: nn.Parameter = nn.Parameter(codes.T.clone())
        self.temperature = temperature

    def logits(self) -> Tensor:
        """Return the logarithms of the step distributions, constants aside, ``[M, L, V]``."""
        return self.latents @ self.decoder / self.temperature

    def forward(self) -> Tensor:
        """Return the step distributions ``[M, L, V]``."""
        return torch.softmax(self.logits(), -1)


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
        self.setting: Setting = setting
        self.options: FarziOptions = options
        self.features: Tensor = setting.wide_features
        self.synthetic: LowRankSequences = LowRankSequences(
            self.features, setting.real_histories(), options.width, options.temperature
        ).to(setting.engine.device)
        self.optimiser: torch.optim.Adam = torch.optim.Adam(self.synthetic.parameters(), lr=options.lr)
        self.model: TextRecommender = setting.best.eval()  # its shape; dropout off, since steps are replayed

    def state(self) -> State:
        """Return the latents, the decoder and the optimiser."""
        return {"synthetic": self.synthetic.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state(self, state: State) -> None:
        """Go on from a state."""
        self.synthetic.load_state_dict(state["synthetic"])
        self.optimiser.load_state_dict(state["optimiser"])

    def step(self, step: int) -> dict[str, Any]:
        """Train a model from a random checkpoint on S, and move S along the gradient of its loss on real data."""
        options, setting = self.options, self.setting
        state = setting.trajectory.state(int(setting.rng.integers(len(setting.trajectory))))
        start = {name: value.to(self.features) for name, value in state.items()}
        sequences, p = readable(setting, self.synthetic)
        draws = [(self._rows(), reading(setting)) for _ in range(options.inner_steps)]

        def inner_loss(parameters: Parameters, steps: Tensor, number: int) -> Tensor:
            rows, read = draws[number]
            return call_with(self.model, parameters, next_step_loss, steps[rows], read)

        states: list[AdamState] = []
        with second_order():
            last = train(
                inner_loss, AdamState.start(start), sequences.detach(), options.inner_steps, options.inner_lr, states
            )
            parameters = detached(last.parameters)
            real_loss = call_with(self.model, parameters, setting.source.loss, CANDIDATES)
            adjoint = reverse_adam(
                inner_loss, states, sequences.detach(), gradients(real_loss, parameters), options.inner_lr
            )
        self.optimiser.zero_grad(set_to_none=True)
        sequences.backward(adjoint)
        setting.engine.average_gradients(self.synthetic.parameters())
        norm = nn.utils.get_total_norm([x.grad for x in self.synthetic.parameters() if x.grad is not None])
        self.optimiser.step()
        (real_loss,) = setting.engine.average([real_loss])
        return {"real_loss": real_loss.item(), "gradient_norm": norm.item(), **describe(p)}

    def _rows(self) -> Tensor:
        m = self.options.sequences
        size = min(self.options.inner_batch, m)
        return torch.from_numpy(self.setting.rng.choice(m, size, replace=False)).to(self.features.device)

    @torch.no_grad()
    def export(self) -> Condensed:
        """Return the sequences as they are now, the most probable items of each step."""
        items, weights, _ = most_probable(self.synthetic())
        derived = "the sequences, which start as real histories"
        if self.options.steps:
            derived += "; they were moved to lower the real loss of models that start at the teacher's checkpoints"
        return self.setting.condensed(items, weights, derived)


def next_step_loss(model: TextRecommender, steps: Tensor, read: Reading) -> Tensor:
    """Return g: the cross-entropy of the next step, at every step.

    Args:
        model: a recommender with a frozen encoder.
        steps: ``[m, L, ...]``, in the form that ``read`` takes.
        read: how.
    """
    vectors, cross_entropy = read(model, steps)
    return cross_entropy(model.backbone(vectors), slice(1, None))
