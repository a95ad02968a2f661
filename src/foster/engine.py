"""Device and processes: the only file that knows accelerate.

A run in one process needs none of it. Under ``torchrun`` each process works on its share of a batch, gradients are
averaged, and ranks are gathered before metrics are computed. Models stay bare (no DDP wrapper): the loops average what
has to be averaged, and nothing else.
"""

from __future__ import annotations

import copy
import os
import socket
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foster.errors import InputError
from foster.options import MOST_SEED

TORCHRUN = "torchrun --nproc_per_node N -m foster ..."
"""How several processes are started, on CPUs and on accelerators."""

MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where Open MPI, Intel MPI or MPICH, and MVAPICH say how many processes they started."""


class LaunchWarning(UserWarning):
    """Fewer processes take part than a launcher was asked for."""


@contextmanager
def deterministic() -> Iterator[None]:
    """Make one seed give one result: some sums over indices are otherwise added up in the order of the threads.

    On CUDA, where all that we do has deterministic kernels, torch must take them; were it only to warn, attention would
    keep another. On other accelerators it warns where it has none and goes on.
    """
    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=not torch.cuda.is_available())
    # No result here is read before it is written; filling new tensors first would only take time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from torch's own generators with a seed; the caller's draws go on after the block as if it had not been."""
    devices = [device] if device.type in ("cuda", "xpu") else []  # other devices cannot be asked one by one
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        torch.manual_seed(seed)
        yield


def check_seed(seed: int) -> None:
    """Raise InputError for a seed that not all generators take, or that JSON readers would round."""
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not 0 <= seed <= MOST_SEED:
        raise InputError(f"seed {seed!r}: give a number from 0 to 2^53 = {MOST_SEED}")


BFLOAT16 = ("avx512_bf16", "amx_bf16")  # instructions by which a CPU multiplies matrices faster in half precision


def matrix_type(precision: str, device: torch.device) -> torch.dtype:
    """Return the number type of matrix products in training.

    Args:
        precision: float32, bfloat16 or auto: bfloat16 on a CPU that has instructions for it. Elsewhere steps of models
            as small as ours wait for the start of kernels and not for the products.
        device: where they are computed.
    """
    if precision == "auto":
        # torch 2.6 cannot be asked for them.
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = device.type == "cpu" and any(capabilities.get(name) for name in BFLOAT16)
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def multiplying(products: torch.dtype, device: torch.device) -> torch.autocast:
    """Return the context in which matrix products have a type that ``matrix_type`` gave."""
    return torch.autocast(device.type, torch.bfloat16, enabled=products is torch.bfloat16)


class Engine:
    """Where a run happens.

    Args:
        device: ``auto`` (the accelerator if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ...

    Attributes:
        device: the torch device of this process.
        rank: number of this process.
        world: number of processes.

    Warns:
        LaunchWarning: see ``launch_fault``.

    Raises:
        InputError: no such device here, more processes than devices, or processes that do not find one another.
    """

    def __init__(self, device: str = "auto") -> None:
        # CUDA's matrix products repeat only with workspaces of a fixed size, which it asks for once, before the first.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self.device: torch.device
        self.rank: int = 0
        self.world: int = 1
        self._accelerator = None
        if (fault := launch_fault()) is not None:
            warnings.warn(fault, LaunchWarning, stacklevel=2)
        if (started := started_processes()) > 1:
            _check_meeting(started)
            on_cpu = device == "cpu" or not torch.accelerator.is_available()
            if on_cpu:
                _device(device)
            else:
                _check_processes()
            from accelerate import Accelerator, InitProcessGroupKwargs

            # Processes that work alone wait for the slowest in the end; a dead one is noticed in other ways.
            patience = InitProcessGroupKwargs(timeout=timedelta(days=7))
            # Unless it is told, accelerate connects no processes where there is no accelerator: each would do it all.
            self._accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[patience])
            self.device = self._accelerator.device
            self.rank = self._accelerator.process_index
            self.world = self._accelerator.num_processes
            if self.world != started:
                raise InputError(
                    f"{started} processes were started, but {self.world} found one another; start one, or give "
                    "--device cpu"
                )
        else:
            self.device = _device(device)

    def alone(self) -> Engine:
        """Return an engine for work that this process does by itself, on the same device."""
        other = copy.copy(self)
        other.rank, other.world, other._accelerator = 0, 1, None
        return other

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    @property
    def about(self) -> dict[str, Any]:
        """What a manifest says of where a run happened: only where this is equal are results equal to the byte."""
        on_cpu = self.device.type == "cpu"
        name = torch.backends.cpu.get_cpu_capability() if on_cpu else _accelerator_name(self.device)
        threads = {"threads": torch.get_num_threads()} if on_cpu else {}
        return {"device": self.device.type, "hardware": name, **threads, "processes": self.world}

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self._accelerator is not None:
            for gradient, mean in zip(gradients, self.average(gradients), strict=True):
                gradient.copy_(mean)

    def average(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean of each tensor over the processes, which all bring the same shapes; no gradient flows."""
        values = [tensor.detach() for tensor in tensors]
        if self._accelerator is None or not values:
            return values
        # One message instead of many: a small one takes as long.
        flat = self._accelerator.reduce(torch.cat([value.flatten() for value in values]), "mean")
        parts = flat.split([value.numel() for value in values])
        return [part.view_as(value) for part, value in zip(parts, values, strict=True)]

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of float64 values ``[n]`` over the processes, in every process.

        Where each process leaves zeros for what others compute, this puts the parts together, exactly.
        """
        if self._accelerator is None:
            return values
        out: np.ndarray = self._accelerator.reduce(torch.from_numpy(values).to(self.device), "sum").cpu().numpy()
        return out

    def random_states(self) -> Tensor:
        """Return the state of torch's own generators in every process, uint8 ``[world, n]``."""
        parts = [torch.get_rng_state()]
        if self.device.type in ("cuda", "xpu"):
            parts.append(torch.get_device_module(self.device).get_rng_state(self.device))
        own = torch.cat(parts).numpy()
        states = np.zeros((self.world, len(own)))
        states[self.rank] = own
        return torch.from_numpy(self.total(states)).to(torch.uint8)

    def set_random_states(self, states: Tensor) -> None:
        """Set torch's own generators to what ``random_states`` returned."""
        size = len(torch.get_rng_state())
        torch.set_rng_state(states[self.rank, :size].clone())
        if self.device.type in ("cuda", "xpu"):
            torch.get_device_module(self.device).set_rng_state(states[self.rank, size:].clone(), self.device)

    def close(self) -> None:
        """Leave the other processes in order, when each has come here: one that just exits takes the rest down."""
        if self._accelerator is not None:
            self.wait()
            self._accelerator.end_training()

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self._accelerator is None:
            return
        if self.device.type == "cpu":
            # accelerate names the process's accelerator, also where processes on the CPU are more than there are of it.
            torch.distributed.barrier()
        else:
            self._accelerator.wait_for_everyone()


def started_processes() -> int:
    """Return how many processes a launcher such as torchrun started for this job, all machines together.

    Raises:
        InputError: the variable that says so is no number.
    """
    return _count("WORLD_SIZE")


def _count(name: str) -> int:
    text = os.environ.get(name, "1")
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise InputError(f"{name} is {text!r}, no number of processes; unset it, or start with '{TORCHRUN}'")
    return int(text)


def launch_fault() -> str | None:
    """Return what is wrong where a launcher was asked for several processes and this one works alone, or None."""
    if started_processes() > 1:
        return None
    # With one process, accelerate names no address; with several on a CPU it names one and starts one process.
    if {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= os.environ.keys():
        return (
            "accelerate launch gave an address for several processes (MASTER_ADDR), but started this one only, which "
            f"works alone; start as many as you want by '{TORCHRUN}'"
        )
    for name in MPI_SIZES:
        if _count(name) > 1:
            return (
                f"MPI started {os.environ[name]} processes ({name}), but they are not connected, and each does all of "
                f"the work; start them by '{TORCHRUN}'"
            )
    return None


def _check_meeting(started: int) -> None:
    """Raise InputError if processes cannot find one another, for which they would wait."""
    said = f"WORLD_SIZE says that {started} processes were started"
    fix = f"unset it to work in one, or start with '{TORCHRUN}'"
    for name in ("RANK", "MASTER_ADDR"):
        if not os.environ.get(name):
            raise InputError(f"{said}, but {name} is not set; {fix}")
    try:
        socket.getaddrinfo(os.environ["MASTER_ADDR"], None)
    except OSError as error:
        raise InputError(f"{said}, but MASTER_ADDR {os.environ['MASTER_ADDR']!r} is no known host; {fix}") from error


def _check_processes() -> None:
    """Raise InputError if more processes were started here than there are accelerators for them."""
    processes, devices = _count("LOCAL_WORLD_SIZE"), torch.accelerator.device_count()
    if processes > devices:
        raise InputError(
            f"{processes} processes were started, but there are {devices} accelerators; start as many, or give "
            "--device cpu"
        )


def _accelerator_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _device(name: str) -> torch.device:
    if name == "auto":
        # current_accelerator alone names what torch was built for, on machines without one too.
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device("cpu") if accelerator is None else accelerator
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: not available here ({str(error).splitlines()[0]}); try cpu") from error
    return device
