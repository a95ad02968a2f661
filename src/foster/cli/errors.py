"""How errors end: bad input, and what the machine or a library has, in one line; a fault of ours in full."""

from __future__ import annotations

import atexit
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from foster.cli.output import complain
from foster.errors import InputError
from foster.memory import too_little

GONE = "the current folder is gone; change to another one"


def run(command: Callable[[], None]) -> None:
    """Run a command line; exit 0, 2 for bad input with one line on stderr, 143 when told to stop, or 1."""
    # What schedulers, containers and `timeout` send: by itself it would end Python without any cleaning up.
    signal.signal(signal.SIGTERM, _stop)
    dropped, sys.unraisablehook = sys.unraisablehook, _sent_again
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of few characters shows the others' codes
    try:
        if sys.stdout is None:
            raise InputError("standard output is closed, so that no result could be shown; send it somewhere (> FILE)")
        if (fault := too_little() or _unfit()) is not None:
            raise InputError(fault)
        command()
    except InputError as error:
        complain(f"foster: {error}")
        sys.exit(2)
    except Exception as error:
        if (line := _of_machine(error)) is None:
            raise  # a fault of ours: whoever mends it needs all of it
        complain(f"foster: {line}")
        sys.exit(2)
    finally:
        sys.unraisablehook = dropped
        # Registered last, it is the first to be called. One Ctrl-C reaches a process beside this one from the terminal
        # and from its parent; a second signal would break into Python's cleaning up, with a traceback.
        atexit.register(_heed_no_more)


def _heed_no_more() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _open_standard_streams() -> None:
    """Let the numbers of closed streams lead nowhere: the next file would get them, and what libraries print."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - to the end of the process


def _stop(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _sent_again(said: sys.UnraisableHookArgs) -> None:
    """Send a signal again that came where Python drops what its handler raises, such as the callbacks of imports."""
    numbers = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}
    if (number := numbers.get(said.exc_type)) is None:
        sys.__unraisablehook__(said)
    else:  # a moment later: here its handler's exception would be dropped once more
        threading.Timer(0.05, os.kill, [os.getpid(), number]).start()


def _unfit() -> str | None:
    """Say what of the environment would end a library in words of its own; None where all is well."""
    try:
        Path.cwd()
    except OSError:
        return GONE
    name = "POLARS_MAX_THREADS"
    text = os.environ.get(name, "1")
    if not (text.isascii() and text.isdecimal() and int(text)):
        return f"{name} is {text!r}; set it to a number from 1 on, or unset it"
    return None


def _of_machine(error: Exception) -> str | None:
    """Return one line for an error that the machine or a library has and not the program; None for any other."""
    text = (str(error).splitlines() or [""])[0]
    if isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text:
        return "there is not enough memory; --dry-run says what it takes: lower --dim, --batch-size or --candidates"
    if isinstance(error, RecursionError):
        return "something that is read is nested too deeply"
    if isinstance(error, OSError):
        fixes = {
            errno.ENOSPC: "make room, or write elsewhere (--out; FOSTER_CACHE for what can be computed again)",
            errno.EDQUOT: "make room, or write elsewhere (--out; FOSTER_CACHE for what can be computed again)",
            errno.EACCES: "see who may read and write there; FOSTER_CACHE names another cache",
            errno.EROFS: "write elsewhere (--out; FOSTER_CACHE for what can be computed again)",
            errno.EMFILE: "allow more open files (ulimit -n)",
            errno.ENAMETOOLONG: "give a shorter name",
        }
        if error.errno == errno.ENOENT and error.filename is None:
            return GONE
        where = "" if error.filename is None else f"{error.filename}: "
        fix = fixes.get(error.errno or 0)
        return f"{where}{error.strerror or text}" + (f"; {fix}" if fix else "")
    if type(error).__module__.split(".")[0] in ("polars", "safetensors", "safetensors_rust"):
        return f"a file cannot be read or written ({text})"
    return None
