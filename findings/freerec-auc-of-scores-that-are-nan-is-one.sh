#!/usr/bin/env bash
# freerec 0.9.7 (scikit-learn 1.9.1, torch 2.13.0, numpy 2.4.6): AUC and GAUC of a model whose scores are NaN are 1.0,
# and one user with likes alone makes the GAUC of a good model NaN.
#
# Behaviour: freerec.metrics.auroc calls roc_auc_score of scikit-learn and takes any ValueError for a test set of one
# class, for which it is documented to return 1.0. scikit-learn raises ValueError for scores that are NaN. So a model
# that has diverged is perfect: of five learning rates the best by AUC is the one at which all weights are NaN, 1.0
# against 0.867, and one NaN among 1,000 good scores is enough. group_auroc does the same for each user. For a test set
# of one class scikit-learn does not raise any more and returns NaN, and so does auroc; group_auroc, which by its
# docstring leaves out users of one class, adds NaN times 0 for them and is NaN. Of the NaN scores nothing is said; of
# one class scikit-learn warns. log_loss of the same scores is NaN. By its source the trainer of the package takes AUC
# and GAUC from these functions and keeps the epoch with the largest value; that was read, not run.
# A good guess: NaN or an error for NaN scores; users of one class are left out.
# Hurt: who tunes or stops early by AUC (half precision, large learning rates, a cold feature of 0/0): the search ends
# at the broken setting, with the best result of all. And who has a GAUC of NaN on real logs, drops the users of one
# class for it and has the first case left.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q freerec==0.9.7 scikit-learn==1.9.1 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python -W ignore - <<'PY'
import importlib.metadata
import math
import sys
import warnings

import numpy as np
import torch
from freerec.metrics import auroc, group_auroc, log_loss

print("freerec", importlib.metadata.version("freerec"))
chance = np.random.default_rng(0)
taste, kind = chance.normal(size=(100, 4)), chance.normal(size=(50, 4))
users, items = (torch.from_numpy(chance.integers(0, high, 6_000)) for high in (100, 50))
liked = torch.from_numpy((taste[users] * kind[items]).sum(1) + chance.normal(size=6_000) > 0).float()


def scores_after_training(rate):
    """Return the scores of the last 1,000 events by factors that were trained on the first 5,000."""
    torch.manual_seed(0)
    left, right = (torch.nn.Parameter(0.3 * torch.randn(count, 8)) for count in (100, 50))
    steps = torch.optim.SGD([left, right], lr=rate)
    for _ in range(5):
        for rows in torch.arange(5_000).split(500):
            scores = (left[users[rows]] * right[items[rows]]).sum(1)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, liked[rows])
            steps.zero_grad()
            loss.backward()
            steps.step()
    return (left[users[5_000:]] * right[items[5_000:]]).sum(1).detach().numpy()


likes, groups = liked[5_000:].numpy(), users[5_000:].numpy()
trained = {rate: scores_after_training(rate) for rate in (1, 10, 30, 100, 1_000)}
found = {rate: float(auroc(scores, likes)) for rate, scores in trained.items()}
for rate, value in found.items():
    print(f"learning rate {rate:>5}: AUC {value:.3f}, scores that are NaN: {np.isnan(trained[rate]).mean():.0%}")
best = max(found, key=found.get)
print("the best by AUC:", best)
good = trained[100]
one = good.copy()
one[7] = math.nan
with warnings.catch_warnings():
    warnings.simplefilter("error")  # nothing is said
    after_one = float(auroc(one, likes))
print(f"AUC of the scores of rate 100: {found[100]:.3f}, with one NaN among them: {after_one}")
print("log_loss of NaN scores:", log_loss(trained[1_000], likes))

both = [user for user in np.unique(groups) if len(set(likes[groups == user])) == 2]
rows = np.isin(groups, both)
per_user = float(group_auroc(good[rows], likes[rows], groups[rows]))
broken = float(group_auroc(trained[1_000][rows], likes[rows], groups[rows]))
first = groups == both[0]
only_likes = rows & ~(first & (likes == 0))
with_one_class = float(group_auroc(good[only_likes], likes[only_likes], groups[only_likes]))
print(f"GAUC of {len(both)} users: {per_user:.3f}, of NaN scores: {broken}")
print("GAUC of the good scores with one user of likes alone:", with_one_class)
print("AUC of a test set of one class:", auroc([0.2, 0.4], [1, 1]))
perfect = best == 1_000 and found[best] == after_one == broken == 1.0 and np.isnan(trained[1_000]).all()
sensible = 0.85 < found[100] < 0.9 and 0.75 < per_user < 1 and math.isnan(log_loss(trained[1_000], likes))
sys.exit(not (perfect and sensible and math.isnan(with_one_class) and math.isnan(auroc([0.2, 0.4], [1, 1]))))
PY
