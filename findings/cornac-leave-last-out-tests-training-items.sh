#!/usr/bin/env bash
# cornac 3.0.1 (numpy 2.4.6, scipy 1.17.1): NextItemEvaluation.leave_last_out tests users whose last item is new on an
# earlier item, which may be one that was trained on.
#
# Behaviour: leave_last_out trains on seq[:-2] and, as its docstring says, tests on the last item. With
# exclude_unknowns=True, its default, an item that no training sequence holds is taken out of the test sequence before
# the target is chosen: the target is then the last item that is left. For a user whose last item is new it is the
# validation item; for one whose last two are new it is seq[-3], the last item of the user's own training sequence, with
# the training sequence before it as the history. A model that only repeats training sequences has a hit ratio at 1 of
# 0.417 where 50 of 120 users end with two new items; on the users whose last item is known it has 0.0. The number of
# tested users is that of all users, and no message tells of it.
# A good guess: such a user is left out of the test, as "exclude unknown users/items in evaluation" reads, or counts as
# a miss.
# Hurt: who evaluates on a log with many new items (news, fashion, a late cut of the data): the more items are new, the
# more of the test set is training data, and a model that learns by heart wins. exclude_unknowns=False keeps the
# targets.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q cornac==3.0.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'PY'
import importlib.metadata
import sys

import numpy as np
from cornac.eval_methods import NextItemEvaluation
from cornac.metrics import HitRatio
from cornac.models import NextItemRecommender

print("cornac", importlib.metadata.version("cornac"))


class Repeats(NextItemRecommender):
    """Answers the last item of a history with what followed it in the training sequences."""

    def __init__(self):
        super().__init__("repeats")

    def fit(self, train_set, val_set=None):
        super().fit(train_set, val_set)
        self.followed = np.zeros((self.num_items, self.num_items))
        for _, _, [items] in train_set.si_iter(batch_size=1, shuffle=False):
            self.followed[items[:-1], items[1:]] += 1
        return self

    def score(self, user_idx, history_items, **kwargs):
        return self.followed[history_items[-1]]


def sequence(user):
    """Return six items that this user alone knows in this order; every third user's last two are new ones."""
    old = [f"item {(user * 6 + place) % 360}" for place in range(4)]
    others = [f"item {((user + 7) * 6 + place) % 360}" for place in (2, 0)]
    return [*old, *([f"new {user} a", f"new {user} b"] if user % 12 < 5 else others)]


bought = {f"user {user}": sequence(user) for user in range(120)}
trained = {item for items in bought.values() for item in items[:-2]}
log = [(user, item, 1.0, time) for user, items in bought.items() for time, item in enumerate(items)]
known_last = {user for user, items in bought.items() if items[-1] in trained}


split = NextItemEvaluation.leave_last_out(log)
items, users = list(split.global_iid_map), list(split.global_uid_map)
targets = {}
for _, [places], [left] in split.test_set.si_iter(batch_size=1, shuffle=False):
    targets[users[split.test_set.uir_tuple[0][places[0]]]] = items[left[-1]]
result, _ = split.evaluate(Repeats(), [HitRatio(k=1)], user_based=True, show_validation=False)
hits = round(float(result.metric_avg_results["HitRatio@1"]), 3)
hit = {users[user]: values[0] for user, values in result.metric_user_results["HitRatio@1"].items()}
moved = {user for user, item in targets.items() if item != bought[user][-1]}
in_training = {user for user in moved if targets[user] in bought[user][:-2]}
hits_of_known = sum(hit[user] for user in known_last) / len(known_last)
print("users:", len(bought), "  tested:", len(targets), "  with a last item that is known:", len(known_last))
print("tested on an item that is not their last:", len(moved))
print("tested on an item of their own training sequence:", len(in_training))
print("for example user 0", bought["user 0"], "-> tested on", targets["user 0"])
print("hit ratio at 1 of a model that repeats training sequences:", hits)
print("of it, of the users whose last item is known:", hits_of_known)
found = len(targets), len(known_last), len(moved), len(in_training), hits, hits_of_known
sys.exit(not (found == (120, 70, 50, 50, 0.417, 0.0) and moved.isdisjoint(known_last)))
PY
