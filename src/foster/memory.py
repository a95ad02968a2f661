"""What memory there is."""

from __future__ import annotations

from pathlib import Path

import psutil

try:
    import resource
except ImportError:  # Windows: no process has a limit of its own there
    resource = None  # type: ignore[assignment]

LEAST = 2**30  # bytes that a limit has to allow for libraries not to end the process
LEAST_LEFT = 2**26  # and of these, bytes that have to be left


def free_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process can still take: those that the machine has, or that its container grants it.

    Memory that holds copies of files counts as free, since it is given back when it is needed.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    limited = [] if (limit := limited_memory()) is None else [limit[1]]
    return min([psutil.virtual_memory().available, *limited, *_granted(root)])


def limited_memory() -> tuple[int, int] | None:
    """Return how many bytes of addresses this process may have (``ulimit -v``), and how many are left; None: any."""
    if resource is None or (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) == resource.RLIM_INFINITY:
        return None
    return limit, max(limit - psutil.Process().memory_info().vms, 0)


def too_little() -> str | None:
    """Say that a limit is one at which libraries end the process, which nobody can catch; None where it is not."""
    if (limit := limited_memory()) is None or (limit[0] >= LEAST and limit[1] >= LEAST_LEFT):
        return None
    whole, left = (f"{count / 2**20:,.0f} MiB" for count in limit)
    return f"memory is limited to {whole} (ulimit -v), of which {left} are left; allow 1 GiB more, or lift the limit"


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
