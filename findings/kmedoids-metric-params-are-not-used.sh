#!/usr/bin/env bash
# kmedoids 0.5.5 (scikit-learn 1.9.1, numpy 2.4.6, scipy 1.17.1): KMedoids(metric_params=...) clusters as if it had been
# left out, and predict() answers with row numbers where fit_predict() answers with cluster numbers.
#
# Behaviour: 600 items of three kinds have two columns that tell the kind and a price that does not. With
# metric="minkowski" and metric_params={"w": [1, 1, 0]}, which leaves the price out, the clusters are those of the
# price: the adjusted Rand index with the kinds is 0.0, and labels, medoids and inertia (1764.67) are to the last bit
# those of a KMedoids without metric_params. So it is with {"p": 1}. The same distances made by scikit-learn and passed
# as "precomputed" give 1.0 (and an inertia of 232.75), and scikit-learn's DBSCAN with the same metric_params finds the
# kinds. fit() never reads metric_params, nor does predict(); transform() passes it on under that name and fails. The
# docstring calls it "additional keyword arguments for the metric function". Then, predict() of the rows that were
# fitted gives 203, 421 and 460, the rows of the medoids, where labels_ has 0, 1 and 2, though the docstrings speak of
# the index of the cluster.
# A good guess: metric_params reaches the metric, as in scikit-learn, whose interface this is; and predict(X) after
# fit(X) is labels_.
# Hurt: who picks medoids as a small set of training items or users, with weights of columns or a p: the set follows
# what was weighted out, and nothing shows it; and who looks clusters up by predict(): an index error if lucky, else
# the wrong rows, or an agreement of nearly 0 with labels_. Compute the distances first and pass "precomputed".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q kmedoids==0.5.5 scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import importlib.metadata
import sys

import numpy as np
import sklearn
from kmedoids import KMedoids
from sklearn.cluster import DBSCAN
from sklearn.metrics import adjusted_rand_score, pairwise_distances

print("kmedoids", importlib.metadata.version("kmedoids"), "scikit-learn", sklearn.__version__)
chance = np.random.default_rng(0)
kinds = chance.integers(0, 3, 600)
centres = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
price = 100.0 * chance.integers(0, 3, 600) + chance.normal(size=600)
items = np.column_stack([centres[kinds] + 0.3 * chance.normal(size=(600, 2)), price])
weights = {"w": np.array([1.0, 1.0, 0.0])}


def clusters(values, **arguments):
    """Return a fitted KMedoids of three clusters."""
    return KMedoids(3, method="fasterpam", init="build", random_state=0, **arguments).fit(values)


def agrees(labels):
    """Return how well labels agree with the kinds of the items."""
    return round(adjusted_rand_score(kinds, labels), 2)


def same(one, other):
    """Tell if two results are equal in labels, medoids and inertia."""
    labels, medoids = (one.labels_, other.labels_), (one.medoid_indices_, other.medoid_indices_)
    return np.array_equal(*labels) and np.array_equal(*medoids) and one.inertia_ == other.inertia_


plain = clusters(items, metric="minkowski")
weighted = clusters(items, metric="minkowski", metric_params=weights)
by_one = clusters(items, metric="minkowski", metric_params={"p": 1})
precomputed = clusters(pairwise_distances(items, metric="minkowski", **weights))
precomputed_by_one = clusters(pairwise_distances(items, metric="minkowski", p=1))
found = DBSCAN(eps=1.0, metric="minkowski", metric_params=weights, p=2).fit(items)
print("agreement with the kinds: metric_params", agrees(weighted.labels_), "  precomputed", end=" ")
print(agrees(precomputed.labels_), "  DBSCAN with metric_params", agrees(found.labels_))
for name, one in ("without", plain), ("weights", weighted), ("p=1", by_one), ("weights, precomputed", precomputed):
    print(f"{name:<21} inertia {one.inertia_:8.2f}   medoids {one.medoid_indices_}")
print("p=1, precomputed      inertia", round(precomputed_by_one.inertia_, 2))
predicted = weighted.predict(items)
print("labels_ of six items:", weighted.labels_[:6], "  predict() of them:", predicted[:6])
ignored = same(plain, weighted) and same(plain, by_one)
right = agrees(precomputed.labels_) == agrees(found.labels_) == 1.0
right &= precomputed.inertia_ < 0.9 * plain.inertia_ and precomputed_by_one.inertia_ > 1.1 * plain.inertia_
rows = np.array_equal(predicted, weighted.medoid_indices_[weighted.labels_]) and set(predicted) != {0, 1, 2}
sys.exit(not (ignored and abs(agrees(weighted.labels_)) < 0.05 and right and rows))
PY
