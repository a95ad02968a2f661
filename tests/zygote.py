"""A process that has all modules loaded and forks for each call of a verb, in any environment.

A fresh start of Python takes seconds; pytest's own process cannot be forked, since it has threads by then.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a call ended: its status, negative for a signal, and its output."""

    code: int
    out: str
    err: str


class Zygote:
    """Start with ``with``; call it like the command line."""

    def __enter__(self) -> Zygote:
        """Start the process."""
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *error: object) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def __call__(self, place: Path, *arguments: object, **environment: Any) -> Ended:
        """Run a verb.

        Args:
            place: folder for what it prints.
            arguments: of the command line.
            environment: see ``_prepare``.
        """
        assert self._process.stdin and self._process.stdout
        call = {"place": str(place), "arguments": [str(word) for word in arguments], **environment}
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        code = json.loads(self._process.stdout.readline())
        read = [
            (place / name).read_text(errors="replace") if (place / name).exists() else "" for name in ("out", "err")
        ]
        return Ended(code, *read)


def _prepare(call: dict[str, Any]) -> None:
    """Make the environment of a call.

    ``env``: variables, None removes one; ``stdout``: a file, or "closed"; ``stderr``: "closed"; ``file_size``: bytes
    that a file may have; ``memory``: bytes beyond those in use; ``user``: number of a user; ``gone``: a folder to be
    in, which is removed; ``seconds``: after which it is killed; ``learn``: whether later processes have from the start
    what this one loads.
    """
    place = Path(call["place"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if call.get("stdout") == "closed":
        os.close(1)
        sys.stdout = None  # as Python has it then
    elif "stdout" in call:
        os.dup2(os.open(call["stdout"], os.O_WRONLY), 1)
    if call.get("stderr") == "closed":
        os.close(2)
        sys.stderr = None
    if "encoding" in call:
        sys.stdout.reconfigure(encoding=call["encoding"])  # type: ignore[union-attr]
    for name, value in call.get("env", {}).items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if "gone" in call:
        Path(call["gone"]).mkdir()
        os.chdir(call["gone"])
        Path(call["gone"]).rmdir()
    if "file_size" in call:
        resource.setrlimit(resource.RLIMIT_FSIZE, (call["file_size"],) * 2)
    if "memory" in call:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + call["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (used, used))
    if "user" in call:
        os.setgid(call["user"])
        os.setuid(call["user"])


def write_loaded(path: Path) -> None:
    """Write which modules this process has."""
    path.write_text("\n".join(sys.modules))


def load(path: Path) -> None:
    """Load the modules that another process had, so that forks of this one have them from the start."""
    for name in path.read_text().split():
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _serve() -> None:
    import signal

    import torch

    import foster.cli
    import foster.evaluation.evaluate
    import foster.inspection.inspect
    import foster.runs
    import foster.tuning.results

    foster.tuning.results.drawable = lambda frame: False  # pictures take longer than all the rest
    torch.set_num_threads(1)
    for line in sys.stdin:
        call = json.loads(line)
        learnt = Path(call["place"], "modules") if call.get("learn") else None
        if pid := os.fork():
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if learnt:
                load(learnt)
            print(json.dumps(code), flush=True)  # noqa: T201
            continue
        signal.alarm(call.get("seconds", 120))
        code = 1
        try:
            _prepare(call)
            sys.argv = ["foster", *call["arguments"]]
            foster.cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode())
        finally:
            if learnt:
                write_loaded(learnt)
            os._exit(code)


if __name__ == "__main__":
    _serve()
