#!/usr/bin/env bash
# vicinity 0.4.6 (usearch 2.26.6, numpy 2.4.6): metric="dot" means cosine, and with "ip" the distances of the best items
# are all 0.
#
# Behaviour: 2,000 item vectors of unequal lengths (log-normal, sigma 0.5), as of a factorised log. With metric="dot"
# the ten nearest hold 19% of the ten items with the largest dot product, and nearly all of the ten by cosine: the name
# is taken for cosine by both backends tried here. In usearch itself the same name is the inner product and finds 99%.
# For the Annoy backend the README lists `dot` and `cosine` as two metrics. metric="ip", which the usearch backend has,
# finds the items, but distances, 1 - product, are cut off at 0: all ten of every user are at 0.0, and their scores are
# gone. No error, no warning; Vicinity.metric says COSINE.
# A good guess: "dot" is the dot product, as in usearch itself, or is refused, as "ip" is by the basic backend;
# distances may be negative.
# Hurt: who serves factors of ALS or BPR, or of a sequence model without normalisation, whose popular items are long:
# lists hold items that are alike and seldom bought, and a test with unit vectors finds nothing; who merges, sorts again
# or cuts by the distances of "ip" has ties only. usearch, called directly, keeps the product.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q vicinity==0.4.6 usearch==2.26.6 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import importlib.metadata
import sys

import numpy as np
from usearch.index import Index
from vicinity import Vicinity

print("vicinity", importlib.metadata.version("vicinity"))
chance = np.random.default_rng(0)
items = chance.normal(size=(2_000, 32)) * chance.lognormal(0, 0.5, size=(2_000, 1))
users = chance.normal(size=(200, 32)).astype(np.float32)
items = items.astype(np.float32)
unit = items / np.linalg.norm(items, axis=1, keepdims=True)
by_product, by_cosine = (np.argsort(-users @ vectors.T, axis=1)[:, :10] for vectors in (items, unit))


def share(lists, best):
    """Return the share of the best ten that the lists hold."""
    return round(float(np.mean([len(set(row) & set(top)) / 10 for row, top in zip(lists, best)])), 3)


found = {}
for backend, metric in (("basic", "dot"), ("usearch", "dot"), ("usearch", "ip")):
    index = Vicinity.from_vectors_and_items(items, range(2_000), backend_type=backend, metric=metric)
    answers = index.query(users, k=10)
    lists = [[item for item, _ in row] for row in answers]
    zeros = np.mean([distance == 0 for row in answers for _, distance in row])
    found[backend, metric] = share(lists, by_product), share(lists, by_cosine), zeros
    print(
        f"{backend:<8} {metric}: of the ten best by product {found[backend, metric][0]}, by cosine "
        f"{found[backend, metric][1]}, distances of 0: {zeros:.0%}   ({index.metric})"
    )
own = Index(ndim=32, metric="dot")
own.add(np.arange(2_000), items)
alone = share(own.search(users, 10).keys.tolist(), by_product)
print(f"usearch alone, dot: of the ten best by product {alone}   ({own.metric})")
try:
    Vicinity.from_vectors_and_items(items, range(2_000), backend_type="basic", metric="ip")
    refused = False
except ValueError as error:
    refused = True
    print("basic, ip:", error)
cosine = all(found[backend, "dot"][0] < 0.25 and found[backend, "dot"][1] > 0.9 for backend in ("basic", "usearch"))
product, _, zeros = found["usearch", "ip"]
sys.exit(not (cosine and alone > 0.95 and refused and product > 0.95 and zeros == 1.0))
PY
