"""Two folders of one kind, file by file: what differs, and by how much."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch

from foster.artefacts import CONFIG_NAME, DATASET_NAME, MARKER, load_tensors, read_json, read_parquet
from foster.json_text import of_json
from foster.manifest import Manifest

NAMED = 3  # differences of one file that are named
SHOWN = 60  # characters of a value that are shown
SECONDS = "seconds"  # field of a log that tells how long the making took
MISSING = "(missing)"


@dataclass(frozen=True)
class Difference:
    """How a file differs from the one of that name which is there.

    Attributes:
        file: its path in the folder.
        what: the difference, in words.
        largest: of the absolute differences between numbers in it; None where no numbers were compared.
    """

    file: str
    what: str
    largest: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def compare(before: Manifest, after: Manifest) -> list[Difference]:
    """Return in which files two folders differ.

    Files are equal if their bytes are. How long a training took and the version of foster do not count; the manifests
    themselves are not compared.

    Raises:
        InputError: a file is damaged.
    """
    found: list[Difference] = []
    for name in sorted(before.files.keys() | after.files.keys()):
        if name not in after.files:
            found.append(Difference(name, "was not made this time"))
        elif name not in before.files:
            found.append(Difference(name, "was not there before"))
        elif before.files[name] != after.files[name]:
            found += _compare_file(name, before.folder / name, after.folder / name)
    return found


def _compare_file(name: str, before: Path, after: Path) -> Iterator[Difference]:
    ways: dict[str, Callable[[Path, Path], tuple[str, float | None] | None]] = {
        ".safetensors": _tensors,
        ".parquet": _tables,
        ".json": _objects,
        ".jsonl": _logs,
    }
    if (found := ways.get(before.suffix, _texts)(before, after)) is not None:
        yield Difference(name, *found)


def _tensors(before: Path, after: Path) -> tuple[str, float | None]:
    old, new = (load_tensors(path, lambda _: None) for path in (before, after))
    if old.keys() != new.keys():
        return _joined([f"'{name}' is only in one" for name in sorted(old.keys() ^ new.keys())]), None
    said: list[tuple[float, str]] = []
    for name, tensor in old.items():
        other = new[name]
        if tensor.shape != other.shape or tensor.dtype != other.dtype:
            kinds = [f"{str(one.dtype).removeprefix('torch.')} {list(one.shape)}" for one in (tensor, other)]
            said.append((math.inf, f"'{name}' is {kinds[1]} instead of {kinds[0]}"))
        elif not torch.equal(tensor, other):
            apart = (tensor.double() - other.double()).abs()
            count, largest = int((apart > 0).sum()), float(apart.max())
            said.append((largest, f"'{name}' in {count:,} of {apart.numel():,} numbers, by up to {largest:.2g}"))
    return _ranked(said, f"of {len(old)} tensors")


def _tables(before: Path, after: Path) -> tuple[str, float | None]:
    names = [list(pl.read_parquet_schema(path)) for path in (before, after)]
    if names[0] != names[1]:
        return f"columns {', '.join(names[1])} instead of {', '.join(names[0])}", None
    old, new = (read_parquet(path, names[0]) for path in (before, after))
    if old.height != new.height:
        return f"{new.height:,} rows instead of {old.height:,}", None
    said: list[tuple[float, str]] = []
    for name in names[0]:
        if old[name].dtype != new[name].dtype:
            said.append((math.inf, f"'{name}' is {new[name].dtype} instead of {old[name].dtype}"))
        elif count := int(old[name].ne_missing(new[name]).sum()):
            largest, by = 0.0, ""
            if old[name].dtype.is_numeric():
                largest = float((old[name].cast(pl.Float64) - new[name].cast(pl.Float64)).abs().max())  # type: ignore[arg-type]
                by = f", by up to {largest:.2g}"
            said.append((largest, f"'{name}' in {count:,} of {old.height:,} rows{by}"))
    return _ranked(said, f"of {len(names[0])} columns")


def _ranked(said: list[tuple[float, str]], of: str) -> tuple[str, float | None]:
    """Return the largest of differences in words; where there are none, other bytes say the same."""
    if not said:
        return "holds the same in other bytes", 0.0
    said.sort(key=lambda one: -one[0])
    largest = said[0][0]
    return f"{len(said)} {of}: {_joined([text for _, text in said])}", largest if math.isfinite(largest) else None


def _objects(before: Path, after: Path) -> tuple[str, float | None] | None:
    # The version is compared apart: a later one that makes the same has reproduced the folder.
    apart = MARKER if before.name in (CONFIG_NAME, DATASET_NAME) else ""
    old, new = ({k: v for k, v in read_json(path).items() if k != apart} for path in (before, after))
    return _values(list(_differing("", old, new)))


def _logs(before: Path, after: Path) -> tuple[str, float | None] | None:
    old, new = ([of_json(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in (before, after))
    if len(old) != len(new):
        return f"{len(new)} lines instead of {len(old)}", None
    found = [
        one for line, (a, b) in enumerate(zip(old, new, strict=True), 1) for one in _differing(f"line {line}", a, b)
    ]
    return _values([one for one in found if not one[0].endswith(SECONDS)])


def _differing(where: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the place of each value that differs in two JSON values, and the two."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differing(f"{where}.{key}".lstrip("."), old.get(key, MISSING), new.get(key, MISSING))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differing(f"{where}[{place}]", a, b)
    elif old != new or type(old) is not type(new):
        yield where, old, new


def _values(found: list[tuple[str, Any, Any]]) -> tuple[str, float | None] | None:
    if not found:
        return None
    numbers = [abs(a - b) for _, a, b in found if _is_number(a) and _is_number(b)]
    said = [f"{where}: {_shown(new)} instead of {_shown(old)}" for where, old, new in found]
    return _joined(said), max(numbers, default=None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(before: Path, after: Path) -> tuple[str, float | None]:
    old, new = (path.read_text(encoding="utf-8", errors="replace").splitlines() for path in (before, after))
    for number, (a, b) in enumerate(zip(old, new, strict=False), 1):
        if a != b:
            return f"line {number}: {_shown(b)} instead of {_shown(a)}", None
    return f"{len(new)} lines instead of {len(old)}", None


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _joined(said: list[str]) -> str:
    more = [f"and {len(said) - NAMED} more"] if len(said) > NAMED else []
    return "; ".join([*said[:NAMED], *more])
