#!/usr/bin/env bash
# datasets 5.2.0 (numpy 2.4.6, pandas 3.1.1, pyarrow 26.0.1): with_format("numpy") rounds whole columns, but not
# single rows.
#
# Behaviour: a float64 column comes out as float32 if a column or a slice is read, and as float64 if one row is read:
# ds[0]["time"] and ds[:1]["time"][0] differ. Unix seconds are then known to 128 s only. An int64 column with one null
# becomes float32, too: ids above 2**24 = 16,777,216 are rounded, so that users become one. uint64 becomes int64, so
# hashed ids turn negative.
# A good guess: the dtype of the features in all cases (or the same one for a row and for a slice), and at worst
# float64 for integers with a null, as pandas gives.
# Hurt: who keeps a log in datasets and takes its columns as arrays: the order of events and the ids are no longer
# those of the log, and looking at single rows shows nothing. with_format("numpy", dtype=None) keeps floats.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==5.2.0 numpy==2.4.6 pandas==3.1.1 pyarrow==26.0.1
cd "$folder"
venv/bin/python - <<'PY'
import sys

import datasets
import numpy as np
from datasets import Dataset

print("datasets", datasets.__version__)
log = Dataset.from_dict(
    {
        "time": [1_600_000_001.0, 1_600_000_002.0, 1_600_000_040.0],
        "user": [20_000_001, 20_000_000, None],
        "hashed": np.array([2**63 + 7, 5, 6], dtype=np.uint64),
    }
).with_format("numpy")
print("features:", {name: feature.dtype for name, feature in log.features.items()})
columns, row = log[:], log[0]
for name in columns:
    print(f"{name:<7} column: {columns[name].dtype} {columns[name].tolist()}  row 0: {row[name].dtype} {row[name]}")
dtypes = [str(columns[name].dtype) for name in columns]
times, users = (len(set(columns[name][:2].tolist())) for name in ("time", "user"))
print(f"two times, {times} different; two users, {users} different")
sys.exit(
    not (
        dtypes == ["float32", "float32", "int64"]
        and (float(row["time"]), float(columns["time"][0])) == (1_600_000_001.0, 1_600_000_000.0)
        and (times, users) == (1, 1)
        and columns["hashed"][0] < 0
    )
)
PY
