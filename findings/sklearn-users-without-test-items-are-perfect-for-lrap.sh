#!/usr/bin/env bash
# scikit-learn 1.9.1 (numpy 2.4.6, scipy 1.17.1): for label_ranking_average_precision_score a user without test items is
# a perfect one.
#
# Behaviour: one user whose only test item stands at place 50 of 100 has 0.02, the reciprocal rank. With three more
# users in the matrix who have no test items the mean is 0.755: each of them counts 1.0. So does a user of whom all
# items are relevant. label_ranking_loss counts them as 0, its best value, and coverage_error as 0, which no other user
# can reach. ndcg_score of the same matrix counts them as 0, its worst value, and so does
# average_precision_score(average="samples"), with a warning. The others say nothing, and the docstrings do not mention
# such rows.
# A good guess: one rule for the ranking metrics of a package: such rows are left out, are 0, or are NaN with a warning;
# LRAP is defined as a mean over the relevant items of a row, of which there are none.
# Hurt: who evaluates on a matrix of all users, of whom many have nothing in the test period (a time split): LRAP, which
# with one test item a user is the MRR, then says how many users are inactive, and the shorter the test period, the
# better it is. Select the rows that have a test item first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PY'
import sys
import warnings

import numpy as np
import sklearn
from sklearn import metrics

print("scikit-learn", sklearn.__version__)
scores = np.random.default_rng(0).random((4, 100))
relevant = np.zeros((4, 100), dtype=int)
relevant[0, np.argsort(-scores[0])[49]] = 1  # at place 50; the other users have no test item
measured = {
    "label_ranking_average_precision_score": metrics.label_ranking_average_precision_score,
    "label_ranking_loss": metrics.label_ranking_loss,
    "coverage_error": metrics.coverage_error,
    "ndcg_score": metrics.ndcg_score,
    "average_precision_score": lambda y, s: metrics.average_precision_score(y, s, average="samples"),
}
found = {}
for name, metric in measured.items():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        one, four = float(metric(relevant[:1], scores[:1])), float(metric(relevant, scores))
    of_empty = round((4 * four - one) / 3, 6)
    found[name] = of_empty, bool(said)
    warns = "(warns)" if said else ""
    print(f"{name:<38} one user {one:.4f}   with three without test items {four:.4f}   each {of_empty:g} {warns}")
    if name == "label_ranking_average_precision_score":
        same = round(one, 6) == 0.02 and round(four, 6) == 0.755
every = float(metrics.label_ranking_average_precision_score(np.ones((1, 100), dtype=int), scores[:1]))
print("label_ranking_average_precision_score  of a user of whom all items are relevant", every)
expected = [(1.0, False), (0.0, False), (0.0, False), (0.0, False), (0.0, True)]
sys.exit(not (same and every == 1.0 and list(found.values()) == expected))
PY
