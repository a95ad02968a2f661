#!/usr/bin/env bash
# irspack 0.5.2 (numpy 2.4.6, scipy 1.17.1, pandas 3.1.1): split_dataframe_partial_user_holdout(rating_column=...)
# gives the validation and test users their ratings and the training users ones.
#
# Behaviour: of 100 users with ratings from 1 to 5, the matrices of the 10 validation and the 10 test users, known
# items and held-out ones, hold the ratings of the log. X_train of the 80 training users holds 1.0 everywhere. The
# docstring says that without rating_column all ratings are taken as 1. So in a log where half of the items are well
# liked and half are seen more often and disliked, TopPopRecommender scores the disliked half higher. No error, no
# warning.
# A good guess: the column is used for all users; or for the training users alone.
# Hurt: who trains with ratings, counts of plays or purchases, or confidences as weights: all models learn from plain
# clicks, and a comparison of weighted with plain training finds no difference; then a model that was trained on ones
# is fed weighted profiles when it is tuned and tested. Build the training matrix with
# df_to_sparse(rating_column=...).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q irspack==0.5.2 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1
cd "$folder"
OMP_NUM_THREADS=1 IRSPACK_NUM_THREADS_DEFAULT=1 venv/bin/python - <<'PY'
import importlib.metadata
import logging
import sys

import numpy as np
import pandas as pd
from irspack.recommenders import TopPopRecommender
from irspack.split import split_dataframe_partial_user_holdout
from irspack.utils import df_to_sparse

logging.disable()
print("irspack", importlib.metadata.version("irspack"))
chance = np.random.default_rng(0)
rows = []
for user in range(100):
    rows += [(user, item, chance.integers(4, 6)) for item in chance.choice(20, 4, replace=False)]
    rows += [(user, 20 + item, chance.integers(1, 3)) for item in chance.choice(20, 6, replace=False)]
log = pd.DataFrame(rows, columns=["user", "item", "rating"])
parts, items = split_dataframe_partial_user_holdout(log, "user", "item", rating_column="rating", random_state=0)
seen = {}
for name, part in parts.items():
    seen[name] = [sorted({int(value) for value in matrix.data}) for matrix in (part.X_train, part.X_test)]
    print(f"{name:<5} users {part.n_users:>2}  ratings in X_train {seen[name][0]}  in X_test {seen[name][1]}")
train = parts["train"]
log_of_train = log[log["user"].isin(train.user_ids)]
kept = train.X_train.nnz == len(log_of_train)
print("mean rating of the training users: in the log", round(float(log_of_train["rating"].mean()), 2), end="")
print("  in X_train", float(train.X_train.data.mean()))
with_ratings, _, _ = df_to_sparse(log_of_train, "user", "item", item_ids=items, rating_column="rating")
liked = np.array(items) < 20
higher = {}
for name, matrix in {"of the split": train.X_train, "by df_to_sparse": with_ratings}.items():
    scores = TopPopRecommender(matrix).learn().get_score(np.arange(1))[0]
    higher[name] = bool(scores[liked].mean() > scores[~liked].mean())
    print(f"matrix {name:<16} mean popularity: liked {scores[liked].mean():6.2f}", end="")
    print(f"  disliked {scores[~liked].mean():6.2f}")
wrong = seen["train"] == [[1], []] and seen["val"] == seen["test"] == [[1, 2, 4, 5], [1, 2, 4, 5]]
sys.exit(not (wrong and kept and list(higher.values()) == [False, True]))
PY
