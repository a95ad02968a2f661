"""Encoders whose layers are trained along with the recommender.

With ``top:K`` the layers below the last K never change, so their outputs are computed once for the catalogue
and kept on disk (float16, memory-mapped): a training step runs K layers only. With ``lora:R`` all layers run, and
low-rank updates of their weights are trained (Hu et al., *LoRA*, ICLR 2022, arXiv 2106.09685).
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from foster.errors import InputError
from foster.progress import Progress
from foster.storage import cache_root, whole_file
from foster.text.cache import content_name, text_key
from foster.text.encoder import BATCH_TOKENS, TextEncoder
from foster.text.tokens import TokenTable, length_batches

_log = logging.getLogger(__name__)

# Where the families of encoders keep their list of layers: BERT and kin, DistilBERT, ModernBERT and most decoders.
_LAYER_PATHS = ("encoder.layer", "transformer.layer", "layers")
_LAST_NORMS = ("final_norm", "norm")  # ModernBERT; Llama, Qwen and kin
_BLOCK_TEXTS = 1_024
_GROUP_TOKENS = 2_048  # of texts of like length that run together: larger groups leave a CPU's caches
_SPLIT_ERROR = 0.01  # relative; what rounding to float16 costs is ten times less


Updates = dict[str, Tensor]
"""Low-rank updates of the weights of a language model, by name: ``[R, in]`` and ``[out, R]`` for each."""


def updates_rank(updates: Updates) -> int:
    """Return R, the rank of all low-rank updates.

    Raises:
        ValueError: they are no pairs of matrices of one rank.
    """
    matrices = {name: part for name, part in updates.items() if part.ndim == 2}
    downs = {name.replace("lora_A", "lora_B"): part for name, part in matrices.items() if "lora_A" in name}
    ups = {name: part for name, part in matrices.items() if "lora_A" not in name}
    ranks = {part.shape[0] for part in downs.values()} | {part.shape[1] for part in ups.values()}
    if downs.keys() != ups.keys() or len(ranks) != 1 or len(matrices) < len(updates):
        raise ValueError("the updates of the language model are no pairs of matrices of one rank")
    return ranks.pop()


class Finetune(NamedTuple):
    """What of a language model is trained: the last ``number`` layers, updates of that rank, or all or nothing."""

    kind: Literal["frozen", "all", "top", "lora"]
    number: int = 0


def parse_finetune(value: str, layers: int | None = None) -> Finetune:
    """Read the option ``finetune``: "frozen", "all", "top:K" (the last K layers) or "lora:R" (updates of rank R).

    Args:
        value: the option.
        layers: layers that the encoder has, the largest K; None where they are not known yet.

    Raises:
        InputError: anything else, K outside of 1 to ``layers``, or R below 1.
    """
    if value in ("frozen", "all"):
        return Finetune(value)  # type: ignore[arg-type]
    kind, _, digits = value.partition(":")
    if kind not in ("top", "lora") or not (digits.isascii() and digits.isdigit()):
        raise InputError(
            f"finetune: '{value}' is not known; give frozen, all, top:K with a number K of layers, or lora:R with a "
            "rank R"
        )
    number = int(digits)
    if kind == "lora" and number < 1:
        raise InputError(f"finetune: '{value}', but the rank must be 1 or more")
    if kind == "top" and (number < 1 or (layers is not None and number > layers)):
        raise InputError(f"finetune: '{value}', but K must lie between 1 and {layers or 'the number of layers'}")
    return Finetune(kind, number)  # type: ignore[arg-type]


class TunableEncoder(nn.Module):
    """An encoder with trained layers over a fixed catalogue of texts; rows of the catalogue in, vectors out.

    The weights are copies, the given encoder stays as it is. Dropout inside the language model stays off in
    training too (``train()`` does not reach it): fine-tuning is short, and runs repeat. Copies made with
    ``copy.deepcopy`` share the catalogue, the frozen encoder and all weights that are not trained, so that an inner
    and an outer model cost their trained weights only.

    Attributes:
        model: what is run in training: the whole language model ("all", "lora:R"), or its last K layers ("top:K").
        finetune: "all", "top:K" or "lora:R".
        width: length of a vector.
    """

    def __init__(
        self, encoder: TextEncoder, finetune: str, dtype: torch.dtype = torch.float32, chunk: int | None = None
    ) -> None:
        """Copy the layers to train.

        Args:
            encoder: the pretrained encoder.
            finetune: "all", "top:K" or "lora:R".
            dtype: number type of the matrix products. Trained weights stay in float32, frozen ones are kept in it.
            chunk: texts whose activations are kept for the gradient at once; those of others are computed again in the
                backward pass. None keeps all.

        Raises:
            InputError: another ``finetune``, an architecture whose layers we cannot split, a rank above that of the
                layers, or the package for low-rank updates is missing.
        """
        super().__init__()
        self.finetune = finetune
        self.width: int = encoder.width
        self._dtype, self._chunk = dtype, chunk
        # Neither is a module of ours: what is frozen is not in the state and is not moved or copied with it.
        self._encoder = encoder
        self._catalogue: _Catalogue | None = None
        self._split: _LayerSplit | None = None
        self.model: nn.Module
        kind, number = parse_finetune(finetune)
        if kind == "all":
            self.model = copy.deepcopy(encoder.model).requires_grad_(True)
        elif kind == "lora":
            self.model = _with_low_rank_updates(copy.deepcopy(encoder.model), number)
        else:
            self._split = _LayerSplit(encoder, finetune)
            self.model = copy.deepcopy(self._split.upper)
            self.model.requires_grad_(False)
            self.model.get_submodule(self._split.path).requires_grad_(True)
        for parameter in self.model.parameters():
            if not parameter.requires_grad and parameter.dtype != dtype:
                parameter.data = parameter.data.to(dtype)

    def set_catalogue(self, texts: Sequence[str], progress: bool = True) -> None:
        """Take the texts that rows refer to, in place of any before; with "top:K" this runs the lower layers.

        Raises:
            InputError: the outputs of the lower layers cannot be written to the cache.
        """
        self._catalogue = _Catalogue.build(self._encoder, self._split, texts, progress)

    def extend(self, texts: Sequence[str], progress: bool = True) -> None:
        """Add texts after those of the catalogue; their rows count on from its length."""
        added = _Catalogue.build(self._encoder, self._split, texts, progress)
        self._catalogue = self._catalogue.append(added) if self._catalogue else added

    def forward(self, index: Tensor) -> Tensor:
        """Encode rows of the catalogue, with gradients for the trained layers.

        Args:
            index: int64 [n], n >= 1.

        Returns:
            Vectors [n, width] on the device of the weights, pooled as the encoder pools.
        """
        if self._catalogue is None:
            raise RuntimeError("set_catalogue comes before forward")
        groups = self._groups(index, self._catalogue)
        if self._chunk is None or not torch.is_grad_enabled():
            parts = [self._encode(index[rows]) for rows in groups]
        else:
            # Nothing but the vectors is kept; their gradients are known before any of the texts runs again (GradCache,
            # Gao et al., RepL4NLP 2021, arXiv 2101.06983). No random number is drawn, so that none is kept either.
            groups = [part for rows in groups for part in rows.split(self._chunk)]
            parts = [
                checkpoint(self._encode, index[rows], use_reentrant=False, preserve_rng_state=False) for rows in groups
            ]
        return torch.cat(parts)[torch.cat(groups).argsort()]

    def _groups(self, index: Tensor, catalogue: _Catalogue) -> list[Tensor]:
        """Return the places of rows in groups of like length, so that little is computed for padding."""
        tokens = _GROUP_TOKENS if self.device.type == "cpu" else BATCH_TOKENS
        return [rows.to(index.device) for rows in length_batches(catalogue.tokens.lengths[index.cpu()], tokens)]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return vectors ``[n, width]`` of texts outside of the catalogue, without gradients."""
        others = _Catalogue.build(self._encoder, self._split, texts, progress=False)
        groups = self._groups(torch.arange(len(texts)), others)
        return torch.cat([self._encode(rows, others) for rows in groups])[torch.cat(groups).argsort()]

    def _encode(self, index: Tensor, catalogue: _Catalogue | None = None) -> Tensor:
        catalogue = catalogue or self._catalogue
        assert catalogue is not None
        device = self.device
        mixed = self._dtype != torch.float32
        # On a CPU the gradient of torch's fused attention takes longer in half precision than all the rest.
        attention = sdpa_kernel(SDPBackend.MATH) if mixed and device.type == "cpu" else nullcontext()
        with attention, torch.autocast(device.type, dtype=self._dtype, enabled=mixed):
            if self._split is None:
                ids, mask = catalogue.tokens.batch(index.to(device))
                hidden = _run(self.model, mask, input_ids=ids)
            else:
                states, mask = catalogue.states(index)
                mask = mask.to(device)
                hidden = _run(self.model, mask, inputs_embeds=states.to(device).float())
        return self._encoder.pool(hidden.float(), mask)

    def graph_bytes(self, items: int) -> float:
        """Estimate what a pass over ``items`` texts keeps for its gradient, in float32 bytes.

        Twice ``s b h (34 + 5 a s / h)`` a layer, for s tokens of b texts, width h and a heads (Korthikanti et al.,
        *Reducing activation recomputation in large transformer models*, 2022, equation 2, which counts half precision).
        """
        if self._catalogue is None:
            raise RuntimeError("set_catalogue comes before graph_bytes")
        config: Any = self.model.config
        kind, number = parse_finetune(self.finetune)
        layers = number if kind == "top" else config.num_hidden_layers
        tokens = self._catalogue.tokens.lengths.double().mean().item()
        width, heads = config.hidden_size, config.num_attention_heads
        return 2.0 * layers * tokens * items * width * (34 + 5 * heads * tokens / width)

    def __len__(self) -> int:
        """Return the number of texts in the catalogue."""
        return 0 if self._catalogue is None else len(self._catalogue.tokens)

    def trainable_state_dict(self) -> dict[str, Tensor]:
        """Return the trained parameters by name, detached.

        ``load_state_dict(state, strict=False)`` of an encoder made in the same way takes them back.
        """
        return {name: value.detach() for name, value in self.named_parameters() if value.requires_grad}

    def updates(self) -> Updates | None:
        """Return the low-rank updates by name, detached, or None where whole layers are trained."""
        return self.trainable_state_dict() if parse_finetune(self.finetune).kind == "lora" else None

    @torch.no_grad()
    def load_updates(self, updates: Updates) -> None:
        """Take over low-rank updates of the same model and rank.

        Raises:
            InputError: they belong to another one.
        """
        own = self.updates() or {}
        wrong = sorted(own.keys() ^ updates.keys()) or sorted(n for n in own if own[n].shape != updates[n].shape)
        if wrong:
            raise InputError(
                f"finetune: the low-rank updates are of another language model than the encoder ({wrong[0]} differs); "
                "give the encoder that they were made with"
            )
        for name, value in own.items():
            value.copy_(updates[name])

    def train(self, mode: bool = True) -> Self:
        """Set the mode, but keep the dropout of the language model off."""
        super().train(mode)
        self.model.eval()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        frozen = [parameter for parameter in self.model.parameters() if not parameter.requires_grad]
        for shared in (self._encoder, self._catalogue, self._split, *frozen):
            memo[id(shared)] = shared
        clone = self.__class__.__new__(self.__class__)
        memo[id(self)] = clone
        clone.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return clone


class _LayerSplit:
    """An encoder cut below its last K layers into two models that share its weights.

    Both are of the model's own class with fewer layers, so that masks and position biases are its own
    business.

    Attributes:
        path: where the list of layers lies in the model.
        below: number of layers in ``lower``.
        lower: embeddings and lower layers.
        upper: the last K layers; takes ``inputs_embeds`` and passes them on as they are.
    """

    def __init__(self, encoder: TextEncoder, finetune: str) -> None:
        model = encoder.model
        refusal = InputError(
            f"finetune: '{finetune}' needs layers that we can split, not a {type(model).__name__}; give lora:R, all or "
            "frozen"
        )
        modules = dict(model.named_modules())
        path = next((path for path in _LAYER_PATHS if isinstance(modules.get(path), nn.ModuleList)), None)
        if path is None:
            raise refusal
        layers = list(modules[path].children())
        kind, depth = parse_finetune(finetune, len(layers))
        if kind != "top":
            raise InputError(f"finetune: '{finetune}' trains no layer; give top:K, lora:R or all")
        self.path = path
        self.below = len(layers) - depth
        self.lower = _with_layers(model, path, layers[: self.below])
        for norm in _LAST_NORMS:
            if hasattr(self.lower, norm):  # comes after the last layer, and the upper half has that
                setattr(self.lower, norm, nn.Identity())
        self.upper = _with_layers(model, path, layers[self.below :])
        self.upper.embeddings = _PassOn()
        if not self._is_faithful(encoder):
            raise refusal

    def _is_faithful(self, encoder: TextEncoder) -> bool:
        """Try whether the two halves give what the whole gives, for texts of unequal length."""
        index = torch.arange(2)
        ids, mask = encoder.token_table(["a", "a longer text, to have padding"]).batch(index)
        ids, mask = ids.to(encoder.device), mask.to(encoder.device)
        try:
            with torch.no_grad():
                whole = _run(encoder.model, mask, input_ids=ids)
                states = _run(self.lower, mask, input_ids=ids).half().float()
                halves = _run(self.upper, mask, inputs_embeds=states)
        except Exception as error:
            # Whatever an architecture we never saw makes of being cut in two, the answer is the same.
            _log.debug("the split failed: %s", error)
            return False
        return bool((halves - whole)[mask].norm() <= _SPLIT_ERROR * whole[mask].norm())


def _with_low_rank_updates(model: nn.Module, rank: int) -> nn.Module:
    """Freeze a language model and put trained updates of some rank, zero at first, on all of its linear layers.

    Raises:
        InputError: the rank is above that of every layer, or the package that does so is missing.
    """
    highest = max((min(part.weight.shape) for part in model.modules() if isinstance(part, nn.Linear)), default=rank)
    if rank > highest:
        raise InputError(
            f"finetune: 'lora:{rank}', but no layer of this encoder has a rank above {highest}; give a lower one, such "
            "as lora:8, or all"
        )
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InputError(f"finetune: 'lora:{rank}' needs the package peft; run: pip install 'foster[lora]'") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # one half of each update is random: the same one in every model that is compared
        config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear")
        out: nn.Module = inject_adapter_in_model(config, model)
    return out


def _run(model: nn.Module, mask: Tensor, **inputs: Tensor) -> Tensor:
    """Return the last hidden states, [n, t, width]."""
    states: Tensor = model(attention_mask=mask.long(), **inputs).last_hidden_state
    return states


class _PassOn(nn.Module):
    """Stands in for the embeddings: gives back the states it is given, whatever else the model hands over."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return next(
            value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.is_floating_point()
        )


def _with_layers(model: nn.Module, path: str, layers: list[nn.Module]) -> nn.Module:
    """Return a model that shares the weights of ``model`` but has ``layers`` at ``path``."""
    *parents, last = path.split(".")
    outer = parent = _shallow(model)
    for name in parents:
        child = _shallow(parent.get_submodule(name))
        parent.add_module(name, child)
        parent = child
    parent.add_module(last, nn.ModuleList(layers))
    return outer


def _shallow(module: nn.Module) -> nn.Module:
    clone = copy.copy(module)
    clone._modules = dict(module._modules)  # copy.copy would share the dict, and change the original with it
    return clone


class _Catalogue:
    """Tokens of the texts and, with a split, the outputs of the lower layers in memory-mapped blocks.

    Attributes:
        tokens: the table of tokens.
        blocks: float16 [tokens of the block, width] each, together in the order of ``tokens.flat``; empty
            without a split.
    """

    def __init__(self, tokens: TokenTable, blocks: list[np.ndarray]) -> None:
        self.tokens = tokens
        self.blocks = blocks
        self._starts = np.cumsum([0, *(len(block) for block in blocks)])

    @classmethod
    def build(cls, encoder: TextEncoder, split: _LayerSplit | None, texts: Sequence[str], progress: bool) -> _Catalogue:
        if split is None or not texts:
            return cls(encoder.token_table(texts), [])
        # The pooling comes after the top layers, so it does not matter here.
        folder = cache_root() / "hidden" / content_name(encoder.fingerprint, encoder.max_tokens, split.below)
        tables, blocks = [], []
        what = f"running the lower {split.below} layers"
        with Progress(what=what, total=len(texts), shown=progress, unit="text") as bar:
            for start in range(0, len(texts), _BLOCK_TEXTS):
                part = texts[start : start + _BLOCK_TEXTS]
                name = hashlib.blake2b(b"".join(map(text_key, part)), digest_size=16).hexdigest()
                tables.append(encoder.token_table(part))
                blocks.append(_lower_states(folder / f"{name}.npy", encoder, split, tables[-1]))
                bar.update(len(part))
        return cls(TokenTable.concatenate(tables), blocks)

    def append(self, other: _Catalogue) -> _Catalogue:
        return _Catalogue(self.tokens.appended(other.tokens), self.blocks + other.blocks)

    def states(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return what enters the top layers, float16 [n, t, width], zero at padding, and mask bool [n, t]."""
        positions, mask = self.tokens.positions(index.cpu())
        wanted = positions[mask].numpy()
        values = np.empty((len(wanted), self.blocks[0].shape[1]), dtype=np.float16)
        block_of = np.searchsorted(self._starts, wanted, side="right") - 1
        for number in np.unique(block_of):
            here = block_of == number
            values[here] = self.blocks[number][wanted[here] - self._starts[number]]
        states = torch.zeros(*mask.shape, values.shape[1], dtype=torch.float16)
        states[mask] = torch.from_numpy(values)
        return states, mask


def _lower_states(path: Path, encoder: TextEncoder, split: _LayerSplit, tokens: TokenTable) -> np.ndarray:
    """Return what the lower layers make of a block of texts, memory-mapped; write the file if needed."""
    shape = (len(tokens.flat), encoder.width)
    if path.is_file():
        try:
            states = _open_states(path)
            if states.shape != shape or states.dtype != np.float16:
                _log.warning("%s: damaged (shape %s instead of %s); computed again", path, states.shape, shape)
            elif not np.isfinite(states).all():  # of an earlier version, which did not look
                _log.warning("%s: damaged (states are not finite); computed again", path)
            else:
                return states
        except (ValueError, OSError, EOFError) as error:
            _log.warning("%s: damaged (%s); computed again", path, error)
    # Not written through a memory map: a full disk would kill the process there, and is an error here.
    made = np.empty(shape, dtype=np.float16)
    with torch.no_grad():
        for index in tokens.batches(BATCH_TOKENS):
            ids, mask = (part.to(encoder.device) for part in tokens.batch(index))
            positions, real = tokens.positions(index)
            made[positions[real].numpy()] = _run(split.lower, mask, input_ids=ids)[mask].half().cpu().numpy()
    if not np.isfinite(made).all():
        raise InputError(
            f"finetune: the outputs of the lower {split.below} layers are not finite in half precision, in which they "
            "are kept; give lora:R, all or frozen"
        )
    try:
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.save(file, made, allow_pickle=False)
    except OSError as error:
        raise InputError(
            f"{path.parent}: cannot write there ({error.strerror}); set FOSTER_CACHE to a folder with room"
        ) from error
    return _open_states(path)


def _open_states(path: Path) -> np.ndarray:
    states: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return states
