"""Where a result comes from: the commit and the processor, as benchmarks write them beside their numbers."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path


def commit(source: Path) -> str | None:
    """Return the commit of a checkout, or None outside of a repository."""
    command = ["git", "-C", str(source), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
