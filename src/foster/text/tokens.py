"""Tokenizers of model folders, and the token ids of a catalogue in two flat tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foster.errors import InputError
from foster.growing import GrowingRows
from foster.text.hub import first_line

if TYPE_CHECKING:
    from torch import Tensor

_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "tekken.json")


@dataclass(frozen=True)
class TokenTable:
    """Token ids of V texts, without padding: 4 bytes a token, so that millions of texts fit in memory.

    Attributes:
        flat: ids of all texts one after another, int32 [tokens].
        offsets: text v is ``flat[offsets[v]:offsets[v + 1]]``, int64 [V + 1].
        pad: the id that fills up a batch.
    """

    flat: Tensor
    offsets: Tensor
    pad: int

    @classmethod
    def build(cls, ids: list[list[int]], pad: int) -> TokenTable:
        """Pack one list of ids per text; every list holds at least one id (a special token at least)."""
        import torch

        lengths = torch.tensor([0, *map(len, ids)], dtype=torch.int64)
        flat = torch.tensor(list(chain.from_iterable(ids)), dtype=torch.int32)
        return cls(flat, lengths.cumsum(0), pad)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Tokens of each text, int64 [V]."""
        return self.offsets.diff()

    @classmethod
    def concatenate(cls, tables: list[TokenTable]) -> TokenTable:
        """Return one table of the texts of all tables (at least one) in their order."""
        import torch

        lengths = torch.cat([torch.zeros(1, dtype=torch.int64), *(table.lengths for table in tables)])
        return cls(torch.cat([table.flat for table in tables]), lengths.cumsum(0), tables[0].pad)

    def appended(self, other: TokenTable) -> TokenTable:
        """Return one table of these texts and, behind them, others, in the time that the others take."""
        flat, offsets = self._growing
        flat, offsets = flat.appended(other.flat), offsets.appended(other.offsets[1:] + self.offsets[-1])
        table = TokenTable(flat.rows, offsets.rows, self.pad)
        table.__dict__["_growing"] = (flat, offsets)
        return table

    @cached_property
    def _growing(self) -> tuple[GrowingRows, GrowingRows]:
        return GrowingRows(self.flat), GrowingRows(self.offsets)

    def positions(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the tokens of some texts lie in ``flat``.

        Args:
            index: int64 [n], on the CPU.

        Returns:
            Positions int64 [n, t] and mask bool [n, t], t being the tokens of the longest text; positions
            outside of the mask are valid but mean nothing.
        """
        import torch

        start, lengths = self.offsets[index], self.offsets[index + 1] - self.offsets[index]
        step = torch.arange(int(lengths.max()) if len(index) else 0)
        mask = step < lengths[:, None]
        return torch.where(mask, start[:, None] + step, start[:, None]), mask

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return ids int64 [n, t] and mask bool [n, t] of some texts, padded at the end to the longest.

        Args:
            index: int64 [n], on any device; the result lies on the same.
        """
        positions, mask = self.positions(index.cpu())
        ids = self.flat[positions].long().masked_fill(~mask, self.pad)
        return ids.to(index.device), mask.to(index.device)

    def batches(self, tokens: int) -> Iterator[Tensor]:
        """Yield the indices of all texts in batches of about equal lengths, the longest first.

        Args:
            tokens: a batch holds at most so many tokens, padding included, and at least one text.
        """
        return length_batches(self.lengths, tokens)


def length_batches(lengths: Tensor, tokens: int) -> Iterator[Tensor]:
    """Yield the places of texts by their lengths ``[n]``; see ``TokenTable.batches``."""
    import torch

    # Longest first: if a batch does not fit in memory, it is the first one.
    lengths, order = torch.sort(lengths, descending=True, stable=True)
    start = 0
    while start < len(order):
        size = max(1, tokens // max(1, int(lengths[start])))
        yield order[start : start + size]
        start += size


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a model folder; no code of the folder runs.

    Raises:
        InputError: the folder holds none, or one that cannot be loaded.
    """
    if not os.access(folder, os.R_OK | os.X_OK) and folder.exists():
        raise InputError(f"{folder}: cannot be read (no permission); see who may read there")
    if not has_vocabulary(folder):
        raise InputError(
            f"{folder}: holds no tokenizer.json and no vocabulary; give the folder of a transformers encoder"
        )
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        # Damaged files raise a dozen types of error.
        raise InputError(
            f"{folder}: not loadable as an encoder: its tokenizer ({first_line(error)}); give another folder"
        ) from error


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder holds the words of a tokenizer; without them transformers makes one that knows none."""
    return any(next(folder.glob(pattern), None) for pattern in _VOCABULARIES)
