"""One process or several, and the device of each."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from foster.cli.output import say
from foster.errors import InputError

if TYPE_CHECKING:
    from foster.engine import Engine


def check_alone(verb: str) -> None:
    """Raise InputError if a launcher started several processes, each of which would do and write the same."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return  # without a look at torch, which takes its time
    from foster.engine import started_processes

    raise InputError(f"{verb}: works in one process, but {started_processes()} were started; start it without torchrun")


@contextmanager
def running(device: str) -> Iterator[Engine]:
    """Give the engine, say how many processes take part, and let none leave before all have done their part."""
    from foster.engine import Engine, LaunchWarning, launch_fault

    if (fault := launch_fault()) is not None:
        say(f"warning: {fault}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LaunchWarning)
        engine = Engine(device)
    if engine.world > 1 and engine.is_main:
        say(f"{engine.world} processes take part, on {engine.device.type}")
    yield engine
    engine.close()
