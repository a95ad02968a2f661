"""What an encoder can read of item texts, by its tokenizer alone."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from foster.data.check import Readability
from foster.text.hub import cached, check_place, resolve
from foster.text.options import EncoderOptions
from foster.text.tokens import has_vocabulary, load_tokenizer

_BATCH_TEXTS = 8_192


def read_texts(texts: Sequence[str], options: EncoderOptions | None = None) -> Readability | None:
    """Find texts that an encoder does not know the signs of, that it cuts, or that become the same tokens.

    Nothing is downloaded, and the encoder's weights are not read.

    Args:
        texts: the texts of V items, V > 0.
        options: the encoder and ``max_tokens``.

    Returns:
        What was found; None if the encoder is not on this machine.

    Raises:
        InputError: the encoder's folder is not there, or holds no tokenizer that can be loaded.
    """
    options = options or EncoderOptions()
    folder = _folder_at_hand(options.encoder)
    if folder is None:
        return None
    tokenizer = load_tokenizer(folder)
    unknown_id = tokenizer.unk_token_id
    # A known bracket, year or comma does not make a text of unknown words a known one.
    signs = {number for token, number in tokenizer.get_vocab().items() if not any(map(str.isalpha, token))}
    signs.discard(unknown_id)
    room = options.max_tokens - tokenizer.num_special_tokens_to_add()
    cuts_left = tokenizer.truncation_side == "left"
    items_of = Counter(texts)
    groups: dict[bytes, list[str]] = {}
    tokens = unknown_tokens = cut = 0
    unreadable: list[str] = []
    distinct = list(items_of)
    for start in range(0, len(distinct), _BATCH_TEXTS):
        part = distinct[start : start + _BATCH_TEXTS]
        encoded = tokenizer(
            part, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
        )  # fmt: skip
        for text, ids in zip(part, encoded["input_ids"], strict=True):
            kept = ids[-room:] if cuts_left else ids[:room]
            unknown = kept.count(unknown_id)
            tokens += len(kept) * items_of[text]
            unknown_tokens += unknown * items_of[text]
            cut += (len(ids) > room) * items_of[text]
            words = sum(number not in signs for number in kept)
            if not kept or (unknown and 2 * unknown >= words):
                unreadable.append(text)
            groups.setdefault(array("i", kept).tobytes(), []).append(text)
    alike = [group for group in groups.values() if len(group) > 1]
    return Readability(
        encoder=options.encoder,
        max_tokens=options.max_tokens,
        unknown_tokens=unknown_tokens / max(tokens, 1),
        unreadable=sum(items_of[text] for text in unreadable),
        unreadable_example=unreadable[0] if unreadable else "",
        cut=cut,
        same_tokens=sum(items_of[text] for group in alike for text in group),
        same_tokens_example=tuple(alike[0][:2]) if alike else (),
    )


def _folder_at_hand(name: str) -> Path | None:
    """Return the folder of an encoder that is on this machine, or None."""
    target = resolve(name)
    if Path(target).is_dir():
        return Path(target)
    check_place(target)
    folder = cached(target)
    return folder if folder is not None and has_vocabulary(folder) else None
