"""The folder of a study: what it is a study of, and which processes are at work on it."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from foster.artefacts import (
    CONFIG_NAME,
    MARKER,
    RETRAINED_NAME,
    STUDY,
    Place,
    cannot_write,
    check_free,
    marked,
    read_json,
    write_json,
)
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.errors import InputError
from foster.exchange import clear_leftovers
from foster.manifest import MANIFEST_NAME, read_manifest, whole_files

DATABASE = "study.db"
LOCKS = "locks"
FIRST_FILES = re.compile(rf"\.({CONFIG_NAME}|{MANIFEST_NAME})\.\w+\.tmp")  # what of a new study is there first
LOOKS = 2.0  # seconds after which a lock is not held by somebody who looks whether it is held
MEANT = {
    "source": "other data to train on",
    "validation": "other validation data",
    "finish": "trials that go on with the log, or do not (--finish)",
    "share": "trials that go on with the log for another part of its steps, as by an earlier version",
    "seed": "another seed",
    "space": "another space",
    "encoder": "another encoder",
    "model": "other options of the model",
    "train": "another recipe",
}
"""What a study is of, by the fields of its ``config.json``; what others follow from is told first."""


def place_of(out: str | Path, overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> Place | None:
    """See to it that a study can be made in a folder, or goes on there: ask before the work.

    Args:
        out: the folder.
        overwrite: whether a new study takes the place of what foster wrote there.
        inputs: what is read.

    Returns:
        The place of a new study, None where one is there that goes on.

    Raises:
        InputError: something else is there; with ``overwrite`` also a study at which another process is at work.
    """
    out = Path(out)
    if overwrite:
        # Processes that are started together look at the same time, and who looks holds the lock for a moment.
        if any(not is_dead(out, path.stem, LOOKS) for path in (out / LOCKS).glob("*.lock")):
            raise InputError(f"{out}: another process is at work on this study; stop it first, or give another --out")
    elif is_study(out) or (
        out.is_dir() and {p.name for p in out.iterdir() if not FIRST_FILES.fullmatch(p.name)} == {LOCKS}
    ):
        clear_leftovers(out.resolve())  # of a run that was killed when it had just taken the place of another folder
        return None  # the latter: another process is just making one, or was killed at that
    if not (out / CONFIG_NAME).exists() and (out / DATABASE).exists():
        raise InputError(f"{out / CONFIG_NAME}: is missing; copy the study again, or remove what is left of it")
    return check_free(out, overwrite, inputs)


def is_study(folder: Path) -> bool:
    """Whether a folder holds a study."""
    return (folder / CONFIG_NAME).is_file() and read_json(folder / CONFIG_NAME).get("kind") == STUDY


def about(config: Mapping[str, Any], trials: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what the manifest of a study says beside its files.

    Args:
        config: what the study is of.
        trials: the SHA-256 of each that has ended, see ``foster.tuning.seals``.
    """
    options = {name: config[name] for name in ("encoder", "model", "train", "space", "finish")}
    fingerprint = config["validation"]["fingerprint"]
    found = {"kind": STUDY, "data_fingerprint": fingerprint, "seed": config["seed"], "options": options}
    return {**found, "trials": dict(trials or {})}


def claim(out: Path, meant: Mapping[str, Any]) -> str | None:
    """Mark a folder as a study of something, or see that it is the one that is there.

    Returns:
        The version of foster that began it, where that is another one.

    Raises:
        InputError: it is a study of something else, damaged, or cannot be written to.
    """
    path = out / CONFIG_NAME
    try:
        (out / LOCKS).mkdir(parents=True, exist_ok=True)
        with study_lock(out):
            for left in out.glob(".*.tmp*"):  # who writes results, or makes the database, has the lock
                left.unlink()
            if not path.exists():
                with whole_files(out, about(meant)) as place:
                    write_json(place(CONFIG_NAME), {**marked(STUDY), **meant})
            elif not any((out / name).exists() for name in (MANIFEST_NAME, DATABASE)):  # killed between these two
                with whole_files(out, about(meant), also=[CONFIG_NAME]):
                    pass
    except OSError as error:
        raise cannot_write(out, error) from error
    if not (out / MANIFEST_NAME).exists():
        raise InputError(f"{out / MANIFEST_NAME}: is missing; copy the study again, or begin anew with --overwrite")
    read_manifest(out).check(CONFIG_NAME)
    found = read_json(path)
    for name, what in MEANT.items():
        if (there := found.get(name)) != meant[name]:
            raise InputError(
                f"{out}: is a study of {what}{_difference(there, meant[name])}; give the same, another --out, or "
                "--overwrite to begin anew"
            )
    return None if (version := str(found.get(MARKER))) == marked(STUDY)[MARKER] else version


def _difference(there: Any, given: Any) -> str:
    """Say where two groups of options differ."""
    if not isinstance(there, dict) or not isinstance(given, Mapping):
        return ""
    name = next((name for name in {**there, **given} if there.get(name) != given.get(name)), None)
    if name is None or name in ("digest", "fingerprint"):
        return ""
    return f" ('{name}': {there.get(name, 'not there')}, now {given.get(name, 'not there')})"


def retrained_folder(out: Path, trial: int) -> Path:
    """Return where the model of a trial's options, trained on the full log, is kept."""
    return out / RETRAINED_NAME / f"trial-{trial}"


def study_lock(out: Path) -> FileLock:
    """Return the lock of the whole study: what one process does with it, no other does."""
    return FileLock(out / LOCKS / "study.lock")


def retraining_lock(out: Path, trial: int) -> FileLock:
    """Return the lock of a trial's training on the full log."""
    return FileLock(_lock_file(out, f"retrained-{trial}"))


class Worker:
    """This process, as others see it: at work as long as it holds a lock, which the system takes from a dead one.

    Args:
        out: the study.
    """

    def __init__(self, out: Path) -> None:
        self.name: str = f"worker-{uuid.uuid4().hex[:12]}"
        self._lock = FileLock(_lock_file(out, self.name))
        self._lock.acquire()

    def close(self) -> None:
        """Leave the study."""
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)


def is_dead(out: Path, worker: str, seconds: float = 0.0) -> bool:
    """Whether a worker is not at work any more.

    Args:
        out: the study.
        worker: its name.
        seconds: for how long it has to hold its lock to be alive.
    """
    path = _lock_file(out, worker)
    if not path.exists():
        return True
    try:
        with FileLock(path).acquire(timeout=seconds, poll_interval=0.01):
            return True
    except Timeout:
        return False


def _lock_file(out: Path, name: str) -> Path:
    return out / LOCKS / f"{name}.lock"


def described(source: Dataset | Condensed) -> dict[str, Any]:
    """Return by what a study knows its data."""
    if isinstance(source, Dataset):
        return {"kind": "dataset", "fingerprint": source.info.fingerprint}
    digest = hashlib.sha256()
    for field in fields(source):
        value = getattr(source, field.name)
        if field.name == "catalogue":
            value = (source.catalogue.ids, source.catalogue.texts, source.catalogue.popularity, source.catalogue.known)
        if field.name not in ("info", "encoder"):
            _add(digest, field.name, value)
    return {"kind": source.kind, "digest": digest.hexdigest()}


def _add(digest: Any, name: str, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value):
            _add(digest, f"{name}.{key}", value[key])
    elif isinstance(value, Tensor):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    else:
        digest.update(f"{name} {value!r}".encode())
