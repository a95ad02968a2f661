"""What a job will take, and whether memory and disk will do."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch

from foster.engine import Engine
from foster.errors import InputError
from foster.measure import Measure
from foster.memory import free_memory
from foster.wording import rounded_bytes

T = TypeVar("T")
Parts = dict[str, tuple[float, float]]
"""Seconds of the parts of a job by name: every step made, and stopped as early as can be."""


@dataclass(frozen=True)
class Estimate:
    """What a job will take.

    Attributes:
        seconds: wall time if every step is made.
        least_seconds: wall time if training stops as early as validation lets it; the same without early stopping.
        memory_bytes: peak of the memory of the process, and of its accelerator.
        disk_bytes: what it writes.
        free_memory_bytes: what the process could take beside what it had.
        free_disk_bytes: where it writes.
        parts: seconds of each part of the work, every step made.
    """

    seconds: float
    least_seconds: float
    memory_bytes: int
    disk_bytes: int
    free_memory_bytes: int
    free_disk_bytes: int
    parts: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--dry-run --json`` prints."""
        return {**vars(self), "out": None}

    def as_text(self) -> str:
        """Return what ``--dry-run`` prints."""
        least = ""
        whole, stopped = _time(self.seconds), _time(self.least_seconds)
        if stopped != whole:
            least = f" if all steps are made, or {stopped} where validation stops all training as early as it can"
        lines = [f"time       {whole}{least}, on a machine as busy as now"]
        lines += [f"           {_time(seconds):<9} {name}" for name, seconds in self.parts.items()]
        lines.append(f"memory     {rounded_bytes(self.memory_bytes)}; {rounded_bytes(self.free_memory_bytes)} are free")
        lines.append(f"disk       {rounded_bytes(self.disk_bytes)}; {rounded_bytes(self.free_disk_bytes)} are free")
        return "\n".join([*lines, "nothing was written but text vectors, which stay in the cache"])


class Limits:
    """What there is before a calibration, and what that took."""

    def __init__(self, engine: Engine, out: str | Path) -> None:
        place = Path(out).resolve()
        while not place.exists():
            place = place.parent
        self.free: int = free_memory()
        self.disk: int = shutil.disk_usage(place).free
        self.before: int = psutil.Process().memory_info().rss
        self.out: str | Path = out
        self.measure: Measure = Measure(engine.device)

    def estimate(self, parts: Parts, *, disk: int, more_memory: int = 0) -> Estimate:
        """Return the estimate.

        Args:
            parts: of the job.
            disk: bytes to be written.
            more_memory: bytes that the job takes beside those of the calibration.

        Raises:
            InputError: memory or disk will not do.
        """
        memory = self.measure.peak_bytes + more_memory
        refuse_memory(memory - self.before, self.free)
        if disk > self.disk:
            room = rounded_bytes(self.disk)
            raise InputError(f"{self.out}: takes about {rounded_bytes(disk)}, but {room} are free there")
        seconds, least = (sum(part[which] for part in parts.values()) for which in (0, 1))
        named = {name: part for name, (part, _) in parts.items()}
        return Estimate(seconds, least, memory, disk, self.free, self.disk, named)


@contextmanager
def limits_of(engine: Engine, out: str | Path) -> Iterator[Limits]:
    """Measure a calibration; where memory ends in it, it would end in the job."""
    limits = Limits(engine, out)
    try:
        with limits.measure:
            yield limits
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise InputError(f"memory will not do: {_first_line(error)}") from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # what torch says on a CPU
            raise
        raise InputError(f"memory will not do: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def refuse_memory(needed: float, free: int) -> None:
    """Raise InputError if more bytes of memory are needed than are free."""
    if needed > free:
        raise InputError(
            f"memory will not do: about {rounded_bytes(needed)} are needed and {rounded_bytes(free)} are free; lower "
            "--batch-size, --dim or what else is large, or take another machine"
        )


def one_process(engine: Engine | None) -> Engine:
    """Return the engine, by default a new one.

    Raises:
        InputError: there are several processes.
    """
    engine = engine or Engine()
    if engine.world > 1:
        raise InputError("--dry-run: works in one process; start it without torchrun")
    return engine


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what some work gives, and its seconds."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
