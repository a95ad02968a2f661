#!/usr/bin/env bash
# datasets 5.2.0 (torch 2.13.0, numpy 2.4.6, pyarrow 26.0.1): one missing number among whole ones makes float32 of
# them, so that item ids above 16,777,216 merge.
#
# Behaviour: a log of 8,000 events has item ids of nine digits (int64), of which four are missing. with_format("torch")
# and with_format("numpy") give the column as float32: of 2,000 items 251 are left. A batch without a missing id is
# int64 and exact, so an item has one id in one batch and another in the next: in a DataLoader with batches of 250, 4
# of 32 are rounded. Lists do the same: one missing entry in one history rounds the histories of the whole batch. Times
# in seconds, as float64, are rounded to 128 seconds. The features say int64 all the while; with "pandas" all ids can be
# told apart. No error, no warning; the pages on NumPy and on PyTorch speak of no types here.
# A good guess: an error, an object array, or at least float64, as pyarrow, pandas and polars make of it, which is exact
# up to 2**53.
# Hurt: who feeds a recommender from a Dataset and casts ids with .long(): items become their neighbours in number, in
# some batches only; the order of events within two minutes is lost, and with it the last item. dtype=None in
# with_format keeps float64; filling the missing ids with -1 keeps int64.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q datasets==5.2.0 numpy==2.4.6 pandas==3.1.1 pyarrow==26.0.1
cd "$folder"
HF_HUB_OFFLINE=1 venv/bin/python - <<'PY'
import sys

import datasets
import numpy as np
import torch

print("datasets", datasets.__version__)
chance = np.random.default_rng(0)
items = [100_000_000 + number for number in chance.permutation(np.repeat(np.arange(2_000), 4)).tolist()]
items[100] = items[2_100] = items[4_100] = items[6_100] = None
times = [1_700_000_000 + 10 * place for place in range(8_000)]
log = datasets.Dataset.from_dict({"item": items, "time": [float(time) for time in times]})
print("features:", log.features)
known = len({item for item in items if item is not None})


def distinct(values):
    """Return the type of a column and how many different ids it holds."""
    array = np.asarray(values)
    return str(array.dtype), len(np.unique(array[~np.isnan(array)]))


found = {"numpy": distinct(log.with_format("numpy")["item"][:]), "torch": distinct(log.with_format("torch")["item"][:])}
found["numpy, dtype=None"] = distinct(log.with_format("numpy", dtype=None)["item"][:])
found["pandas"] = distinct(log.with_format("pandas")["item"][:])
for name, (kind, count) in found.items():
    print(f"{name:<18} {kind}, {count} of {known} items")
rows = log.select_columns("item").with_format("torch")
batches = torch.utils.data.DataLoader(rows, batch_size=250)
kinds = [batch["item"].dtype for batch in batches]
print("batches of a DataLoader:", {str(kind): kinds.count(kind) for kind in set(kinds)})
times_kept = len(set(log.with_format("numpy")["time"][:].tolist()))
print("times in seconds (float64):", times_kept, "of", len(set(times)))
histories = datasets.Dataset.from_dict({"items": [[100_000_001, 100_000_002], [100_000_003, None], [5, 6]]})
batch = histories.with_format("torch")[:]["items"]
print("histories:", [row.tolist() for row in batch], batch.dtype)
sys.exit(
    not (
        known == 2_000
        and found["numpy"][0] == found["torch"][0] == "float32"
        and found["numpy"][1] == found["torch"][1] < 300
        and found["pandas"] == found["numpy, dtype=None"] == ("float64", 2_000)
        and (kinds.count(torch.float32), kinds.count(torch.int64)) == (4, 28)
        and times_kept < 800
        and batch.dtype == torch.float32
        and batch[0].tolist() == [100_000_000.0, 100_000_000.0]
    )
)
PY
