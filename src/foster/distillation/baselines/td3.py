"""TD3 (Zhang et al., *TD3: Tucker Decomposition Based Dataset Distillation*, WWW 2025, arXiv 2502.02854).

Sequences are a Tucker product whose item factor is the table of a model trained on real data; the other factors are
moved along the gradient through the last W of at most T training steps (RaT-BPTT: Feng et al., arXiv 2311.07025).

Departures from the published method: the learner reads items by their text, dropout is off, T and W are smaller, and
the factors start as a decomposition of long real histories. Random factors were published; small ones give steps that
are uniform over the catalogue.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foster.condensed.sequences import Condensed
from foster.distillation.baselines.adam import AdamState, adam_step, train
from foster.distillation.baselines.soft_steps import (
    Reading,
    describe,
    mixture_cross_entropy,
    most_probable,
    readable,
    reading,
)
from foster.distillation.functional import Parameters, call_with, detached, gradients, require_frozen, second_order
from foster.distillation.options import TD3Options
from foster.distillation.setting import Setting
from foster.models.recommender import TextRecommender
from foster.unfinished import State

EARLY = 0.05, 0.30  # part of training whose checkpoints the learner starts from (epochs 5 to 30 of 100)
FIRST_POSITION = 5  # shortest prefix that an interior step is predicted from
CLIP = 1.0  # largest norm of the outer gradient
WEIGHT_DECAY = 1e-4  # of the outer Adam, added to the gradient


class TuckerSequences(nn.Module):
    """``p = softmax_v(sum_ijk G_ijk U_mi T_lj V_vk)`` with learned G, U, T and a fixed item table V.

    The factors start as the truncated higher-order singular value decomposition of the vectors of real items, centred
    and scaled so that the mean item has score ``start_score`` with itself.

    Args:
        table: V, item vectors ``[V, d]`` of a model trained on real data.
        items: ``[M, L]`` real items to start from.
        rank: d1 = d2; cut to M and to L where these are smaller.
        start_score: see above.
    """

    def __init__(self, table: Tensor, items: Tensor, rank: int, start_score: float) -> None:
        super().__init__()
        self.table = table
        unit = F.normalize(table - table.mean(0), dim=-1)
        latents = start_score / table.norm(dim=-1).mean() * unit[items]
        sequences, positions = (_directions(latents.transpose(0, mode).flatten(1), rank) for mode in (0, 1))
        self.core: nn.Parameter = nn.Parameter(torch.einsum("mlk,mi,lj->ijk", latents, sequences, positions))
        self.sequences: nn.Parameter = nn.Parameter(sequences)
        self.positions: nn.Parameter = nn.Parameter(positions)

    def logits(self) -> Tensor:
        """Return the logarithms of the step distributions, constants aside, ``[M, L, V]``."""
        latents = torch.einsum("ijk,mi,lj->mlk", self.core, self.sequences, self.positions)
        return latents @ self.table.T

    def forward(self) -> Tensor:
        """Return the step distributions ``[M, L, V]``."""
        return torch.softmax(self.logits(), -1)


class TD3:
    """State of one distillation: the factors, their optimiser, and the learner, which drifts between resets.

    Args:
        setting: log, teacher and random streams.
        options: TD3's.

    Raises:
        InputError: the teacher's language model is tuned.
    """

    def __init__(self, setting: Setting, options: TD3Options) -> None:
        require_frozen(setting.best, options.method, setting.best.n_items, options.unroll)
        self.setting: Setting = setting
        self.options: TD3Options = options
        self.features: Tensor = setting.wide_features
        self.synthetic: TuckerSequences = TuckerSequences(
            setting.item_table(), setting.real_histories(), options.rank, options.start_score
        )
        self.optimiser: torch.optim.Adam = torch.optim.Adam(
            self.synthetic.parameters(), lr=options.lr, weight_decay=WEIGHT_DECAY
        )
        self.schedule: torch.optim.lr_scheduler.CosineAnnealingLR = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimiser, max(options.steps, 1)
        )
        self.model: TextRecommender = setting.best.eval()  # the learner's shape; dropout off
        self.learner: Parameters = {}

    def state(self) -> State:
        """Return the factors, their optimiser with its schedule, and the learner."""
        return {
            "synthetic": self.synthetic.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "learner": self.learner,
        }

    def load_state(self, state: State) -> None:
        """Go on from a state."""
        self.synthetic.load_state_dict(state["synthetic"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.learner = {name: value.to(self.features) for name, value in state["learner"].items()}

    def reset(self) -> int:
        """Set the learner to a random early checkpoint of the trajectory; return its step."""
        trajectory = self.setting.trajectory
        steps = [trajectory.step(which) for which in range(len(trajectory))]
        early = [which for which, step in enumerate(steps) if EARLY[0] <= step / max(steps) <= EARLY[1]]
        which = int(self.setting.rng.choice(early or len(steps)))
        self.learner = {name: value.to(self.features) for name, value in trajectory.state(which).items()}
        return steps[which]

    def step(self, step: int) -> dict[str, Any]:
        """Train the learner on S, with a graph over the last steps, and move S along the gradient of its real loss."""
        options, setting, record = self.options, self.setting, {}
        if (step - 1) % options.reset_every == 0:
            record["reset"] = self.reset()
        sequences, p = readable(setting, self.synthetic)
        leaf = sequences.detach().requires_grad_()
        plain = int(setting.rng.integers(options.inner_steps - options.unroll + 1))
        draws = [self._draw() for _ in range(plain + options.unroll)]

        def inner_loss(parameters: Parameters, steps: Tensor, number: int) -> Tensor:
            rows, position, read = draws[number]
            return call_with(self.model, parameters, last_step_loss, steps[rows], position, read)

        items = setting.source.batch()
        with torch.no_grad():
            stored = states_before_last(setting.best, items, self.features)
        with second_order():
            state = train(inner_loss, AdamState.start(self.learner), leaf.detach(), plain, options.inner_lr)
            self.learner = state.parameters  # it goes on from here: the window itself is thrown away
            state = replace(state, parameters=detached(state.parameters))
            for _ in range(options.unroll):
                loss = inner_loss(state.parameters, leaf, state.step)
                state = adam_step(state, gradients(loss, state.parameters, create_graph=True), options.inner_lr)
            real_loss = call_with(self.model, state.parameters, outer_loss, items, stored, self.features)
            (adjoint,) = torch.autograd.grad(real_loss, leaf)
        self.optimiser.zero_grad(set_to_none=True)
        sequences.backward(adjoint)
        setting.engine.average_gradients(self.synthetic.parameters())
        norm = nn.utils.clip_grad_norm_(self.synthetic.parameters(), CLIP)
        self.optimiser.step()
        self.schedule.step()
        return record | {"real_loss": real_loss.item(), "gradient_norm": norm.item(), **describe(p)}

    def _draw(self) -> tuple[Tensor, int, Reading]:
        """Draw the sequences ``[m]`` and the interior position of an inner step, and how it reads them."""
        options, rng = self.options, self.setting.rng
        rows = rng.choice(options.sequences, min(options.inner_batch, options.sequences), replace=False)
        position = rng.integers(min(FIRST_POSITION, options.length - 2), options.length - 1)
        return torch.from_numpy(rows).to(self.features.device), int(position), reading(self.setting)

    @torch.no_grad()
    def export(self) -> Condensed:
        """Return the sequences as they are now, the most probable items of each step."""
        items, weights, _ = most_probable(self.synthetic())
        derived = "the sequences, which start as real histories, among the teacher's item vectors"
        if self.options.steps:
            derived += (
                "; they were moved to lower the real loss of models that start at the teacher's checkpoints, and their "
                "distance to its states"
            )
        return self.setting.condensed(items, weights, derived)


def last_step_loss(model: TextRecommender, steps: Tensor, position: int, read: Reading) -> Tensor:
    """Return g: the cross-entropy of the last step and of one interior step, each from its prefix.

    The published loss is the divergence, which differs by the entropy of the steps, a constant of the training.
    Attention is causal, so that one pass gives the states after both prefixes.

    Args:
        model: a recommender with a frozen encoder.
        steps: ``[m, L, ...]``, in the form that ``read`` takes.
        position: index of the interior step, 1 to L - 2.
        read: how.
    """
    vectors, cross_entropy = read(model, steps)
    predicted = [position, steps.shape[1] - 1]
    before = [index - 1 for index in predicted]
    return cross_entropy(model.backbone(vectors)[:, before], predicted)


def outer_loss(model: TextRecommender, items: Tensor, stored: Tensor, features: Tensor) -> Tensor:
    """Return f: the cross-entropy of the last items over all V, and the mean squared distance to the teacher's states.

    Args:
        model: a recommender with a frozen encoder.
        items: ``[B, length]`` real histories, padded on the right with -1.
        stored: ``[B, d]`` the teacher's states before the last items.
        features: ``[V, width]`` text features.
    """
    states = states_before_last(model, items, features)
    last = items.gather(1, (items >= 0).sum(1, keepdim=True) - 1)[:, 0]
    if model.tower.linear is None:
        loss = F.cross_entropy(model.scores(states, model.tower.adapter(features)), last)
    else:
        loss = mixture_cross_entropy(model, states, features[last], features)
    return loss + F.mse_loss(states, stored)


def states_before_last(model: TextRecommender, items: Tensor, features: Tensor) -> Tensor:
    """Return the states ``[B, d]`` that predict the last item of each history; arguments as of ``outer_loss``."""
    states = model.backbone(model.tower.adapter(features[items[:, :-1].clamp(min=0)]))
    return states[torch.arange(len(items), device=items.device), (items >= 0).sum(1) - 2]


def _directions(unfolding: Tensor, rank: int) -> Tensor:
    """Return the leading left singular vectors of a matrix, as columns."""
    return torch.linalg.eigh(unfolding @ unfolding.T).eigenvectors[:, -rank:]
