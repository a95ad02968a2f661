#!/usr/bin/env bash
# cornac 3.0.1 (numpy 2.4.6, scipy 1.17.1): inside CrossValidation the validation set is the test fold.
#
# Behaviour: CrossValidation gives its models a validation set, which is the test fold, row for row. GridSearch and
# RandomSearch, which demand a validation set and raise without one, choose the parameters with the best metric on it,
# and models with early stopping choose their epoch by it; then the same rows are reported as the test. Of a model that
# guesses, whose only parameter is the seed, the recall at 5 is 0.095, chance; with a grid of 50 seeds it is 0.192 in
# the table of the cross-validation, twice as high, with a standard deviation of 0.004 over the folds. By RatioSplit
# with a validation part the same search has 0.215 on that part and 0.123 on the test. No warning; the docstring does
# not speak of a validation set.
# A good guess: a part of the training folds is set aside, or there is no validation set and the search raises, as it
# does for a RatioSplit without val_size.
# Hurt: who takes cross-validation as the more careful protocol and puts the search into it: the more parameters are
# tried, the better the model, against baselines without parameters above all.
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
from cornac.eval_methods import CrossValidation, RatioSplit
from cornac.hyperopt import Discrete, GridSearch
from cornac.metrics import Recall
from cornac.models import Recommender

print("cornac", importlib.metadata.version("cornac"))
chance = np.random.default_rng(0)
log = [(f"user {user}", f"item {item}", 1.0) for user in range(30) for item in chance.choice(60, 8, replace=False)]


class Guess(Recommender):
    """Gives random scores; its only parameter is the seed."""

    def __init__(self, name="guess", number=0, trainable=True, verbose=False):
        super().__init__(name=name, trainable=trainable, verbose=verbose)
        self.number = number

    def score(self, user_idx, item_idx=None, **kwargs):
        return np.random.default_rng((self.number, int(user_idx))).random(self.num_items)


def recalls(split, model):
    """Return the recall at 5 on the test part, or on that of each fold."""
    result, _ = split.evaluate(model, [Recall(k=5)], user_based=True, show_validation=False)
    parts = result if isinstance(split, CrossValidation) else [result]
    return [float(part.metric_avg_results["Recall@5"]) for part in parts]


def search(split):
    """Return a grid search over fifty seeds on a split."""
    return GridSearch(Guess(), [Discrete("number", list(range(50)))], Recall(k=5), split)


folds = CrossValidation(log, n_folds=4, seed=1)
alone = recalls(folds, Guess())
searched = recalls(folds, search(folds))
same = all(np.array_equal(one, other) for one, other in zip(folds.val_set.uir_tuple, folds.test_set.uir_tuple))
print("cross-validation, guesses:             ", np.round(alone, 3), "mean", round(np.mean(alone), 3))
print("cross-validation, best of fifty seeds: ", np.round(searched, 3), "mean", round(np.mean(searched), 3))
print("the validation set of a fold is its test set:", same)
parts = RatioSplit(log, test_size=0.25, val_size=0.25, seed=1)
tuned = search(parts)
(on_test,) = recalls(parts, tuned)
print("train, validation, test: best of fifty on validation", round(tuned.best_score, 3), " on test", round(on_test, 3))
two_parts = RatioSplit(log, test_size=0.25, seed=1)
try:
    recalls(two_parts, search(two_parts))
    refused = False
except AssertionError:
    refused = True
print("train and test without validation: the search is refused:", refused)
twice = np.mean(searched) > 1.8 * np.mean(alone) and min(searched) > max(alone)
sys.exit(not (same and twice and on_test < 0.15 and tuned.best_score > 0.2 and refused))
PY
