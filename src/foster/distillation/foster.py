"""FOSTER: subset sampling, first-order value gap with trajectory-anchored resets, and a regulariser."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from foster.condensed.contexts import Windows
from foster.condensed.labels import with_labeller, with_soft_labels
from foster.condensed.packed_labeller import OF_KIND
from foster.condensed.sequences import Condensed
from foster.distillation.generated import generated_pieces
from foster.distillation.objective import (
    EPSILON,
    cooccurrence_regulariser,
    entropy,
    regulariser,
    scores_on_subset,
    synthetic_loss,
    value_gap,
)
from foster.distillation.options import DistillOptions
from foster.distillation.setting import Setting
from foster.distillation.synthetic import SyntheticSequences
from foster.engine import Engine
from foster.models.kernels import widened
from foster.models.recommender import TextRecommender
from foster.training.losses import soft_cross_entropy
from foster.training.options import EXPERT_STEPS
from foster.unfinished import State


class Foster:
    """State of one distillation: S, the outer and the inner model, their optimisers.

    Args:
        setting: log, teacher and random streams.
        options: FOSTER's.
    """

    def __init__(self, setting: Setting, options: DistillOptions) -> None:
        self.setting: Setting = setting
        self.options: DistillOptions = options
        window = options.window if options.targets == "soft" else 0
        self.windows: Windows = setting.form.windows(options)
        # Labels of their own free the steps from following one another: pieces of many users make more contexts.
        own = {"pieces": window, "generated": window, "whole": options.length, "long": 0}
        part = own[options.start] if window else 0
        start = None
        if options.anonymity is not None:
            start = setting.shared_walks(part or options.length, options.anonymity)
        elif options.start == "generated":
            start = generated_pieces(setting, options, part or options.length)
        elif part:
            start = setting.packed_histories(part)
        self.synthetic: SyntheticSequences = setting.latents(options, start)
        self.optimiser: torch.optim.Adam = torch.optim.Adam(self.synthetic.parameters(), lr=options.lr)
        self.outer: TextRecommender = copy.deepcopy(setting.best)
        self.inner: TextRecommender = copy.deepcopy(setting.best)
        for model in (self.outer, self.inner):
            model.hold_ids()
        self.reset()

    def reset(self) -> int:
        """Set both models to one random checkpoint of the trajectory and clear their optimisers."""
        trajectory = self.setting.trajectory
        which = int(self.setting.rng.integers(self.options.checkpoints or len(trajectory)))
        state = trajectory.state(which)
        for model in (self.outer, self.inner):
            model.load_trained_state(state)
            model.eval()  # dropout off: the gap is a difference, and noise in either term would drown it
        lr = self.options.model_lr
        self.outer_optimiser: torch.optim.AdamW = torch.optim.AdamW(self.outer.parameter_groups(lr))
        self.inner_optimiser: torch.optim.AdamW = torch.optim.AdamW(self.inner.parameter_groups(lr))
        return trajectory.step(which)

    def state(self) -> State:
        """Return S and both models with their optimisers."""
        return {
            "synthetic": self.synthetic.latents,
            "optimiser": self.optimiser.state_dict(),
            "models": [model.trained_state() for model in (self.outer, self.inner)],
            "optimisers": [optimiser.state_dict() for optimiser in (self.outer_optimiser, self.inner_optimiser)],
        }

    def load_state(self, state: State) -> None:
        """Go on from a state."""
        self.synthetic.latents.data.copy_(state["synthetic"])
        self.optimiser.load_state_dict(state["optimiser"])
        for model, weights in zip((self.outer, self.inner), state["models"], strict=True):
            model.load_trained_state(weights)
        for optimiser, saved in zip((self.outer_optimiser, self.inner_optimiser), state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)

    def step(self, step: int) -> dict[str, Any]:
        """Update the inner model, the outer model, then S; return what is logged."""
        options, engine = self.options, self.setting.engine
        record: dict[str, Any] = {}
        if options.reset_every and step > 1 and (step - 1) % options.reset_every == 0:
            record["reset"] = self.reset()
        subset = self.setting.subset()
        window = slice(*self.windows[_draw_window(self.windows, self.setting.generator)])
        with torch.no_grad():
            p = self.synthetic(subset)[:, window]
            labels = self._labels(p, subset)
        for _ in range(options.inner_steps):
            inner_loss = synthetic_loss(self._scores(self.inner, p, subset), p, labels)
            _descend(self.inner_optimiser, inner_loss)
        real_loss = self.setting.source.loss(self.outer, len(subset))
        outer_loss, weight = real_loss, options.gap_weight
        if labels is None:
            # Soft labels come from the outer model itself: its loss on them has no gradient in its weights.
            own = synthetic_loss(self._scores(self.outer, p, subset), p, labels)
            if options.gap_rule == "bome":
                barrier = barrier_weight(real_loss, own, self.outer.trained_parameters(), engine=engine)
                weight = min(barrier, options.gap_weight)
            outer_loss = real_loss + weight * own
        _descend(self.outer_optimiser, outer_loss, engine)
        found = self._update_sequences(subset, window, weight)
        found |= {"real_loss": engine.average([real_loss.detach()])[0], "inner_loss": inner_loss.detach()}
        # Read all at once: every reading waits for the device.
        numbers = torch.stack(list(found.values())).tolist()
        return record | {"gap_weight": weight} | dict(zip(found, numbers, strict=True))

    def _scores(self, model: TextRecommender, p: Tensor, subset: Tensor, vectors: Tensor | None = None) -> Tensor:
        # Students of soft labels read single items, of which mixtures of vectors are the mean.
        read_mixed = subset if self.options.targets == "next" else None
        return scores_on_subset(model, p, model.tower(subset) if vectors is None else vectors, read_mixed)

    def _labels(self, p: Tensor, subset: Tensor) -> Tensor | None:
        if self.options.targets == "next":
            return None
        return torch.softmax(self._scores(self.outer, p, subset), -1)

    def _update_sequences(self, subset: Tensor, window: slice, weight: float) -> dict[str, Tensor]:
        options = self.options
        with torch.no_grad():
            outer_vectors, inner_vectors = self.outer.tower(subset), self.inner.tower(subset)
        p = self.synthetic(subset)[:, window]
        outer = self._scores(self.outer, p, subset, outer_vectors)
        # Soft labels move with S: they are what the outer model says of it, now and when the sequences are exported.
        labels = torch.softmax(outer, -1) if options.targets == "soft" else None
        if options.gap == "value":
            gap = value_gap(outer, self._scores(self.inner, p, subset, inner_vectors), p, labels)
        else:
            gap = synthetic_loss(outer, p, labels)
        loss = weight * gap
        if labels is not None and options.plausibility:
            loss = loss + options.plausibility * soft_cross_entropy(outer[:, :-1], p[:, 1:])
        if options.regulariser_weight:
            loss = loss + options.regulariser_weight * self._regulariser(p, labels, subset)
        # Only S: the models' parameters are constants of this step and gather no gradient.
        (gradient,) = torch.autograd.grad(loss, [self.synthetic.latents])
        self.synthetic.latents.grad = gradient
        self.setting.engine.average_gradients([self.synthetic.latents])
        self.optimiser.step()
        found = {"gap": gap, "gradient_norm": gradient.norm(), "input_entropy": entropy(p)}
        if labels is not None:
            found["label_entropy"] = entropy(labels)
        return {name: number.detach() for name, number in found.items()}

    def _regulariser(self, p: Tensor, labels: Tensor | None, subset: Tensor) -> Tensor:
        features = widened(self.setting.features[subset])
        if self.options.regulariser == "cooccurrence":
            return cooccurrence_regulariser(p, features)
        follows = p[:, 1:] if labels is None else labels[:, :-1]
        return regulariser(p[:, :-1].flatten(0, 1), follows.flatten(0, 1), features)

    @torch.no_grad()
    def export(self) -> Condensed:
        """Return the sequences as they are now, labelled by the best teacher."""
        form = self.setting.form
        items, weights = self.synthetic.top(form.stored_items)
        least = self.options.anonymity
        start = "real histories" if least is None else f"walks along transitions that at least {least} users made"
        if self.options.start == "generated" or self.setting.privacy is not None:
            start = "histories that the teacher drew"
        derived = f"the sequences, which start as {start}"
        if self.options.steps:
            derived += " and are moved by models that learn from the log"
        labels = self.options.targets == "soft"
        if labels and self.setting.labeller is not self.setting.best:
            derived += "; labels of a model of public texts that learned from the log and from the teacher"
        sequences = self.setting.condensed(items, weights, derived)
        if not labels:
            return sequences
        few = form.compact and not form.labeller
        update: dict[str, Any] = {"steps": self.options.student_steps, "mixup": few}
        shape: dict[str, Any] = {}
        if form.compact:
            # Of places that no labelled context has a student learns nothing: it reads no more items than these.
            shape["max_length"] = max(end - start for start, end in self.windows)
        if form.linear and (original := self.setting.original) is not None and original.options.adapter == "moe":
            # What a linear map of a bit says of items, experts learn better than it is.
            shape["adapter"] = "moe"
            update["steps"] = min(self.options.student_steps, EXPERT_STEPS)
        if form.small and (original := self.setting.original) is not None:  # students are as the teacher was
            shape |= {name: getattr(original.options, name) for name in OF_KIND}
        sequences = replace(sequences, model=sequences.model.model_copy(update=shape))
        bits = {"bits": form.label_bits, "adapter_bits": form.adapter_bits}
        if form.labeller:
            labelled = with_labeller(sequences, self.setting.labeller, self.windows, **bits)
        else:
            labelled = with_soft_labels(
                sequences,
                self.setting.labeller,
                self.windows,
                # The same draws at every export: students differ by what the steps became, and by nothing else.
                torch.Generator().manual_seed(self.setting.seed) if form.stored_items > 1 else None,
                torch.from_numpy(self.setting.data.item_counts()) if form.stored_items > 1 else None,
                **bits,
            )
        return replace(labelled, recipe=labelled.recipe.model_copy(update=update))


def barrier_weight(
    real: Tensor, gap: Tensor, parameters: list[nn.Parameter], eta: float = 0.5, engine: Engine | None = None
) -> float:
    """Return BOME's lambda: ``max((eta |dq|^2 - <df, dq>) / |dq|^2, 0)`` with gradients in the outer parameters.

    The smallest weight with which a step still lowers the gap q at the rate eta, whatever the real loss f wants. First
    order: both gradients are plain numbers. The block of S is left out, since its scale is another.

    Args:
        real: f, with a graph that is kept.
        gap: q, with a graph that is kept.
        parameters: of the outer model.
        eta: rate of the barrier.
        engine: processes that share f; None if this one has all of it.
    """
    gradients = [torch.autograd.grad(x, parameters, retain_graph=True, allow_unused=True) for x in (real, gap)]
    pairs = [(f, q) for f, q in zip(*gradients, strict=True) if f is not None and q is not None]
    if engine is not None:
        pairs = [(f, q) for f, (_, q) in zip(engine.average([f for f, _ in pairs]), pairs, strict=True)]
    inner = sum((f * q).sum().item() for f, q in pairs)
    square = sum((q * q).sum().item() for _, q in pairs)
    return max((eta * square - inner) / (square + EPSILON), 0.0)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor, engine: Engine | None = None) -> None:
    """Make a step along the gradient of a loss or, with an engine, of its mean over the processes."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if engine is not None:
        engine.average_gradients([parameter for group in optimiser.param_groups for parameter in group["params"]])
    optimiser.step()


def _draw_window(windows: Windows, generator: torch.Generator) -> int:
    """Draw a window: if number 0 is the whole sequence, that one half of the time."""
    if len(windows) > 1 and windows[0][1] == windows[1][0]:
        return int(torch.randint(len(windows), (), generator=generator))
    short = len(windows) - 1
    draw = int(torch.randint(2 * max(short, 1), (), generator=generator))
    return draw + 1 if draw < short else 0
