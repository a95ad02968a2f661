#!/usr/bin/env bash
# mab2rec 1.3.1 (mabwiser 2.7.4, numpy 2.4.6, pandas 2.3.3): train() makes whole numbers of the responses, so that
# rewards below 1 are all 0, and the bandit learns nothing.
#
# Behaviour: 4,000 events of 20 items, whose response is the share of a video that was watched, 0.05 to 0.91 on average.
# train() of the data frame and score() give every user the same five items with the score 0.5, the five that come last
# in order of first sight: every expected reward is 0.0. recommender.fit() of the same two columns gives the five items
# that are watched longest. Ratings in half stars lose their halves: an item that always gets 4.5 stars equals one that
# always gets 4.0. Whole numbers (percent) in the same frame are right, and so is a recommender that was fitted by
# fit() and is asked by score(). No error, no warning; the documentation calls the column the response, and says
# nothing of its type. benchmark() reads its data in the same way.
# A good guess: responses go to the bandit as they are, since its rewards may be any numbers, or fractions are refused.
# Hurt: who trains on watch shares, ratings, revenue or inverse propensities: the model knows nothing, all the same it
# answers in full lists, and LinUCB or Thompson sampling on top looks like slow learning. Multiply the responses first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q mab2rec==1.3.1 mabwiser==2.7.4 jurity==2.1.0 numpy==2.4.6 pandas==2.3.3 \
    scipy==1.17.1 scikit-learn==1.9.1
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'PY'
import importlib.metadata
import sys

import numpy as np
import pandas as pd
from mab2rec import BanditRecommender, LearningPolicy
from mab2rec.pipeline import score, train

print("mab2rec", importlib.metadata.version("mab2rec"), "pandas", pd.__version__)
chance = np.random.default_rng(0)
names = [f"video {number:02d}" for number in range(20)]
share = dict(zip(names, np.linspace(0.05, 0.91, 20)))
log = pd.DataFrame({"user_id": chance.integers(0, 200, 4000), "item_id": chance.choice(names, 4000)})
log["response"] = (log["item_id"].map(share) + 0.02 * chance.normal(size=4000)).clip(0, 1)
best = sorted(names, key=share.get, reverse=True)[:5]
last_seen = list(log["item_id"].unique()[::-1][:5])


def recommender():
    """Return a new bandit that always takes the items of the best mean reward."""
    return BanditRecommender(LearningPolicy.EpsilonGreedy(epsilon=0.0), top_k=5)


def trained(frame):
    """Train by the pipeline and return the expected rewards, and the lists and scores of all users."""
    bandit = recommender()
    train(bandit, frame)
    lists = score(bandit, frame)
    return bandit.predict_expectations(), set(lists.groupby("user_id")["item_id"].apply(tuple)), set(lists["score"])


rewards, lists, scores = trained(log)
print("responses:", round(log["response"].min(), 2), "to", round(log["response"].max(), 2), log["response"].dtype)
print("items in order of watched share:", best)
print("train() and score():            ", *lists, " scores", scores, " expected rewards", set(rewards.values()))
by_fit = recommender()
by_fit.fit(log["item_id"], log["response"])
asked = score(by_fit, log)
lists_of_fit = set(asked.groupby("user_id")["item_id"].apply(tuple))
print("fit() and score():              ", *lists_of_fit)
percent = log.assign(response=(100 * log["response"]).round())
rewards_of_percent, _, _ = trained(percent)
order = sorted(rewards_of_percent, key=rewards_of_percent.get, reverse=True)[:5]
print("train() on percent, five best expected rewards:", order)
stars = pd.DataFrame({"user_id": range(40), "item_id": ["a", "b"] * 20, "response": [4.0, 4.5] * 20})
rewards_of_stars, _, _ = trained(stars)
print("expected stars of an item with 4.0 and of one with 4.5:", [float(stars) for stars in rewards_of_stars.values()])
wrong = lists == {tuple(last_seen)} and scores == {0.5} and set(rewards.values()) == {0.0}
right = lists_of_fit == {tuple(best)} and order == best
sys.exit(not (wrong and right and list(rewards_of_stars.values()) == [4.0, 4.0] and set(best) != set(last_seen)))
PY
