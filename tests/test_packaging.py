"""The wheel and the sdist: what is in them, what they say, and that the wheel works where it is installed."""

import email
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import foster

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAME = f"foster-{foster.__version__}"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist of the working tree."""
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    (found,) = built.glob("*.whl")
    return found


def test_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    source = ROOT / "src"
    package = {
        path.relative_to(source).as_posix()
        for path in (source / "foster").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    info = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    assert names == package | info | {f"{NAME}.dist-info/licenses/LICENSE"}
    assert {"foster/py.typed", "foster/inspection/templates/page.html"} <= names
    assert {Path(name).suffix for name in package} <= {".py", ".typed", ".html", ".css"}  # no data, no weights
    assert wheel.name == f"{NAME}-py3-none-any.whl" and wheel.stat().st_size < 2**20


def test_metadata_says_what_pyproject_says(wheel):
    with zipfile.ZipFile(wheel) as file:
        said = email.message_from_bytes(file.read(f"{NAME}.dist-info/METADATA"))
        scripts = file.read(f"{NAME}.dist-info/entry_points.txt").decode()
    assert said["Name"] == "foster" and said["Version"] == foster.__version__
    assert said["License-Expression"] == "Apache-2.0" and said["Requires-Python"] == PROJECT["requires-python"]
    plain = [one for one in said.get_all("Requires-Dist") if "extra ==" not in one]
    assert sorted(one.lower() for one in plain) == sorted(one.lower() for one in PROJECT["dependencies"])
    assert set(said.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    assert said.get_payload().startswith("# FOSTER") and said["Description-Content-Type"] == "text/markdown"
    assert "foster = foster.__main__:main" in scripts


def test_sdist_holds_what_building_and_testing_need(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        names = {name.removeprefix(f"{NAME}/") for name in file.getnames()}
    needed = {
        "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "SECURITY.md", "constraints.txt",
        "src/foster/py.typed", "tests/conftest.py", "docs/artefacts.md",
        # Tests run them, and pages link to their results.
        "benchmarks/damage.py", "benchmarks/fuzz.py", "benchmarks/pool.py", "benchmarks/ablations.yaml",
        "benchmarks/results/baselines.md",
    }  # fmt: skip
    assert needed <= names
    tops = {name.split("/")[0] for name in names}
    assert tops <= {"src", "tests", "docs", "tools", "benchmarks", ".gitignore", "PKG-INFO", "Makefile"} | needed
    assert not {name for name in names if name.endswith((".parquet", ".safetensors", ".pyc", ".bin", ".db"))}
    tables = {name for name in names if name.endswith(".csv")}  # a line a run of a benchmark, and no data
    assert {str(Path(name).parent) for name in tables} == {"benchmarks/results/runs"}


def test_citation_names_this_version():
    yaml = pytest.importorskip("yaml")
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert said["version"] == foster.__version__ and said["license"] == PROJECT["license"]
    assert said["cff-version"] == "1.2.0" and {"title", "message", "authors"} <= said.keys()


def test_installed_wheel_works(wheel, tmp_path):
    """Its own files, with the packages of this interpreter."""
    place = tmp_path / "site"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", place, wheel]
    subprocess.run([sys.executable, *install], check=True, cwd=tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(place), "FOSTER_CACHE": str(tmp_path / "cache")}

    def run(*words) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(place) in run("-c", "import foster; print(foster.__file__)")
    assert "grocery" in run(place / "bin" / "foster", "demo", "--help")
    assert f"foster                  {foster.__version__}" in run("-m", "foster", "doctor", "--device", "cpu")
    looked = "from jinja2 import PackageLoader; print(PackageLoader('foster.inspection').list_templates())"
    assert "page.html" in run("-c", looked)
