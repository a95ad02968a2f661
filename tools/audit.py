"""Ask for known faults of the versions in constraints.txt: ``python tools/audit.py [FILE]``.

It needs ``pip install pip-audit`` and a network. Exit status 0: none is known; 1: some are, and are listed; 2: it could
not be asked, with one line that says why.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
SECONDS = 300


def main(arguments: list[str]) -> int:
    """Run pip-audit over the pins of a file."""
    path = Path(arguments[0]) if arguments else CONSTRAINTS
    if importlib.util.find_spec("pip_audit") is None:
        return _fail("pip-audit is missing: pip install pip-audit")
    try:
        pins = pins_of(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return _fail(f"{path}: {error}")
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "pins.txt"
        listed.write_text("\n".join(pins) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
        try:
            done = subprocess.run([*command, "-r", listed], capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return _fail(f"no answer within {SECONDS} s; is there a network?")
    # pip-audit ends with 1 for faults, which it lists, and for errors of its own, which it logs.
    if done.returncode and not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return _fail(f"nothing could be asked ({last.strip()[:200]}); is there a network?")
    print(done.stdout.strip() or f"{len(pins)} packages of {path.name}: no known faults")
    return 1 if done.returncode else 0


def pins_of(text: str) -> list[str]:
    """Return the pins of a file of constraints, without comments and local versions.

    Raises:
        ValueError: a line is no pin.
    """
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    pins = [line.split("+")[0] for line in lines if line]
    if wrong := next((pin for pin in pins if pin.count("==") != 1), None):
        raise ValueError(f"'{wrong}' is no pin, as in 'numpy==2.4.6'")
    return pins


def _fail(message: str) -> int:
    print(f"audit: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
