"""The words of texts as vectors, beside those of a language model.

A sentence vector says what a text is about. It blurs the rare words in it, such as a brand or the name of a series, and
these say most about who takes an item.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from foster.storage import large_table
from foster.text.options import WORDS

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 4_096  # texts whose words are hashed at once

# Thai, Lao, Burmese, Khmer, Japanese and Chinese put no spaces between words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_RUNS = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_STARTS_UNSPACED = re.compile(f"[{_UNSPACED}]")


class _Separators(dict[int, str]):
    """What ``str.translate`` makes of a character: a space, unless it is part of a word."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = character if unicodedata.category(character)[0] in "LMN" else " "
        return self[code]


_SEPARATORS = _Separators()


def words_of(text: str) -> list[str]:
    """Return the distinct words of a text, in small letters: runs of letters, marks and digits.

    In scripts without spaces pairs of neighbouring characters take their place.
    """
    words: list[str] = []
    for word in unicodedata.normalize("NFKC", text).casefold().translate(_SEPARATORS).split():
        for run in _RUNS.findall(word):
            pairs = len(run) > 2 and _STARTS_UNSPACED.match(run)
            words += [run[i : i + 2] for i in range(len(run) - 1)] if pairs else [run]
    return list(dict.fromkeys(words))


def word_vectors(texts: Sequence[str], width: int) -> Tensor:
    """Return a vector of length 1 for each text, ``[n, width]``: the sum of random signs that its words stand for.

    A word has the same signs in every catalogue, the bits of a hash of it, so that nothing has to be learned or kept,
    and new texts have vectors, too. Inner products are, but for some noise, those of bags of words (feature hashing,
    Weinberger et al., ICML 2009, arXiv 0902.2206; random projections of signs, Achlioptas 2003). A text without a word
    has the vector 0.

    Args:
        texts: n texts.
        width: numbers of a vector, at most 512.
    """
    import torch
    from torch.nn import functional as F

    out = large_table(len(texts), width)
    for start in range(0, len(texts), CHUNK):
        numbers: dict[str, int] = {}
        bags = [
            [numbers.setdefault(word, len(numbers)) for word in words_of(text)] for text in texts[start : start + CHUNK]
        ]
        # Sums of signs are whole numbers: the same whatever else is in the chunk.
        sums = F.embedding_bag(
            torch.tensor([number for bag in bags for number in bag], dtype=torch.int64),
            _signs(list(numbers), width),
            torch.tensor([0, *np.cumsum([len(bag) for bag in bags])[:-1]], dtype=torch.int64),
            mode="sum",
        )
        out[start : start + len(bags)] = F.normalize(sums, dim=1)
    return out


class Words:
    """Word vectors of texts by their index, made when they are asked for. Copies of a model share them.

    Args:
        texts: n texts.
        width: numbers of a vector.
    """

    def __init__(self, texts: Sequence[str], width: int) -> None:
        self.texts: Sequence[str] = texts
        self.width: int = width

    def __call__(self, index: Tensor) -> Tensor:
        """Return vectors ``[n, width]`` of the texts with the numbers ``[n]``, on the CPU."""
        return self.of([self.texts[number] for number in index.tolist()])

    def of(self, texts: Sequence[str]) -> Tensor:
        """Return vectors ``[n, width]`` of other texts, on the CPU."""
        return word_vectors(texts, self.width)

    def extended(self, texts: Sequence[str]) -> Words:
        """Return these and further texts."""
        return Words([*self.texts, *texts], self.width)

    def __deepcopy__(self, memo: dict[int, object]) -> Words:
        return self


def _signs(words: Sequence[str], width: int) -> Tensor:
    """Return 1 or -1 for each bit of the words' hashes, float32 ``[n, width]``."""
    import torch

    hashes = b"".join(blake2b(word.encode("utf-8", "replace"), digest_size=WORDS // 8).digest() for word in words)
    bits = np.unpackbits(np.frombuffer(hashes, np.uint8).reshape(len(words), WORDS // 8), axis=1)[:, :width]
    return torch.from_numpy(bits.astype(np.float32) * 2 - 1)
