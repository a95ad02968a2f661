"""Several processes of one job, as a launcher starts them."""

import os
import subprocess
import sys
from pathlib import Path


def in_processes(
    count: int, *command: object, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``torchrun COMMAND`` on the CPU, one thread a process, and see to it that it ends well."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    done = subprocess.run(
        [*launch, *map(str, command)],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return done
