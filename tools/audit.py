"""Ask for known faults of the versions in constraints.txt: ``python tools/audit.py [FILE]``.

It needs ``pip install pip-audit`` and a network. Exit status 0: none is known; 1: some are, and are listed; 2: it could
not be asked, with one line that says why. Where the answer is missing for a few packages, these are named.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

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
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "--no-deps",
            "--disable-pip",
            "--progress-spinner=off",
            "--format=json",
        ]
        try:
            done = subprocess.run([*command, "-r", listed], capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return _fail(f"no answer within {SECONDS} s; is there a network?")
    # pip-audit ends with 1 for faults, which it lists, and for errors of its own, which it logs.
    if not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return _fail(f"nothing could be asked ({last.strip()[:200]}); is there a network?")
    return _report(json.loads(done.stdout)["dependencies"], path.name)


def _report(packages: list[dict[str, Any]], name: str) -> int:
    # What the index does not know is skipped, with exit status 0: an answer about nothing is no answer.
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    if len(unknown) == len(packages):
        return _fail(f"none of the {len(packages)} packages of {name} could be looked up; is the index a mirror?")
    faults = [(one["name"], one["version"], fault) for one in packages for fault in one.get("vulns", ())]
    for package, version, fault in faults:
        print(f"{package} {version}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'no version'}")
    print(f"{len(packages) - len(unknown)} packages of {name}: {len(faults) or 'no'} known faults")
    if unknown:
        print(f"not looked up: {', '.join(unknown)}")
    return 1 if faults else 0


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
