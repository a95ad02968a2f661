#!/usr/bin/env bash
# RecTools 0.19.0 (numpy 1.26.4, pandas 2.3.3): NDCG@10 of a perfect recommendation is 0.22.
#
# Behaviour: with one test item a user, as in leave-one-out, and that item in first place for every user, NDCG(k=10)
# is 0.2201 and NDCG(k=50) 0.0775: the sum of gains is divided by that of a list in which all k items are hits,
# whatever the user can reach. So the "normalised" score falls with k, and is at most 0.22. MAP, MRR and recall of the
# same lists are 1.0. NDCG(k=10, divide_by_achievable=True) is 1.0.
# A good guess: 1.0 for a perfect list: the ideal list of a user with one relevant item has one hit.
# Hurt: who compares NDCG of RecTools with papers or other libraries: leave-one-out numbers are 4.5 times too low at
# k=10, 13 times at k=50, and the order of users with few and many test items is another one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q rectools==0.19.0 numpy==1.26.4 pandas==2.3.3
cd "$folder"
venv/bin/python - <<'PY'
import importlib.metadata
import sys

import pandas as pd
from rectools.metrics import MAP, MRR, NDCG, Recall

print("rectools", importlib.metadata.version("rectools"))
users = range(100)
lists = pd.DataFrame(
    [(user, f"i{user + place}", place + 1) for user in users for place in range(50)],
    columns=["user_id", "item_id", "rank"],
)
held_out = pd.DataFrame([(user, f"i{user}") for user in users], columns=["user_id", "item_id"])
found = {
    name: metric.calc(lists, held_out)
    for name, metric in {
        "NDCG(10)": NDCG(10),
        "NDCG(50)": NDCG(50),
        "NDCG(10, divide_by_achievable=True)": NDCG(10, divide_by_achievable=True),
        "MAP(10)": MAP(10),
        "MRR(10)": MRR(10),
        "Recall(10)": Recall(10),
    }.items()
}
print("every user has one test item, and it is recommended first:")
for name, value in found.items():
    print(f"  {name:<36} {value:.4f}")
sys.exit([round(value, 4) for value in found.values()] != [0.2201, 0.0775, 1.0, 1.0, 1.0, 1.0])
PY
