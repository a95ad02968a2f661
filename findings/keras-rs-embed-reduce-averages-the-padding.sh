#!/usr/bin/env bash
# keras-rs 0.4.0 (keras 3.15.1, torch 2.13.0, numpy 2.4.6): EmbedReduce(mask_zero=True) takes the padding into the mean.
#
# Behaviour: the layer embeds a history and reduces it to one vector. Its docstring says of mask_zero that the input 0
# is a padding value that should be masked out, and that 0 cannot be used in the vocabulary. The reduction does not look
# at it: row 0 of the table is added for each padded place, and the mean is divided by the padded length. So it is for
# "mean", "sum" and "sqrtn", and mask_zero=False gives the same numbers. The vector of one history changes with the
# length to which it is padded: of 3 items padded to 50 it has a cosine of 0.11 with the vector without padding, and of
# more than 0.99 with the padded vector of a user of three other items. Row 0 is trained as if it were an item.
# keras.layers.Embedding(mask_zero=True) with GlobalAveragePooling1D gives one vector, however long the padding; so does
# EmbedReduce with the weights 1 and 0. No warning.
# A good guess: padding is left out of the sum and of the count, as by the two layers of keras that it stands for.
# Hurt: two-tower and DLRM-like models on padded histories: users with short histories are all nearly the same user, and
# a user gets other items if the batch is padded to another length, or not at all when served alone. Training runs, and
# the loss falls. Give the weights (ids != 0).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q keras-rs==0.4.0 keras==3.15.1 torch==2.13.0 numpy==2.4.6
cat > "$folder/script.py" <<'PY'
import importlib.metadata
import sys

import keras
import keras_rs
import numpy as np

print("keras-rs", importlib.metadata.version("keras-rs"), "keras", keras.__version__, keras.backend.backend())
chance = np.random.default_rng(0)
table = chance.normal(size=(100, 16)).astype("float32")
history, other = [3, 5, 7], [11, 20, 64]


def padded(items, length):
    return np.array([items + [0] * (length - len(items))])


def cosine(left, right):
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def layer(combiner, mask_zero):
    result = keras_rs.layers.EmbedReduce(100, 16, mask_zero=mask_zero, combiner=combiner)
    result.build((None, 3))
    result.set_weights([table])
    return lambda *inputs: keras.ops.convert_to_numpy(result(*inputs))[0]


wanted = []
for combiner in ("mean", "sum", "sqrtn"):
    masked, plain = layer(combiner, True), layer(combiner, False)
    alone = masked(padded(history, 3))
    print(combiner)
    for length in (5, 10, 50):
        ids = padded(history, length)
        vector = masked(ids)
        weighted = masked(ids, (ids != 0).astype("float32"))
        neighbour = masked(padded(other, length))
        print(f"    padded to {length:2d}: cosine with the unpadded vector {cosine(vector, alone):5.2f},", end=" ")
        print(f"with another user {cosine(vector, neighbour):5.2f},", end=" ")
        print(f"with weights {cosine(weighted, alone):.2f}, as mask_zero=False: {np.array_equal(vector, plain(ids))}")
        wanted += [not np.allclose(vector, alone, atol=0.1), np.allclose(weighted, alone, atol=1e-5)]
        wanted += [np.array_equal(vector, plain(ids))]
    wanted += [cosine(vector, alone) < 0.5, cosine(vector, neighbour) > 0.95]
    wanted += [cosine(alone, masked(padded(other, 3))) < 0.5]
by_hand = (table[history].sum(axis=0) + 47 * table[0]) / 50
wanted.append(np.allclose(layer("mean", True)(padded(history, 50)), by_hand, atol=1e-5))

embedding = keras.layers.Embedding(100, 16, mask_zero=True)
embedding.build()
embedding.set_weights([table])
pooled = keras.Sequential([keras.Input((None,), dtype="int32"), embedding, keras.layers.GlobalAveragePooling1D()])
short, long = (pooled.predict(padded(history, length), verbose=0)[0] for length in (3, 50))
print(f"Embedding and GlobalAveragePooling1D: cosine of 3 and 50 places {cosine(short, long):.2f}")
wanted += [np.allclose(short, long, atol=1e-5), np.allclose(short, layer("mean", True)(padded(history, 3)), atol=1e-5)]
print(all(wanted))
sys.exit(not all(wanted))
PY
cd "$folder"
OMP_NUM_THREADS=1 KERAS_HOME="$folder" KERAS_BACKEND=torch venv/bin/python -W ignore script.py
