"""One process or several, and the device of each."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from foster.cli.output import complain, say
from foster.errors import InputError

if TYPE_CHECKING:
    from foster.engine import Engine

HELPER = "FOSTER_HELPER"  # set for a process that another one started to share its work
PATIENCE = 60.0  # seconds that such a process has to put its work down
LONG = 30.0  # seconds of waiting for others, after which it is said


def check_alone(verb: str) -> None:
    """Raise InputError if a launcher started several processes, each of which would do and write the same."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return  # without a look at torch, which takes its time
    from foster.engine import started_processes

    raise InputError(f"{verb}: works in one process, but {started_processes()} were started; start it without torchrun")


@contextmanager
def running(device: str) -> Iterator[Engine]:
    """Give the engine, say how many processes take part, and let none leave before all have done their part."""
    from foster.engine import Engine, LaunchWarning, launch_fault, started_processes

    if (fault := launch_fault()) is not None:
        say(f"warning: {fault}")
    waits = threading.Timer(LONG, say, [f"waits for the other processes (WORLD_SIZE is {started_processes()})"])
    waits.daemon = True
    waits.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LaunchWarning)
            engine = Engine(device)
    finally:
        waits.cancel()
    if engine.world > 1 and engine.is_main:
        say(f"{engine.world} processes take part, on {engine.device.type}")
    yield engine
    engine.close()


def is_helper() -> bool:
    """Whether this process was started by another one of the same command; see ``helped``."""
    return HELPER in os.environ


def shared_threads(jobs: int) -> int:
    """Leave this process its share of the cores if ``jobs`` of them work at once, and return how many that are.

    Small products gain little by a second thread; threads that wait for one another on busy cores lose nearly all.
    """
    import torch

    threads = max(torch.get_num_threads() // jobs, 1)
    torch.set_num_threads(threads)
    return threads


@contextmanager
def helped(count: int, threads: int) -> Iterator[None]:
    """Have the same command run in more processes, which are waited for, or stopped where the block ends by an error.

    What they say on stderr is said here; what they print is dropped.

    Args:
        count: how many more.
        threads: of each.
    """
    command = [sys.executable, "-P", "-m", "foster", *sys.argv[1:]]  # -P: a foster.py that lies here is not ours
    environment = os.environ | {HELPER: "1", "OMP_NUM_THREADS": str(threads)}
    helpers: list[subprocess.Popen[str]] = []
    tellers = []
    try:
        for _ in range(count):
            helper = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
            helpers.append(helper)
            tellers.append(threading.Thread(target=_tell, args=(helper.stderr,), daemon=True))
            tellers[-1].start()
        yield
        for helper in helpers:
            if status := helper.wait():
                say(f"a process that shared the work ended with exit status {status}; what it left is done here")
    finally:
        for helper in helpers:
            if helper.poll() is None:
                helper.terminate()
        for helper in helpers:
            try:
                helper.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                helper.kill()
        for teller in tellers:
            teller.join(PATIENCE)


def _tell(lines: IO[str]) -> None:
    """Say the lines of another process, which left out what is not to be said."""
    for line in lines:
        complain(line.rstrip("\n"))
