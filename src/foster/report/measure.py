"""Time and memory of a block of work."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import torch

INTERVAL = 0.05  # seconds between looks at the memory


class Measure:
    """Context manager that measures a block.

    Attributes:
        seconds: wall time.
        peak_bytes: largest resident memory of this process during the block, all that was there before included; what
            torch allocated on a GPU is added.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds = 0.0
        self.peak_bytes = 0
        self._cuda = device if device.type == "cuda" else None
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if self._cuda is not None:
            torch.cuda.reset_peak_memory_stats(self._cuda)
        self._start = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._start
        self._done.set()
        self._thread.join()
        if self._cuda is not None:
            self.peak_bytes += torch.cuda.max_memory_allocated(self._cuda)

    def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
            if self._done.wait(INTERVAL):
                return


def free_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process can still take: those that the machine has, or that its container grants it.

    Memory that holds copies of files counts as free, since it is given back when it is needed.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    return min([psutil.virtual_memory().available, *_granted(root)])


def _granted(root: Path) -> list[int]:
    """Return what the control groups of this process, and those that they are in, still grant it."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []  # not Linux
    out = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / "sys/fs/cgroup" / controllers
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            limit, usage, cached = names if controllers else ("memory.max", "memory.current", "inactive_file")
            # A container may see its own group as the top, under a path that is the machine's.
            groups = {top, *(top / Path(*part) for part in _prefixes(Path(path).parts[1:]))}
            for group in groups:
                try:
                    most, used = ((group / name).read_text().strip() for name in (limit, usage))
                    counts = dict(row.split() for row in (group / "memory.stat").read_text().splitlines())
                except OSError:
                    continue
                if most != "max":
                    out.append(int(most) - int(used) + int(counts.get(cached, 0)))
    return out


def _prefixes(parts: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [parts[:end] for end in range(1, len(parts) + 1)]
