#!/usr/bin/env bash
# torch-rechub 0.9.0 (torch 2.13.0, numpy 2.4.6, pandas 2.3.3): of its four ways to draw negatives, "tencent RALM
# sampling" (method_id=3), which is to prefer popular items, prefers those that occur once.
#
# Behaviour: the formula, log(k + 2) - log(k + 1), is for k the place of an item in the order of popularity (0: the most
# popular). negative_sample puts the number of interactions there. With 1,000 popular items of 500 interactions and
# 1,000 rare ones of one, all drawn negatives are rare ones; by methods 1 and 2, of popularity too, 1 % and 11 %.
# A draw is without replacement, so that generate_seq_feature_match(sample_method=3), which asks for one or more of each
# row, raises ValueError on any log with more rows than items.
# A good guess: popular items more often than rare ones, as by the other two methods of popularity.
# Hurt: who takes it for hard negatives: nearly all are items that nobody is shown, and a model
# can tell positives by their popularity alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q torch-rechub==0.9.0 numpy==2.4.6 pandas==2.3.3
cd "$folder"
venv/bin/python - <<'PY'
import importlib.metadata
import sys

import numpy as np
import pandas as pd
from torch_rechub.utils.match import generate_seq_feature_match, negative_sample

print("torch-rechub", importlib.metadata.version("torch-rechub"))
np.random.seed(0)
counts = {item: 500 if item < 1_000 else 1 for item in range(2_000)}  # the most popular first, as it asks for
rare = {}
for method in (0, 1, 2, 3):
    drawn = np.concatenate([negative_sample(counts, ratio=100, method_id=method) for _ in range(100)])
    rare[method] = float((drawn >= 1_000).mean())
    print(f"method_id={method}: {rare[method]:.0%} of 10,000 negatives are items with one interaction")
log = pd.DataFrame({"user": np.repeat(range(5), 4), "item": np.tile(range(4), 5), "time": range(20)})
try:
    generate_seq_feature_match(log, "user", "item", "time", sample_method=3, mode=1)
    raised = False
except ValueError as error:
    raised = True
    print("generate_seq_feature_match(sample_method=3), 20 rows of 4 items:", error)
sys.exit(not (rare[3] > 0.95 and rare[1] < 0.03 and rare[2] < 0.15 and 0.4 < rare[0] < 0.6 and raised))
PY
