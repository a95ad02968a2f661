"""A handful of sequences that stands for a log: distilled or selected, one type."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from torch import Tensor

from foster.artefacts import new_folder, not_finite
from foster.condensed.codes import WHOLE_BITS, pack, unpack
from foster.condensed.contexts import Windows, drawn_items
from foster.condensed.folder import read_fields, write
from foster.condensed.packed_labeller import Labeller, pack_labeller, unpack_labeller
from foster.condensed.packed_map import pack_map, pack_updates, unpack_map, unpack_updates
from foster.data.batches import pad
from foster.data.catalogue import Catalogue
from foster.errors import InputError
from foster.hub import folder_of, push_to_hub
from foster.manifest import read_whole
from foster.models.item_tower import ItemMap, item_map_features
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions
from foster.text.tuning import Updates
from foster.training.options import STUDENT, TrainOptions


@dataclass(frozen=True, eq=False)
class Condensed:
    """M sequences of at most L steps; each step is a distribution over items.

    A step is stored by its k most probable items. A target is the next step (``codes`` is None), or a soft label of
    its own, the teacher's scores, stored as a vector: item v has the score ``<codes, keys(v)>`` up to a constant, where
    ``keys(v) = adapter(features(v))``: a map of whitened text features, the teacher's adapter, is stored. Features are
    the public encoder's; where the teacher tuned that by low-rank updates, these are stored, too.

    A step can have several soft labels, one for each window of the sequence that it lies in: after the whole sequence
    so far, and after the steps of a short window only. Users' histories are mostly short, so that states after few
    items are what a student needs most, and a long sequence alone has few of these.

    Histories that a teacher wrote can have its map without labels: students start with that, and learn the next steps.

    In the place of labels there can be what makes them, the teacher's sequence model in a bit a weight
    (``labeller``): ``labeller.with_codes`` gives them back, and it writes more contexts for students. It takes as many
    bytes as some 1,600 labels, and an item that it labels takes less than two.

    With ``draws`` a context is not the mixtures of its steps, but one item of each: windows that share steps then hold
    different items, and the student meets more of the catalogue.

    Attributes:
        kind: distilled or coreset.
        method: what made it.
        items: int64 ``[M, L, k]`` item indices of the catalogue.
        weights: float ``[M, L, k]``, summing to 1 in half precision; all 0 behind the end of a short sequence.
        codes: float ``[M, P, r]`` or None; the labels of the windows one after another, P steps in all.
        windows: first step and end of each window; only with codes. All have one length, but that the first one may be
            the whole sequence.
        draws: int64 ``[M, P]`` or None; which of its k items each step is in the context of its label.
        adapter: weights of the teacher's adapter by name, to which ``codes`` refer, if there are any; or None.
        label_bits: of each number of a label in a folder: 1, 2 or 4.
        adapter_bits: of each weight of the adapter in a folder: 16, or 1 or 2 for one that was rounded so.
        catalogue: the items with their texts.
        encoder: the text encoder that the soft labels refer to.
        model: shape of the model that it was made with, the default for students.
        recipe: the student's training recipe.
        info: how it was made: fingerprint of the data, options, what came from real data.
        updates: low-rank updates of the encoder's weights by name, or None; they belong to ``adapter``.
        labeller: weights of the sequence model that labels the windows, or None; then there are windows and an adapter,
            but no codes.
        labeller_model: shape of that; it may be smaller than ``model``, and read as many items. Only with a labeller.
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
    windows: Windows = ()
    draws: Tensor | None = None
    label_bits: int = 4
    adapter_bits: int = WHOLE_BITS
    recipe: TrainOptions = STUDENT
    info: dict[str, Any] = field(default_factory=dict)
    updates: Updates | None = None
    labeller: Labeller | None = None
    labeller_model: ModelOptions | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that are not finite: students would learn nothing from them.

        Raises:
            InputError: which they are.
        """
        numbers = {name: getattr(self, name) for name in ("weights", "codes")}
        numbers |= (self.adapter or {}) | (self.updates or {}) | (self.labeller or {})
        if name := not_finite({name: tensor for name, tensor in numbers.items() if tensor is not None}):
            raise InputError(
                f"{self.method}: {name} of the sequences is not finite; was the teacher trained at too high a --lr, is "
                "a --temperature or --start-score beyond reason, or is the folder damaged?"
            )

    @classmethod
    def of_histories(
        cls, histories: Sequence[np.ndarray], max_length: int, method: str, catalogue: Catalogue, **rest: Any
    ) -> Self:
        """Wrap real histories as one-hot steps: the last ``max_length`` items of each."""
        items, weights = one_hot_steps(histories, max_length)
        return cls("coreset", method, items, weights, None, None, catalogue, **rest)

    @property
    def valid(self) -> Tensor:
        """Bool ``[M, L]``: where there is a step."""
        return self.weights.sum(-1) > 0

    @property
    def labelled(self) -> bool:
        """Whether the steps have soft labels, or what makes them."""
        return self.codes is not None or self.labeller is not None

    def likeliest(self) -> Tensor:
        """Return the most probable item of each step, int64 ``[M, L]``; any item behind the end of a sequence."""
        return drawn_items(self.items, self.weights.argmax(-1))

    def __len__(self) -> int:
        """Return M."""
        return len(self.items)

    def rounded(self) -> Self:
        """Return it with the numbers that a folder stores, so that students of both are the same."""
        codes = self.codes
        if codes is not None:
            codes = unpack(*pack(codes, self.label_bits), self.label_bits, codes.shape[-1])
        adapter = self.adapter
        if adapter is not None and self.adapter_bits < WHOLE_BITS:
            adapter = unpack_map(pack_map(adapter, self.adapter_bits), self.adapter_bits, item_map_features(adapter))
        elif adapter is not None:
            adapter = {name: weights.half().float() for name, weights in adapter.items()}
        updates = None if self.updates is None else unpack_updates(pack_updates(self.updates))
        labeller = self.labeller
        if labeller is not None and (shape := self.labeller_model) is not None:
            labeller = unpack_labeller(pack_labeller(labeller, shape), shape)
        weights = self.weights.half().float()
        return replace(self, codes=codes, adapter=adapter, updates=updates, labeller=labeller, weights=weights)

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
        write(self, folder)

    @classmethod
    def read(cls, folder: str | Path, *, encoder_path: str | None = None) -> Self:
        """Read a distilled or coreset folder.

        Args:
            folder: what ``save`` wrote, or the name of such a folder on the Hugging Face hub, as in
                ``organisation/name``.
            encoder_path: another place of the encoder that it was made with, where the stored name does not exist on
                this machine.

        Raises:
            InputError: another folder, or a damaged one.
        """
        place = folder_of(folder, "dataset")
        return read_whole(place, lambda: cls(**read_fields(place, encoder_path)))

    def push_to_hub(self, name: str, *, private: bool = True) -> str:
        """Send the folder to the Hugging Face hub, and return the address; see ``foster.hub.push_to_hub``.

        Args:
            name: of the repository, as in ``organisation/name``.
            private: whether a new repository can be seen by its owners only.

        Raises:
            InputError: no name, or the hub does not take it.
        """
        with tempfile.TemporaryDirectory() as place:
            return push_to_hub(self.save(Path(place) / "sequences"), name, private=private)


def one_hot_steps(histories: Sequence[np.ndarray], max_length: int) -> tuple[Tensor, Tensor]:
    """Return the last ``max_length`` items of each history as steps of one item, ``[M, L, 1]``, and their weights.

    Behind the end of a history weights are zero.
    """
    items = pad(histories, max_length)[..., None]
    return items.clamp(min=0), (items >= 0).float()
