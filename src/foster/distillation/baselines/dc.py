"""Gradient matching (DC): Zhao, Mopuri and Bilen, *Dataset Condensation with Gradient Matching*, ICLR 2021."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from foster.distillation.baselines.matching import Matching, next_step_loss
from foster.distillation.functional import Parameters, gradients, require_frozen, second_order
from foster.distillation.options import DCOptions
from foster.distillation.setting import Setting
from foster.models.recommender import TextRecommender
from foster.unfinished import State


class GradientMatching(Matching):
    """Sequences whose loss has the gradient of the real loss, along the path of models that are trained on them.

    A step moves S by the distance of the two gradients at the model's weights, then trains the model on S; every
    ``reset_every`` steps the model is random again. There are no classes as in the paper: gradients of whole batches
    are matched, of the adapter and the sequence model. The model is trained with AdamW, as students are. Second order:
    the gradient on S is differentiated. Dropout is off, since noise in either gradient would drown what differs.

    Args:
        setting: log, teacher and random streams; of the teacher only the shape is used.
        options: the method's.

    Raises:
        InputError: a tuned language model.
    """

    derived = "were moved towards the gradients of the real loss"

    def __init__(self, setting: Setting, options: DCOptions) -> None:
        require_frozen(setting.best, options.method, setting.subset_size)
        super().__init__(setting, options)
        self.options = options
        self.restart()

    def restart(self) -> None:
        """Take a new random model."""
        self.model: TextRecommender = self.setting.best.fresh(int(self.setting.rng.integers(2**31))).eval()
        self.model_optimiser: torch.optim.AdamW = torch.optim.AdamW(
            self.model.trained_parameters(), lr=self.options.model_lr
        )

    def state(self) -> State:
        """Return the latents, the model and both optimisers."""
        model = {"model": self.model.trained_state(), "model_optimiser": self.model_optimiser.state_dict()}
        return super().state() | model

    def load_state(self, state: State) -> None:
        """Go on from a state."""
        super().load_state(state)
        self.model.load_trained_state(state["model"])
        self.model_optimiser.load_state_dict(state["model_optimiser"])

    def step(self, step: int) -> dict[str, Any]:
        """Match the gradient of one real batch, then train the model on S; return what is logged."""
        if step > 1 and (step - 1) % self.options.reset_every == 0:
            self.restart()
        parameters: Parameters = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        subset = self.setting.subset()
        share = gradients(self.setting.source.loss(self.model, len(subset)), parameters)
        wanted = dict(zip(share, self.setting.engine.average(list(share.values())), strict=True))
        p = self.synthetic(subset)
        with second_order():
            own = gradients(next_step_loss(self.model, p, subset), parameters, create_graph=True)
            record = self.descend(gradient_distance(own, wanted), p)
        for _ in range(self.options.inner_steps):
            self._train_model()
        return record

    def _train_model(self) -> None:
        subset = self.setting.subset()
        with torch.no_grad():
            p = self.synthetic(subset)
        self.model_optimiser.zero_grad(set_to_none=True)
        next_step_loss(self.model, p, subset).backward()
        self.model_optimiser.step()


def gradient_distance(own: Parameters, wanted: Parameters) -> Tensor:
    """Return the sum of ``1 - cos`` over the rows of all weights (equation 10 of the paper).

    Biases and the weights of norms, which have no rows, do not count, as in the authors' program. Of experts
    ``[K, width, d]`` and their gates a row holds the weights of one input.

    Args:
        own: gradients of the synthetic loss, with their graph.
        wanted: gradients of the real loss.
    """
    rows = [F.cosine_similarity(own[name], wanted[name], dim=-1).flatten() for name in own if own[name].ndim > 1]
    return (1 - torch.cat(rows)).sum()
