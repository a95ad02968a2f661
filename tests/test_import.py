"""What ``import foster`` brings in."""

import importlib.util
import subprocess
import sys

import pytest

import foster

HEAVY = ("torch", "transformers", "polars", "numpy", "accelerate")


@pytest.mark.parametrize(("name", "heavy"), [("foster", (*HEAVY, "pydantic", "typer")), ("foster.cli", HEAVY)])
def test_importing_the_package_loads_nothing_that_takes_time(name, heavy):
    code = f"import sys, {name}; print(sorted(set({heavy}) & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_public_name_is_a_module_too():
    """Importing ``foster.NAME`` would put the module in the place of the function."""
    assert [name for name in foster.__all__ if importlib.util.find_spec(f"foster.{name}")] == []
