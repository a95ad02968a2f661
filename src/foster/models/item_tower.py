"""The item tower: text features, whitening, an adapter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn

from foster.errors import InputError
from foster.growing import GrowingRows
from foster.models.kernels import widened
from foster.models.moe import MoEAdapter, mix
from foster.models.options import ModelOptions
from foster.text.tuning import TunableEncoder, Updates
from foster.text.words import Words

EQUAL = 1e-5  # deviation of vectors, as a share of their length, below which they differ by rounding only
RIDGE = 1e-3  # share of the largest variance below which a direction counts less, so that noise is not blown up
CHUNK = 4096  # items that are encoded at once where no gradient is kept
ROWS = 2**15  # vectors that are computed with at once where a copy of all would be too large


ItemMap = dict[str, Tensor]
"""Weights of an adapter by name: ``weight`` ``[d, width]`` of a linear one, or those of ``MoEAdapter``; and ``ids``
``[V, d]``, what items have of their own, if they do."""

ADAPTERS = ({"weight"}, {"base", "down", "up", "shift", "gate", "noise"})
IDS = "ids"
IDS_START = 0.02  # deviation of the vectors that items have of their own, at the start: next to nothing
IDS_DROPOUT = 0.2  # how often an item is without its own in training, so that texts alone can say what it is


class FeatureSource(Protocol):
    """What gives the whitened text features of items by their index."""

    width: int

    def __len__(self) -> int: ...

    def __call__(self, index: Tensor) -> Tensor:
        """Return features ``[n, width]`` for item indices ``[n]``."""
        ...

    def extended(self, texts: Sequence[str], features: Tensor) -> FeatureSource:
        """Return a source with new items behind the old ones; ``features`` ``[n, width]`` belong to ``texts``."""
        ...


class FrozenFeatures:
    """Whitened text vectors of a frozen encoder, computed when they are first needed. Copies of a model share them.

    Args:
        load: gives the vectors ``[V, width]``, float32 or, of a large catalogue, float16.
        width: their width.
        added: vectors of items behind those that ``load`` gives.
    """

    def __init__(self, load: Callable[[], Tensor], width: int, added: GrowingRows | None = None) -> None:
        self._load, self._added = load, added
        self.width = width

    @classmethod
    def of(cls, vectors: Tensor) -> FrozenFeatures:
        """Wrap vectors ``[V, width]`` that are there already."""
        return cls(lambda: vectors, vectors.shape[1])

    @cached_property
    def _table(self) -> GrowingRows:
        table = GrowingRows(self._load())
        return table if self._added is None else table.appended(self._added.rows)

    @property
    def vectors(self) -> Tensor:
        """All vectors, ``[V, width]``, as they are kept: see ``widened``."""
        return self._table.rows

    def __len__(self) -> int:
        return len(self._table)

    def __call__(self, index: Tensor) -> Tensor:
        """Return the vectors ``[n, width]`` of items ``[n]``."""
        return widened(self.vectors[index])

    def extended(self, texts: Sequence[str], features: Tensor) -> FrozenFeatures:
        """Return these and the new features; see ``FeatureSource``."""
        if "_table" not in self.__dict__:
            added = GrowingRows(features) if self._added is None else self._added.appended(features)
            return FrozenFeatures(self._load, self.width, added)
        out = FrozenFeatures(self._load, self.width)
        out._table = self._table.appended(features)
        return out

    def __deepcopy__(self, memo: dict[int, object]) -> FrozenFeatures:
        return self


def in_parts(vectors: Tensor) -> Iterator[Tensor]:
    """Yield all rows in the precision that is computed with: at once, or in parts if they are kept in another."""
    yield from map(widened, vectors.split(ROWS if vectors.dtype == torch.float16 else max(len(vectors), 1)))


class TunedFeatures(nn.Module):
    """Whitened vectors of a language model whose top layers, or all of it, are trained.

    The whitening stays what it was for the public model, so that training moves the language model and not the map.

    Args:
        encoder: the language model with the catalogue's tokens.
        words: of the same texts.
        whitening: the map, fixed.
    """

    def __init__(self, encoder: TunableEncoder, words: Words, whitening: Whitening) -> None:
        super().__init__()
        self.encoder = encoder
        self.words: Words = words
        self.whitening = whitening
        self.width: int = whitening.mean.shape[0]

    def __len__(self) -> int:
        return len(self.encoder)

    def forward(self, index: Tensor) -> Tensor:
        """Return features ``[n, width]`` with gradients for item indices ``[n]``."""
        return self._whitened(self.encoder(index), self.words(index))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return features ``[n, width]`` of texts outside the catalogue, without gradients."""
        with torch.no_grad():
            return self._whitened(self.encoder.encode(texts), self.words.of(texts))

    def _whitened(self, vectors: Tensor, words: Tensor) -> Tensor:
        out: Tensor = self.whitening(torch.cat([vectors, words.to(vectors)], dim=1))
        return out

    def extended(self, texts: Sequence[str], features: Tensor) -> TunedFeatures:
        """Append the texts to the language model's catalogue; see ``FeatureSource``."""
        self.encoder.extend(texts)
        self.words = self.words.extended(texts)
        return self


class Whitening(nn.Module):
    """A fixed affine map after which text features have about unit variance in every direction.

    Sentence vectors share a mean and a few strong directions; without whitening the adapter learns the rest slowly.
    The map is computed from item texts alone. Rows are scaled to a mean norm of sqrt(width).
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("matrix", matrix)

    @classmethod
    def fit(cls, vectors: Tensor, words: int = 0) -> Whitening:
        """Compute the map from text vectors ``[V, width]`` of the catalogue.

        A direction of variance l is scaled by ``sqrt(l) / (l + r)``: by nearly ``1 / sqrt(l)`` where that is much, and
        to nothing where vectors do not differ, so that items that come later, whose texts may, have features as long as
        the others. ``r`` is a share of the largest variance and, since of few items variances are chance, the mean one
        times width / V.

        Args:
            vectors: of the texts.
            words: how many of their numbers, the last so many, stand for words. These are whitened apart, since how
                long vectors of an encoder are says nothing of how much words count.

        Raises:
            InputError: all vectors are equal.
        """
        mean, width = vectors.mean(0), vectors.shape[1] - words
        blocks = [_whitener(vectors[:, part], mean[part]) for part in (slice(width), slice(width, None))]
        if not any(block.any() for block in blocks):
            if len(vectors) == 1:
                raise InputError("the catalogue has one item, so that there is nothing to recommend; bring more data")
            raise InputError(
                f"the texts of all {len(vectors)} items have the same vector, so that no model can tell items apart; "
                "see 'foster check', and give other text columns or another --encoder"
            )
        return cls(mean, torch.block_diag(*blocks).to(vectors.device, vectors.dtype))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map ``[n, width]`` to the same shape."""
        return (vectors - self.mean) @ self.matrix


class ItemTower(nn.Module):
    """Item index to item vector: ``adapter(features(index))``, and with ids a trained vector of the item's own added.

    With a linear adapter a mixture of items has the mixture of their vectors as its vector. With experts, the vector of
    such a soft step is that of the mixed features.

    An item has a vector of its own once it has occurred in what is trained on (``mark``). Others, new ones among them,
    are what their text says. In training each item is without its own now and then, so that texts learn to do alone.

    Args:
        features: whitened text features of the items.
        options: width d of item vectors, which adapter, and whether items have vectors of their own.
        known: how many items, the first so many, can have one; None for all.
    """

    seen: Tensor

    def __init__(self, features: FeatureSource, options: ModelOptions, known: int | None = None) -> None:
        super().__init__()
        self.features = features
        self.ids: nn.Parameter | None = None
        if options.ids:
            known = len(features) if known is None else known
            self.ids = nn.Parameter(torch.randn(known, options.dim) * IDS_START)
            self.register_buffer("seen", torch.zeros(known, dtype=torch.bool))
        self.adapter: nn.Linear | MoEAdapter
        if options.adapter == "moe":
            self.adapter = MoEAdapter(features.width, options.dim, options.dropout)
            return
        self.adapter = nn.Linear(features.width, options.dim)
        nn.init.normal_(self.adapter.weight, std=1 / math.sqrt(features.width))
        nn.init.zeros_(self.adapter.bias)

    @property
    def texts_alone(self) -> bool:
        """Whether an item is what the adapter makes of its frozen features, and nothing else."""
        return isinstance(self.features, FrozenFeatures) and self.ids is None

    @property
    def linear(self) -> nn.Linear | None:
        """The adapter where items are a linear map of frozen features and nothing else, or None."""
        return self.adapter if self.texts_alone and isinstance(self.adapter, nn.Linear) else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.adapter.parameters()).device

    def forward(self, index: Tensor) -> Tensor:
        """Return item vectors ``[..., d]`` for item indices ``[...]``, with gradients."""
        out: Tensor = self.adapter(self.features(index))
        return out if self.ids is None else out + self._own(index)

    def soft_steps(self, p: Tensor, index: Tensor, vectors: Tensor) -> Tensor:
        """Return the vectors ``[..., d]`` of soft steps over a subset of the items.

        Args:
            p: ``[..., N]`` distributions over the subset.
            index: ``[N]`` its items.
            vectors: ``[N, d]`` their vectors.
        """
        if self.texts_alone and isinstance(self.adapter, MoEAdapter):
            out: Tensor = self.adapter(p @ self.features(index))
            return out
        return p @ vectors

    def _own(self, index: Tensor) -> Tensor:
        """Return what items ``[...]`` have of their own, ``[..., d]``: zero for those that have nothing."""
        assert self.ids is not None
        place = index.clamp(max=len(self.ids) - 1)
        has = self.seen[place] & (place == index)
        if self.training:
            has = has & (torch.rand(index.shape, device=index.device) >= IDS_DROPOUT)
        return self.ids[place] * has[..., None]

    def mark(self, index: Tensor) -> None:
        """Note that items ``[...]`` occur in what is trained on: from now on they have vectors of their own, if any.

        A negative index is padding.
        """
        if self.ids is not None:
            self.seen[index[(index >= 0) & (index < len(self.ids))]] = True

    @property
    def updates(self) -> Updates | None:
        """Low-rank updates of the language model, or None where it is frozen or whole layers of it are tuned."""
        return self.features.encoder.updates() if isinstance(self.features, TunedFeatures) else None

    def item_map(self) -> ItemMap | None:
        """Return what maps features to item vectors, or None where neither public texts nor ``updates`` give these.

        It is without the bias of a linear map, which adds the same to the scores of all items.
        """
        if not isinstance(self.features, FrozenFeatures) and self.updates is None:
            return None
        weights = {name: weights.detach() for name, weights in self._mapping().items()}
        return weights if self.ids is None else weights | {IDS: self.ids.detach() * self.seen[:, None]}

    def _mapping(self) -> ItemMap:
        """Return the weights of the adapter that belong to its map."""
        return {name: weights for name, weights in self.adapter.named_parameters() if name != "bias"}

    @torch.no_grad()
    def load_item_map(self, weights: ItemMap, known: int | None = None) -> bool:
        """Take over the map of another tower on the same features, if this one's is of the same kind.

        Features that are tuned are taken to be those of the public encoder still; then widths must be equal, too.
        Items without vectors of their own in that map have none afterwards.

        To another width it is turned such that items keep their inner products: exactly if this one's is greater, else
        as far as their first principal directions go.

        Args:
            weights: the map.
            known: how many items, the first so many, have these directions; None for all.

        Returns:
            Whether it is of the same kind.
        """
        own = self._mapping()
        if own.keys() != weights.keys() - {IDS}:
            return False
        if item_map_features(weights) != self.features.width:
            return False
        if IDS in weights and self.ids is None:
            return False
        if item_map_width(weights) != item_map_width(own):
            if not isinstance(self.features, FrozenFeatures):
                return False
            turn = _turn(mapped(self.features.vectors[:known], weights), item_map_width(own))
            turned = {name: weights[name].to(turn) @ turn for name in ("base", "up", IDS) if name in weights}
            if "weight" in weights:
                turned["weight"] = turn.T @ weights["weight"].to(turn)
            weights = weights | turned
        for name, parameter in own.items():
            parameter.copy_(weights[name])
        if self.ids is not None:
            self.seen[:] = False
            if IDS in weights:
                self.ids.copy_(weights[IDS])
                self.seen.copy_(self.ids.any(1))
        return True

    @torch.no_grad()
    def table(self) -> Tensor:
        """Return the vectors of all items ``[V, d]``, without gradients, encoded in chunks.

        They are those of inference, in training, too: without its dropout and the noise of its gates.
        """
        training = self.training
        self.eval()
        try:
            parts = (self(index) for index in self._chunks())
            first = next(parts)
            # Put in place one by one: parts that are put together in the end are there twice.
            out = first.new_empty(len(self.features), first.shape[1])
            start = 0
            for part in chain([first], parts):
                out[start : start + len(part)] = part
                start += len(part)
        finally:
            self.train(training)
        return out

    def _chunks(self) -> Iterator[Tensor]:
        device = self.device
        for start in range(0, len(self.features), CHUNK):
            yield torch.arange(start, min(start + CHUNK, len(self.features)), device=device)


def item_map_width(weights: ItemMap) -> int:
    """Return d, the width of item vectors that a map gives.

    Raises:
        ValueError: these are the weights of no adapter.
    """
    if weights.keys() - {IDS} not in ADAPTERS:
        raise ValueError(f"an adapter has other weights than {', '.join(sorted(weights))}")
    return weights["weight"].shape[0] if "weight" in weights else weights["base"].shape[1]


def check_item_map(weights: ItemMap, n_items: int) -> None:
    """See that the weights of a map of that many items fit one another.

    Raises:
        ValueError: they do not.
    """
    if any(tensor.ndim not in (1, 2) for tensor in weights.values()):
        raise ValueError("an adapter has vectors and matrices only")
    width = item_map_width({name: tensor if tensor.ndim == 2 else tensor[None] for name, tensor in weights.items()})
    options = ModelOptions.model_construct(dim=width, adapter="linear" if "weight" in weights else "moe", ids=False)
    features = weights["weight"].shape[-1] if "weight" in weights else len(weights["base"])
    with torch.device("meta"):
        tower = ItemTower(FrozenFeatures(lambda: torch.empty(0), features), options)
    wanted = {name: tensor.shape for name, tensor in tower._mapping().items()}
    if IDS in weights:  # those of items that come later are none
        wanted[IDS] = torch.Size([min(len(weights[IDS]), n_items), width])
    for name, shape in wanted.items():
        if weights[name].shape != shape:
            raise ValueError(f"'{name}' of the adapter is {list(weights[name].shape)} instead of {list(shape)}")


def item_map_features(weights: ItemMap) -> int:
    """Return the width of the features that a map takes."""
    return weights["weight"].shape[1] if "weight" in weights else weights["base"].shape[0]


@torch.no_grad()
def mapped(features: Tensor, weights: ItemMap) -> Tensor:
    """Return item vectors ``[V, d]``, a constant aside, of features ``[V, width]``, in chunks."""
    weights = {name: w.to(features.device) for name, w in weights.items()}
    if "weight" in weights:
        out = torch.cat([part @ weights["weight"].T for part in in_parts(features)])
    else:
        own = {name: weights[name] for name in ("base", "down", "up", "shift")}
        parts = map(widened, features.split(CHUNK))
        out = torch.cat([mix(part, part @ weights["gate"], **own) for part in parts])
    if IDS in weights:
        out[: len(weights[IDS])] += weights[IDS][: len(out)]
    return out


def _whitener(vectors: Tensor, mean: Tensor) -> Tensor:
    """Return the map ``[width, width]`` of vectors ``[V, width]``, float64; zero where these are all equal."""
    if not vectors.shape[1]:
        return torch.zeros(0, 0, dtype=torch.float64)
    values, directions = torch.linalg.eigh(_scatter(vectors, mean) / len(vectors))
    if values.max() <= EQUAL**2 * vectors.norm(dim=1).square().mean().item():
        return torch.zeros_like(directions)
    values = values.clamp(min=0)
    # Of few items the variance in most directions is chance, and in those where they have none an item that comes later
    # would be all that there is: such directions count less, or not at all.
    ridge = RIDGE * values.max() + values.mean() * len(mean) / len(vectors)
    matrix = directions @ torch.diag(values.sqrt() / (values + ridge)) @ directions.T
    norms = torch.cat([(part @ matrix).norm(dim=1) for part in _centred(vectors, mean)])
    return matrix * (math.sqrt(vectors.shape[1]) / norms.mean().clamp(min=1e-12))


def _centred(vectors: Tensor, mean: Tensor) -> Iterator[Tensor]:
    """Yield vectors ``[V, width]`` less their mean in parts, in double precision, for which no other copy is made."""
    # On the CPU: some accelerators have no double precision.
    return ((part - mean).cpu().double() for part in vectors.split(ROWS))


def _scatter(vectors: Tensor, mean: Tensor) -> Tensor:
    """Return ``sum_v (e_v - mean)(e_v - mean)^T``, float64 ``[width, width]`` on the CPU."""
    out = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for part in _centred(vectors, mean):
        out += part.T @ part
    return out


def _turn(table: Tensor, width: int) -> Tensor:
    """Return ``[d, width]``: the first principal directions of item vectors ``[V, d]``, turned at random.

    The turn spreads them over the heads of a sequence model.
    """
    directions = torch.linalg.eigh(_scatter(table, table.mean(0))).eigenvectors[:, -width:]
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(width, directions.shape[1], generator=generator, dtype=torch.float64)).Q.T
    return (directions @ turn).to(table)
