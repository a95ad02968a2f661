"""The items of a data set with their texts, apart from any interaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from foster.errors import InputError, did_you_mean

CATALOGUE_NAME = "catalogue.parquet"


@dataclass(frozen=True)
class Catalogue:
    """V items: raw ids and texts, in the order of the item indices.

    Attributes:
        ids: V distinct raw ids.
        texts: V texts, as the encoder reads them.
    """

    ids: list[str]
    texts: list[str]

    def __len__(self) -> int:
        """Return V."""
        return len(self.ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """Map each raw id to its item index."""
        return {item_id: position for position, item_id in enumerate(self.ids)}

    def extended(self, ids: Sequence[str], texts: Sequence[str]) -> Catalogue:
        """Return a catalogue with new items behind the old ones.

        Raises:
            InputError: an id that is known already or stands twice, a blank text, or lists of different lengths.
        """
        if len(ids) != len(texts):
            raise InputError(f"add_items: {len(ids)} ids for {len(texts)} texts; give one id a text")
        seen = set(self.ids)
        for item_id, text in zip(ids, texts, strict=True):
            if item_id in seen:
                raise InputError(f"add_items: item '{item_id}' is in the catalogue already; give a new id")
            if not text.strip():
                raise InputError(f"add_items: item '{item_id}' has no text; a text-based model needs one")
            seen.add(item_id)
        return Catalogue([*self.ids, *ids], [*self.texts, *texts])

    def lookup(self, item_id: str) -> int:
        """Return the index of a raw id.

        Raises:
            InputError: no such item.
        """
        if item_id not in self.index:
            raise InputError(
                f"item '{item_id}' is not in the catalogue of {len(self)} items{did_you_mean(item_id, self.ids[:5000])}"
            )
        return self.index[item_id]

    def save(self, folder: Path) -> None:
        """Write ``catalogue.parquet`` (item_id, text) into ``folder``."""
        pl.DataFrame({"item_id": self.ids, "text": self.texts}).write_parquet(folder / CATALOGUE_NAME)

    @classmethod
    def read(cls, folder: Path) -> Catalogue:
        """Read ``catalogue.parquet`` of a folder.

        Raises:
            InputError: missing or damaged.
        """
        path = folder / CATALOGUE_NAME
        try:
            frame = pl.read_parquet(path, columns=["item_id", "text"])
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InputError(f"{path}: missing or damaged; make or copy the folder again") from error
        return cls(frame["item_id"].to_list(), frame["text"].to_list())
