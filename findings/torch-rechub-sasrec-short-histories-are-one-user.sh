#!/usr/bin/env bash
# torch-rechub 0.9.0 (torch 2.13.0, numpy 2.4.6, pandas 2.3.3): SASRec's user vector does not depend on histories that
# fill at most half of the sequence, as the package pads them.
#
# Behaviour: gen_model_input pads on the left (padding='pre' is its default). SASRec.user_tower takes the state at place
# (number of items - 1), counted from the left, which is the last item only where padding is on the right. On the left a
# history of n items stands at the places L - n to L - 1, so that for n <= L / 2 the state of a place of padding is
# taken: that is the bias of the last norm, the same vector for every user. Longer ones are cut off before their last
# item: of 7 items in 10 places the newest three count for nothing. No error, no warning.
# A good guess: padding is told from the zeros of the sequence and the newest item decides, or the default of one part
# of the package fits the other; a model that is trained so has at least a loss that does not look fine.
# Hurt: who trains it with in-batch negatives (item_feature=...) on short histories, which is most of them at max_len=50:
# all users with up to 25 items get the same list. padding='post' is the remedy.
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

import pandas as pd
import torch
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.matching import SASRec
from torch_rechub.utils.match import gen_model_input

print("torch-rechub", importlib.metadata.version("torch-rechub"))
LENGTH, ITEMS = 10, 40
histories = {
    "3 items": [[1, 2, 3], [31, 32, 33]],
    "5 items": [[1, 2, 3, 4, 5], [31, 32, 33, 34, 35]],
    "7 items, the newest three differ": [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 35, 36, 37]],
    "7 items, all differ": [[1, 2, 3, 4, 5, 6, 7], [31, 32, 33, 34, 35, 36, 37]],
}
users, items = pd.DataFrame({"user_id": [1, 2]}), pd.DataFrame({"item_id": range(1, ITEMS)})
torch.manual_seed(0)
seq = SequenceFeature("seq", vocab_size=ITEMS, embed_dim=8, pooling="concat")
target = SparseFeature("item_id", vocab_size=ITEMS, embed_dim=8)
model = SASRec([seq], max_len=LENGTH, num_blocks=2, item_feature=target)
model.eval()
model.mode = "user"


def equal(pair, padding):
    log = pd.DataFrame({"user_id": [1, 2], "item_id": [8, 9], "hist_item_id": pair})
    how = {} if padding is None else {"padding": padding}
    x = gen_model_input(log, users, "user_id", items, "item_id", seq_max_len=LENGTH, **how)
    with torch.no_grad():
        one, two = model({"seq": torch.as_tensor(x["hist_item_id"])})
    return bool(torch.equal(one, two))


found = {}
for name, pair in histories.items():
    found[name] = equal(pair, None), equal(pair, "post")
    print(f"{name}: equal vectors of two users: padded as by default {found[name][0]}, padding='post' {found[name][1]}")
wanted = dict(zip(histories, [(True, False), (True, False), (True, False), (False, False)], strict=True))
sys.exit(found != wanted)
PY
