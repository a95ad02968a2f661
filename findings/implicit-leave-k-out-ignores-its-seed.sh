#!/usr/bin/env bash
# implicit 0.7.3 (numpy 2.4.6, scipy 1.17.1): leave_k_out_split(random_state=...) gives another split at every call.
#
# Behaviour: five calls with random_state=0 hold out five different sets of items. train_test_split of the
# same module keeps its seed. The items are drawn by numpy's global generator: numpy.random.seed(0) before the call
# makes it repeatable. (Reported to the project in 2023; not in a release.)
# A good guess: one seed, one split, as in train_test_split beside it.
# Hurt: who compares models in several processes or days on "the same" leave-k-out split with a fixed seed: every run
# has other test items, and with its train part saved and its test part made anew, test items lie in the training
# data.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q implicit==0.7.3 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PY'
import sys

import implicit
import numpy as np
import scipy.sparse as sp
from implicit.evaluation import leave_k_out_split, train_test_split

log = sp.random(200, 100, 0.2, random_state=0, format="csr")
log.data[:] = 1.0


def different(split):
    """Count the different test parts in five calls."""
    return len({sp.csr_matrix(split()[1]).toarray().tobytes() for _ in range(5)})


def reseeded():
    np.random.seed(0)
    return leave_k_out_split(log, K=1, random_state=0)


print("implicit", implicit.__version__)
found = {
    "train_test_split(random_state=0)": different(lambda: train_test_split(log, 0.8, random_state=0)),
    "leave_k_out_split(random_state=0)": different(lambda: leave_k_out_split(log, K=1, random_state=0)),
    "numpy.random.seed(0); leave_k_out_split(random_state=0)": different(reseeded),
}
for call, count in found.items():
    print(f"{call:<58} {count} different test parts in 5 calls")
sys.exit(list(found.values()) != [1, 5, 1])
PY
