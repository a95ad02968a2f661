#!/usr/bin/env bash
# pyversity 0.2.0 (numpy 2.4.6): with the default strategy diversify(diversity=0.000001) gives as mixed a list as
# diversity=0.5 does, and not the list of 0.0.
#
# Behaviour: 200 candidates are of one kind, with nearly equal vectors (cosine 0.998), and have scores above 0.8; 100
# others are of eleven other kinds and have scores below 0.1. Of ten places, diversity=0.0 gives ten to the good kind,
# with a mean score of 0.99. From 0.000001 to 0.7 it is one place, and a mean score of 0.18. diversity only weakens
# the scores inside the determinant, which punishes near copies in full at every setting but 0.0: that one is a branch
# of its own, a plain sort. "mmr" and "ssd" at 0.3 and below, and "msd" at 0.000001, give the ten best. No error, no
# warning; the docstring says "lower values prioritize relevance".
# A good guess: the list moves from the ten best to the diverse one as the number grows, and a millionth changes
# nothing.
# Hurt: who sets a little diversity, 0.05 say, to be careful: users get items that they do not want in place of
# editions, sequels and variants of the one that they do; and who tunes the number by a grid finds a step at 0 and
# then a plateau. A larger scale (scale=10) gives scores more weight.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyversity==0.2.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import importlib.metadata
import sys

import numpy as np
from pyversity import diversify

print("pyversity", importlib.metadata.version("pyversity"))
chance = np.random.default_rng(0)
kinds = np.concatenate([np.zeros(200, int), chance.integers(1, 12, 100)])
vectors = np.eye(12, 64)[kinds] + 0.00625 * chance.normal(size=(300, 64))
unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
near = unit[:200] @ unit[:200].T
print("mean cosine of two candidates of the first kind:", round(float(near[~np.eye(200, dtype=bool)].mean()), 4))
scores = np.where(kinds == 0, chance.uniform(0.8, 1, 300), chance.uniform(0, 0.1, 300))
settings = (0.0, 1e-6, 0.05, 0.3, 0.5, 0.7)
places = {}
for strategy in ("dpp", "mmr", "msd", "ssd"):
    places[strategy] = []
    for diversity in settings:
        chosen = diversify(vectors, scores, k=10, strategy=strategy, diversity=diversity).indices
        places[strategy].append(int((kinds[chosen] == 0).sum()))
        print(f"{strategy} diversity {diversity:<8g} places for the first kind {places[strategy][-1]:>2}", end="")
        print(f"   mean score {scores[chosen].mean():.2f}")
scaled = diversify(vectors, scores, k=10, diversity=1e-6, scale=10).indices
in_scaled = int((kinds[scaled] == 0).sum())
default = diversify(vectors, scores, k=10, diversity=1e-6)
print("dpp diversity 1e-06, scale 10: places for the first kind", in_scaled, "  default strategy:", default.strategy)
gradual = all(places[name][:2] == [10, 10] for name in ("mmr", "msd", "ssd"))
careful = places["mmr"][3] == places["ssd"][3] == 10
sys.exit(not (places["dpp"] == [10, 1, 1, 1, 1, 1] and gradual and careful and in_scaled > 1))
PY
