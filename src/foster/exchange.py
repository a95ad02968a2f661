"""How a folder takes the place of another, so that at every moment one of the two is there, and whole.

``work_folder`` makes the folder in which a result grows. Its process holds a lock on it, which ends with the process
however it ends, and its name says who that is: others can tell a run at work from what a killed one left. ``replace``
puts it in its place by one renaming or, where a folder has to stay (a mount, the current folder, a file system that
cannot exchange two), file by file; ``settle`` undoes that where it was cut off.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from foster.json_text import of_json

try:
    import fcntl
except ImportError:  # Windows: folders are neither locked nor exchanged there
    fcntl = None  # type: ignore[assignment]

MARK = ".foster-"
"""What temporary folders inside of an artefact begin with; of those beside one it follows the name."""
SWAP_NAME = f"{MARK}swap"  # in a folder that is being replaced file by file
LAST_NAME = "manifest.json"  # the file that makes a folder whole: it goes first, and comes last
KEPT_NAME = ".kept"  # in a result that could not be moved: nothing removes it
OWN_NAME = re.compile(r"\.foster-(\d{8}T\d{6})-(.+)-(\w{8})-(\d+)-\w+$")
AT_FDCWD, RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True)
class Holder:
    """Who writes, or wrote, a folder.

    Attributes:
        since: date and time.
        host: name of the machine.
        boot: what tells its system, as it runs now, from any other.
        pid: number of the process there.
    """

    since: str
    host: str
    boot: str
    pid: int

    @classmethod
    def here(cls) -> Holder:
        """Return this process."""
        host = re.sub(r"[^\w.-]", "_", socket.gethostname())[:32] or "host"
        return cls(time.strftime("%Y%m%dT%H%M%S"), host, _boot(), os.getpid())

    @classmethod
    def of(cls, folder: Path) -> Holder | None:
        """Return whom the name of a folder names; None of folders that are not temporary ones."""
        found = OWN_NAME.search(folder.name)
        return cls(found[1], found[2], found[3], int(found[4])) if found else None

    def __str__(self) -> str:
        """Return it for people."""
        date = f"{self.since[:4]}-{self.since[4:6]}-{self.since[6:8]}"
        clock = f"{self.since[9:11]}:{self.since[11:13]}:{self.since[13:15]}"
        return f"process {self.pid} on {self.host} since {date} {clock}"


@contextmanager
def work_folder(out: Path, inside: bool) -> Iterator[Path]:
    """Yield a new empty folder in which ``out`` can grow: in it, or beside it.

    It is locked until the block ends, and not removed.

    Raises:
        OSError: the place cannot be written to.
    """
    me = Holder.here()
    prefix = f"{_stem(out, inside)}{me.since}-{me.host}-{me.boot}-{me.pid}-"
    while True:
        work = Path(tempfile.mkdtemp(prefix=prefix, dir=out if inside else out.parent))
        with locked(work) as held:
            # Another process may have taken it for a leftover before it was locked.
            if held and not work.exists():
                continue
            yield work
        return


def clear_leftovers(out: Path) -> Holder | None:
    """Remove what killed runs of this machine left in or beside ``out``; return who is writing it now, if anybody is.

    What other machines left stays: whether they still write cannot be known.
    """
    writing, me = None, Holder.here()
    for inside in (False, True):
        place, stem = out if inside else out.parent, _stem(out, inside)
        folders = sorted(place.glob(f"{glob.escape(stem)}*")) if place.is_dir() else []
        for folder in folders:
            holder = Holder.of(folder)
            if holder is None or folder.is_symlink():
                continue
            try:
                with locked(folder, wait=False) as free:
                    of_here = me.host == holder.host or me.boot == holder.boot
                    if free and of_here and not (folder / KEPT_NAME).exists():
                        shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                writing = holder
    return writing


@contextmanager
def place_locked(out: Path) -> Iterator[None]:
    """Wait until no other process replaces ``out``, and let none do so in the block."""
    with locked(out if out.is_dir() else out.parent):
        yield


def replace(out: Path, work: Path) -> None:
    """Let ``work``, a folder with a manifest, take the place of ``out``; what was there is then in ``work``, or gone.

    Call it with the place locked.

    Raises:
        OSError: it cannot; then all is as before.
    """
    if not os.path.lexists(out):
        work.rename(out)
    elif work.parent == out or os.path.ismount(out) or _is_current(out):
        _replace_files(out, work)
    else:
        try:
            work.chmod(out.stat().st_mode & 0o7777)
            if any(out.iterdir()):
                _exchange(out, work)
            else:
                work.rename(out)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES):
                raise
            _replace_files(out, work)


def settle(out: Path) -> None:
    """Undo what a killed run of ``replace`` left half done in ``out``, if any did; wait for one that is at it.

    Raises:
        OSError: the folder cannot be locked or written to.
    """
    swap = out / SWAP_NAME
    if not swap.is_dir():
        return
    with locked(out) as held:
        if not held:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        if (swap / "new" / LAST_NAME).exists():  # else the new one is complete, or nothing had begun
            _undo(out)
        shutil.rmtree(swap, ignore_errors=True)


def _replace_files(out: Path, work: Path) -> None:
    """Replace all that ``out`` holds by what ``work`` holds, file by file; readers wait for the end: see ``settle``."""
    swap = out / SWAP_NAME
    swap.mkdir()
    try:
        new, old = swap / "new", swap / "old"
        try:
            work.rename(new)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # The copy gets its name when it is complete.
            shutil.copytree(work, swap / "copy")
            (swap / "copy").rename(new)
        old.mkdir()
        for path in _in_order(out, first=LAST_NAME):
            path.rename(old / path.name)
        old.rename(swap / "whole")
        for path in _in_order(new, last=LAST_NAME):
            path.rename(out / path.name)
    except BaseException:
        if (swap / "new" / LAST_NAME).exists():
            _undo(out)
            if not work.exists():
                (swap / "new").rename(work)
        shutil.rmtree(swap, ignore_errors=True)
        raise
    shutil.rmtree(swap, ignore_errors=True)


def _undo(out: Path) -> None:
    """Put back what ``_replace_files`` took away, and what it put there into ``new`` again; can be cut off, too."""
    swap = out / SWAP_NAME
    new, old, whole = swap / "new", swap / "old", swap / "whole"
    if whole.is_dir():  # all of the old is in it, and what is in its place is of the new
        names = {name for name in _names_of(new) if not os.path.lexists(new / name)}
        for name in sorted(names):
            if os.path.lexists(out / name):
                (out / name).rename(new / name)
        whole.rename(old)
    if old.is_dir():
        for path in _in_order(old, last=LAST_NAME):
            path.rename(out / path.name)


def _names_of(folder: Path) -> set[str]:
    """Return the names right in a folder that its manifest lists."""
    files = of_json((folder / LAST_NAME).read_text(encoding="utf-8"))["files"]
    return {name.split("/")[0] for name in files}


def _in_order(folder: Path, first: str = "", last: str = "") -> list[Path]:
    """Return what is in a folder, without temporary folders, in a fixed order."""
    paths = [path for path in folder.iterdir() if not path.name.startswith(MARK)]
    return sorted(paths, key=lambda path: (path.name != first, path.name == last, path.name))


def _exchange(one: Path, other: Path) -> None:
    """Exchange two paths at once.

    Raises:
        OSError: the system or the file system cannot.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError) as error:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a folder; yield whether there is one to be had: some file systems have none.

    Raises:
        BlockingIOError: another process has it, and is not to be waited for.
    """
    descriptor = -1
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
        held = fcntl is not None and descriptor >= 0
        if held:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise
            except OSError:
                held = False
        yield held
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _stem(out: Path, inside: bool) -> str:
    return MARK if inside else f".{out.name[:40]}{MARK}"


def _is_current(folder: Path) -> bool:
    """Whether this process, and so perhaps the shell that started it, is in a folder."""
    try:
        return Path.cwd().is_relative_to(folder)
    except OSError:
        return False


def _boot() -> str:
    """Return what containers of one machine have in common; the same for all where it is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except (OSError, ValueError):
        return "unknown0"
