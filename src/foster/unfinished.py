"""What a long run keeps beside its result to come, so that the same command goes on where it was cut off.

A result that is to be ``OUT`` has ``OUT.part`` until it is there (``OUT/.foster-part`` where nothing can be put beside
it): ``state.json``, which says of which command it is, and safetensors files that it names with their SHA-256. Each
save writes new files, then puts another ``state.json`` in place, then removes the files of before: a kill at any
moment leaves one state, and whole.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foster.artefacts import MARKER, TRAJECTORY_NAME, Place, marked
from foster.engine import Engine
from foster.errors import Diverged, InputError, KeptElsewhereError
from foster.exchange import MARK, Holder, locked
from foster.json_text import of_json, to_json, with_sha256, without_sha256
from foster.manifest import HOLDER_NAME
from foster.storage import file_sha256, whole_file, write_tensors

STATE_NAME = "state.json"
INSIDE_NAME = f"{MARK}part"
KIND = "unfinished"
# The last is of safetensors, which writes a file beside and then puts it in place; a kill in between leaves it.
OWN = re.compile(
    rf"{STATE_NAME}|{HOLDER_NAME}|{TRAJECTORY_NAME}|[a-z]+-\d+\.safetensors|\.{STATE_NAME}\.\w+\.tmp|\.tmp\w{{6}}"
)
SHOWN = 66  # characters of an option that are shown: a SHA-256 is, as a whole

State = Any
"""Tensors, arrays, numbers, texts and None, in mappings and lists of these."""


class Unfinished:
    """The state of a run, by name of its parts.

    Attributes:
        folder: where it is kept; None where nothing can be.
    """

    def __init__(self, folder: Path | None, command: Mapping[str, Any], say: Callable[[str], None]) -> None:
        self.folder: Path | None = folder
        self._command = command
        self._say = say
        self._at = ""
        self._loaded: dict[str, State] = {}
        self._entries: dict[str, Any] = {}
        self._count = 0
        self.writes: bool = folder is not None

    def take(self, name: str) -> State | None:
        """Return, once, the part of the state with which the run goes on, or None where it has to begin."""
        return self._loaded.pop(name, None)

    def save(self, at: str, **parts: State | None) -> None:
        """Save parts of the state, all of them or none; others stay as they were saved, and None removes one.

        Where that fails, for want of room say, the run goes on without.

        Args:
            at: how far the run is, for people.
            parts: the parts.
        """
        if not self.writes or self.folder is None:
            return
        entries, before = dict(self._entries), self._files()
        try:
            for name, part in parts.items():
                if part is None:
                    entries.pop(name, None)
                else:
                    entries[name] = self._written(name, part)
            self._put(at, entries)
        except OSError as error:
            self._say(
                f"warning: {self.folder}: cannot write there ({error.strerror}); a run that is cut off loses more"
            )
            before = {entry["file"] for entry in entries.values()} - before
            self.writes = False
        for name in before - self._files():
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()

    @property
    def saved(self) -> str | None:
        """How far the state that is saved is, or None if there is none."""
        return self._at if self._entries else None

    def _files(self) -> set[str]:
        return {entry["file"] for entry in self._entries.values()}

    def _put(self, at: str, entries: dict[str, Any], failed: str | None = None) -> None:
        assert self.folder is not None
        content = {**marked(KIND), "command": self._command, "at": at, "failed": failed, "parts": entries}
        with whole_file(self.folder / STATE_NAME) as path:
            path.write_text(to_json(with_sha256(content), indent=1) + "\n", encoding="utf-8")
        self._at, self._entries = at, entries

    def _written(self, name: str, part: State) -> dict[str, Any]:
        assert self.folder is not None
        tensors: dict[str, Tensor] = {}
        content = _flattened(part, tensors)
        self._count += 1
        path = self.folder / f"{name}-{self._count}.safetensors"
        write_tensors(path, tensors)
        return {"file": path.name, "sha256": file_sha256(path), "content": content}

    def _read(self) -> tuple[Mapping[str, Any], str | None] | None:
        """Read the state; return the command that it is of and why that failed, if it did, or None if there is none.

        Raises:
            OSError: it is damaged.
            ValueError: likewise.
        """
        from safetensors.torch import load_file

        assert self.folder is not None
        path = self.folder / STATE_NAME
        if not path.is_file():
            return None
        read = of_json(path.read_text(encoding="utf-8"))
        try:
            if (content := without_sha256(read)) is None:
                raise ValueError(f"{STATE_NAME} was changed, or an earlier version wrote it")
            if content["kind"] != KIND:
                raise ValueError("it is of another kind")
            for name, entry in content["parts"].items():
                file = self.folder / entry["file"]
                if not OWN.fullmatch(entry["file"]) or file_sha256(file) != entry["sha256"]:
                    raise ValueError(f"the SHA-256 of {entry['file']} differs")
                self._loaded[name] = _nested(entry["content"], load_file(file))
            self._entries, self._at = content["parts"], content["at"]
            self._count = max(
                (int(entry["file"].split("-")[1].split(".")[0]) for entry in self._entries.values()), default=0
            )
            return content["command"], content["failed"]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{STATE_NAME} has other fields") from error

    def _forget(self) -> None:
        """Begin anew."""
        self._loaded, self._entries, self._at = {}, {}, ""
        if self.folder is not None and self.writes:
            _clear(self.folder)


@contextmanager
def unfinished(
    place: Place,
    command: Mapping[str, Any],
    engine: Engine,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
) -> Iterator[Unfinished]:
    """Yield the state with which a run goes on, or none; keep it if the block is left by an error, else remove it.

    The first process writes, and all of them read.

    Args:
        place: where the result is to be.
        command: all that the result depends on, in nested mappings: another one has another result.
        engine: device and processes.
        overwrite: begin anew where another command left a state, which is an error otherwise.
        say: called with a line where a run goes on, begins anew, or leaves a state.

    Raises:
        InputError: the state is of another command, another process is at work on it, or the folder holds something
            else. Of a run that diverged, the error says what is kept.
    """
    say = say or (lambda line: None)
    folder = _folder_of(place)
    command = {**command, "foster": marked(KIND)[MARKER], "torch": version("torch"), **engine.about}
    made = [parent for parent in folder.parents if not parent.exists()]
    with ExitStack() as locks:
        if engine.is_main:
            _check_own(folder)
            can = _hold(folder, locks)
            state = Unfinished(folder if can else None, command, say)
            if can:
                _begin(state, command, overwrite, say)
            else:
                say(f"warning: {folder}: cannot be made; a run that is cut off will have to begin anew")
        engine.wait()
        if not engine.is_main:
            state = Unfinished(folder if folder.is_dir() else None, command, say)
            state.writes = False
            if state.folder is not None:
                state._read()
        engine.wait()  # until all have read it, nothing is changed
        done = False
        try:
            yield state
            done = True
        except KeptElsewhereError:
            done = True
            raise
        except Diverged as error:
            if state.saved is None or not state.writes:
                raise
            state._put(state._at, state._entries, failed=str(error))
            raise Diverged(f"{error}. The last good state, of {state.saved}, is kept in {folder}") from error
        except (KeyboardInterrupt, SystemExit):
            if state.saved is not None and engine.is_main:
                say(f"{folder}: keeps the state of {state.saved}; the same command goes on from there")
            elif engine.is_main and not (folder / STATE_NAME).exists():
                say(f"{place.given}: no state was kept so far; the same command begins anew")
            raise
        finally:
            # The file tells, not ``saved``: a signal may have come between the writing of a state and the note of it.
            if engine.is_main and state.folder is not None and (done or not (folder / STATE_NAME).exists()):
                with contextlib.suppress(OSError):
                    _clear(folder)
                shutil.rmtree(folder, ignore_errors=True)
                for parent in made if not done else ():
                    with contextlib.suppress(OSError):
                        parent.rmdir()


def _begin(state: Unfinished, command: Mapping[str, Any], overwrite: bool, say: Callable[[str], None]) -> None:
    """Read the state if it is of this command, else clear the folder.

    Raises:
        InputError: it is of another command, which did not fail and is not to be overwritten.
    """
    folder = state.folder
    assert folder is not None
    try:
        found = state._read()
    except (OSError, ValueError, RuntimeError) as error:
        say(f"{folder}: is damaged ({str(error).splitlines()[0]}); the run begins anew")
        found = None
    else:
        if found is not None:
            other, failed = found
            if (difference := _difference(other, state._command)) is None:
                say(f"{folder}: goes on after {state.saved}, where a run of this command was cut off")
                _clear(folder, {STATE_NAME, TRAJECTORY_NAME, *state._files()})
                return
            if failed is None and not overwrite:
                name, old, new = difference
                name = "options given:" if name == "given" else name
                how = f" (OMP_NUM_THREADS={old})" if name == "threads" else ""
                raise InputError(
                    f"{folder}: is of an unfinished run with {name} {old}, and this one has {new}; give the same{how} "
                    "to go on, --overwrite to begin anew, or another --out"
                )
            why = f"of a run that failed ({failed})" if failed else "of another command"
            say(f"{folder}: was {why}; this run begins anew")
    state._forget()


def _folder_of(place: Place) -> Path:
    out = place.out
    inside = os.path.ismount(out) or (out.is_dir() and not os.access(out.parent, os.W_OK | os.X_OK))
    return out / INSIDE_NAME if inside else out.with_name(f"{out.name}.part")


def _check_own(folder: Path) -> None:
    """Raise InputError if a folder is there that is not one of ours."""
    if not os.path.lexists(folder):
        return
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else [""]
    other = next((name for name in names if not OWN.fullmatch(name)), None)
    if other is None and names and not {STATE_NAME, HOLDER_NAME} & set(names):
        other = names[0]
    if other is not None:
        what = f"holds {other}, which foster did not write" if other else "is there, and foster did not write it"
        raise InputError(f"{folder}: {what}; move it, or give another --out")


def _hold(folder: Path, locks: ExitStack) -> bool:
    """Make the folder and lock it; return whether that can be done.

    Raises:
        InputError: another process is at work on it.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = ExitStack()
            lock.enter_context(locked(folder, wait=False))
            if not folder.exists():  # its run ended just now
                lock.close()
                continue
            locks.push(lock)
            (folder / HOLDER_NAME).write_text(f"{Holder.here()}\n", encoding="utf-8")
        except BlockingIOError as error:
            try:
                holder = (folder / HOLDER_NAME).read_text(encoding="utf-8").strip()
            except (OSError, ValueError):
                holder = "another process"
            raise InputError(f"{folder}: {holder} is at work on it; wait for its end, or give another --out") from error
        except OSError:
            return False
        return True


def _clear(folder: Path, keep: Collection[str] = ()) -> None:
    """Remove what is in the folder, but for the note of who is at work and what is to be kept."""
    # Without its first file the rest is no state: a kill in between leaves nothing that looks like one. The note is the
    # last one, by which the folder is known as ours.
    for path in sorted(folder.iterdir(), key=lambda path: path.name != STATE_NAME):
        if path.name in keep or path.name == HOLDER_NAME:
            continue
        if path.name == TRAJECTORY_NAME:
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def _difference(old: Any, new: Any, name: str = "") -> tuple[str, str, str] | None:
    """Return the name of the first option in which two commands differ, and both values; None if they are equal."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*new, *(key for key in old if key not in new)]
        found = (_difference(old.get(key), new.get(key), key) for key in keys)
        return next((difference for difference in found if difference), None)
    if to_json(old) == to_json(new):
        return None
    return name, to_json(old)[:SHOWN], to_json(new)[:SHOWN]


def tensors_of(state: State, name: str = "") -> dict[str, Tensor]:
    """Return all tensors of a state, by the names on the way to them."""
    if isinstance(state, Tensor):
        return {name: state}
    pairs = state.items() if isinstance(state, Mapping) else enumerate(state) if isinstance(state, list | tuple) else ()
    out: dict[str, Tensor] = {}
    for key, part in pairs:
        out |= tensors_of(part, f"{name}.{key}".removeprefix("."))
    return out


def _flattened(value: State, tensors: dict[str, Tensor]) -> Any:
    """Return a state as JSON has it, in which tensors are named; and put these into ``tensors``."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensor = value.detach().cpu().contiguous()
        # Parts of larger tensors are written by themselves.
        tensors[name] = tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"map": [[key, _flattened(part, tensors)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        return [_flattened(part, tensors) for part in value]
    return value


def _nested(content: Any, tensors: Mapping[str, Tensor]) -> State:
    """Return the state that ``_flattened`` was given, with lists for tuples and tensors for arrays."""
    if isinstance(content, dict):
        if "tensor" in content:
            return tensors[content["tensor"]]
        return {key: _nested(part, tensors) for key, part in content["map"]}
    if isinstance(content, list):
        return [_nested(part, tensors) for part in content]
    return content
