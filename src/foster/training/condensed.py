"""A handful of sequences that stands for a log: distilled or selected, one type, one loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from foster.artefacts import (
    CARD_NAME,
    CONFIG_NAME,
    KEPT_STEP,
    METRICS_NAME,
    config_field,
    folder_bytes,
    load_tensors,
    marked,
    new_folder,
    not_finite,
    read_config,
    save_tensors,
    write_json,
)
from foster.data.catalogue import CATALOGUE_NAME, Catalogue
from foster.errors import InputError
from foster.models.item_tower import IDS, FrozenFeatures, ItemMap, item_map_features, item_map_width, mapped
from foster.models.kernels import logsumexp_without
from foster.models.options import ModelOptions
from foster.models.recommender import NOT_STATED, TextRecommender, split_line
from foster.text.encoder import same_encoder
from foster.text.options import EncoderOptions
from foster.training.losses import distinct_vectors, hits, own_scores, sample_items
from foster.training.options import STUDENT, TrainOptions
from foster.training.score_matching import ProbabilityMatching, ScoreMatching

LEVELS = 7  # on either side of zero, of the numbers of a stored soft label
LEAST = 1e-4  # probability below which an item of the next step is no target
ROUNDING = 0.01  # how far from 1 half precision may take the sum of a step's weights
WHOLE = 0.2  # how often a student with soft labels sees whole sequences; short windows otherwise
SHARE = 8  # a step of such a student sees an eighth of the positions: more take longer and teach no more
TENSORS_NAME = "sequences.safetensors"
ADAPTER = "adapter."  # what the names of its weights begin with in that file

Steps = tuple[slice | Tensor, slice | Tensor]
"""Where steps are: an index into the first two dimensions, sequence and step."""


@dataclass(frozen=True, eq=False)
class Condensed:
    """M sequences of at most L steps; each step is a distribution over items.

    A step is stored by its k most probable items. A target is the next step (``codes`` is None), or a soft label of
    its own, the teacher's scores, stored as a vector: item v has the score ``<codes, keys(v)>`` up to a constant. Where
    the teacher's item vectors are a map of whitened public text features, its adapter, that map is stored, and
    ``keys(v) = adapter(features(v))``; where its language model was tuned, no map of public features gives them and the
    vectors themselves are stored.

    A step can have several soft labels, one for each window of the sequence that it lies in: after the whole sequence
    so far, and after the steps of a short window only. Users' histories are mostly short, so that states after few
    items are what a student needs most, and a long sequence alone has few of these.

    With ``draws`` a context is not the mixtures of its steps, but one item of each: windows that share steps then hold
    different items, and the student meets more of the catalogue.

    Attributes:
        kind: distilled or coreset.
        method: what made it.
        items: int64 ``[M, L, k]`` item indices of the catalogue.
        weights: float ``[M, L, k]``, summing to 1 in half precision; all 0 behind the end of a short sequence.
        codes: float ``[M, P, r]`` or None; the labels of the windows one after another, P steps in all.
        windows: first step and end of each window; only with codes. The first one is the whole sequence, the
            others have one length.
        draws: int64 ``[M, P]`` or None; which of its k items each step is in the context of its label.
        adapter: weights of the teacher's adapter by name, or None; with codes there is either this or ``keys``.
        keys: float ``[V, r]`` or None.
        catalogue: the items with their texts.
        encoder: the text encoder that the soft labels refer to.
        model: shape of the model that it was made with, the default for students.
        recipe: the student's training recipe.
        info: how it was made: fingerprint of the data, options, what came from real data.
    """

    kind: Literal["distilled", "coreset"]
    method: str
    items: Tensor
    weights: Tensor
    codes: Tensor | None
    adapter: ItemMap | None
    catalogue: Catalogue
    encoder: EncoderOptions
    model: ModelOptions
    keys: Tensor | None = None
    windows: tuple[tuple[int, int], ...] = ()
    draws: Tensor | None = None
    recipe: TrainOptions = STUDENT
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse numbers that are not finite: students would learn nothing from them.

        Raises:
            InputError: which they are.
        """
        numbers = {name: getattr(self, name) for name in ("weights", "codes", "keys")} | (self.adapter or {})
        if name := not_finite({name: tensor for name, tensor in numbers.items() if tensor is not None}):
            raise InputError(
                f"{self.method}: {name} of the sequences is not finite; was the teacher trained at too high a --lr?"
            )

    @classmethod
    def of_histories(
        cls, histories: Sequence[np.ndarray], max_length: int, method: str, catalogue: Catalogue, **rest: Any
    ) -> Self:
        """Wrap real histories as one-hot steps: the last ``max_length`` items of each."""
        kept = [history[-max_length:] for history in histories]
        items = torch.zeros(len(kept), max(map(len, kept)), 1, dtype=torch.int64)
        weights = torch.zeros(items.shape)
        for row, history in enumerate(kept):
            items[row, : len(history), 0] = torch.from_numpy(history.astype(np.int64))
            weights[row, : len(history)] = 1
        return cls("coreset", method, items, weights, None, None, catalogue, **rest)

    @torch.no_grad()
    def start(self, model: TextRecommender) -> bool:
        """Give a student the item map that soft labels are stored with, if its features and its adapter are alike.

        The labels say how items relate through this map in any case; a student that starts with it learns the rest.

        Returns:
            Whether its item vectors are best left as they are: those of experts, which are no linear map. Moving them
            takes eight times the time and is no better (benchmarks/research.md, 48).
        """
        frozen = isinstance(model.tower.features, FrozenFeatures)
        if self.adapter is None or not frozen or not self._encoder_is_that_of(model):
            return False
        if model.options.ids and IDS not in self.adapter:
            raise InputError(
                "--ids: these sequences and their labels come from a teacher without vectors of items' own; leave it "
                "out, or distil from a teacher with --ids"
            )
        return model.tower.load_item_map(self.adapter, model.catalogue.known) and model.tower.linear is None

    def label_keys(self, model: TextRecommender) -> Tensor:
        """Return ``[V, r]`` on the model's device: a label ``y`` scores item v as ``<y, label_keys[v]>``."""
        if self.adapter is None:
            assert self.keys is not None  # the sequences have soft labels
            return self.keys.to(model.device)
        same = self._encoder_is_that_of(model)
        features = model.public_features(model.encoder if same else self.encoder)
        if (given := features.shape[1]) != (wanted := item_map_features(self.adapter)):
            raise InputError(
                f"{self.encoder.encoder}: gives {given} numbers a text, and the labels were made with {wanted}: it is "
                "another encoder, or reads other --words; name a copy of theirs by --label-encoder"
            )
        # Features are mapped to the width of the codes once; widening the codes would cost more at every step.
        return mapped(features, self.adapter)

    def labels_fit(self, model: TextRecommender) -> bool:
        """Whether a student can come to score all items as labels that refer to text features do.

        One on other features cannot, nor can a linear map of those features do what experts or items' own vectors do; a
        student that tunes its features may.
        """
        if self.adapter is None or not isinstance(model.tower.features, FrozenFeatures):
            return True
        if IDS in self.adapter and model.tower.ids is None:
            return False
        of_a_linear_map = "weight" in self.adapter and IDS not in self.adapter
        return (of_a_linear_map or model.tower.linear is None) and self._encoder_is_that_of(model)

    def _encoder_is_that_of(self, model: TextRecommender) -> bool:
        try:
            return same_encoder(self.encoder, model.encoder)
        except InputError as error:
            raise InputError(
                f"{error}; soft labels refer to that encoder: name the place where it lies now by --label-encoder"
            ) from error

    @property
    def valid(self) -> Tensor:
        """Bool ``[M, L]``: where there is a step."""
        return self.weights.sum(-1) > 0

    def __len__(self) -> int:
        """Return M."""
        return len(self.items)

    def rounded(self) -> Self:
        """Return it with the numbers that a folder stores, so that students of both are the same."""
        codes = self.codes
        if codes is not None:
            codes = from_four_bits(*to_four_bits(codes))[..., : codes.shape[-1]]
        halves = {name: getattr(self, name) for name in ("weights", "keys")}
        halves = {name: None if values is None else values.half().float() for name, values in halves.items()}
        adapter = self.adapter and {name: values.half().float() for name, values in self.adapter.items()}
        return replace(self, codes=codes, adapter=adapter, **halves)

    def save(self, out: str | Path, overwrite: bool = False) -> Path:
        """Make the folder ``out``; see ``write_to``.

        Raises:
            InputError: ``out`` exists or cannot be written to.
        """
        with new_folder(out, overwrite) as folder:
            self.write_to(folder)
        return Path(out)

    def write_to(self, folder: Path) -> None:
        """Write ``config.json``, ``sequences.safetensors``, the item texts and a card into an existing folder."""
        tensors = {"items": self.items.to(torch.int32), "weights": self.weights.half()}
        if self.codes is not None:
            codes, scales = to_four_bits(self.codes)
            tensors |= {"codes": codes, "code_scales": scales}
        if self.adapter is not None:
            tensors |= {ADAPTER + name: values.half() for name, values in self.adapter.items()}
        if self.keys is not None:
            tensors["keys"] = self.keys.half()
        if self.draws is not None:
            tensors["draws"] = self.draws.to(torch.uint8)
        config = {
            **marked(self.kind),
            "method": self.method,
            "sequences": len(self),
            "length": self.items.shape[1],
            "windows": self.windows,
            "catalogue_items": len(self.catalogue),
            **self.catalogue.stated,
            "encoder": self.encoder.model_dump(),
            "model": self.model.model_dump(),
            "recipe": self.recipe.model_dump(),
            "info": self.info,
        }
        save_tensors(folder / TENSORS_NAME, tensors)
        self.catalogue.save(folder)
        write_json(folder / CONFIG_NAME, config)
        (folder / CARD_NAME).write_text(self._card(folder), encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path, *, encoder: str | None = None) -> Self:
        """Read a distilled or coreset folder.

        Args:
            folder: what ``save`` wrote.
            encoder: another place of the encoder that it was made with, where the stored name does not exist on this
                machine.

        Raises:
            InputError: another folder, or a damaged one.
        """
        folder = Path(folder)
        config = read_config(folder, ("distilled", "coreset"))
        path = folder / TENSORS_NAME
        tensors = load_tensors(path)
        catalogue = Catalogue.read(folder)
        if wrong := _wrong_steps(tensors, len(catalogue)):
            raise InputError(f"{path}: {wrong}; the folder is damaged, make or copy it again")
        where = str(folder / CONFIG_NAME)

        def stored(name: str) -> Any:
            return config_field(config, name, where)

        windows, labels = stored("windows"), _stored_labels(tensors, path, len(catalogue))
        codes = labels["codes"]
        if not _windows_fit(windows, tensors["items"].shape[1], 0 if codes is None else codes.shape[1]):
            raise InputError(f"{where}: field 'windows' is wrong; the folder is damaged, make or copy it again")
        return cls(
            kind=stored("kind"),
            method=stored("method"),
            items=tensors["items"].long(),
            weights=tensors["weights"].float(),
            catalogue=catalogue,
            encoder=EncoderOptions.stored(stored("encoder"), where).at(encoder),
            model=ModelOptions.parse(stored("model"), where),
            windows=tuple((start, end) for start, end in windows),
            recipe=TrainOptions.parse(stored("recipe"), where),
            info=stored("info"),
            **labels,
        )

    def _card(self, folder: Path) -> str:
        size = stored_bytes(folder)
        real = self.info.get("from_real_data", "see config.json")
        kept = self.info.get(KEPT_STEP)
        state = "" if kept is None else f"- state after distillation step {kept} (0 is the starting point)\n"
        return (
            f"# {len(self)} {'synthetic' if self.kind == 'distilled' else 'selected'} sequences ({self.method})\n\n"
            f"- catalogue: {len(self.catalogue)} items with texts; encoder {self.encoder.encoder}\n"
            f"- data fingerprint: {self.info.get('data_fingerprint', NOT_STATED)}\n"
            f"{split_line(self.info)}"
            f"{state}"
            f"- what came from real data: {real}\n"
            f"- size without item texts and this card: {size} bytes\n"
            f"- licence: {self.info.get('licence', 'that of the data it was made from')}\n\n"
            "Train on it with `foster train FOLDER --out MODEL`.\n"
        )


def _wrong_steps(tensors: dict[str, Tensor], n_items: int) -> str | None:
    """Return what is wrong with the stored steps, or None."""
    if not {"items", "weights"} <= tensors.keys():
        return "'items' or 'weights' are missing"
    items, weights = tensors["items"].long(), tensors["weights"].float()
    if items.ndim != 3 or items.shape != weights.shape or not items.numel():
        return "'items' do not fit 'weights'"
    if int(items.min()) < 0 or int(items.max()) >= n_items:
        return f"'items' do not fit {CATALOGUE_NAME}"
    total = weights.sum(-1)
    there = total > 0
    ends = there[:, 0].all() and not (there[:, 1:] & ~there[:, :-1]).any()
    if not ends or weights.min() < 0 or ((total - 1).abs()[there] > ROUNDING).any():
        return "'weights' are no probabilities"
    return None


def _windows_fit(windows: Any, length: int, labels: int) -> bool:
    """Return whether windows are the whole sequence and others of one length, and hold so many labels together."""
    if not isinstance(windows, list) or not all(isinstance(w, list) and len(w) == 2 for w in windows):
        return False
    if not all(type(end) is int for window in windows for end in window):
        return False
    if not windows or not labels:
        return not windows and not labels
    inside = all(0 <= start < end <= length for start, end in windows)
    lengths = [end - start for start, end in windows]
    return inside and windows[0] == [0, length] and len(set(lengths[1:])) <= 1 and sum(lengths) == labels


def _stored_labels(tensors: dict[str, Tensor], path: Path, n_items: int) -> dict[str, Any]:
    """Return the fields ``codes``, ``adapter``, ``keys`` and ``draws`` of a folder's tensors.

    Raises:
        InputError: they are incomplete, do not fit one another, or are those of another version.
    """
    out: dict[str, Any] = dict.fromkeys(("codes", "adapter", "keys", "draws"))
    if "codes" in tensors:
        adapter = {n.removeprefix(ADAPTER): t.float() for n, t in tensors.items() if n.startswith(ADAPTER)}
        if "code_scales" not in tensors or bool(adapter) == ("keys" in tensors):
            raise InputError(f"{path}: soft labels lack 'code_scales', 'adapter' or 'keys'; make the folder again")
        if tensors["codes"].dtype != torch.uint8:  # an earlier version had a byte a number, or two
            raise InputError(f"{path}: 'codes' are not those of this version; make the folder again")
        shape = tensors["codes"].shape
        if len(shape) != 3 or shape[0] != len(tensors["items"]) or shape[:2] != tensors["code_scales"].shape:
            raise InputError(f"{path}: 'codes' do not fit the sequences; the folder is damaged, make or copy it again")
        if adapter:
            try:
                width = item_map_width(adapter)
            except ValueError as error:
                raise InputError(
                    f"{path}: {error}; the folder is damaged or of an earlier version, make it again"
                ) from error
            out["adapter"] = adapter
        else:
            keys = out["keys"] = tensors["keys"].float()
            width = keys.shape[1]
            if len(keys) != n_items:
                raise InputError(f"{path}: 'keys' do not fit {CATALOGUE_NAME}; make or copy the folder again")
        if shape[2] != (width + 1) // 2:
            raise InputError(f"{path}: 'codes' do not fit the map of items; make or copy the folder again")
        out["codes"] = from_four_bits(tensors["codes"], tensors["code_scales"])[..., :width]
    if "draws" in tensors:
        draws = out["draws"] = tensors["draws"].long()
        labels = None if out["codes"] is None else out["codes"].shape[:2]
        if draws.shape != labels or int(draws.min()) < 0 or int(draws.max()) >= tensors["items"].shape[2]:
            raise InputError(f"{path}: 'draws' do not fit the labels; the folder is damaged, make or copy it again")
    return out


def by_window(values: Tensor, windows: tuple[tuple[int, int], ...]) -> tuple[Tensor, ...]:
    """Split values ``[M, P, ...]`` of the labels into those of each window."""
    return values.split([end - start for start, end in windows], dim=1)


def drawn_items(items: Tensor, draws: Tensor) -> Tensor:
    """Return one item of each step, ``[m, l]``: that which ``draws`` ``[m, l]`` names in ``items`` ``[m, l, k]``."""
    return items.gather(-1, draws[..., None])[..., 0]


def to_four_bits(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Round codes ``[..., r]`` to 15 levels, two numbers a byte: on validation, more labels beat more exact ones.

    Returns:
        uint8 ``[..., ceil(r / 2)]``, and float16 ``[...]``, the step between levels.
    """
    least = torch.finfo(torch.float16).tiny
    scales = (codes.abs().amax(-1) / LEVELS).clamp(min=least).half()
    levels = (codes / scales[..., None].float()).round().clamp(-LEVELS, LEVELS).to(torch.int16) + LEVELS
    levels = F.pad(levels, (0, levels.shape[-1] % 2))
    return (levels[..., ::2] + 16 * levels[..., 1::2]).to(torch.uint8), scales


def from_four_bits(packed: Tensor, scales: Tensor) -> Tensor:
    """Return float codes ``[..., 2 * bytes]`` of what ``to_four_bits`` gave; the last of an odd width is padding."""
    levels = torch.stack([packed % 16, packed // 16], dim=-1).flatten(-2)
    return (levels.float() - LEVELS) * scales[..., None].float()


def stored_bytes(folder: str | Path) -> int:
    """Return the size of a condensed folder in bytes, without item texts, card and metrics."""
    return folder_bytes(folder, exclude=(CATALOGUE_NAME, CARD_NAME, METRICS_NAME))


class CondensedSource:
    """Losses of a student: every step on all condensed sequences or, with soft labels, on a draw of contexts.

    Of contexts that are longer than the model reads, the first steps are used.

    Args:
        data: the sequences.
        model: the student; its catalogue must be the one of ``data``.
        seed: of the sampled items.
        fixed: leave the student's item vectors as they are; see ``Condensed.start``.
    """

    def __init__(self, data: Condensed, model: TextRecommender, seed: int, fixed: bool = False) -> None:
        self.data = data
        self.generator = torch.Generator().manual_seed(seed * 1009)
        device = model.device
        self.length = min(model.options.max_length, data.items.shape[1])
        self.items, self.weights = data.items.to(device), data.weights.to(device)
        self.valid = data.valid.to(device)
        self.positions, self.short_ones = int(data.valid.sum()), not bool(data.valid.all())
        self.table: Tensor | None = None  # item vectors, if these are fixed
        # Of whole sequences [M, L, ...] and, where there are some, of their short windows [M, windows, W, ...].
        self.soft: list[Tensor] = []
        self.drawn: list[Tensor] = []
        if data.codes is not None:
            keys = data.label_keys(model)
            fits = data.labels_fit(model)
            if fixed:
                own = model.tower.item_map()
                assert own is not None and isinstance(model.tower.features, FrozenFeatures)  # see Condensed.start
                # At another width the labels' map was turned; else it is the student's own.
                same = keys.shape[1] == model.options.dim
                self.table = keys if same else mapped(model.tower.features.vectors, own)
            known = model.catalogue.known
            self.matching = ScoreMatching(model.tower, keys, self.table, known) if fits else ProbabilityMatching(keys)
            self.soft = self._whole_and_short(data.codes.to(device))
            if data.draws is not None:
                self.drawn = self._whole_and_short(data.draws.to(device))
            self.starts = torch.tensor([start for start, _ in data.windows[1:]], dtype=torch.int64, device=device)
            # Behind the end of a short history there are windows, too, but no steps in them to learn from.
            first = self.valid[:, self.starts]
            self.contexts = torch.arange(first.numel(), device=device)[first.flatten()]
        else:
            # Of a flat step most of the stored items weigh next to nothing: those are no targets.
            self.followed = self.valid[:, 1 : self.length]
            following, weights = (x[:, 1 : self.length][self.followed] for x in (self.items, self.weights))
            used = (weights >= LEAST).any(0)
            self.following, self.targets = following[:, used], weights[:, used]
            self.followed_features: Tensor | None = None
            if model.tower.linear is not None:
                distinct, self.followed_places = torch.unique(self.following, return_inverse=True)
                self.followed_features = model.tower.features(distinct)
        self.mixed = None
        if not fixed:
            model.tower.mark(self.items[self.weights > 0])
        linear = self.table is not None or model.tower.ids is None
        if linear and isinstance(model.tower.features, FrozenFeatures) and not self.drawn:
            # A linear adapter maps a mixture of features to the mixture of item vectors: mix once, not every step.
            mixed = self.table[self.items] if self.table is not None else model.tower.features(self.items)
            self.mixed = torch.einsum("mlkd,mlk->mld", mixed, self.weights)

    def loss(self, model: TextRecommender, candidates: int) -> Tensor:
        """Return the mean loss of the steps: of their scores with soft labels, else the cross-entropy.

        Args:
            model: the student.
            candidates: items sampled for the softmax, or for the scores where these have no closed form.
        """
        if not self.soft:
            sample = self._sample(model, candidates)
            states = model.backbone(self._inputs(model, (slice(None), slice(self.length))))
            return self._next_step_loss(model, states, sample)
        steps, codes, drawn = self._draw_contexts()
        states = model.backbone(self._inputs(model, steps, drawn))
        if self.short_ones:  # an index of bools waits for the device
            valid = self.valid[steps]
            states, codes = states[valid], codes[valid]
        needed = self._sample(model, candidates) if self.matching.samples else None
        return self.matching(states / math.sqrt(model.options.dim), codes, model.tower, needed)

    def _sample(self, model: TextRecommender, candidates: int) -> Tensor:
        return sample_items(model.n_known, candidates, self.generator).to(self.items.device)

    def _whole_and_short(self, values: Tensor) -> list[Tensor]:
        """Split values ``[M, P, ...]`` of the labels into those of whole sequences and those of short windows."""
        first, *short = (part[:, : self.length] for part in by_window(values, self.data.windows))
        return [first, torch.stack(short, dim=1)] if short else [first]

    def _draw_contexts(self) -> tuple[Steps, Tensor, Tensor | None]:
        """Draw whole sequences or, mostly, short windows: where their steps are, codes, draws."""
        if len(self.soft) == 1 or torch.rand((), generator=self.generator) < WHOLE:
            rows = self._some(len(self.valid), self.length)
            return (rows, slice(self.length)), self.soft[0][rows], self.drawn[0][rows] if self.drawn else None
        codes = self.soft[1]
        windows, length = codes.shape[1:3]
        drawn = self.contexts[self._some(len(self.contexts), length)]
        rows, which = drawn // windows, drawn % windows
        steps = self.starts[which][:, None] + torch.arange(length, device=codes.device)
        return (rows[:, None], steps), codes[rows, which], self.drawn[1][rows, which] if self.drawn else None

    def _some(self, contexts: int, length: int) -> Tensor:
        """Draw as many of the contexts, each of ``length`` steps, as make a step of training."""
        n = max(self.positions // (SHARE * length), 1)
        return torch.randperm(contexts, generator=self.generator)[:n].to(self.items.device)

    def _inputs(self, model: TextRecommender, steps: Steps, drawn: Tensor | None = None) -> Tensor:
        """Return the item vectors of steps: of the drawn items ``drawn`` ``[m, l]``, or of the mixtures."""
        out: Tensor
        if drawn is None and self.mixed is not None:
            out = self.mixed[steps]
            return out if self.table is not None else model.tower.adapter(out)
        if drawn is None:
            # A tuned language model encodes what is asked for anew: one item drawn for each step, not all of its items.
            weights = self.weights[steps]
            chances = weights.flatten(0, 1) + torch.finfo(torch.float32).tiny
            drawn = torch.multinomial(chances.cpu(), 1, generator=self.generator).view(weights.shape[:2])
        items = drawn_items(self.items[steps], drawn.to(self.items.device))
        if self.table is not None:
            return self.table[items]
        if isinstance(model.tower.features, FrozenFeatures):
            out = model.tower(items)
            return out
        vectors, place = distinct_vectors(model, items)
        return vectors[place]

    def _next_step_loss(self, model: TextRecommender, states: Tensor, sample: Tensor) -> Tensor:
        """Return the loss against the next step: ``next_item_loss`` with several weighted positives a position."""
        states = states[:, :-1][self.followed]
        adapter, features = model.tower.linear, self.followed_features
        if adapter is not None:
            assert features is not None  # of the adapter that was there at the start
            # <h, W f + b> is <W'h, f> + <h, b>: few states meet the adapter, not their many positives.
            queries = states / math.sqrt(model.options.dim)
            positive = own_scores(queries @ adapter.weight, features, self.followed_places)
            positive = positive + (queries @ adapter.bias)[:, None]
            negative = model.scores(states, model.tower(sample))
        else:
            vectors, place = distinct_vectors(model, torch.cat([self.following.flatten(), sample]))
            own, sampled = place.split([self.following.numel(), len(sample)])
            positive = own_scores(states, vectors, own.view_as(self.following)) / math.sqrt(model.options.dim)
            negative = model.scores(states, vectors[sampled])
        rest = logsumexp_without(negative, *hits(sample, self.following)) + math.log(model.n_known / len(sample))
        partition = torch.logaddexp(positive.logsumexp(1), rest)
        return (self.targets.sum(1) * partition - (self.targets * positive).sum(1)).mean()
