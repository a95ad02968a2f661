#!/usr/bin/env bash
# pandas 3.1.1, pyarrow 26.0.1: read_csv(engine="pyarrow") makes 4 users of 1,000.
#
# Behaviour: a column of whole numbers of which one is above 2**63 (unsigned 64-bit hashes: one half of them are) is
# uint64 and exact with pandas' own engine, if that reads the file at once (low_memory=False, or a short file). With
# engine="pyarrow", and by pyarrow.csv, the whole column is float64: ids are rounded to multiples of 2,048, and those
# that are close become one. No error, no warning, and no value is missing. dtype={"user": "uint64"} only hides it: the
# column is uint64 then, made of the rounded numbers, and has the same 4 users.
# A good guess: uint64 (as for the C engine, and as Arrow has the type), or text; the engine sets the speed, not the
# values.
# Hurt: who switches the engine to read a large log faster, or reads it by pyarrow: ids of the log join with no other
# table any more, and numbered ones merge. dtype={"user": "str"} keeps them, as do the C engine with
# low_memory=False and pyarrow's own column_types.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PY'
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

print("pandas", pd.__version__, "pyarrow", pa.__version__)
with open("log.csv", "w") as file:
    file.write("user,item\n" + "\n".join(f"{18_300_000_000_000_000_000 + 7 * n},{n}" for n in range(1000)) + "\n")
found = {
    "pandas, C engine": pd.read_csv("log.csv")["user"],
    "pandas, engine='pyarrow'": pd.read_csv("log.csv", engine="pyarrow")["user"],
    "pyarrow.csv": csv.read_csv("log.csv")["user"].to_pandas(),
    "pandas, engine='pyarrow', uint64": pd.read_csv("log.csv", engine="pyarrow", dtype={"user": "uint64"})["user"],
    "pandas, engine='pyarrow', str": pd.read_csv("log.csv", engine="pyarrow", dtype={"user": "str"})["user"],
    "pyarrow.csv, column_types uint64": csv.read_csv(
        "log.csv", convert_options=csv.ConvertOptions(column_types={"user": pa.uint64()})
    )["user"].to_pandas(),
}
for name, users in found.items():
    print(f"{name:<34} {users.dtype!s:<8} {users.nunique():>5} users")
sys.exit([users.nunique() for users in found.values()] != [1000, 4, 4, 4, 1000, 1000])
PY
