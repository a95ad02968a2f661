"""Sentence encoders: a transformers model, its tokenizer and a pooling."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foster.errors import InputError
from foster.text.hub import cached, first_line, folder_fingerprint, folder_pooling, folder_reading, locate, resolve
from foster.text.options import EncoderOptions
from foster.text.tokens import TokenTable, load_tokenizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BATCH_TOKENS = 16_384


class TextEncoder:
    """A pretrained encoder, frozen: texts in, one vector a text out.

    The model's own normalisation layer, if it has one, is not applied: vectors keep their length.

    Attributes:
        model: the transformers model without its pooler head: eval mode, float32, no gradients.
        tokenizer: its tokenizer.
        pooling: "mean", "cls" or "last".
        max_tokens: where texts are cut.
        width: length of a vector.
    """

    def __init__(self, model: torch.nn.Module, tokenizer: Any, pooling: str, max_tokens: int, folder: Path) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.width: int = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self._folder = folder
        self._reading = folder_reading(folder)

    @classmethod
    def load(cls, options: EncoderOptions | None = None, device: str | torch.device = "cpu") -> TextEncoder:
        """Load an encoder from a folder or from the Hugging Face hub.

        Raises:
            InputError: unknown name, a folder without a complete encoder, or ``max_tokens`` beyond what it
                reads.
        """
        options = options or EncoderOptions()
        folder = locate(options.encoder)
        pooling = pooling_of(options, folder)
        model, tokenizer = _load_pretrained(folder)
        limit = min(tokenizer.model_max_length, _positions(model), folder_reading(folder).max_tokens)
        if options.max_tokens > limit:
            raise InputError(f"max_tokens: {options.max_tokens} is more than {folder} reads; give at most {limit}")
        _try(model, options.max_tokens, folder)
        return cls(model.to(device), tokenizer, pooling, options.max_tokens, folder)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration and tokenizer, as 64 hex digits."""
        return folder_fingerprint(self._folder)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, at least one, with prompt and special tokens, cut to ``max_tokens``."""
        if not texts:
            return []
        prepared = [self._reading.prepared(text) for text in texts]
        encoded = self.tokenizer(prepared, truncation=True, max_length=self.max_tokens)
        tokenizer = self.tokenizer
        special = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id, 0)
        nothing = next(token for token in special if token is not None)
        return [ids or [nothing] for ids in encoded["input_ids"]]

    def token_table(self, texts: Sequence[str]) -> TokenTable:
        """Return the token ids of the texts as one table."""
        pad = self.tokenizer.pad_token_id
        return TokenTable.build(self.tokenize(texts), 0 if pad is None else pad)

    def encode(
        self,
        texts: Sequence[str],
        batch_tokens: int = BATCH_TOKENS,
        progress: Callable[[int], object] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Encode texts without gradients, batched by length.

        Args:
            texts: n texts.
            batch_tokens: tokens in a batch, padding included; sets speed and memory, and in float32 not the
                result (to 1e-5).
            progress: called with the number of texts of each batch that is done.
            dtype: number type of the matrix products, if not float32: ``torch.bfloat16`` or
                ``torch.float16``.

        Returns:
            Vectors, float32 [n, width], on the CPU.

        Raises:
            InputError: the vector of a text is not finite.
        """
        import torch

        table = self.token_table(texts)
        vectors = torch.empty(len(texts), self.width)
        mixed = dtype not in (None, torch.float32)
        with torch.no_grad(), torch.autocast(self.device.type, dtype=dtype, enabled=mixed):
            for index in table.batches(batch_tokens):
                ids, mask = (part.to(self.device) for part in table.batch(index))
                hidden = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
                vectors[index] = self.pool(hidden, mask).float().cpu()
                if progress is not None:
                    progress(len(index))
        sound = vectors.isfinite().all(1)
        if not sound.all():
            text = texts[int(sound.int().argmin())]
            raise InputError(
                f"{self._folder}: the vector of '{text[:60]}' is not finite; the model is damaged, or cannot be run in "
                "this number type: copy it again, or give another encoder"
            )
        return vectors

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Reduce token vectors [n, t, width] to text vectors [n, width]; ``mask`` [n, t]: true at tokens."""
        import torch

        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pooling == "last":
            return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
        weight = mask.to(hidden.dtype)[:, :, None]
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def pooling_of(options: EncoderOptions, folder: Path) -> str:
    """Return the pooling that the options ask for; "auto" is looked up in the model folder."""
    return folder_pooling(folder) if options.pooling == "auto" else options.pooling


def pooling_here(options: EncoderOptions) -> str | None:
    """Return the pooling that the options ask for; None for "auto" of an encoder that is not on this machine."""
    if options.pooling != "auto":
        return options.pooling
    target = resolve(options.encoder)
    folder = Path(target) if Path(target).is_dir() else cached(target)
    return None if folder is None else folder_pooling(folder)


def same_encoder(one: EncoderOptions, other: EncoderOptions) -> bool:
    """Return whether two options give the same vectors; copies of an encoder at two places do.

    Raises:
        InputError: the options differ, and one of the encoders is not to be found.
    """
    if one == other:
        return True
    if (one.max_tokens, one.words) != (other.max_tokens, other.words):
        return False
    folders = [locate(options.encoder) for options in (one, other)]
    if pooling_of(one, folders[0]) != pooling_of(other, folders[1]):
        return False
    return folder_fingerprint(folders[0]) == folder_fingerprint(folders[1])


def _load_pretrained(folder: Path) -> tuple[Any, Any]:
    """Return the model and tokenizer of a folder, ready for inference."""
    import torch

    with _quiet_transformers():
        from transformers import AutoConfig, AutoModel

        # Nothing is asked for: without this, transformers would read the answer from stdin.
        here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(folder, **here)
            _refuse_others(config, folder)
            model, report = AutoModel.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True, **here
            )
            if model.main_input_name != "input_ids":
                raise InputError(f"{folder}: is a {config.model_type} and reads {model.main_input_name}, not texts")
            tokenizer = load_tokenizer(folder)
        except InputError:
            raise
        except Exception as error:
            # Damaged files raise a dozen types of error, of safetensors, tokenizers, json and torch.
            reason = first_line(error)
            raise InputError(f"{folder}: not loadable as an encoder ({reason}); give another folder") from error
    # transformers fills absent weights with random numbers. Only the pooler may be absent: we drop it.
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        count = len(missing)
        raise InputError(f"{folder}: the weights lack {count} tensors ({missing[0]} first); copy the model again")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.requires_grad_(False).eval(), tokenizer


def _refuse_others(config: Any, folder: Path) -> None:
    """Raise InputError for models that are more than an encoder of texts, or another thing."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as WITH_DECODER

    kind = config.model_type
    if config.is_encoder_decoder or kind in WITH_DECODER:
        raise InputError(f"{folder}: is a {kind}, an encoder-decoder; give a model that has an encoder only")
    parts = sorted(config.sub_configs)
    if parts or kind.endswith("_text_model"):
        of = f" of parts ({', '.join(parts)})" if parts else " that is a part of another one"
        raise InputError(f"{folder}: is a {kind}, a model{of}; give a model that is an encoder of texts alone")
    if not isinstance(getattr(config, "hidden_size", None), int):
        raise InputError(f"{folder}: is a {kind}, which is no encoder of texts; give another folder")


def _positions(model: Any) -> float:
    """Return for how many tokens a model has positions."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:  # XLNet says -1
        limit = math.inf
    for name, module in model.named_modules():
        # RoBERTa and kin count from behind the number of the padding, so that their first positions are never used.
        if name.endswith("position_embeddings") and isinstance(getattr(module, "padding_idx", None), int):
            limit = min(limit, len(module.weight) - module.padding_idx - 1)
    return limit


def _try(model: Any, tokens: int, folder: Path) -> None:
    """Run a model once on as many tokens as it will get; raise InputError if it does not give vectors of its width."""
    import torch

    ids = torch.full((1, tokens), int(model.config.pad_token_id == 0))  # any token but the padding
    try:
        with torch.no_grad():
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    except Exception as error:
        # Whatever an architecture that we never saw makes of it, the answer is the same.
        reason = first_line(error)
        raise InputError(f"{folder}: cannot read {tokens} tokens ({reason}); give another folder or length") from error
    if hidden.shape != (1, tokens, model.config.hidden_size):
        raise InputError(
            f"{folder}: gives {tuple(hidden.shape)} numbers for {tokens} tokens and a width of "
            f"{model.config.hidden_size}; give another folder"
        )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers from reporting on absent and superfluous weights, which we judge ourselves."""
    from transformers.utils import logging as transformers_logging

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
