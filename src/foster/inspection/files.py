"""How many bytes the parts of a folder have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from foster.artefacts import folder_bytes, tensor_shapes
from foster.data.catalogue import CATALOGUE_NAME
from foster.inspection.page import Share, Table
from foster.inspection.wording import clean
from foster.manifest import MANIFEST_NAME

FILES = {
    CATALOGUE_NAME: "ids and texts of the items",
    "items.parquet": "ids and texts of the items",
    "interactions.parquet": "interactions",
    "items.safetensors": "vectors of the items",
    "model.safetensors": "weights",
    "trajectory": "weights at several steps of the training",
    "popularity.parquet": "popularity of the items",
    "config.json": "what it is and how it was made",
    "dataset.json": "what it is and how it was made",
    "metrics.jsonl": "what was logged",
    "README.md": "card",
    "bench.json": "options",
    "results.md": "table of the results",
    "results.json": "results",
    "results.csv": "results by run",
    "results.png": "picture of the results",
}


def bytes_by_part(folder: Path, tensors: str | None = None, parts: Mapping[str, str] | None = None) -> Table:
    """Return the table of what is in a folder, largest first; the manifest counts among the bytes of none.

    Args:
        folder: the folder.
        tensors: a safetensors file in it whose tensors are listed one by one.
        parts: what they are, by the first part of their names, or what other files are.
    """
    sizes: dict[str, int] = {}
    for path in sorted(folder.iterdir()):
        if path.name not in (tensors, MANIFEST_NAME):
            sizes[path.name] = folder_bytes(path) if path.is_dir() else path.stat().st_size
    known = {**FILES, **(parts or {})}
    if tensors is not None:
        own = _tensor_bytes(folder / tensors)
        rest = (folder / tensors).stat().st_size - sum(own.values())
        sizes |= {f"{tensors}: {name}": count for name, count in own.items()}
        sizes[f"{tensors}: header"] = rest
        known |= {f"{tensors}: {name}": what for name, what in (parts or {}).items()}
        known[f"{tensors}: header"] = "names and shapes"
    total = sum(sizes.values())
    rows = [
        (known.get(name, clean(name)), f"{count:,}", Share(count / max(total, 1)), clean(name))
        for name, count in sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0]))
    ]
    return Table(
        f"{total:,} bytes by part, without {MANIFEST_NAME}", ("part", "bytes", "share", "file"), rows, texts=(3,)
    )


def _tensor_bytes(path: Path) -> dict[str, int]:
    """Return the bytes of the tensors in a safetensors file, those of names with a common first part together.

    Raises:
        InputError: the file is damaged.
    """
    tensor_shapes(path)  # which looks at the header, whose length and types may be anything
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    out: dict[str, int] = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            start, end = tensor["data_offsets"]
            first = name.split(".")[0]
            out[first] = out.get(first, 0) + end - start
    return out
