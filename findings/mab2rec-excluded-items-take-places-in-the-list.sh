#!/usr/bin/env bash
# mab2rec 1.3.1 (mabwiser 2.7.4, numpy 2.4.6, pandas 2.3.3): recommend() ties all items whose expected reward is above
# 37, and with apply_sigmoid=False, which repairs that, excluded items take places in the list if rewards are negative.
#
# Behaviour: a bandit is fitted to the seconds that 20 videos were watched, 40 to 230 on average. predict() gives the
# one that is watched longest, and recommend() the five last ones of the arms, in reverse, all with the score 1.0: the
# expected rewards go through a sigmoid in float64 before they are sorted. recommend(apply_sigmoid=False) has the right
# five. There an excluded item gets the score -1, is sorted with the others, and is taken out of the first five after
# that. With rewards of -3.0 to -2.1 (log probabilities, costs) a user who has seen three videos gets a list of two and
# one who has seen five gets none, although 15 are left; the sigmoid on, both get five. With rewards above -1 both get
# five. No error, no warning. The docstring says that only items that are not excluded can be recommended, and that the
# sigmoid is applied before ranking; score() of the pipeline has no switch for it.
# A good guess: a sigmoid changes scores and not the order, and a list has top_k items as long as so many are left.
# Hurt: who rewards by watch time, revenue or minutes: the lists are the order of the arms, while predict() and
# predict_expectations() look right; and who turns the sigmoid off, with negative rewards: the more a user has seen,
# the shorter is the list, so that the most active users get nothing.
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
from mab2rec import BanditRecommender, LearningPolicy

print("mab2rec", importlib.metadata.version("mab2rec"))
chance = np.random.default_rng(0)
names = [f"video {number:02d}" for number in range(20)]
order = chance.permutation(20)
seen = chance.integers(0, 20, 4000)
decisions = [names[place] for place in seen]


def bandit(low, high):
    """Fit a bandit whose item of rank 0 has the highest mean reward, and return it."""
    means = np.linspace(high, low, 20)
    chosen = BanditRecommender(LearningPolicy.EpsilonGreedy(epsilon=0.0), top_k=5)
    chosen.fit(decisions, means[order[seen]] + 0.001 * (high - low) * chance.normal(size=4000))
    return chosen


best = [names[place] for place in np.argsort(order)]
seconds = bandit(40, 230)
listed, scores = seconds.recommend(return_scores=True)
raw, raw_scores = seconds.recommend(return_scores=True, apply_sigmoid=False)
print("best five:                 ", best[:5])
print("predict():                 ", seconds.predict())
print("recommend():               ", listed, "scores", {float(score) for score in scores})
print("without the sigmoid:       ", raw, [round(float(score)) for score in raw_scores])
ok = seconds.predict() == best[0] and listed == names[:-6:-1] and set(scores) == {1.0} and raw == best[:5]

users = [[0.0]] * 3
excluded = [[], best[:3], best[:5]]
lengths = {}
for low, high in ((-3.0, -2.1), (-0.9, 0.0)):
    for sigmoid in (False, True):
        lists = bandit(low, high).recommend(users, excluded, apply_sigmoid=sigmoid)
        lengths[high, sigmoid] = [len(one) for one in lists]
        ok &= all(one == [item for item in best if item not in out][: len(one)] for one, out in zip(lists, excluded))
        print(f"rewards {low} to {high}, sigmoid {sigmoid}: lists of users with 0, 3, 5 excluded items:", end=" ")
        print(lengths[high, sigmoid])
ok &= lengths.pop((-2.1, False)) == [5, 2, 0] and all(one == [5, 5, 5] for one in lengths.values())
sys.exit(not ok)
PY
