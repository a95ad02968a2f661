"""What ``import foster`` brings in."""

import subprocess
import sys


def test_importing_the_package_loads_nothing_that_takes_time():
    heavy = "{'torch', 'transformers', 'polars', 'numpy', 'pydantic', 'typer', 'accelerate'}"
    code = f"import sys, foster; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
