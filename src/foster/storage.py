"""Where FOSTER keeps what it can compute again, how files get there whole, and large tables that lie in files."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foster.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

LEFT = 24 * 3600  # seconds after which nobody writes to a temporary file any more
FULL = (errno.ENOSPC, errno.EDQUOT)  # of errors: there is no room left on the disk, or for this user
LARGE_BYTES = 2**28  # a quarter of a GiB: larger tables are better in a file than in memory


def cache_root() -> Path:
    """Return ``$FOSTER_CACHE``, else the folder ``foster`` under ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        InputError: the user has no home.
    """
    try:
        if root := os.environ.get("FOSTER_CACHE"):
            return Path(root).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "foster"
    except RuntimeError as error:  # users of containers may have no name
        raise InputError("this user has no home for a cache; say where it can be with FOSTER_CACHE=FOLDER") from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends without an error.

    A reader sees the old file or the new one, never a part; of two writers the later wins. Folders are made. What a
    killed run left of the same file is removed a day after it was last written to.

    Raises:
        OSError: the place cannot be written to; a disk that is full is named by this file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named by hand and not by tempfile, whose files are private: a cache may be shared by a group.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    remove_left(path.parent, f".{glob.escape(path.name)}.*.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.filename is None and error.errno in FULL:
            error.filename = str(path)  # a write has only the number of a file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_left(folder: Path, pattern: str, remove: Callable[[Path], None] = Path.unlink) -> None:
    """Remove what has names of that pattern and was not written to for a day: killed runs left it."""
    for left in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFT:
                remove(left)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors.

    Raises:
        OSError: the disk is full, say; safetensors has an error of its own for that.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        if (number := re.search(r"\(os error (\d+)\)", str(error))) is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def large_table(rows: int, width: int, dtype: type[np.floating] = np.float32) -> Tensor:
    """Return a table ``[rows, width]`` to be filled: in memory or, if it is large, in a memory-mapped file.

    Of such a file the system keeps in memory what is read, as long as nobody else needs the room. It lies under
    ``cache_root()``, has no name, and is gone with the table or the process. Where no file can be had, or no room for
    it, the table is in memory.
    """
    import torch

    size = rows * width * np.dtype(dtype).itemsize
    if size > LARGE_BYTES and hasattr(os, "posix_fallocate"):
        with contextlib.suppress(OSError):
            cache_root().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=cache_root()) as file:
                os.posix_fallocate(file.fileno(), 0, size)  # a disk that is full later would kill the process
                return torch.from_numpy(np.memmap(file, dtype, "r+", shape=(rows, width)))
    return torch.empty(rows, width, dtype=torch.from_numpy(np.empty(0, dtype)).dtype)
