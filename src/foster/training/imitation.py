"""Models that learn to predict what a teacher does, from its log."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from foster.data.dataset import Dataset
from foster.engine import Engine
from foster.models.kernels import widened
from foster.models.recommender import TextRecommender
from foster.training.loop import LogSource, fit, on_log, validator
from foster.training.losses import distinct_vectors, sample_items
from foster.training.options import TrainOptions
from foster.unfinished import State

PUBLIC = TrainOptions(lr=1e-3)
SHARE = 0.25  # of the steps of a training on the log: the model begins close to where it has to go


class Imitation:
    """Losses of a model that learns the next items of a log, and the scores that a teacher gives a sample of all items.

    Knowledge distillation (Hinton et al., arXiv 1503.02531), with the labels of the data beside.

    Args:
        teacher: the model that is imitated.
        data: the log.
        recipe: of its batches.
        seed: of batches and samples.
        engine: device and processes.
    """

    def __init__(
        self, teacher: TextRecommender, data: Dataset, recipe: TrainOptions, seed: int, engine: Engine
    ) -> None:
        self.teacher: TextRecommender = teacher
        self.table: Tensor = teacher.item_table()
        self.source: LogSource = LogSource(data, recipe, teacher.options.max_length, seed, engine)
        self.generator: torch.Generator = torch.Generator().manual_seed(seed * 1009)

    def loss(self, model: TextRecommender, candidates: int) -> Tensor:
        """Return the cross-entropy of the next items plus the divergence from the teacher's probabilities."""
        items = self.source.batch()
        real = items[:, 1:] >= 0
        following, filled = items[:, 1:][real], items[:, :-1].clamp(min=0)
        sample = sample_items(model.n_known, candidates, self.generator).to(items.device)
        vectors, place = distinct_vectors(model, torch.cat([filled.flatten(), following, sample]))
        steps, positives, sampled = place.split([filled.numel(), len(following), len(sample)])
        states = model.backbone(vectors[steps.view_as(filled)])[real]
        negative = widened(model.scores(states, vectors[sampled]))
        positive = widened((states * vectors[positives]).sum(1)) / math.sqrt(model.options.dim)
        others = negative.masked_fill(sample == following[:, None], -torch.inf)
        rest = others.logsumexp(1) + math.log(model.n_known / len(sample))
        with torch.no_grad():
            of_teacher = self.teacher.backbone(self.table[filled])[real]
            targets = widened(self.teacher.scores(of_teacher, self.table[sample])).log_softmax(1)
        divergence = F.kl_div(negative.log_softmax(1), targets, reduction="batchmean", log_target=True)
        return F.softplus(rest - positive).mean() + divergence

    def state(self) -> State:
        """Return what the next draws depend on."""
        return {"source": self.source.state(), "generator": self.generator.get_state()}

    def load_state(self, state: State) -> None:
        """Go on from a state."""
        self.source.load_state(state["source"])
        self.generator.set_state(state["generator"])


def public_teacher(
    teacher: TextRecommender, data: Dataset, *, seed: int = 0, engine: Engine | None = None, progress: bool = True
) -> TextRecommender:
    """Return a model whose items follow from public texts, or from low-rank updates, and that does what a teacher does.

    That is the teacher itself, but for one of which whole layers of the language model were tuned. The vectors of its
    items would have to be stored one by one; instead, a model with the public language model learns to predict what it
    does.

    Args:
        teacher: a model of ``data``.
        data: the log.
        seed: of batches, samples and dropout.
        engine: device, the teacher's by default, and processes.
        progress: show a bar on stderr, or a line a minute where that is no terminal.
    """
    engine = engine or Engine(str(teacher.device))
    model, recipe = begun(teacher, data, seed)
    if model is not teacher:
        imitate(model, teacher, data, recipe, seed, engine, progress)
    return model


def imitate(
    model: TextRecommender,
    teacher: TextRecommender,
    data: Dataset,
    recipe: TrainOptions,
    seed: int,
    engine: Engine,
    progress: bool = True,
) -> None:
    """Train what ``begun`` returned; arguments are those of ``public_teacher``."""
    fit(
        model,
        Imitation(teacher, data, recipe, seed, engine),
        recipe,
        seed=seed,
        validate=validator(data, recipe.eval_users, engine),
        engine=engine,
        progress="training a model of public texts" if progress and engine.is_main else None,
    )


def begun(
    teacher: TextRecommender, data: Dataset, seed: int, updates: bool = True
) -> tuple[TextRecommender, TrainOptions]:
    """Return the model of ``public_teacher`` before its training, and the recipe of that.

    It begins with the teacher's adapter and sequence model.

    Args:
        teacher: as there.
        data: as there.
        seed: as there.
        updates: whether low-rank updates may be needed; else such a teacher is imitated, too.
    """
    recipe = on_log(PUBLIC, data, SHARE)
    if teacher.tower.item_map() is not None and (updates or teacher.tower.updates is None):
        return teacher, recipe
    options = teacher.options.model_copy(update={"finetune": "frozen"})
    model = TextRecommender.build(teacher.catalogue, teacher.encoder, options, seed=seed, device=teacher.device)
    tuned = teacher.trained_state()
    model.load_trained_state({name: tuned[name] for name in model.trained_state()})
    model.origin = teacher.origin
    return model, recipe
