"""Progress on stderr: a bar on a terminal, a line a minute elsewhere, and nothing where quiet is asked for."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    _Base = tqdm[Any]
else:
    _Base = tqdm

LINE_SECONDS = 60.0
"""Between the lines of what is no terminal; work that is shorter shows none."""
_BAR_SECONDS = 0.5
_LINE = "{desc}: {percentage:3.0f}%, {n_fmt} of {total_fmt}, {elapsed} so far, {remaining} left"

_quiet = False


@contextmanager
def quietly() -> Iterator[None]:
    """Show no progress, no warning and no log below an error, those of libraries included, for the time of a block."""
    global _quiet
    before, threshold, hub = _quiet, logging.root.manager.disable, os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS")
    _quiet, os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = True, "1"
    logging.disable(max(threshold, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _quiet = before
        logging.disable(threshold)
        if hub is None:
            del os.environ["HF_HUB_DISABLE_PROGRESS_BARS"]
        else:
            os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = hub


def is_quiet() -> bool:
    """Return whether ``quietly`` holds."""
    return _quiet


class Progress(_Base):
    """A tqdm bar that writes a line a minute where stderr is no terminal.

    Args:
        steps: what is iterated over; None for a bar that ``update`` moves.
        what: the work, in words.
        total: number of steps, by default that of ``steps``.
        shown: whether it shows at all.
        more: tqdm's arguments.
    """

    def __init__(
        self,
        steps: Iterable[Any] | None = None,
        *,
        what: str | None,
        total: int | None = None,
        shown: bool = True,
        **more: Any,
    ) -> None:
        self._as_lines = not _is_terminal()
        if self._as_lines:
            # A fixed number of steps between looks at the clock: tqdm's own guess may wait for longer than a minute.
            every = LINE_SECONDS
            more |= {"delay": every, "mininterval": every, "maxinterval": every, "miniters": 1, "bar_format": _LINE}
        else:
            more |= {"mininterval": _BAR_SECONDS}
        super().__init__(steps, desc=what, total=total, file=sys.stderr, disable=_quiet or not shown, **more)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write the bar in its place, or a line."""
        if not self._as_lines:
            super().display(msg, pos)
        elif msg != "":
            self.fp.write(f"{str(self) if msg is None else msg}\n")
            self.fp.flush()

    def close(self) -> None:
        """End the bar; lines end with one more, if there was any."""
        if self._as_lines and not self.disable:
            if self.last_print_t >= self.start_t + LINE_SECONDS and self.n > self.last_print_n:
                self.display()
            self.last_print_t: float = 0.0  # so that tqdm ends without what ends a bar
        super().close()


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Say every minute, during a block of unknown length, that it goes on and for how long it has."""
    start, ended = time.monotonic(), threading.Event()

    def tell() -> None:
        while not ended.wait(LINE_SECONDS):
            minutes, seconds = divmod(round(time.monotonic() - start), 60)
            print(f"{what}: {minutes:02d}:{seconds:02d} so far", file=sys.stderr, flush=True)  # noqa: T201

    if _quiet:
        yield
        return
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # none, or a closed one
        return False
