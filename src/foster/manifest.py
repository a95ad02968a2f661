"""``manifest.json``: which files a folder holds, so that no other is taken for one of them.

It is written last, beside what it lists, and looked at before anything is read. Who changes a file on purpose can write
a new one with ``seal``: it tells damage, mixtures and swapped files, not intent. What readers ask of values holds
without it.
"""

from __future__ import annotations

import os
import platform
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from foster.errors import InputError
from foster.exchange import SWAP_NAME, settle
from foster.json_text import SELF, of_json, to_json, with_sha256
from foster.storage import file_sha256, whole_file
from foster.version import __version__

MANIFEST_NAME = "manifest.json"
HOLDER_NAME = "holder.txt"  # beside the state of an unfinished run: who is, or was, at work
FORMAT = 1
LARGEST = 2**24  # bytes of a manifest: a hundred thousand files have less
READ = frozenset({".json", ".jsonl", ".parquet", ".safetensors"})
"""Endings of files that are foster's, beside the card: where a manifest does not list one, nothing is read."""
PACKAGES = ("numpy", "polars", "safetensors", "transformers")  # which decide over bytes, beside torch and Python
TRIES = 10  # readings of a folder that is replaced meanwhile
GROWING = 5  # the last reading, after a third of a second, of one that grows and does not fit its manifest
SETTLED = 2 * 10**9  # nanoseconds after which a change would show in a file's times on every file system

T = TypeVar("T")
_known: dict[tuple[int, ...], str] = {}  # SHA-256 by what tells a file and its state


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` of a folder says.

    Attributes:
        folder: the folder.
        files: size in bytes and SHA-256 in hex of each file, by its path in the folder.
        about: what else it says: versions, and how the folder was made.
        state: what tells this folder and its manifest from any that takes the place.
    """

    folder: Path
    files: Mapping[str, tuple[int, str]]
    about: Mapping[str, Any]
    state: tuple[int, ...]

    def check(self, *names: str) -> None:
        """See that files are those that were written.

        Raises:
            InputError: one is not listed, is missing, a link, or has another content.
        """
        for name in names:
            path = self.folder / name
            if name not in self.files:
                raise _unlisted(path)
            size, sha256 = self.files[name]
            found = _own_file(self.folder, name)
            if found.st_size != size:
                raise _changed(path, f"{found.st_size} bytes instead of {size}")
            if _sha256(path) != sha256:
                raise _changed(path, "SHA-256 differs")


def seal(folder: str | Path, about: Mapping[str, Any] | None = None) -> None:
    """Write the manifest of all files that a folder holds now, in place of one that is there.

    Two folders of equal files have equal manifests: no times, no names of machines.

    Args:
        folder: the folder.
        about: what else is to be said, such as options and seeds.
    """
    folder = Path(folder)
    files = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST_NAME and not _is_hidden(path.relative_to(folder))
    }
    (folder / MANIFEST_NAME).write_text(_listing(files, about or {}), encoding="utf-8")


@contextmanager
def whole_files(
    folder: Path, about: Mapping[str, Any] | None = None, also: Iterable[str] = ()
) -> Iterator[Callable[[str], Path]]:
    """Yield a function that gives a temporary path for a file of a folder; all take their places when the block ends.

    That is for folders that grow, such as studies: the files come one by one, in the end the manifest of just these, so
    that no mixture is taken for whole (see ``read_whole``). If the block ends by an error, all is as before.

    Args:
        folder: the folder.
        about: what else the manifest is to say.
        also: files of the folder that stay as they are and are listed, too.

    Raises:
        OSError: the place cannot be written to.
    """
    files = {name: folder / name for name in also}
    with ExitStack() as parts:
        manifest = parts.enter_context(whole_file(folder / MANIFEST_NAME))  # the first here is the last to be put there

        def place(name: str) -> Path:
            files[name] = parts.enter_context(whole_file(folder / name))
            return files[name]

        yield place
        manifest.write_text(_listing(files, about or {}), encoding="utf-8")


def _listing(files: Mapping[str, Path], about: Mapping[str, Any]) -> str:
    """Return the text of a manifest of files, given by their names in the folder and where they are now."""
    listed = {name: {"bytes": files[name].stat().st_size, "sha256": _sha256(files[name])} for name in sorted(files)}
    return _text({"format": FORMAT, **versions(), **about, "files": listed})


def versions() -> dict[str, Any]:
    """Return what a manifest says of the versions that made a folder."""
    others = {name: version(name) for name in PACKAGES}
    python = {"python": platform.python_version()}
    return {"foster": __version__, "torch": version("torch"), "versions": python | others}


def verify(folder: str | Path, later: str = "", depth: int | None = None) -> Manifest:
    """Read the manifest of a folder, and see that the folder holds the files that it lists.

    Args:
        folder: the folder.
        later: a folder in it, of whose files only the sizes are looked at: whoever reads one checks it then.
        depth: how deep files are looked for that it does not list; below lie folders with manifests of their own.

    Raises:
        InputError: there is no manifest, or it is damaged or of another version; a file is missing, a link, or another
            one than was written; or one is there that it does not list.
    """
    folder = Path(folder)
    try:
        settle(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: is half replaced, since a run was killed, and cannot be put right ({error.strerror}); what was "
            f"there is in {folder / SWAP_NAME}"
        ) from error
    manifest = read_manifest(folder)
    for name, (size, _) in manifest.files.items():
        if later and name.startswith(f"{later}/"):
            if (found := _own_file(folder, name).st_size) != size:
                raise _changed(folder / name, f"{found} bytes instead of {size}")
        else:
            manifest.check(name)
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        ours = (
            (path.suffix in READ or path.name == "README.md") and not _is_hidden(place) and place != Path(MANIFEST_NAME)
        )
        ours = ours and (depth is None or len(place.parts) <= depth)
        if ours and place.as_posix() not in manifest.files:
            raise _unlisted(path)
    return manifest


def identity(folder: str | Path) -> str:
    """Return the SHA-256 of the manifest of a folder, which tells its content from any other.

    Raises:
        InputError: it cannot be read.
    """
    return _sha256(Path(folder) / MANIFEST_NAME)


def read_whole(folder: str | Path, read: Callable[[], T], grows: bool = False) -> T:
    """Read a folder that another process may replace meanwhile: all of the old one, or all of the new one.

    Args:
        folder: the folder.
        read: reads its files, and verifies them first.
        grows: it is one of ``whole_files``, whose files and manifest are not replaced at one moment.

    Returns:
        What ``read`` returns.

    Raises:
        InputError: what ``read`` raises of a folder that stays as it is.
    """
    folder = Path(folder)
    failed: Exception | None = None
    for attempt in range(TRIES):
        before, failed = _state(folder), None
        try:
            out = read()
        except (InputError, OSError) as error:
            same = _state(folder) == before
            if same and not (folder / SWAP_NAME).exists() and (not grows or attempt == GROWING):
                raise
            failed = error if same else None
        else:
            if _state(folder) == before:
                return out
        time.sleep(0.01 * 2**attempt)
    if failed is not None:  # half replaced, and nobody is at work on it
        raise failed
    raise InputError(f"{folder}: is replaced again and again while it is read; read it when nobody writes there")


def read_manifest(folder: Path) -> Manifest:
    """Read a manifest, without a look at the files that it lists.

    Raises:
        InputError: there is none, or it is damaged or of another version.
    """
    path = folder / MANIFEST_NAME
    if folder.is_file():
        raise InputError(f"{folder}: is a file; give a folder that foster made ('foster prepare' makes one of a log)")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if not os.path.lexists(path):
        if (folder / HOLDER_NAME).is_file():
            raise InputError(f"{folder}: is the state of a run that was cut off; give the same command again to end it")
        raise InputError(
            f"{folder}: has no {MANIFEST_NAME}: foster did not write it, an earlier version made it, or a part is "
            "missing; make or copy it again"
        )
    state = _own_file(folder, MANIFEST_NAME)
    try:
        if state.st_size > LARGEST:
            raise ValueError(f"{state.st_size} bytes")
        text = path.read_text(encoding="utf-8")
        content = of_json(text)
        if not isinstance(content, dict):
            raise ValueError("it holds no fields")
        if content.get("format") != FORMAT:
            raise InputError(
                f"{path}: is of format {content.get('format')!r}, and this version reads {FORMAT}; make the folder "
                "again, or update foster"
            )
        if text != _text({name: value for name, value in content.items() if name != SELF}):
            raise ValueError("it was changed")
        files = {name: (entry["bytes"], entry["sha256"]) for name, entry in content["files"].items()}
        for name, (size, sha256) in files.items():
            if type(size) is not int or size < 0 or not isinstance(sha256, str) or len(sha256) != 64:
                raise ValueError(f"the entry of '{name}'")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is damaged ({error}); make or copy the folder again") from error
    about = {name: value for name, value in content.items() if name not in ("format", "files", SELF)}
    return Manifest(folder, files, about, (folder.stat().st_ino, *_times(state)))


def _text(content: Mapping[str, Any]) -> str:
    """Return the text of a manifest, which ends with the SHA-256 of the rest."""
    return to_json(with_sha256(content), indent=2) + "\n"


def _own_file(folder: Path, name: str) -> os.stat_result:
    """Return the state of a file of a folder, which lies there and not elsewhere.

    Raises:
        InputError: it is missing, a link or no file, or its name leads out of the folder.
    """
    path = folder / name
    parts = name.split("/")
    if (os.sep != "/" and os.sep in name) or "\0" in name or not all(part not in ("", ".", "..") for part in parts):
        raise InputError(f"{folder / MANIFEST_NAME}: names {name!r}, which is no file of the folder; make it again")
    try:
        for depth in range(1, len(parts)):
            if (folder / "/".join(parts[:depth])).is_symlink():
                raise InputError(f"{path}: lies behind a link; put the files themselves there")
        state = path.lstat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        what = "no such file" if missing else f"cannot be read ({error.strerror})"
        raise InputError(f"{path}: {what}; the folder is incomplete, make or copy it again") from error
    if stat.S_ISLNK(state.st_mode):
        raise InputError(f"{path}: is a link; put the file itself there")
    if not stat.S_ISREG(state.st_mode):
        raise InputError(f"{path}: is no file; make or copy the folder again")
    return state


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _unlisted(path: Path) -> InputError:
    return InputError(f"{path}: is not in {MANIFEST_NAME}; move it away, or make or copy the folder again")


def _changed(path: Path, what: str) -> InputError:
    return InputError(
        f"{path}: is not the file that {MANIFEST_NAME} lists ({what}); it was changed, damaged or put there from "
        "another folder: make or copy the folder again"
    )


def _state(folder: Path) -> tuple[int, ...] | None:
    """Return what tells a folder and its manifest from any that takes the place; None where there is none."""
    try:
        return (folder.stat().st_ino, *_times((folder / MANIFEST_NAME).lstat()))
    except OSError:
        return None


def _times(state: os.stat_result) -> tuple[int, ...]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a file, which is computed once as long as it stays as it is."""
    try:
        state = path.stat()
        if (known := _known.get(_times(state))) is not None:
            return known
        found = file_sha256(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); make or copy the folder again") from error
    # What was changed just now could change again without a trace in its times.
    if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > SETTLED:
        _known[_times(state)] = found
    return found
