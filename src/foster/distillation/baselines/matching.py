"""What the matching baselines share: latents that move along the gradient of a matching loss."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from foster.condensed.sequences import Condensed
from foster.distillation.budget import STORED_ITEMS
from foster.distillation.objective import entropy, scores_on_subset, synthetic_loss
from foster.distillation.options import LatentOptions
from foster.distillation.setting import Setting
from foster.distillation.synthetic import SyntheticSequences
from foster.models.recommender import TextRecommender
from foster.unfinished import State


class Matching:
    """Synthetic sequences whose labels are their own next steps, and the optimiser that moves them.

    Args:
        setting: log, teacher and random streams.
        options: the method's.

    Attributes:
        derived: what of the sequences came from real data, besides their start.
    """

    derived: ClassVar[str]

    def __init__(self, setting: Setting, options: LatentOptions) -> None:
        self.setting = setting
        self.synthetic: SyntheticSequences = setting.latents(options)
        self.optimiser: torch.optim.Adam = torch.optim.Adam(self.synthetic.parameters(), lr=options.lr)

    def descend(self, loss: Tensor, p: Tensor) -> dict[str, float]:
        """Move the latents, and whatever else the optimiser holds, against the gradient of the loss.

        Args:
            loss: the matching loss; models are constants of it or functions of the latents.
            p: ``[M, steps, N]`` step distributions, for the log.

        Returns:
            What every matching method logs.
        """
        moved = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        for parameter, gradient in zip(moved, torch.autograd.grad(loss, moved), strict=True):
            parameter.grad = gradient
        self.setting.engine.average_gradients(moved)
        self.optimiser.step()
        assert self.synthetic.latents.grad is not None
        return {
            "matching_loss": loss.item(),
            "gradient_norm": self.synthetic.latents.grad.norm().item(),
            "input_entropy": entropy(p.detach()).item(),
        }

    def state(self) -> State:
        """Return the latents and the optimiser; methods add what they have besides."""
        return {"latents": self.synthetic.latents, "optimiser": self.optimiser.state_dict()}

    def load_state(self, state: State) -> None:
        """Go on from a state."""
        self.synthetic.latents.data.copy_(state["latents"])
        self.optimiser.load_state_dict(state["optimiser"])

    def export(self) -> Condensed:
        """Return the sequences as they are now."""
        items, weights = self.synthetic.top(STORED_ITEMS)
        return self.setting.condensed(
            items, weights, f"the sequences, which start as real histories and {self.derived}"
        )


def next_step_loss(model: TextRecommender, p: Tensor, subset: Tensor) -> Tensor:
    """Return the loss of a model on soft sequences: the cross-entropy of each next step over a subset of the items.

    Args:
        model: a recommender; gradients flow to its parameters.
        p: ``[M, L, N]`` step distributions.
        subset: ``[N]`` the items.
    """
    return synthetic_loss(scores_on_subset(model, p, model.tower(subset), subset), p, None)
