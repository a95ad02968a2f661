"""What a selection chooses from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from foster.data.dataset import Dataset
from foster.data.histories import Histories
from foster.engine import Engine
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.text.options import EncoderOptions


@dataclass(eq=False)
class Pool:
    """The histories of a log, and the models that a method may consult.

    Attributes:
        data: the log.
        histories: training histories of two items or more, each cut to its newest ``model.max_length`` items.
        budget: M, histories to choose.
        rng: source of all draws.
        seed: of models and samples.
        encoder: text encoder of the students.
        model: shape of the students.
        engine: device.
        trained: the teacher; None for methods that need none.
    """

    data: Dataset
    histories: Histories
    budget: int
    rng: np.random.Generator
    seed: int
    encoder: EncoderOptions
    model: ModelOptions
    engine: Engine
    trained: TextRecommender | None = None

    @property
    def teacher(self) -> TextRecommender:
        """The teacher; ``select`` has made sure that methods which ask for it have one."""
        assert self.trained is not None
        return self.trained

    @cached_property
    def untrained(self) -> TextRecommender:
        """A student as it is before training: random weights over the public encoder."""
        if self.trained is not None:
            return self.trained.fresh(self.seed).eval()
        return TextRecommender.build(
            self.data.catalogue, self.encoder, self.model, seed=self.seed, device=self.engine.device
        ).eval()
