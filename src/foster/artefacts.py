"""Folders that FOSTER writes: ``config.json``, ``*.safetensors``, Parquet and a ``README.md`` card. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.exceptions import PolarsError

from foster.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_NAME = "config.json"
DATASET_NAME = "dataset.json"  # what a data set has instead
CARD_NAME = "README.md"
KEPT_STEP = "kept_step"  # field of a distilled folder: after which step the sequences were so; 0 at the start
METRICS_NAME = "metrics.jsonl"  # what a training or a distillation logged, beside its result


@contextmanager
def new_folder(out: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``out`` when the block ends without an error, and vanishes otherwise.

    Args:
        out: the folder to make; its parents are made too.
        overwrite: replace an artefact that is there; it stays as it is until the block has ended well.

    Raises:
        InputError: ``out`` exists and is not empty (with ``overwrite``: holds no artefact), or its place cannot be
            written to.
    """
    check_free(out, overwrite)
    out = Path(out).resolve()  # where a link leads to
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # A folder that exists may be a mount, which cannot be replaced: what is in it is.
        kept = out.is_dir()
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out if kept else out.parent))
    except OSError as error:
        raise InputError(f"{out}: cannot write there ({error.strerror}); give another --out") from error
    try:
        yield work
        if kept:
            for old in out.iterdir():
                if old != work:
                    shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
            for new in work.iterdir():
                new.replace(out / new.name)
        else:
            work.chmod(0o777 & ~_umask())  # mkdtemp makes it private
            work.replace(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_free(out: str | Path, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> None:
    """Raise InputError early where ``new_folder`` would: ask before the work, not after it.

    Args:
        out: the folder to make.
        overwrite: whether an artefact that is there is to be replaced; anything else that is there never is.
        inputs: what is read to make it, which would be lost.
    """
    out = Path(out)
    if out.is_file():
        raise InputError(f"{out}: is a file; give a folder to --out")
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise InputError(f"{out}: exists already; give another --out or add --overwrite")
        if not holds_artefact(out):
            raise InputError(f"{out}: holds other things than an artefact of foster; give another --out, or empty it")
    if any(given is not None and Path(given).resolve().is_relative_to(out.resolve()) for given in inputs):
        raise InputError(f"{out}: is read from, too; give another --out")
    place = out.resolve()
    if place.exists():
        # Nothing is tried inside: another process may be looking whether it is empty.
        if not os.access(place, os.W_OK | os.X_OK):
            raise InputError(f"{out}: cannot write there (no permission); give another --out")
        return
    try:
        tempfile.TemporaryFile(dir=next(parent for parent in place.parents if parent.exists())).close()
    except OSError as error:
        raise InputError(f"{out}: cannot write there ({error.strerror}); give another --out") from error


def holds_artefact(folder: Path) -> bool:
    """Whether foster made the folder, or somebody with the same names of files."""
    return any((folder / name).is_file() for name in (DATASET_NAME, CONFIG_NAME))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` as indented JSON with a final newline."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_metrics(folder: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write ``metrics.jsonl``, one record a line."""
    lines = "".join(f"{json.dumps(record)}\n" for record in records)
    (folder / METRICS_NAME).write_text(lines, encoding="utf-8")


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``.

    Raises:
        InputError: it is missing or damaged.
    """
    path = Path(folder) / METRICS_NAME
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); the folder is damaged, make it again") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        InputError: the file is missing, or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; is {path.parent} a folder that foster wrote?") from error
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); the folder is damaged, make it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object; the folder is damaged, make it again")
    return content


def read_parquet(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Read columns of a Parquet file that foster wrote.

    Raises:
        InputError: the file or a column is missing, or the file is damaged.
    """
    try:
        return pl.read_parquet(path, columns=list(columns), glob=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; the folder is incomplete, make or copy it again") from error
    except (PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not readable ({reason}); the folder is damaged, make or copy it again") from error


def read_config(folder: str | Path, kind: str | tuple[str, ...]) -> dict[str, Any]:
    """Read ``config.json`` of an artefact and check that it is of the wanted kind.

    Raises:
        InputError: not a folder, no config, or an artefact of another kind.
    """
    config = _statement(Path(folder))
    kinds = (kind,) if isinstance(kind, str) else kind
    found = config.get("kind", "unknown")
    if found not in kinds:
        raise InputError(f"{folder}: is of kind {found}, but a {' or '.join(kinds)} is needed")
    return config


def config_field(config: dict[str, Any], name: str, source: str) -> Any:
    """Return a field that every such config has.

    Raises:
        InputError: it is missing.
    """
    if name not in config:
        raise InputError(f"{source}: field '{name}' is missing; the folder is damaged, make or copy it again")
    return config[name]


def artefact_kind(folder: str | Path) -> str:
    """Return the ``kind`` of an artefact folder: dataset, teacher, distilled, coreset or model.

    Raises:
        InputError: not a folder that foster wrote.
    """
    return str(_statement(Path(folder)).get("kind", "unknown"))


def _statement(folder: Path) -> dict[str, Any]:
    """Return ``config.json`` or, of a data set, which has none, the kind alone."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if (folder / DATASET_NAME).is_file():
        return {"kind": "dataset"}
    return read_json(folder / CONFIG_NAME)


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, contiguous and on the CPU, in the order of their names."""
    from safetensors.torch import save_file

    save_file({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}, path)
    path.chmod(0o666 & ~_umask())  # safetensors makes it private; an artefact is meant to be handed on


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU.

    Raises:
        InputError: the file is missing or truncated.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"{path}: no such file; the folder is incomplete, make or copy it again")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: truncated or damaged ({error}); make or copy it again") from error


def folder_bytes(folder: str | Path, exclude: tuple[str, ...] = ()) -> int:
    """Return the size of the files under ``folder`` in bytes, without the files named in ``exclude``."""
    return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file() and p.name not in exclude)


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
