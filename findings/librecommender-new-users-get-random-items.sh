#!/usr/bin/env bash
# LibRecommender 1.5.2 (tensorflow-cpu 2.15.1, torch 2.13.0, numpy 1.26.4): a new user gets items at random out of the
# whole catalogue, some of them twice in one list.
#
# Behaviour: recommend_user of a user who is not in the training log, with ALS and the default cold_start="average"
# (documented: the average of all user vectors stands for the new user), draws the list at random, with replacement,
# from the 2,000 items that are best for the average user. In a catalogue of some 900 items that is all of them: the
# items are as popular as chance has it, in any order, others at the next call, and one list of ten in twenty-five
# holds an item twice. predict() of the same new user does as documented: its ten best items are the most popular ones.
# In a catalogue of 4,600 items the mean item stands at place 1,000 of predict(). cold_start="popular" ("simply returns
# the most popular items", says the guide; "will sample from popular items", says the docstring) draws from the 100
# most popular, with replacement: nearly half of the lists of ten hold an item twice. Users of the log get good lists,
# without repetitions. Nothing is said but that the user is unknown.
# A good guess: the items that predict() puts first, or the most popular ones; the same list for each new user; no item
# twice.
# Hurt: who leaves new users to the cold start of the library, in the belief that they get what most people like: they
# get noise, and a list of ten shows nine items. In an offline test it looks as if the model were bad for them. Sort by
# predict(), or take the popular items by hand.
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

print("LibRecommender", importlib.metadata.version("LibRecommender"))


def quiet(function, *args, **kwargs):
    """Call without the messages that the library prints for each unknown user."""
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*args, **kwargs)


def fitted(items, users):
    """An ALS model on a log in which item 0 is the most popular one, and so on by Zipf's law."""
    chance = np.random.default_rng(0)
    weight = 1 / np.arange(1, items + 1)
    weight /= weight.sum()
    pairs = [(user, int(item)) for user in range(users) for item in chance.choice(items, 20, replace=False, p=weight)]
    log = pd.DataFrame(pairs, columns=["user", "item"]).assign(label=1)
    train, info = DatasetPure.build_trainset(log)
    model = ALS("ranking", info, embed_size=16, n_epochs=10, reg=1.0, alpha=10, use_cg=False, n_threads=1, seed=0)
    quiet(model.fit, train, neg_sampling=True, verbose=0)
    return model, log["item"].value_counts()


def described(name, lists, place):
    """The mean place of the recommended items in an order, and the number of lists with an item twice."""
    mean = np.mean([place[item] for items in lists for item in items])
    twice = sum(len(set(items)) < len(items) for items in lists)
    worst = max(place[item] for items in lists for item in items)
    print(f"    {name:<34} mean place {mean:6.1f}, last place {worst:4d}, an item twice in {twice} of {len(lists)}")
    return mean, worst, twice


good = True
for items, users in ((1000, 500), (5000, 3000)):
    model, counts = fitted(items, users)
    known = list(counts.index)
    print(f"{len(known)} items in the log, 200 new users, lists of 10")
    print("  places by popularity (0 is the most popular item)")
    popular = {item: place for place, item in enumerate(known)}
    new = [[int(item) for item in quiet(model.recommend_user, 10**6 + user, 10)[10**6 + user]] for user in range(200)]
    again = [int(item) for item in quiet(model.recommend_user, 10**6, 10)[10**6]]
    top = [
        [int(item) for item in quiet(model.recommend_user, 10**6 + user, 10, cold_start="popular")[10**6 + user]]
        for user in range(200)
    ]
    old = [[int(item) for item in model.recommend_user(user, 10)[user]] for user in range(200)]
    scores = np.array(quiet(model.predict, [10**6] * len(known), known))
    order = [known[index] for index in np.argsort(-scores, kind="stable")]
    mean_new, _, twice_new = described("new users, average", new, popular)
    mean_top, worst_top, twice_top = described("new users, popular", top, popular)
    mean_old, _, twice_old = described("users of the log", old, popular)
    mean_best, _, _ = described("a new user, best 10 by predict()", [order[:10]], popular)
    print("  places by predict() of a new user")
    place, worst, _ = described("new users, average", new, {item: at for at, item in enumerate(order)})
    print("  the first new user gets", new[0], "and then", again)
    reach = min(2000, len(known))
    good &= abs(place - (reach - 1) / 2) < 0.05 * reach and worst < reach
    good &= twice_new > 0 if len(known) < 2000 else mean_new > 300
    good &= again != new[0]
    good &= worst_top < 110 and 35 < mean_top < 65 and twice_top > 50
    good &= mean_best < 10 and twice_old == 0 and mean_old < 0.2 * len(known) < 2 * mean_new
    if len(known) < 2000:
        good &= abs(mean_new - (len(known) - 1) / 2) < 0.05 * len(known)
sys.exit(not good)
PY
OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3 TQDM_DISABLE=1 venv/bin/python -W ignore script.py
