"""What students learn from condensed sequences: soft labels in windows, or each step from those before it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from foster.condensed.contexts import Steps, Windows, by_window, drawn_items, mixtures, short_windows
from foster.condensed.labeller import with_codes, with_own_contexts
from foster.condensed.labels import label_keys, labels_fit, start_from_labels
from foster.condensed.score_matching import ProbabilityMatching, ScoreMatching
from foster.condensed.sequences import Condensed
from foster.data.batches import BatchDraws
from foster.models.item_tower import FrozenFeatures, mapped
from foster.models.kernels import logsumexp_without
from foster.models.recommender import TextRecommender
from foster.training.losses import distinct_vectors, hits, next_item_loss, own_scores, sample_items
from foster.training.options import MANY
from foster.unfinished import State

LEAST = 1e-4  # probability below which an item of the next step is no target
WHOLE = 0.2  # how often a student with soft labels sees whole sequences; short windows otherwise
SHARE = 8  # a step of such a student sees an eighth of the positions: more take longer and teach no more
OF_LABELLER = 10_000  # positions of which that is a share where a labeller makes any number of labels


def student_source(
    data: Condensed, model: TextRecommender, seed: int, start: bool = True, mixup: bool = False
) -> HardLabels | HistoryBatches | SoftLabels:
    """Return the losses of a student, which takes over the item map that is stored where it can.

    Args:
        data: the sequences.
        model: the student; its catalogue must be the one of ``data``.
        seed: of what is drawn.
        start: whether the item map is taken over; see ``start_from_labels``.
        mixup: whether contexts of soft labels are mixed in pairs.

    Raises:
        InputError: labels that the student cannot learn from.
    """
    fixed = data.adapter is not None and start and start_from_labels(data, model)
    if not data.labelled and len(data) > MANY and data.items.shape[2] == 1:
        return HistoryBatches(data, model, seed, fixed=fixed)
    if not data.labelled:
        return HardLabels(data, model, seed)
    return SoftLabels(data, model, seed, fixed=fixed, mixup=mixup)


class StepReader:
    """What a student reads of steps: the vector of the item that was drawn for each, or the mixture of its items.

    Args:
        data: the sequences.
        model: the student.
        generator: of items that are drawn anew, where a tuned language model encodes them.
        table: ``[V, d]`` the student's item vectors, if these stay as they are.
        drawn: whether items are given for the steps.
    """

    def __init__(
        self, data: Condensed, model: TextRecommender, generator: torch.Generator, table: Tensor | None, drawn: bool
    ) -> None:
        self.items: Tensor = data.items.to(model.device)
        self.weights: Tensor = data.weights.to(model.device)
        self.generator: torch.Generator = generator
        self.table: Tensor | None = table
        self.mixed: Tensor | None = None
        if not drawn and (table is not None or model.tower.texts_alone):
            # A linear adapter maps a mixture of features to the mixture of item vectors: mix once, not every step.
            vectors = table[self.items] if table is not None else model.tower.features(self.items)
            self.mixed = mixtures(vectors, self.weights)

    def __call__(self, model: TextRecommender, steps: Steps, drawn: Tensor | None = None) -> Tensor:
        """Return the vectors ``[m, l, d]`` of steps; with ``drawn`` ``[m, l]`` those of one of their items."""
        out: Tensor
        if drawn is None and self.mixed is not None:
            out = self.mixed[steps]
            return out if self.table is not None else model.tower.adapter(out)
        items = self.items_of(steps, drawn)
        out = model.tower(items) if self.table is None else self.table[items]
        return out

    def items_of(self, steps: Steps, drawn: Tensor | None = None) -> Tensor:
        """Return one item ``[m, l]`` of each of some steps: that which was drawn for it, or by chance."""
        if drawn is None:
            weights = self.weights[steps]
            chances = weights.flatten(0, 1) + torch.finfo(torch.float32).tiny
            drawn = torch.multinomial(chances.cpu(), 1, generator=self.generator).view(weights.shape[:2])
        return drawn_items(self.items[steps], drawn.to(self.items.device))


def _encodes(model: TextRecommender) -> bool:
    """Whether item vectors are dear: a language model that is tuned makes them anew at every step."""
    return not isinstance(model.tower.features, FrozenFeatures)


def _encoded_once(model: TextRecommender, *items: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the vectors of several tensors of items, each item's once, and where among them those of each are."""
    vectors, place = distinct_vectors(model, torch.cat([part.flatten() for part in items]))
    places = place.split([part.numel() for part in items])
    return vectors, [own.view(part.shape) for own, part in zip(places, items, strict=True)]


class _Drawing:
    """Losses that draw from one generator, and depend on nothing else that changes."""

    generator: torch.Generator

    def state(self) -> State:
        """Return what the next draws depend on."""
        return self.generator.get_state()

    def load_state(self, state: State) -> None:
        """Go on from a state."""
        self.generator.set_state(state)


class HardLabels(_Drawing):
    """Losses of a student that learns each step from those before it; every step of training sees all sequences.

    Of many real histories ``HistoryBatches`` takes some at a time.

    Of sequences that are longer than the model reads, the first steps are used, and the one after them as a target.

    Args:
        data: the sequences.
        model: the student; its catalogue must be the one of ``data``.
        seed: of the sampled items.
    """

    def __init__(self, data: Condensed, model: TextRecommender, seed: int) -> None:
        self.generator: torch.Generator = torch.Generator().manual_seed(seed * 1009)
        # The last item is a target only: a state is learned at each place that the model reads.
        self.length: int = min(model.options.max_length + 1, data.items.shape[1])
        self.reads: int = min(model.options.max_length, self.length)
        self.read: StepReader = StepReader(data, model, self.generator, None, drawn=False)
        # Of a flat step most of the stored items weigh next to nothing: those are no targets.
        self.followed: Tensor = data.valid.to(model.device)[:, 1 : self.length]
        following, weights = (x[:, 1 : self.length][self.followed] for x in (self.read.items, self.read.weights))
        used = (weights >= LEAST).any(0)
        self.following: Tensor = following[:, used]
        self.targets: Tensor = weights[:, used]
        self.followed_features: Tensor | None = None
        self.followed_places: Tensor
        if model.tower.linear is not None:
            distinct, self.followed_places = torch.unique(self.following, return_inverse=True)
            self.followed_features = model.tower.features(distinct)
        model.tower.mark(self.read.items[self.read.weights > 0])

    def loss(self, model: TextRecommender, candidates: int) -> Tensor:
        """Return the mean cross-entropy of the steps: ``next_item_loss`` with several weighted positives a position.

        Args:
            model: the student.
            candidates: items sampled for the softmax.
        """
        sample = sample_items(model.n_known, candidates, self.generator).to(self.following.device)
        every = (slice(None), slice(self.reads))
        adapter, features = model.tower.linear, self.followed_features
        if _encodes(model):
            read = self.read.items_of(every)
            vectors, (steps, own, sampled) = _encoded_once(model, read, self.following, sample)
            states = model.backbone(vectors[steps])[:, : self.length - 1][self.followed]
        else:
            states = model.backbone(self.read(model, every))[:, : self.length - 1][self.followed]
            if adapter is None:
                vectors, (own, sampled) = _encoded_once(model, self.following, sample)
        if adapter is not None:
            assert features is not None  # of the adapter that was there at the start
            # <h, W f + b> is <W'h, f> + <h, b>: few states meet the adapter, not their many positives.
            queries = states / math.sqrt(model.options.dim)
            positive = own_scores(queries @ adapter.weight, features, self.followed_places)
            positive = positive + (queries @ adapter.bias)[:, None]
            negative = model.scores(states, model.tower(sample))
        else:
            positive = own_scores(states, vectors, own) / math.sqrt(model.options.dim)
            negative = model.scores(states, vectors[sampled])
        rest = logsumexp_without(negative, *hits(sample, self.following)) + math.log(model.n_known / len(sample))
        partition = torch.logaddexp(positive.logsumexp(1), rest)
        return (self.targets.sum(1) * partition - (self.targets * positive).sum(1)).mean()


class HistoryBatches(BatchDraws):
    """Losses of a student of so many real histories that a step of training sees a batch of them, as of a log.

    Args:
        data: the sequences, each step one item.
        model: the student; its catalogue must be the one of ``data``.
        seed: of batches and sampled items.
        fixed: leave the student's item vectors as they are; see ``start_from_labels``.
    """

    def __init__(self, data: Condensed, model: TextRecommender, seed: int, fixed: bool = False) -> None:
        self.table: Tensor | None = model.item_table() if fixed else None
        length = min(model.options.max_length + 1, data.items.shape[1])
        self.items: Tensor = torch.where(data.valid, data.items[..., 0], -1)[:, :length].to(model.device)
        self.lengths: np.ndarray = data.valid[:, :length].sum(1).numpy()
        super().__init__(self.lengths, MANY, seed)

    def loss(self, model: TextRecommender, candidates: int) -> Tensor:
        """Return the next-item loss of a batch of histories of like length.

        Args:
            model: the student.
            candidates: items sampled for the softmax.
        """
        rows = next(self.batches)
        batch = self.items[torch.from_numpy(rows).to(self.items.device), : self.lengths[rows].max()]
        return next_item_loss(model, batch, candidates, self.generator, self.table)


class SoftLabels(_Drawing):
    """Losses of a student that learns to score, or to predict, as the labels do; a step of training draws contexts.

    Of contexts that are longer than the model reads, the first steps are used.

    Args:
        data: the sequences.
        model: the student; its catalogue must be the one of ``data``.
        seed: of what is drawn.
        fixed: leave the student's item vectors as they are; see ``start_from_labels``.
        mixup: mix contexts in pairs, and their labels as much.
    """

    def __init__(
        self, data: Condensed, model: TextRecommender, seed: int, fixed: bool = False, mixup: bool = False
    ) -> None:
        self.windows: Windows = data.windows
        self.mixup: bool = mixup
        self.generator: torch.Generator = torch.Generator().manual_seed(seed * 1009)
        device = model.device
        self.length: int = min(model.options.max_length, data.items.shape[1])
        table: Tensor | None = None
        features = model.tower.features
        if fixed and not isinstance(features, FrozenFeatures):
            # The labels' low-rank updates and map are the student's own now: its texts are encoded once.
            keys = table = model.tower.table()
        else:
            keys = label_keys(data, model)
        # What a labeller writes beside makes a step of training no longer.
        self.positions: int = int(data.valid.sum()) if data.labeller is None else OF_LABELLER
        data = with_codes(with_own_contexts(data, keys, seed), keys)
        assert data.codes is not None  # it has labels
        self.valid: Tensor = data.valid.to(device)
        self.short_ones: bool = not bool(data.valid.all())
        if fixed and isinstance(features, FrozenFeatures):
            own = model.tower.item_map()
            assert own is not None  # see start_from_labels
            # At another width the labels' map was turned; else it is the student's own.
            table = keys if keys.shape[1] == model.options.dim else mapped(features.vectors, own)
        known, fits = model.catalogue.known, labels_fit(data, model)
        self.matching: ScoreMatching | ProbabilityMatching = (
            ScoreMatching(model.tower, keys, table, known) if fits else ProbabilityMatching(keys)
        )
        # Of whole sequences [M, L, ...] and of their short windows [M, windows, W, ...], where there are such.
        self.short: Windows = short_windows(self.windows, data.items.shape[1])
        self.codes: tuple[Tensor | None, Tensor | None] = self._whole_and_short(data.codes.to(device))
        self.draws: tuple[Tensor | None, Tensor | None] = (
            (None, None) if data.draws is None else self._whole_and_short(data.draws.to(device))
        )
        self.starts: Tensor = torch.tensor([start for start, _ in self.short], dtype=torch.int64, device=device)
        # Behind the end of a short history there are windows, too, but no steps in them to learn from.
        first = self.valid[:, self.starts]
        self.contexts: Tensor = torch.arange(first.numel(), device=device)[first.flatten()]
        self.read: StepReader = StepReader(data, model, self.generator, table, drawn=data.draws is not None)
        if not fixed:
            model.tower.mark(self.read.items[self.read.weights > 0])

    def loss(self, model: TextRecommender, candidates: int) -> Tensor:
        """Return the mean loss of the steps of some contexts.

        Args:
            model: the student.
            candidates: items sampled, where the loss has no closed form over all of them.
        """
        steps, codes, drawn = self._draw_contexts()
        valid = self.valid[steps]
        sample = sampled = None
        if self.read.table is None and _encodes(model):
            items = self.read.items_of(steps, drawn)
            sample = sample_items(model.n_known, candidates, self.generator).to(codes.device)
            vectors, (read, among) = _encoded_once(model, items, sample)
            inputs, sampled = vectors[read], vectors[among]
        else:
            inputs = self.read(model, steps, drawn)
        if self.mixup:
            inputs, codes, valid = self._mixed(inputs, codes, valid)
        states = model.backbone(inputs)
        if self.short_ones:  # an index of bools waits for the device
            states, codes = states[valid], codes[valid]
        if self.matching.samples and sampled is None:
            sample = sample_items(model.n_known, candidates, self.generator).to(codes.device)
            sampled = model.tower(sample)
        return self.matching(states / math.sqrt(model.options.dim), codes, model.tower, sample, sampled)

    def _mixed(self, inputs: Tensor, codes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mix each context with another one, step by step, and their labels as much.

        Mixup (Zhang et al., ICLR 2018, arXiv 1710.09412). A teacher's state is nearly a linear function of the items
        before it, so that the mixture of two labels is nearly the label of the mixture: more contexts at no byte.
        """
        other = torch.randperm(len(inputs), generator=self.generator).to(inputs.device)
        share = torch.rand((len(inputs), 1, 1), generator=self.generator).to(inputs.device)
        inputs, codes = (share * x + (1 - share) * x[other] for x in (inputs, codes))
        return inputs, codes, valid & valid[other]

    def _whole_and_short(self, values: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Split values ``[M, P, ...]`` of the labels into those of whole sequences and those of short windows."""
        parts = [part[:, : self.length] for part in by_window(values, self.windows)]
        whole = len(parts) - len(self.short)
        return parts[0] if whole else None, torch.stack(parts[whole:], dim=1) if self.short else None

    def _draw_contexts(self) -> tuple[Steps, Tensor, Tensor | None]:
        """Draw whole sequences or, mostly, short windows: where their steps are, codes, draws."""
        (of_whole, codes), (whole_draws, draws) = self.codes, self.draws
        if codes is None or (of_whole is not None and torch.rand((), generator=self.generator) < WHOLE):
            assert of_whole is not None  # there are windows
            rows = self._some(len(self.valid), self.length)
            return (rows, slice(self.length)), of_whole[rows], None if whole_draws is None else whole_draws[rows]
        windows, length = codes.shape[1:3]
        drawn = self.contexts[self._some(len(self.contexts), length)]
        rows, which = drawn // windows, drawn % windows
        steps = self.starts[which][:, None] + torch.arange(length, device=codes.device)
        return (rows[:, None], steps), codes[rows, which], None if draws is None else draws[rows, which]

    def _some(self, contexts: int, length: int) -> Tensor:
        """Draw as many of the contexts, each of ``length`` steps, as make a step of training."""
        n = max(self.positions // (SHARE * length), 1)
        return torch.randperm(contexts, generator=self.generator)[:n].to(self.valid.device)
