#!/usr/bin/env bash
# usearch 2.26.6 (numpy 2.4.6): exact search of whole numbers has no distances, and gives the same five items to all.
#
# Behaviour: usearch.index.search(vectors, queries, 5, metric, exact=True) of int32 or int64 arrays (counts of purchases
# by item and user, codes in a wider type) answers with distances that are all NaN and with the same items for each
# query, whatever the metric: an item is not even its own neighbour. So it is where only one of the two is of whole
# numbers, and for floats in the other byte order. Of the same numbers as float32 or float64 the answer is right.
# Index.add refuses these arrays (ValueError, "Incompatible scalars"), search(exact=False) does, too (KeyError). The
# exact search, whose docstring names no types, gives no error and no warning.
# A good guess: an error as in Index, or the numbers are converted.
# Hurt: who makes item-item neighbours from a matrix of counts (int64 is what numpy makes of them), or the exact answer
# as the reference for an index: lists have the right length and real items, the same ones for every item; the recall of
# a good index is near 0. Convert to float32.
# FOSTER uses Index alone, with its own vectors (src/foster/serving/usearch_index.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q usearch==2.26.6 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import sys

import numpy as np
import usearch
from usearch.index import Index, search

print("usearch", usearch.__version__)
counts = np.random.default_rng(0).poisson(0.5, (50, 40))  # items by users
items = np.arange(50)


def answer(vectors, queries, metric):
    found = search(vectors, queries, 5, metric, exact=True)
    itself = sum(item in keys for item, keys in zip(items, found.keys, strict=True))
    different = len({tuple(keys) for keys in found.keys.tolist()})
    print(
        f"{metric:<5} {vectors.dtype.str}, queries {queries.dtype.str}: {itself} of 50 items are among their own 5"
        f" neighbours, {different} different lists, {np.isnan(found.distances).mean():.0%} of the distances are NaN"
    )
    return itself, different, bool(np.isnan(found.distances).all())


same = True
for metric in ("cos", "l2sq"):
    for kind in ("float32", "float64"):
        itself, different, missing = answer(counts.astype(kind), counts.astype(kind), metric)
        same &= itself == 50 and different > 40 and not missing
    for kind, of_queries in (("int64", "int64"), ("int32", "int32"), ("int64", "float32"), (">f4", ">f4")):
        itself, different, missing = answer(counts.astype(kind), counts.astype(of_queries), metric)
        same &= itself <= 5 and different == 1 and missing
refused = []
for name, call in {
    "Index.add": lambda: Index(ndim=40, metric="cos").add(items, counts),
    "search(exact=False)": lambda: search(counts, counts, 5, "cos", exact=False),
}.items():
    try:
        call()
    except (KeyError, ValueError) as error:
        refused.append(name)
        print(f"{name} of the same int64 array: {error!r}")
sys.exit(not (same and len(refused) == 2))
PY
