#!/usr/bin/env bash
# RecTools 0.19.0 (Python 3.11, torch 2.13.0, pytorch-lightning 2.5.2, numpy 1.26.4, pandas 2.3.3): UniSRecModel gives
# all users whose last item was not in the training log one and the same list, whatever else they did.
#
# Behaviour: map_item_ids maps an item without interactions to 0, which is documented ("0 means unknown item"), and 0
# is the padding. predict_topk reads the user at the last position and takes that for padding, so that the history
# before it is lost: every such user has the same five items and the same scores, some hundredth of the usual ones.
# No error, no warning. The item has a text vector in the model's own table. In the middle of a history it is
# passed over, and what precedes and follows it still counts.
# A good guess: the item counts by its text vector, which is what the model is for; or it is skipped at the end, too,
# as SASRecModel of the same package does (unknown items are taken out before the sequence is padded).
# Hurt: who serves or evaluates a text-based model on a log with new items: the users whose latest event is a new item
# all get one list that stands for nobody, and the metrics of just these users fall. Take the zeros out before padding.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q rectools==0.19.0 pytorch-lightning==2.5.2 numpy==1.26.4 pandas==2.3.3
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'PY'
import importlib.metadata
import logging
import sys

import torch
from rectools.fast_transformers import UniSRecModel

for name in ("pytorch_lightning", "lightning.pytorch"):
    logging.getLogger(name).setLevel(logging.ERROR)
torch.manual_seed(0)
users = torch.arange(200).repeat_interleave(10)
items = ((torch.randint(0, 49, (200, 1)) + torch.arange(10)) % 49 + 1).flatten()  # item i is followed by item i + 1
times = torch.arange(10).repeat(200)
vectors = torch.cat([torch.zeros(1, 32), torch.randn(50, 32)])  # item 50 has a text vector, but no interaction
model = UniSRecModel(vectors, n_factors=32, session_max_len=10, epochs=20, lr=1e-3, device="cpu")
model.fit(users, items, times)


def recommend(history):
    padded = torch.zeros(1, 10, dtype=torch.long)
    padded[0, 10 - len(history) :] = model.map_item_ids(torch.tensor(history))
    scores, top = model.predict_topk(padded, k=5)
    print(f"{history!s:<18} items {top[0].tolist()!s:<22} scores {[round(s, 4) for s in scores[0].tolist()]}")
    return top[0].tolist(), scores[0]


print("RecTools", importlib.metadata.version("rectools"), "torch", torch.__version__)
known = [recommend(history) for history in ([1, 2, 3], [40, 41, 42], [20])]
middle = [recommend(history) for history in ([1, 2, 50, 3], [40, 41, 50, 42])]
last = [recommend(history) for history in ([1, 2, 3, 50], [40, 41, 42, 50], [20, 50], [50])]
one_list = all(top == last[0][0] and torch.equal(scores, last[0][1]) for top, scores in last)
others_differ = len({tuple(top) for top, _ in known}) == 3 and middle[0][0] != middle[1][0]
smaller = max(scores.max() for _, scores in last) * 10 < min(scores.max() for _, scores in known)
print("one list for all histories that end in item 50:", one_list, "| the others differ:", others_differ)
sys.exit(not (one_list and others_differ and smaller))
PY
