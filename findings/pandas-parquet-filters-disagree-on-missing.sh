#!/usr/bin/env bash
# pandas 3.1.1, pyarrow 26.0.1: two ways to leave one value out of a Parquet file differ by the rows without a value.
#
# Behaviour: read_parquet(filters=[("category", "!=", "toys")]) drops rows whose category is missing;
# filters=[("category", "not in", ["toys"])] keeps them; so it is with pyarrow.parquet.read_table. On the frame,
# df[df["category"] != "toys"] keeps them, so moving the first filter into the reader, to save memory, loses rows.
# A good guess: "!=" and "not in" of one value are the same thing, both as in SQL (missing dropped) or both as in
# pandas (kept).
# Hurt: who filters a log by event type, category or country while reading: the number of interactions depends on the
# spelling.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PY'
import sys

import pandas as pd
import pyarrow as pa

print("pandas", pd.__version__, "pyarrow", pa.__version__)
pd.DataFrame({"item": list("abcd"), "category": ["toys", None, "books", None]}).to_parquet("items.parquet")
log = pd.read_parquet("items.parquet")
found = {
    'filters=[("category", "!=", "toys")]': pd.read_parquet("items.parquet", filters=[("category", "!=", "toys")]),
    'filters=[("category", "not in", ["toys"])]': pd.read_parquet(
        "items.parquet", filters=[("category", "not in", ["toys"])]
    ),
    'df[df["category"] != "toys"]': log[log["category"] != "toys"],
}
for name, rows in found.items():
    print(f"{name:<45} items {rows['item'].tolist()}")
sys.exit([rows["item"].tolist() for rows in found.values()] != [["c"], ["b", "c", "d"], ["b", "c", "d"]])
PY
