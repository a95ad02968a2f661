#!/usr/bin/env bash
# torch 2.13.0, CPU: the gradient of a bfloat16 table that is read by number stops growing after some hundred reads of a
# row.
#
# Behaviour: 4,088 of 4,096 positions read item 0, eight read item 1, and each gives a gradient of 1/4096. By table[ids]
# and by F.embedding the gradient of item 0 is 0.0625, a sixteenth of 0.998; that of item 1 is right. The rows are
# added one after the other in bfloat16, and from 256 equal ones on nothing is added any more (in float16 from 2,048
# on). By table.index_select(0, ids), gather, and one-hot rows times the table, it is 1.0, in the same type and with
# the same forward pass. So it is as well with random gradients that have a mean.
# Autocast does not help where the table is the output of a linear layer, as of text vectors: under autocast it is
# bfloat16. nn.Embedding with float32 weights is not concerned.
# A good guess: sums are kept in float32 and rounded at the end, as by torch's sum and matrix product for bfloat16; or
# at least all ways to read a row have the same gradient.
# Hurt: who trains a recommender whose item vectors are computed once a batch from their texts and then read by number:
# popular items learn less than they should, rare ones as they should. Nothing is NaN, the loss falls. In a batch of
# FOSTER's in which one item stood at 1,228 of 10,752 places, its gradient was 4.9% off, and 0.3% with
# vectors.float()[ids], as it is read now (src/foster/training/losses.py, tests/training/test_half_lookup.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import sys

import torch
import torch.nn.functional as F

print("torch", torch.__version__)
ids = torch.zeros(4096, dtype=torch.int64)
ids[:8] = 1
ways = {
    "table[ids]": lambda table: table[ids],
    "F.embedding": lambda table: F.embedding(ids, table),
    "index_select": lambda table: table.index_select(0, ids),
    "gather": lambda table: table.gather(0, ids[:, None].expand(-1, table.shape[1])),
    "one-hot rows": lambda table: F.one_hot(ids, len(table)).to(table.dtype) @ table,
    "table.float()[ids]": lambda table: table.float()[ids],
}
found = {}
for kind in (torch.float32, torch.bfloat16):
    for name, read in ways.items():
        table = torch.zeros(4, 8, dtype=kind, requires_grad=True)
        (read(table) / len(ids)).sum().backward()
        found[kind, name] = [round(value, 4) for value in table.grad[:2, 0].tolist()]
        print(f"{kind!s:<15} {name:<19} gradient of items 0 and 1: {found[kind, name]}")

linear = torch.nn.Linear(8, 8, bias=False)
features = torch.eye(4, 8)
gradients = []
for half in (False, True):
    linear.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        vectors = linear(features)
        (vectors[ids].float() / len(ids)).sum().backward()
    gradients.append(linear.weight.grad[0, 0].item())
    print("vectors by a linear layer, autocast", half, vectors.dtype, "gradient of item 0:", round(gradients[-1], 4))
lost = [found[torch.bfloat16, name][0] for name in ("table[ids]", "F.embedding")] + gradients[1:]
kept = [found[torch.bfloat16, name][0] for name in list(ways)[2:]]
kept += [found[torch.float32, name][0] for name in ways] + gradients[:1]
sys.exit(not (all(value == 0.0625 for value in lost) and all(0.99 < value <= 1.0 for value in kept)))
PY
