#!/usr/bin/env bash
# replay-rec 0.22.0 (numpy 2.4.6, pandas 2.3.3, polars 1.44.2, pyarrow 23.0.1): TimeSplitter(0.25) splits a pandas log
# in another place than the same log in polars.
#
# Behaviour: the cut at a share of the rows falls inside a group of rows with the same time. On pandas the whole group
# becomes test (on Spark too, as its source says), on polars the cut goes through it: equal times lie on both sides.
# On a log with ten days of 2,000 rows the test part is 30% of the rows on pandas and 25% on polars.
# A good guess: the same rows for every frame type, which is what the package's interface promises, and no time on
# both sides.
# Hurt: who compares runs of two versions of a pipeline, or with published ones: test sets differ by up to a whole day
# on logs with days or rounded times. With polars, simultaneous events (one order, one session) are partly trained on
# and partly tested.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q replay-rec==0.22.0 numpy==2.4.6 pandas==2.3.3 polars==1.44.2 pyarrow==23.0.1
cd "$folder"
venv/bin/python - <<'PY'
import importlib.metadata
import sys

import numpy as np
import pandas as pd
import polars as pl
from replay.splitters import TimeSplitter

print("replay-rec", importlib.metadata.version("replay-rec"))
rng = np.random.default_rng(0)
log = pd.DataFrame(
    {
        "query_id": rng.integers(0, 400, 20_000),
        "item_id": rng.integers(0, 500, 20_000),
        "timestamp": rng.permutation(np.arange(20_000) // 2_000),
    }
)
found = {}
for name, frame in (("pandas", log), ("polars", pl.from_pandas(log))):
    train, test = TimeSplitter(0.25).split(frame)
    both = set(train["timestamp"].to_list()) & set(test["timestamp"].to_list())
    found[name] = len(test) / len(log), both
    print(f"{name}: test part {len(test) / len(log):.1%} of the rows; days in train and in test: {sorted(both)}")
sys.exit(not (found == {"pandas": (0.3, set()), "polars": (0.25, {7})}))
PY
