#!/usr/bin/env bash
# ranx 0.3.21 (numba 0.68.1, numpy 2.4.6): evaluate() of plain dictionaries compares the lists of one user with the test
# items of another.
#
# Behaviour: evaluate takes {user: {item: score}} for both sides. It checks that both have the same users, and then
# pairs them by position, not by name. A run whose users stand in another order than those of the test items has an
# NDCG@10 of 0.05 in place of 1.0, and moving the last user to the front is enough. Qrels and Run, made of the same
# dictionaries, sort their users and give 1.0; with one of them and one dictionary it is wrong again, although the
# dictionary has the order of the log. No error, no warning.
# A good guess: users are paired by their names, as in pytrec_eval and as for Qrels and Run, or are refused; the check
# of the names is there.
# Hurt: who has test items in the order of the log and lists in the order of the model's batches (by length, by user
# number, from several processes): a good model looks bad, or all models alike. Wrap both in Qrels and Run.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ranx==0.3.21 numba==0.68.1 numpy==2.4.6 pandas==3.1.1 scipy==1.17.1
cd "$folder"
NUMBA_NUM_THREADS=1 venv/bin/python -W ignore - <<'PY'
import importlib.metadata
import sys

import numpy as np
from ranx import Qrels, Run, evaluate

print("ranx", importlib.metadata.version("ranx"))
chance = np.random.default_rng(0)
log = [f"user {n}" for n in (7, 3, 11, 1, 9, 5, 2, 10, 4, 12, 8, 6)]  # in the order of their first events
wanted = {user: {f"item {place}": 1} for place, user in enumerate(log)}
lists = {}
for place, user in enumerate(log):
    others = {f"item {n}": 0.9 - n / 1000 for n in chance.choice(100, 9) if n != place}
    lists[user] = {f"item {place}": 1.0, **others}
moved = {user: lists[user] for user in [log[-1], *log[:-1]]}
by_name = {user: lists[user] for user in sorted(log)}
pairs = {
    "dictionaries, same order": (wanted, lists),
    "dictionaries, the last user of the run moved to the front": (wanted, moved),
    "dictionaries, the run sorted by user": (wanted, by_name),
    "Qrels and Run, the last user moved": (Qrels(wanted), Run(moved)),
    "Qrels and a dictionary in the order of the log": (Qrels(wanted), lists),
    "a dictionary in the order of the log, and Run": (wanted, Run(lists)),
}
found = {name: round(float(evaluate(*pair, "ndcg@10")), 4) for name, pair in pairs.items()}
for name, value in found.items():
    print(f"{name:<58} NDCG@10 {value}")
right = [value == 1.0 for value in found.values()]
wrong = [value for value in found.values() if value < 0.5]
sys.exit(not (right == [True, False, False, True, False, False] and len(wrong) == 4))
PY
