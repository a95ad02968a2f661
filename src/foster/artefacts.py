"""Folders that FOSTER writes: ``config.json``, ``*.safetensors``, Parquet and a ``README.md`` card. No pickle."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import polars as pl
from polars.exceptions import PanicException, PolarsError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foster.errors import InputError, KeptElsewhereError
from foster.exchange import KEPT_NAME, MARK, clear_leftovers, place_locked, replace, settle, work_folder
from foster.json_text import is_unicode, json_sha256, of_json, to_json
from foster.manifest import MANIFEST_NAME, read_manifest, read_whole, seal, verify
from foster.options import in_our_words
from foster.panics import hushed
from foster.storage import FULL, write_tensors
from foster.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_NAME = "config.json"
DATASET_NAME = "dataset.json"  # what a data set has instead
CARD_NAME = "README.md"
KEPT_STEP = "kept_step"  # field of a distilled folder: after which step the sequences were so; 0 at the start
METRICS_NAME = "metrics.jsonl"  # what a training or a distillation logged, beside its result
MARKER = "foster"  # field of the JSON file of every folder: the version of foster that wrote it
PART = 2**20  # numbers of a tensor that are looked at together

STUDY = "study"  # the kind of a folder that grows
RETRAINED_NAME = "retrained"  # the folder of a study in which others are made
TRAJECTORY_NAME = "trajectory"  # folder of a teacher's checkpoints, which are verified when they are read

_CATALOGUE = ("catalogue.parquet", "popularity.parquet")
_SEQUENCES = (CONFIG_NAME, CARD_NAME, MANIFEST_NAME, METRICS_NAME, "sequences.safetensors", *_CATALOGUE)
_MODEL = (CONFIG_NAME, CARD_NAME, MANIFEST_NAME, "model.safetensors", "items.safetensors", *_CATALOGUE)
_RESULTS = (CONFIG_NAME, CARD_NAME, MANIFEST_NAME, "trials.csv", "results.json", "results.png", "best.yaml")
_STUDY = (
    *(*_RESULTS, *(f".{name}.*.tmp" for name in _RESULTS), "study.db", "study.db-*"),
    *(".study.db.*.tmp*", "locks", "locks/*.lock"),
    *(RETRAINED_NAME, f"{RETRAINED_NAME}/trial-*", f"{RETRAINED_NAME}/.trial-*"),
    *("trial-*.part", "trial-*.part/*"),
)
FILES: dict[str, tuple[str, ...]] = {
    "dataset": (DATASET_NAME, CARD_NAME, "interactions.parquet", "items.parquet", MANIFEST_NAME),
    "distilled": _SEQUENCES,
    "coreset": _SEQUENCES,
    "model": _MODEL,
    "teacher": (*_MODEL, METRICS_NAME, TRAJECTORY_NAME, f"{TRAJECTORY_NAME}/step_*.safetensors"),
    STUDY: _STUDY,
    "audit": (CONFIG_NAME, "results.json", CARD_NAME, MANIFEST_NAME),
    "onnx": (CONFIG_NAME, CARD_NAME, MANIFEST_NAME, "items.onnx", "sequence.onnx", "items.npy", "items.jsonl"),
    "handed-on": (CONFIG_NAME, CARD_NAME, MANIFEST_NAME, "sequences.jsonl", "prompts.jsonl", "data", "data/*.parquet"),
}
"""What foster writes into a folder of each kind; of a folder that holds anything else, nothing is ever replaced."""

_KIND_WORDS = {
    "dataset": "a data set", "distilled": "distilled sequences", "coreset": "a coreset", "model": "a model",
    "teacher": "a teacher", STUDY: "a study", "audit": "an audit", "bench": "a benchmark",
    "onnx": "an ONNX model", "handed-on": "exported sequences",
}  # fmt: skip

# Fields of the JSON file of a folder that say how it was made.
_OPTIONS = (
    "method", "encoder", "model", "training", "recipe", "k_core", "split", "targets", "template", "popularity",
)  # fmt: skip

# What foster alone writes into a file of this name; before there was a marker, data sets had nothing else.
_DATASET_FIELDS = {"users", "items", "interactions", "k_core", "text_fields", "template", "sources", "dropped"}

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Number type, in the terms of safetensors, and shape of each tensor of a file."""

Fingerprint = Annotated[str, Field(pattern="^([0-9a-f]{64}|not stated)$")]
Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Stored(BaseModel):
    """Fields of the JSON file of a folder: each has a type and a range, and there are no others."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @classmethod
    def of(cls, content: Mapping[str, Any], where: str | Path) -> Self:
        """Check the content of a file.

        Raises:
            InputError: a field is missing or unknown, or has a wrong value.
        """
        try:
            return cls.model_validate_json(_json(Path(where), content))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            what = {"missing": "is missing", "extra_forbidden": "is unknown"}.get(first["type"])
            what = what or f"is wrong ({in_our_words(first['msg'])})"
            raise InputError(f"{where}: field '{field}' {what}; make or copy the folder again") from error


Content = tuple[tuple[str | int, ...], ...]
"""Path, size and time of everything in a folder; empty where there is no folder, or nothing in it."""


@dataclass(frozen=True)
class Place:
    """Where a folder is to be made, as ``check_free`` found it.

    Attributes:
        given: how the user named it.
        out: where that leads to.
        content: what was there.
        inputs: of the folders that are read to make it, what ``stated_input`` says.
    """

    given: Path
    out: Path
    content: Content
    inputs: tuple[dict[str, str], ...] = ()

    @contextmanager
    def fill(self, about: Mapping[str, Any] | None = None) -> Iterator[Path]:
        """Yield a temporary folder that takes the place when the block ends without an error, and vanishes otherwise.

        Args:
            about: what the manifest is to say of the making, beside what the folder's own files say.

        Raises:
            InputError: by the end something else is there than ``check_free`` found, or what is there cannot be
                replaced. What was made may have taken hours: it is kept, and the message says where.
        """
        made = [parent for parent in self.out.parents if not parent.exists()]
        try:
            with self._work() as work:
                try:
                    yield work
                    work.chmod(0o777 & ~_umask())  # it was made private
                    if not (work / MANIFEST_NAME).exists():  # a study has one already
                        inputs = {"inputs": list(self.inputs)} if self.inputs else {}
                        seal(work, {**_about(work), **inputs, **(about or {})})
                    self._take(work)
                finally:
                    # What had to be kept has another name by now, or says so.
                    if not (work / KEPT_NAME).exists():
                        shutil.rmtree(work, ignore_errors=True)
        except BaseException:
            for parent in made:
                with contextlib.suppress(OSError):
                    parent.rmdir()
            raise

    @contextmanager
    def _work(self) -> Iterator[Path]:
        """Yield a locked folder to work in: on the file system of the place, if anything can be written there."""
        out, places = self.out, contextlib.ExitStack()
        with places:
            for inside in (os.path.ismount(out), True):
                try:
                    out.parent.mkdir(parents=True, exist_ok=True)
                    work = places.enter_context(work_folder(out, inside))
                    break
                except OSError:
                    continue
            else:
                work = Path(tempfile.mkdtemp(prefix="foster-"))
            yield work

    def _take(self, work: Path) -> None:
        """Let a complete folder take the place.

        Raises:
            KeptElsewhereError: it cannot.
        """
        try:
            with place_locked(self.out):
                if _content(self.out) != self.content:
                    raise OSError(None, "something else is there by now")
                replace(self.out, work)
        except OSError as error:
            place = _put_beside(self.out, work)
            raise KeptElsewhereError(
                f"{self.given}: cannot be made there ({error.strerror}); what was made is kept in {place}"
            ) from error


def new_folder(
    out: str | Path, overwrite: bool = False, about: Mapping[str, Any] | None = None
) -> contextlib.AbstractContextManager[Path]:
    """Yield a temporary folder that becomes ``out`` when the block ends without an error, and vanishes otherwise.

    Args:
        out: the folder to make; its parents are made too.
        overwrite: replace an artefact that is there; it stays as it is until the block has ended well.
        about: what the manifest is to say of the making, beside what the folder's own files say.

    Raises:
        InputError: as ``check_free`` and ``Place.fill``.
    """
    return check_free(out, overwrite).fill(about)


def check_free(out: str | Path, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> Place:
    """See to it that a folder can be made: ask before the work, not after it.

    Args:
        out: the folder to make.
        overwrite: whether an artefact that is there is to be replaced; anything else that is there never is.
        inputs: what is read to make it, which would be lost; the manifest will say what it was.

    Returns:
        The place, to be filled when the work is done.

    Raises:
        InputError: ``out`` exists and is not empty (with ``overwrite``: it is no folder that foster wrote, or holds
            something else beside), is read from, lies in a folder of foster's, its place cannot be written to, or
            another process is writing it.
    """
    out = Path(out)
    try:
        place = out.resolve()
        with contextlib.suppress(FileNotFoundError):
            place.lstat()  # which tells a name that is too long; is_file and exists do not any more, from Python 3.14
        if place.is_file():
            raise InputError(f"{out}: is a file; give a folder to --out")
        if (writing := clear_leftovers(place)) is not None:
            raise InputError(f"{out}: {writing} is writing it; wait for its end, or give another --out")
        settle(place)
        if place.is_dir() and any(not path.name.startswith(MARK) for path in place.iterdir()):
            if not overwrite:
                raise InputError(f"{out}: exists already; give another --out or add --overwrite")
            if foreign := foreign_file(place):
                raise InputError(f"{out}: holds {foreign}, which foster did not write; give another --out, or move it")
        if any(given is not None and Path(given).resolve().is_relative_to(place) for given in inputs):
            raise InputError(f"{out}: is read from, too; give another --out")
        check_outside(place, f"{out}")
        if place.exists():
            # Nothing is tried inside: another process may be looking whether it is empty.
            if not os.access(place, os.W_OK | os.X_OK):
                raise InputError(f"{out}: cannot write there (no permission); give another --out")
        else:
            tempfile.TemporaryFile(dir=next(parent for parent in place.parents if parent.exists())).close()
        stated = (stated_input(given) for given in inputs if given is not None)
        return Place(out, place, _content(place), tuple(one for one in stated if one is not None))
    except OSError as error:
        raise cannot_write(out, error) from error


def cannot_write(out: Path, error: OSError) -> InputError:
    """Return the error of a folder that cannot be made, or written to."""
    fix = "make room, or give another --out" if error.errno in FULL else "give another --out"
    return InputError(f"{out}: cannot write there ({error.strerror}); {fix}")


def check_outside(place: Path, named: str) -> None:
    """See to it that nothing comes into a folder whose manifest lists all that is there.

    Args:
        place: the file or folder to make, an absolute path.
        named: what it is called in the error.

    Raises:
        InputError: it lies in a folder that foster made.
    """
    for folder in place.parents:
        if not (folder / MANIFEST_NAME).is_file() or (kind := own_kind(folder)) is None:
            continue
        if kind != STUDY or place.relative_to(folder).parts[0] != RETRAINED_NAME:
            raise InputError(
                f"{named}: lies in {folder}, which foster made and could not be read any more; go elsewhere"
            )


def stated_input(folder: str | Path) -> dict[str, str] | None:
    """Return what a manifest says of a folder that another is made from: its kind, and a hash of what its files hold.

    A log of how long its making took does not count. None of what has no manifest, or a damaged one: to read it tells.
    """
    try:
        manifest = read_manifest(Path(folder))
    except InputError:
        return None
    hashes = sorted([name, sha256] for name, (_, sha256) in manifest.files.items() if name != METRICS_NAME)
    content = json_sha256(hashes)
    return {"kind": str(manifest.about.get("kind")), "sha256": content}


def foreign_file(folder: Path) -> str | None:
    """Return what is in a folder and not foster's, by its path there; None where foster wrote all that there is.

    A folder is foster's by what its JSON file says, its kind and the version that wrote it, not by the name of that
    file. Links are never foster's.
    """
    if (kind := own_kind(folder)) is None:
        top = sorted(path.name for path in folder.iterdir() if not path.name.startswith(MARK))
        return next((name for name in (DATASET_NAME, CONFIG_NAME, *top) if name in top), None)
    for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")):
        if name.startswith(MARK):  # of another run, which is at work or was killed
            continue
        if (folder / name).is_symlink() or not any(fnmatchcase(name, pattern) for pattern in FILES[kind]):
            return name
    return None


def own_kind(folder: Path) -> str | None:
    """Return the kind of a folder that foster wrote, None of any other."""
    name = DATASET_NAME if (folder / DATASET_NAME).is_file() else CONFIG_NAME
    try:
        content = read_json(folder / name)
    except InputError:
        return None
    if isinstance(content.get(MARKER), str):
        kind = content.get("kind")
        known = isinstance(kind, str) and kind in FILES and (kind == "dataset") == (name == DATASET_NAME)
        return kind if known else None
    fingerprint = content.get("fingerprint")
    of_old = isinstance(fingerprint, str) and re.fullmatch("[0-9a-f]{64}", fingerprint)
    return "dataset" if name == DATASET_NAME and of_old and content.keys() >= _DATASET_FIELDS else None


def _content(folder: Path) -> Content:
    """Return what is in a folder, so that a change is seen later: temporary folders apart, and lock files.

    These hold nothing, and who looks whether one is held makes it anew.
    """
    if not folder.is_dir():
        return (("no folder",),) if os.path.lexists(folder) else ()
    found: list[tuple[str | int, ...]] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix != ".lock" and not path.relative_to(folder).parts[0].startswith(MARK):
            state = path.lstat()
            # The time of a folder changes with what is in it.
            found.append((str(path), *(() if stat.S_ISDIR(state.st_mode) else (state.st_size, state.st_mtime_ns))))
    return tuple(found)


def _put_beside(out: Path, work: Path) -> Path:
    """Give a folder a free name beside ``out``, or leave it where it is, and return its place."""
    for number in itertools.count(2):
        place = out.with_name(f"{out.name}-{number}")
        if os.path.lexists(place):
            continue
        try:
            work.rename(place)
        except OSError:
            if os.path.lexists(place):  # another run was faster
                continue
            with contextlib.suppress(OSError):
                (work / KEPT_NAME).touch()  # its name is that of a leftover
            return work
        return place
    raise AssertionError("numbers do not end")


def _about(folder: Path) -> dict[str, Any]:
    """Return what a manifest says of a folder beside its files: what it is and, where it says so, how it was made."""
    name = next((name for name in (DATASET_NAME, CONFIG_NAME) if (folder / name).is_file()), None)
    if name is None:
        return {}
    content = read_json(folder / name)
    info = content.get("info", {})
    options = {name: content[name] for name in _OPTIONS if name in content}
    found = {
        "kind": content.get("kind"),
        "data_fingerprint": content.get("fingerprint", content.get("data_fingerprint", info.get("data_fingerprint"))),
        "seed": content.get("seed", info.get("seed")),
        "device": content.get("device", info.get("device")),
        "options": options | info.get("options", {}) or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def marked(kind: str) -> dict[str, str]:
    """Return the fields by which foster knows a folder as its own, for the JSON file in it."""
    return {"kind": kind, MARKER: __version__}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` as indented JSON with a final newline.

    Raises:
        InputError: a number is not finite, which JSON cannot say.
    """
    path.write_text(_json(path, content, indent=2) + "\n", encoding="utf-8")


def write_metrics(folder: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write ``metrics.jsonl``, one record a line.

    Raises:
        InputError: a number is not finite.
    """
    path = folder / METRICS_NAME
    path.write_text("".join(f"{_json(path, record)}\n" for record in records), encoding="utf-8")


def _json(path: Path, content: Mapping[str, Any], indent: int | None = None) -> str:
    try:
        text = to_json(content, indent)
    except ValueError as error:
        raise InputError(f"{path.name}: a number in it is not finite ({error}); nothing was saved") from error
    if not is_unicode(text):
        raise InputError(f"{path.name}: a name or a text in it holds bytes that are no UTF-8; nothing was saved")
    return text


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``.

    Raises:
        InputError: it is missing or damaged.
    """
    path = Path(folder) / METRICS_NAME
    try:
        return [of_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); the folder is damaged, make it again") from error


def read_json(path: Path, strict: bool = True) -> dict[str, Any]:
    """Read one JSON object.

    Args:
        path: the file.
        strict: take JSON only, and not what Python takes for it, such as NaN and keys that stand twice.

    Raises:
        InputError: the file is missing, or is not a JSON object.
    """
    try:
        content = (of_json if strict else json.loads)(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; is {path.parent} a folder that foster wrote?") from error
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); the folder is damaged, make it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object; the folder is damaged, make it again")
    return content


def read_parquet(path: Path, columns: Sequence[str], once: Sequence[str] = ()) -> pl.DataFrame:
    """Read columns of a Parquet file that foster wrote.

    Args:
        path: the file.
        columns: to read.
        once: those of strings that recur: they become categories on the way, so that each string is held once.

    Raises:
        InputError: the file or a column is missing, or the file is damaged.
    """
    try:
        rows = pl.scan_parquet(path, glob=False).select(columns)
        recurring = [name for name, dtype in rows.collect_schema().items() if name in once and dtype == pl.String]
        with hushed():
            return rows.with_columns(pl.col(recurring).cast(pl.Categorical)).collect(engine="streaming")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; the folder is incomplete, make or copy it again") from error
    except (PolarsError, OSError, PanicException) as error:  # a panic of polars is no Exception
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not readable ({reason}); the folder is damaged, make or copy it again") from error


def kind_words(kind: Any) -> str:
    """Return what a folder holds that states this kind, which may be anything, as in "holds a model"."""
    known = _KIND_WORDS.get(kind) if isinstance(kind, str) else None
    return known or f"something of kind {kind}"


def read_config(folder: str | Path, kind: str | tuple[str, ...]) -> dict[str, Any]:
    """Read ``config.json`` of an artefact and check that it is of the wanted kind.

    Raises:
        InputError: not a folder, no config, or an artefact of another kind.
    """
    config = _statement(Path(folder))
    kinds = (kind,) if isinstance(kind, str) else kind
    found = config.get("kind", "unknown")
    if found not in kinds:
        raise InputError(f"{folder}: holds {kind_words(found)}; give {' or '.join(map(kind_words, kinds))}")
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
    """Return the ``kind`` of an artefact folder, one of ``FILES``.

    Raises:
        InputError: not a folder that foster wrote.
    """
    return str(_statement(Path(folder)).get("kind", "unknown"))


def _statement(folder: Path) -> dict[str, Any]:
    """Return ``config.json`` or, of a data set, which has none, the kind alone."""
    return read_whole(folder, lambda: _read_statement(folder))


def _read_statement(folder: Path) -> dict[str, Any]:
    # A study grows: who reads its tables looks at them then.
    if (folder / CONFIG_NAME).is_file() and own_kind(folder) == STUDY:
        read_manifest(folder).check(CONFIG_NAME)
        return read_json(folder / CONFIG_NAME)
    verify(folder, later=TRAJECTORY_NAME)
    if (folder / DATASET_NAME).is_file():
        return {"kind": "dataset"}
    return read_json(folder / CONFIG_NAME)


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, contiguous and on the CPU, in the order of their names.

    Raises:
        InputError: a tensor has numbers that are not finite.
    """
    if name := not_finite(tensors):
        raise InputError(f"{path.name}: {name} has numbers that are not finite; nothing was saved: lower --lr")
    write_tensors(path, {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)})
    path.chmod(0o666 & ~_umask())  # safetensors makes it private; an artefact is meant to be handed on


def load_tensors(path: Path, wrong: Callable[[Shapes], str | None]) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU.

    Args:
        path: the file.
        wrong: says what is wrong with its tensors, before any of them is read; or None.

    Raises:
        InputError: the file is missing or truncated, has other tensors, or has numbers that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if reason := wrong(tensor_shapes(path)):
        raise InputError(f"{path}: {reason}; the folder is damaged or of another version, make it again")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, RuntimeError) as error:  # the last one: a file that has gone just now
        raise InputError(f"{path}: truncated or damaged ({error}); make or copy it again") from error
    if name := not_finite(tensors):
        raise InputError(f"{path}: {name} has numbers that are not finite; make it again, with a lower --lr")
    return tensors


def tensor_shapes(path: Path) -> Shapes:
    """Read what a safetensors file says of its tensors, and none of them.

    Raises:
        InputError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path}: no such file; the folder is incomplete, make or copy it again")
    try:
        with safe_open(path, "pt") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}
    except (SafetensorError, OSError, RuntimeError) as error:  # the last one: a file that has gone just now
        raise InputError(f"{path}: truncated or damaged ({error}); make or copy it again") from error


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of a tensor that has infinite numbers or NaN, or None."""
    # Part after part: torch makes several copies of what it looks at.
    parts = ((name, part) for name, tensor in tensors.items() for part in tensor.reshape(-1).split(PART))
    return next((name for name, part in parts if not part.isfinite().all()), None)


def folder_bytes(folder: str | Path, exclude: tuple[str, ...] = ()) -> int:
    """Return the size of the files under ``folder`` in bytes, without its manifest and those named in ``exclude``."""
    apart = {MANIFEST_NAME, *exclude}
    return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file() and p.name not in apart)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
