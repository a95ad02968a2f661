"""Time and memory of a block of work."""

from __future__ import annotations

import threading
import time
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
        self.seconds: float = 0.0
        self.peak_bytes: int = 0
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
