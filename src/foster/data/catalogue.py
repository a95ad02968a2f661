"""The items of a data set with their texts, apart from any interaction."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from foster.artefacts import CONFIG_NAME, read_json, read_parquet
from foster.errors import InputError, did_you_mean

CATALOGUE_NAME = "catalogue.parquet"
POPULARITY_NAME = "popularity.parquet"
KNOWN_ITEMS = "known_items"  # field of config.json
MEAN_POPULARITY = 0.0  # that of an item which comes later, since nothing is known of it


@dataclass(frozen=True)
class Catalogue:
    """V items: raw ids and texts, in the order of the item indices.

    Attributes:
        ids: V distinct raw ids.
        texts: V texts, as the encoder reads them.
        popularity: V numbers that models read beside the texts, see ``popularity_of``; None where texts are all.
        known: how many items training may know of, the first so many: with a split by time the others come later, and
            are ranked only. None where that is all of them.
    """

    ids: list[str]
    texts: list[str]
    popularity: list[float] | None = None
    known: int | None = None

    def __len__(self) -> int:
        """Return V."""
        return len(self.ids)

    @property
    def n_known(self) -> int:
        """The number of items that training may know of."""
        return len(self) if self.known is None else self.known

    @cached_property
    def index(self) -> dict[str, int]:
        """Map each raw id to its item index."""
        return {item_id: position for position, item_id in enumerate(self.ids)}

    def extended(self, ids: Sequence[str], texts: Sequence[str]) -> Catalogue:
        """Return a catalogue with new items behind the old ones, of mean popularity where that counts.

        Raises:
            InputError: an id that is known already or stands twice, a text that is blank or no Unicode, or lists of
                different lengths.
        """
        check_new(ids, texts, self.index)
        popularity = None if self.popularity is None else [*self.popularity, *([MEAN_POPULARITY] * len(ids))]
        return Catalogue([*self.ids, *ids], [*self.texts, *texts], popularity, self.known)

    def __deepcopy__(self, memo: dict[int, object]) -> Catalogue:
        return self  # it never changes

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
        """Write ``catalogue.parquet`` (item_id, text) and, where it counts, ``popularity.parquet`` into ``folder``."""
        pl.DataFrame({"item_id": self.ids, "text": self.texts}).write_parquet(folder / CATALOGUE_NAME)
        self.save_popularity(folder)

    def save_popularity(self, folder: Path) -> None:
        """Write ``popularity.parquet`` into ``folder``, where it counts."""
        if self.popularity is not None:
            # A file of its own: it comes from the log, and counts among the bytes of what is handed on.
            column = pl.Series("popularity", self.popularity, dtype=pl.Float32)
            column.to_frame().write_parquet(folder / POPULARITY_NAME)

    @classmethod
    def read(cls, folder: Path) -> Catalogue:
        """Read what ``save`` wrote, and ``stated`` from ``config.json`` beside it.

        Raises:
            InputError: missing or damaged.
        """
        path = folder / CATALOGUE_NAME
        items = read_parquet(path, ["item_id", "text"])
        if (
            any(items[name].dtype != pl.String or items[name].has_nulls() for name in items.columns)
            or items["item_id"].is_duplicated().any()
            or items["text"].str.strip_chars().eq("").any()
        ):
            raise InputError(f"{path}: an id or a text is wrong; the folder is damaged, make or copy it again")
        popularity, path = None, folder / POPULARITY_NAME
        if path.exists():
            column = read_parquet(path, ["popularity"])["popularity"]
            popularity = column.to_list()
            numbers = column.dtype == pl.Float32 and not column.has_nulls() and column.is_finite().all()
            if len(popularity) != items.height or not numbers:
                raise InputError(f"{path}: does not fit {CATALOGUE_NAME}; the folder is damaged, make or copy it again")
        path = folder / CONFIG_NAME
        known = read_json(path).get(KNOWN_ITEMS)
        if not (known is None or (isinstance(known, int) and 0 < known <= items.height)):
            raise InputError(f"{path}: field '{KNOWN_ITEMS}' is wrong; the folder is damaged, make or copy it again")
        return cls(items["item_id"].to_list(), items["text"].to_list(), popularity, known)

    @property
    def stated(self) -> dict[str, int]:
        """What ``config.json`` says of it: how many items training knows of, where that is not all."""
        return {} if self.known is None else {KNOWN_ITEMS: self.known}

    @property
    def disclosure(self) -> str:
        """What of it came from the log, to be appended to what a folder says of itself; ids and texts did not."""
        popularity = "" if self.popularity is None else "; how popular each item is (popularity)"
        return popularity + ("" if self.known is None else "; which items came after the training part (their order)")


def is_unicode(text: str) -> bool:
    """Whether a text is one: not half of a character, nor bytes that are none, as a command line may bring."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_new(ids: Sequence[str], texts: Sequence[str], *known: Container[str]) -> None:
    """See to it that items can be added.

    Args:
        ids: their raw ids.
        texts: their texts.
        known: the ids that there are.

    Raises:
        InputError: an id that is known already or stands twice, a text that is blank or no Unicode, or not two
            lists of texts of one length.
    """
    for name, values in (("ids", ids), ("texts", texts)):
        if isinstance(values, str) or not all(isinstance(value, str) for value in values):
            raise InputError(f"add_items: {name} is one list of texts, as in ['new-1', 'new-2']; give that")
    if len(ids) != len(texts):
        raise InputError(f"add_items: {len(ids)} ids for {len(texts)} texts; give one id a text")
    seen: set[str] = set()
    for item_id, text in zip(ids, texts, strict=True):
        if any(item_id in some for some in (seen, *known)):
            raise InputError(f"add_items: item '{item_id}' is in the catalogue already; give a new id")
        if not text.strip():
            raise InputError(f"add_items: item '{item_id}' has no text; a text-based model needs one")
        if not (is_unicode(item_id) and is_unicode(text)):
            raise InputError(f"add_items: item {item_id!r} or its text is no Unicode text; decode it as it was written")
        seen.add(item_id)


def popularity_of(counts: np.ndarray, known: int | None = None) -> list[float]:
    """Return log(1 + count), shifted and scaled to mean 0 and variance 1 over the items: V numbers.

    What most logs hold beside texts and order, and texts often do not tell. An item that comes later counts as an
    average one.

    Args:
        counts: ``[V]``, how often each item is in the training part of the log.
        known: how many items there are in that part's time, the first so many; None for all.
    """
    logs = np.log1p(counts[:known])
    scale = logs.std() or 1.0
    out: list[float] = ((logs - logs.mean()) / scale).astype(np.float32).tolist()
    return out + [MEAN_POPULARITY] * (len(counts) - len(out))
