"""The folder of condensed sequences: what is written, and what is looked at when it is read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from foster.artefacts import (
    CARD_NAME,
    CONFIG_NAME,
    KEPT_STEP,
    METRICS_NAME,
    Count,
    Fingerprint,
    Shapes,
    Size,
    Stored,
    folder_bytes,
    load_tensors,
    marked,
    read_config,
    save_tensors,
    write_json,
)
from foster.condensed.codes import WHOLE_BITS, is_packed, pack, unpack
from foster.condensed.packed_items import numbers_of, pack_items, unpack_items
from foster.condensed.packed_labeller import LABELLERS, OF_BITS, OF_KIND, SCALE, pack_labeller, unpack_labeller
from foster.condensed.packed_map import SCALES, bits_of, pack_map, pack_updates, unpack_map, unpack_updates
from foster.data.catalogue import CATALOGUE_NAME, Catalogue
from foster.errors import InputError
from foster.manifest import MANIFEST_NAME
from foster.models.item_tower import check_item_map, item_map_features, item_map_width
from foster.models.options import ModelOptions
from foster.models.privacy import Privacy
from foster.models.recommender import NOT_STATED, split_line, stored_shape
from foster.text.options import EncoderOptions
from foster.text.tuning import Updates, updates_rank
from foster.training.options import TrainOptions
from foster.wording import many

if TYPE_CHECKING:
    from foster.condensed.sequences import Condensed

NOT_COUNTED = f"{CARD_NAME}, {METRICS_NAME} and {MANIFEST_NAME}"
"""What counts among the bytes of no folder of sequences, beside the item texts."""
ROUNDING = 0.01  # how far from 1 half precision may take the sum of a step's weights
TENSORS_NAME = "sequences.safetensors"
ADAPTER = "adapter."  # what the names of its weights begin with in that file
UPDATES = "updates."  # and those of the updates of its language model
LABELLER = "labeller."  # and those of the sequence model that labels
STEPS = 2**31  # that sequences have at most, when all are as long as the longest
TYPES: dict[str, tuple[str, ...]] = {
    "items": ("I32", "U16"), "lengths": ("I32", "U8"), "weights": ("F16",), "codes": ("U8",), "code_scales": ("F16",),
    "draws": ("U8",),
}  # fmt: skip


class StoredInfo(Stored):
    """``info`` in ``config.json``: how the sequences were made; a folder need not say all of it."""

    data_fingerprint: Fingerprint | None = None
    data_split: str | None = None
    options: dict[str, bool | int | float | str | None] | None = None
    seed: Count | None = None
    kept_step: Count | None = None
    device: str | None = None
    from_real_data: str | None = None
    licence: str | None = None
    privacy: Privacy | None = None


class LabellerKind(Stored):
    """What of the shape of a labeller differs from students' by default."""

    backbone: str
    layers: Size


class StoredSequences(Stored):
    """``config.json`` of condensed sequences."""

    kind: Literal["distilled", "coreset"]
    foster: str
    method: str
    sequences: Size
    length: Size
    windows: Any
    whole_steps: bool
    label_bits: Literal[1, 2, 4]
    adapter_bits: Literal[1, 2, 16]
    adapter_features: Size | None
    catalogue_items: Size
    known_items: Size | None = None
    encoder: dict[str, Any]
    model: dict[str, Any]
    labeller: LabellerKind | None = None
    recipe: dict[str, Any]
    info: StoredInfo


def write(sequences: Condensed, folder: Path) -> None:
    """Write ``config.json``, ``sequences.safetensors``, the item texts and a card into an existing folder."""
    config = _config(sequences)
    StoredSequences.of(config, CONFIG_NAME)
    save_tensors(folder / TENSORS_NAME, _tensors(sequences))
    sequences.catalogue.save(folder)
    write_json(folder / CONFIG_NAME, config)
    (folder / CARD_NAME).write_text(_card(sequences, folder), encoding="utf-8")


def _tensors(sequences: Condensed) -> dict[str, Tensor]:
    """Return what a folder stores of the sequences, their labels and the map that belongs to these."""
    n_items = len(sequences.catalogue)
    if _whole_steps(sequences):
        there = sequences.valid
        tensors = {"items": pack_items(sequences.items[there][:, 0], n_items), "lengths": _smallest(there.sum(1))}
    else:
        tensors = {"items": sequences.items.to(numbers_of(n_items)), "weights": sequences.weights.half()}
    if sequences.codes is not None:
        codes, scales = pack(sequences.codes, sequences.label_bits)
        tensors |= {"codes": codes, "code_scales": scales}
    if (adapter := sequences.adapter) is not None:
        packed = sequences.adapter_bits < WHOLE_BITS
        parts = pack_map(adapter, sequences.adapter_bits) if packed else {n: w.half() for n, w in adapter.items()}
        tensors |= {ADAPTER + name: part for name, part in parts.items()}
    if sequences.updates is not None:
        tensors |= {UPDATES + name: part for name, part in pack_updates(sequences.updates).items()}
    if sequences.labeller is not None:
        assert sequences.labeller_model is not None
        packed_labeller = pack_labeller(sequences.labeller, sequences.labeller_model)
        tensors |= {LABELLER + name: part for name, part in packed_labeller.items()}
    if sequences.draws is not None:
        tensors["draws"] = sequences.draws.to(torch.uint8)
    return tensors


def _smallest(lengths: Tensor) -> Tensor:
    """Return lengths in a byte each where they fit."""
    return lengths.to(torch.uint8 if int(lengths.max()) < 2**8 else torch.int32)


def _whole_steps(sequences: Condensed) -> bool:
    """Return whether each step is one item, as in real histories; then these are stored one after another."""
    return sequences.items.shape[2] == 1 and bool(((sequences.weights == 1) | (sequences.weights == 0)).all())


def _config(sequences: Condensed) -> dict[str, Any]:
    return {
        **marked(sequences.kind),
        "method": sequences.method,
        "sequences": len(sequences),
        "length": sequences.items.shape[1],
        "windows": sequences.windows,
        "whole_steps": _whole_steps(sequences),
        "label_bits": sequences.label_bits,
        "adapter_bits": sequences.adapter_bits,
        "adapter_features": None if sequences.adapter is None else item_map_features(sequences.adapter),
        "catalogue_items": len(sequences.catalogue),
        **sequences.catalogue.stated,
        "encoder": sequences.encoder.model_dump(),
        "model": sequences.model.model_dump(),
        **_labeller_kind(sequences),
        "recipe": sequences.recipe.model_dump(),
        "info": sequences.info,
    }


def _labeller_kind(sequences: Condensed) -> dict[str, Any]:
    shape = sequences.labeller_model
    kind = {} if shape is None else {name: getattr(shape, name) for name in OF_KIND}
    alike = all(value == getattr(sequences.model, name) for name, value in kind.items())
    return {} if alike else {"labeller": kind}


def read_fields(folder: str | Path, encoder_path: str | None = None) -> dict[str, Any]:
    """Return the fields of what ``Condensed.read`` reads; arguments and errors are its own."""
    folder = Path(folder)
    config, where = read_config(folder, ("distilled", "coreset")), str(folder / CONFIG_NAME)
    stated, path = StoredSequences.of(config, where), folder / TENSORS_NAME
    tensors = load_tensors(path, lambda shapes: _wrong_tensors(shapes, stated))
    catalogue = Catalogue.read(folder)
    if stated.whole_steps:
        _pad_steps(tensors, path, len(catalogue))
    if wrong := _wrong_steps(tensors, catalogue):
        raise InputError(f"{path}: {wrong}; the folder is damaged, make or copy it again")
    if stated.adapter_bits != WHOLE_BITS:
        _unpack_adapter(tensors, stated.adapter_bits, stated.adapter_features, path)
    model = stored_shape(stated.model, where)
    labeller_model = _labeller_model(stated, model, where)
    windows, labels = stated.windows, _stored_labels(tensors, stated.label_bits, labeller_model, path, len(catalogue))
    adapter = labels["adapter"]
    if adapter is None and stated.adapter_features is not None:
        raise InputError(f"{path}: the parts of the 'adapter' are missing; make or copy the folder again")
    sizes = {
        "sequences": len(tensors["items"]),
        "length": tensors["items"].shape[1],
        "catalogue_items": len(catalogue),
        "adapter_features": None if adapter is None else item_map_features(adapter),
    }
    for name, size in sizes.items():
        if getattr(stated, name) != size:
            raise InputError(f"{where}: field '{name}' is wrong, it should be {size}; make or copy the folder again")
    if labels["labeller"] is None and stated.labeller is not None:
        raise InputError(f"{path}: the labeller that {CONFIG_NAME} states is missing; make or copy the folder again")
    if labels["labeller"] is not None:
        fit = _labelled_windows_fit(windows, tensors["items"].shape[1], model.max_length)
    else:
        codes = labels["codes"]
        fit = _windows_fit(windows, tensors["items"].shape[1], 0 if codes is None else codes.shape[1])
    if not fit:
        raise InputError(f"{where}: field 'windows' is wrong; the folder is damaged, make or copy it again")
    return {
        "kind": stated.kind,
        "method": stated.method,
        "items": tensors["items"].long(),
        "weights": tensors["weights"].float(),
        "catalogue": catalogue,
        "encoder": EncoderOptions.stored(stated.encoder, where).at(encoder_path),
        "model": model,
        "windows": tuple((start, end) for start, end in windows),
        "recipe": TrainOptions.stored(stated.recipe, where),
        "info": config["info"],
        "label_bits": stated.label_bits,
        "adapter_bits": stated.adapter_bits,
        **labels,
    }


def written_bytes(sequences: Condensed) -> int:
    """Return the size of the folder that ``write`` would make in bytes, as ``stored_bytes`` counts it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_tensors(folder / TENSORS_NAME, _tensors(sequences))
        write_json(folder / CONFIG_NAME, _config(sequences))
        sequences.catalogue.save_popularity(folder)
        return stored_bytes(folder)


def stored_bytes(folder: str | Path) -> int:
    """Return the size of a condensed folder in bytes, without item texts and what ``NOT_COUNTED`` names."""
    return folder_bytes(folder, exclude=(CATALOGUE_NAME, CARD_NAME, MANIFEST_NAME, METRICS_NAME))


def _card(sequences: Condensed, folder: Path) -> str:
    size = stored_bytes(folder)
    real = sequences.info.get("from_real_data", "see config.json")
    kept = sequences.info.get(KEPT_STEP)
    state = "" if kept is None else f"- state after distillation step {kept} (0 is the starting point)\n"
    origin = "synthetic" if sequences.kind == "distilled" else "selected"
    privacy = (
        "- privacy: not anonymous; `foster audit` measures how much the sequences reveal of users (docs/privacy.md)\n"
    )
    if (stated := sequences.info.get("privacy")) is not None:
        privacy = Privacy.of(stated, CONFIG_NAME).line
    return (
        f"# {many(len(sequences), f'{origin} sequence')} ({sequences.method})\n\n"
        f"- catalogue: {many(len(sequences.catalogue), 'item')} with texts; encoder {sequences.encoder}\n"
        f"- data fingerprint: {sequences.info.get('data_fingerprint', NOT_STATED)}\n"
        f"{split_line(sequences.info)}"
        f"{state}"
        f"- what came from real data: {real}\n"
        f"- size without item texts: {size:,} bytes; {NOT_COUNTED} are left out, too\n"
        f"- licence: {sequences.info.get('licence', 'that of the data it was made from')}\n"
        f"{privacy}\n"
        "Train on it with `foster train FOLDER --out MODEL`.\n"
    )


def _wrong_tensors(shapes: Shapes, stated: StoredSequences) -> str | None:
    """Return what is wrong with the names and types of stored tensors, or None."""
    if "codes" in shapes and shapes["codes"][0] not in TYPES["codes"]:  # an earlier version had a byte a number, or two
        return "'codes' are not those of this version"
    types = dict(TYPES)
    if stated.whole_steps:
        types["items"] += ("U8",)  # compressed
    del types["weights" if stated.whole_steps else "lengths"]
    for name in shapes.keys() - types.keys():
        if name.startswith(UPDATES):
            types[name] = ("F16",) if name.endswith(SCALES) else ("U8", "F16")
        elif name.startswith(LABELLER):
            part = name.removeprefix(LABELLER)
            types[name] = ("F32",) if part == SCALE else ("U8",) if part in OF_BITS.values() else ("F16",)
        elif name.startswith(ADAPTER):
            part = name.removeprefix(ADAPTER)
            packed = stated.adapter_bits != WHOLE_BITS and not part.endswith(SCALES)
            types[name] = ("U8",) if packed and bits_of(part, stated.adapter_bits) is not None else ("F16",)
    for name, (kind, shape) in shapes.items():
        if name not in types:
            return f"'{name}' is unknown"
        if kind not in types[name]:
            return f"'{name}' are of type {kind} instead of {' or '.join(types[name])}"
        if not all(shape):
            return f"'{name}' are empty"
        if name.endswith(SCALES) and len(shape) != 1:
            return f"'{name}' are no row of scales"
    return None


def _wrong_steps(tensors: dict[str, Tensor], catalogue: Catalogue) -> str | None:
    """Return what is wrong with the stored steps, or None."""
    if not {"items", "weights"} <= tensors.keys():
        return "'items' or 'weights' are missing"
    items, weights = tensors["items"].long(), tensors["weights"].float()
    if items.ndim != 3 or items.shape != weights.shape or not items.numel():
        return "'items' do not fit 'weights'"
    if int(items.min()) < 0 or int(items.max()) >= len(catalogue):
        return f"'items' do not fit {CATALOGUE_NAME}"
    if int(items.max()) >= catalogue.n_known:
        return f"'items' do not fit field 'known_items' of {CONFIG_NAME}"
    total = weights.sum(-1)
    there = total > 0
    ends = there[:, 0].all() and not (there[:, 1:] & ~there[:, :-1]).any()
    if not ends or weights.min() < 0 or ((total - 1).abs()[there] > ROUNDING).any():
        return "'weights' are no probabilities"
    return None


def _are_windows(windows: Any, length: int) -> bool:
    """Return whether these are first steps and ends within sequences."""
    if not isinstance(windows, list) or not all(isinstance(w, list) and len(w) == 2 for w in windows):
        return False
    if not all(type(end) is int for window in windows for end in window):
        return False
    return all(0 <= start < end <= length for start, end in windows)


def _windows_fit(windows: Any, length: int, labels: int) -> bool:
    """Return whether windows have one length, the first one aside if it is all, and hold so many labels together."""
    if not _are_windows(windows, length):
        return False
    lengths = [end - start for start, end in windows]
    alike = len(set(lengths[1:])) <= 1 and (windows[:1] == [[0, length]] or len(set(lengths)) <= 1)
    return alike and labels == sum(lengths)


def _labelled_windows_fit(windows: Any, length: int, most: int) -> bool:
    """Return whether there are windows, all of one length, which a labeller can read."""
    if not _are_windows(windows, length):
        return False
    lengths = {end - start for start, end in windows}
    return len(lengths) == 1 and max(lengths) <= most


def _pad_steps(tensors: dict[str, Tensor], path: Path, n_items: int) -> None:
    """Put steps ``[M, L, 1]`` with weights in the place of those that are stored one after another, or compressed.

    Raises:
        InputError: they do not fit their lengths.
    """
    misfit = InputError(f"{path}: 'items' do not fit 'lengths'; the folder is damaged, make or copy it again")
    items, lengths = tensors.get("items"), tensors.pop("lengths", None)
    if items is None or lengths is None or not items.ndim == lengths.ndim == 1 or not len(lengths):
        raise misfit
    lengths = lengths.long()  # sums of bytes would be bytes
    if lengths.min() <= 0 or len(lengths) * int(lengths.max()) > STEPS:
        raise misfit
    if items.dtype == torch.uint8:
        try:
            items = unpack_items(items, int(lengths.sum()), n_items)
        except ValueError as error:
            raise InputError(f"{path}: {error}; the folder is damaged, make or copy it again") from error
    if lengths.sum() != len(items):
        raise misfit
    there = torch.arange(int(lengths.max())) < lengths[:, None]
    padded = torch.zeros(there.shape, dtype=torch.int64)
    padded[there] = items.long()
    tensors |= {"items": padded[..., None], "weights": there[..., None].float()}


def _unpack_adapter(tensors: dict[str, Tensor], bits: int, features: Any, path: Path) -> None:
    """Put the weights of a map of items in the place of the packed ones.

    Raises:
        InputError: they are incomplete or do not fit one another.
    """
    stored = {name: tensors.pop(name) for name in list(tensors) if name.startswith(ADAPTER)}
    try:
        if type(features) is not int:
            raise ValueError("'adapter_features' is missing")
        if any(part.min() < 0 for name, part in stored.items() if name.endswith(SCALES)):
            raise ValueError("a scale is negative")
        adapter = unpack_map({name.removeprefix(ADAPTER): part for name, part in stored.items()}, bits, features)
    except ValueError as error:
        raise InputError(f"{path}: {error}; the folder is damaged, make or copy it again") from error
    tensors |= {ADAPTER + name: weights for name, weights in adapter.items()}


def _stored_labels(
    tensors: dict[str, Tensor], bits: int, labeller_model: ModelOptions, path: Path, n_items: int
) -> dict[str, Any]:
    """Return the fields ``codes``, ``adapter``, ``updates``, ``draws``, and those of a labeller, of a folder's tensors.

    Raises:
        InputError: they are incomplete, do not fit one another, or are those of another version.
    """
    out: dict[str, Any] = dict.fromkeys(("codes", "adapter", "updates", "draws"))
    adapter = {n.removeprefix(ADAPTER): t.float() for n, t in tensors.items() if n.startswith(ADAPTER)}
    labelled = "codes" in tensors
    if labelled and ("code_scales" not in tensors or not adapter):
        raise InputError(f"{path}: soft labels lack 'code_scales' or 'adapter'; make the folder again")
    if adapter:
        try:
            check_item_map(adapter, n_items)
            width = item_map_width(adapter)
        except ValueError as error:
            raise InputError(
                f"{path}: {error}; the folder is damaged or of an earlier version, make it again"
            ) from error
        out["adapter"] = adapter
    if labelled:
        shape = tensors["codes"].shape
        if len(shape) != 3 or shape[0] != len(tensors["items"]) or shape[:2] != tensors["code_scales"].shape:
            raise InputError(f"{path}: 'codes' do not fit the sequences; the folder is damaged, make or copy it again")
        if tensors["code_scales"].min() < 0:
            raise InputError(f"{path}: 'codes' are no labels of {bits} bits; make or copy the folder again")
        out["updates"] = _stored_updates(tensors, path)
        if shape[2] != -(-width * bits // 8):
            raise InputError(f"{path}: 'codes' do not fit the map of items; make or copy the folder again")
        if not is_packed(tensors["codes"], bits, width):
            raise InputError(f"{path}: 'codes' are no labels of {bits} bits; make or copy the folder again")
        out["codes"] = unpack(tensors["codes"], tensors["code_scales"], bits, width)
    if "draws" in tensors:
        draws = out["draws"] = tensors["draws"].long()
        labels = None if out["codes"] is None else out["codes"].shape[:2]
        if draws.shape != labels or int(draws.min()) < 0 or int(draws.max()) >= tensors["items"].shape[2]:
            raise InputError(f"{path}: 'draws' do not fit the labels; the folder is damaged, make or copy it again")
    out |= _stored_labeller(tensors, labeller_model, path)
    if out["labeller"] is not None and (labelled or not adapter):
        raise InputError(f"{path}: a labeller is beside labels, or lacks the 'adapter'; make or copy the folder again")
    # Histories have no labels, but may have a map, and what makes labels.
    alone = {"items", "weights", *(ADAPTER + name for name in adapter)}
    alone |= {name for name in tensors if name.startswith(LABELLER)}
    if not labelled and (parts := tensors.keys() - alone):
        raise InputError(f"{path}: '{min(parts)}' belongs to labels, which are missing; make or copy the folder again")
    return out


def _labeller_model(stated: StoredSequences, model: ModelOptions, where: str) -> ModelOptions:
    """Return the shape of a labeller, if there is one.

    Raises:
        InputError: it is none.
    """
    if stated.labeller is None:
        return model
    if stated.labeller.backbone not in LABELLERS:
        raise InputError(f"{where}: field 'labeller.backbone' is wrong; the folder is damaged, make or copy it again")
    return stored_shape({**stated.model, **stated.labeller.model_dump()}, where)


def _stored_labeller(tensors: dict[str, Tensor], shape: ModelOptions, path: Path) -> dict[str, Any]:
    """Return the fields of the sequence model that labels, None where there is none.

    Raises:
        InputError: it is not of the shape that the folder states.
    """
    stored = {n.removeprefix(LABELLER): t for n, t in tensors.items() if n.startswith(LABELLER)}
    if not stored:
        return {"labeller": None, "labeller_model": None}
    try:
        return {"labeller": unpack_labeller(stored, shape), "labeller_model": shape}
    except ValueError as error:
        raise InputError(f"{path}: {error}; the folder is damaged, make or copy it again") from error


def _stored_updates(tensors: dict[str, Tensor], path: Path) -> Updates | None:
    """Return the low-rank updates of the encoder, or None where there are none.

    Raises:
        InputError: they do not fit one another.
    """
    stored = {n.removeprefix(UPDATES): t for n, t in tensors.items() if n.startswith(UPDATES)}
    if not stored:
        return None
    try:
        updates = unpack_updates(stored)
        updates_rank(updates)
    except ValueError as error:
        raise InputError(f"{path}: {error}; the folder is damaged or of an earlier version, make it again") from error
    return updates
