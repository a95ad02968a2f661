#!/usr/bin/env bash
# keras-rs 0.4.0 (keras 3.15.1, torch 2.13.0, numpy 2.4.6): BruteForceRetrieval gives other ids back than it was given,
# if they need more than 32 bits.
#
# Behaviour: candidate_ids of type int64 are kept as int32, modulo 2**32. Of 10,000 hashed ids of 63 bits none comes
# back, and nearly half of what comes back is negative. Of ids that carry one of four shops in the upper half
# (shop * 2**32 + number) the number is left: all ids that come back are in the catalogue, and 70% of them are those of
# other items; where the shops sell the same items, a list of ten holds three ids. Unsigned 32-bit ids from 2**31 on
# come back negative. It is the same for arrays, for int64 tensors, and by update_candidates(); with the jax backend,
# too. The items are the right ones, and so are the scores. No error, no warning; the documentation speaks of
# identifiers in a tensor and names no type. Below 2**31 all is well.
# A good guess: the ids keep their type, or an error says that they do not fit.
# Hurt: who has hashed, snowflake or composite ids: a join with the catalogue finds nothing or, worse, items of another
# shop. Leave candidate_ids out and look the indices up in an array of your own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras-rs==0.4.0 keras==3.15.1 torch==2.13.0 numpy==2.4.6
cat > "$folder/script.py" <<'PY'
import importlib.metadata
import sys
import warnings

warnings.simplefilter("error", RuntimeWarning)
warnings.simplefilter("error", UserWarning)

import keras
import keras_rs
import numpy as np
import torch

print("keras-rs", importlib.metadata.version("keras-rs"), "keras", keras.__version__, keras.backend.backend())
chance = np.random.default_rng(0)
vectors = chance.normal(size=(10000, 16)).astype("float32")
query = chance.normal(size=(50, 16)).astype("float32")


def asked(ids, how="array"):
    """The ids of the ten best items for each query, and the ones that should be there."""
    given = torch.from_numpy(ids) if how == "tensor" else ids
    if how == "update":
        layer = keras_rs.layers.BruteForceRetrieval(k=10, return_scores=False)
        layer.update_candidates(vectors, given)
    else:
        layer = keras_rs.layers.BruteForceRetrieval(vectors, given, k=10, return_scores=False)
    plain = keras_rs.layers.BruteForceRetrieval(vectors, k=10, return_scores=False)
    places = keras.ops.convert_to_numpy(plain(query))
    right = np.argsort(-(query @ vectors.T), axis=1, kind="stable")[:, :10]
    assert np.array_equal(places, right)
    return keras.ops.convert_to_numpy(layer(query)), ids[right]


number = np.arange(10000)
kinds = {
    "small": number.astype("int64") + 2**31 - 10000,
    "hashed": chance.integers(2**62, 2**63, 10000, dtype="int64"),
    "shop": (number // 4) + (number % 4) * 2**32,
    "unsigned": (number + 2**31).astype("uint32"),
}
result = {}
for name, ids in kinds.items():
    assert len(set(ids.tolist())) == 10000
    for how in ("array", "update") if name == "unsigned" else ("array", "tensor", "update"):
        found, wanted = asked(ids, how)
        right = float((found == wanted).mean())
        known = float(np.isin(found, ids).mean())
        negative = float((found < 0).mean())
        cut = np.array_equal(found, wanted.astype("int64").astype("int32"))
        result[name, how] = right, known, negative, cut
        print(f"{name:<9} by {how:<7} {ids[-1]:>20} right {right:.2f}, ids of the catalogue {known:.2f},", end=" ")
        print(f"negative {negative:.2f}, the lower 32 bits: {cut}")

layer = keras_rs.layers.BruteForceRetrieval(np.repeat(vectors[:100], 4, axis=0), kinds["shop"][:400], k=10)
scores, ids = (keras.ops.convert_to_numpy(part)[0] for part in layer(query))
print("four shops with the same items: ids", ids.tolist())
goal = [
    all(result["small", how][0] == 1 for how in ("array", "tensor", "update")),
    all(values[0] == 0 and 0.4 < values[2] < 0.6 for (name, _), values in result.items() if name == "hashed"),
    all(0.15 < values[0] < 0.4 and values[1] == 1 for (name, _), values in result.items() if name == "shop"),
    all(values[0] == 0 and values[2] == 1 for (name, _), values in result.items() if name == "unsigned"),
    all(values[3] for values in result.values()),
    len(set(ids.tolist())) < 5 and bool(max(ids) < 100),
]
print(all(goal))
sys.exit(not all(goal))
PY
cd "$folder"
OMP_NUM_THREADS=1 KERAS_HOME="$folder" KERAS_BACKEND=torch venv/bin/python script.py
