#!/usr/bin/env bash
# LibRecommender 1.5.2 (tensorflow-cpu 2.15.1, torch 2.13.0, numpy 1.26.4): evaluate(neg_sampling=True) draws a user's
# own training items as negatives, and its roc_auc picks the worse model.
#
# Behaviour: the negatives of a test set are drawn from all items but the test items of the user; what he has in the
# training log is not left out. With 200 items, of which each user has 40 in training and 10 in the test, 21% of the
# negatives are training items, which a good model puts first. ALS with 64 dimensions has a roc_auc of 0.57, one with
# 2 dimensions 0.63; with pr_auc it is the same. With negatives that the user has in neither part, given to the same
# function as rows with the label 0, it is 0.72 and 0.70, and recall at 10, for which training items are left out, says
# 0.25 and 0.11. The values that fit(eval_data=...) prints for each epoch come from the same function. No warning; the
# documentation says only that negatives are sampled.
# A good guess: negatives are items that the user has in neither part, as the lists of the same call leave out what
# was consumed.
# Hurt: who chooses a model, its size or its number of epochs by these metrics on a small catalogue or with heavy
# users: the better a model knows the log, the more it loses. In a large catalogue the share is small. Give evaluate()
# negatives of your own, with neg_sampling=False.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q LibRecommender==1.5.2 tensorflow-cpu==2.15.1 torch==2.13.0 numpy==1.26.4 \
    pandas==2.3.3 scipy==1.14.1 scikit-learn==1.6.1
cd "$folder"
cat > script.py <<'PY'
import contextlib
import importlib.metadata
import io
import logging
import sys

logging.disable()

import numpy as np
import pandas as pd
from libreco.algorithms import ALS
from libreco.data import DatasetPure
from libreco.evaluation import evaluate

print("LibRecommender", importlib.metadata.version("LibRecommender"))
chance = np.random.default_rng(0)
items, groups = 200, 4
pairs = []
for user in range(400):
    weight = np.where(np.arange(items) % groups == user % groups, 1, 0.05)
    pairs += [(user, int(item)) for item in chance.choice(items, 50, replace=False, p=weight / weight.sum())]
log = pd.DataFrame(pairs, columns=["user", "item"]).assign(label=1)
late = log.groupby("user").cumcount() >= 40
train, test = log[~late], log[late]
consumed = set(pairs)
trained = set(zip(train["user"], train["item"]))
free = []
for user in test["user"]:
    item = int(chance.integers(items))
    while (user, item) in consumed:
        item = int(chance.integers(items))
    free.append((user, item))
negatives = pd.DataFrame(free, columns=["user", "item"]).assign(label=0)
labelled = pd.concat([test, negatives], ignore_index=True)

metrics = ["roc_auc", "pr_auc", "recall"]
found = {}
for size, epochs in ((64, 3), (2, 10)):
    data, info = DatasetPure.build_trainset(train)
    model = ALS("ranking", info, embed_size=size, n_epochs=epochs, reg=0.1, alpha=10, use_cg=False, n_threads=1, seed=0)
    with contextlib.redirect_stdout(io.StringIO()):
        model.fit(data, neg_sampling=True, verbose=0)
    rows = DatasetPure.build_testset(test)
    sampled = evaluate(model, rows, neg_sampling=True, metrics=metrics, k=10)
    own = evaluate(model, labelled, neg_sampling=False, metrics=metrics, k=10)
    drawn = [
        (info.id2user[user], info.id2item[item])
        for user, item, label in zip(rows.user_indices, rows.item_indices, rows.labels)
        if label == 0
    ]
    share = sum(pair in trained for pair in drawn) / len(drawn)
    tested = sum(pair in consumed for pair in drawn) / len(drawn) - share
    found[size] = {
        "sampled": sampled,
        "own": own,
        "share": share,
        "tested": tested,
        "same recall": bool(np.isclose(sampled["recall"], own["recall"])),
    }
    print(f"{size} dimensions: {len(drawn)} negatives were drawn, {share:.1%} are training items of the user,", end=" ")
    print(f"{tested:.1%} test items")
    for name in metrics:
        print(f"    {name:<8} {sampled[name]:.3f}, with negatives that the user does not have {own[name]:.3f}")
large, small = found[64], found[2]
wanted = [
    all(0.18 < values["share"] < 0.24 and values["tested"] == 0 and values["same recall"] for values in found.values()),
    all(large["sampled"][name] + 0.03 < small["sampled"][name] for name in ("roc_auc", "pr_auc")),
    all(large["own"][name] > small["own"][name] + 0.01 for name in ("roc_auc", "pr_auc")),
    large["own"]["recall"] > 1.5 * small["own"]["recall"],
]
print(wanted)
sys.exit(not all(wanted))
PY
OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3 TQDM_DISABLE=1 venv/bin/python -W ignore script.py
