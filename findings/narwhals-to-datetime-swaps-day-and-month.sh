#!/usr/bin/env bash
# narwhals 2.29.0 (pandas 3.1.1, polars 2.1.0, pyarrow 26.0.1): str.to_datetime() reads one date as two.
#
# Behaviour: without a format, "03/04/2026" is 4 March with a pandas frame behind and 3 April with a polars or an
# Arrow one. All values parse in both, nothing is said, and a week of events, 1 to 7 April, becomes one day in each of
# seven months or the reverse. Only a day above 12 tells the orders apart: then both give the same, or one raises.
# A good guess: one reading for all back ends, since the format is guessed by narwhals (for Arrow it does so itself);
# or an error that the format is ambiguous.
# Hurt: who writes a log reader that takes any frame: the order of events, the time split and the last item of a user
# depend on the library that the caller uses. Give the format.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q narwhals==2.29.0 pandas==3.1.1 polars==2.1.0 pyarrow==26.0.1
cd "$folder"
venv/bin/python - <<'PY'
import sys

import narwhals as nw
import pandas as pd
import polars as pl
import pyarrow as pa

print("narwhals", nw.__version__)
log = {"day": [f"{day:02}/04/2026" for day in range(1, 8)]}
found = {}
for name, frame in (("pandas", pd.DataFrame(log)), ("polars", pl.DataFrame(log)), ("pyarrow", pa.table(log))):
    parsed = nw.from_native(frame, eager_only=True).select(nw.col("day").str.to_datetime())["day"]
    found[name] = [str(value)[:10] for value in parsed.to_list()]
    print(f"{name:<8} {log['day'][0]} ... {log['day'][-1]} -> {found[name]}")
april = [f"2026-04-{day:02}" for day in range(1, 8)]
months = [f"2026-{month:02}-04" for month in range(1, 8)]
sys.exit(found != {"pandas": months, "polars": april, "pyarrow": april})
PY
