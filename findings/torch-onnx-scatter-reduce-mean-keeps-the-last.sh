#!/usr/bin/env bash
# torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0: scatter_reduce(..., "mean") is exported as "the last
# one wins".
#
# Behaviour: the mean of the item vectors of each user, made by zeros.scatter_reduce(0, users, vectors, "mean",
# include_self=False), is exported without an error or a warning, and onnx.checker accepts the file. In onnxruntime the
# row of a user is the vector of the last item that stands in the input, not the mean. So it is for include_self=True.
# "sum", "prod", "amax" and "amin" are right. Where each user has one item, all agree.
# A good guess: an error that ONNX's ScatterElements knows no mean (as the exporter before, dynamo=False, has it), or
# the sum divided by the count.
# Hurt: who serves a model that pools histories or text pieces of different lengths by their mean (the usual way for
# ragged batches): the served user vector is that of the newest item. It is a sensible vector, so lists look sensible.
# A sum by scatter_add, divided by counts, is exported right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

USERS = torch.tensor([0, 0, 0, 1, 1, 2])


class Pool(nn.Module):
    def __init__(self, how, include_self):
        super().__init__()
        self.how, self.include_self = how, include_self

    def forward(self, vectors):
        if self.how == "sum / count":
            index = USERS[:, None].expand_as(vectors)
            return torch.zeros(3, 2).scatter_add(0, index, vectors) / torch.bincount(USERS, minlength=3)[:, None]
        index = USERS[:, None].expand_as(vectors)
        return torch.zeros(3, 2).scatter_reduce(0, index, vectors, self.how, include_self=self.include_self)


print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)
vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [6.0, 3.0], [4.0, 4.0], [2.0, 0.0], [5.0, 5.0]])
found = {}
for how, include_self in [(how, False) for how in ("mean", "sum", "amax", "sum / count")] + [("mean", True)]:
    model = Pool(how, include_self).eval()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.onnx.export(model, (vectors,), "pool.onnx", dynamo=True, verbose=False)
    about = [str(one.message) for one in said if "scatter" in str(one.message).lower() or "mean" in str(one.message)]
    onnx.checker.check_model(onnx.load("pool.onnx"))
    session = onnxruntime.InferenceSession("pool.onnx", providers=["CPUExecutionProvider"])
    served = session.run(None, {session.get_inputs()[0].name: vectors.numpy()})[0]
    wanted = model(vectors).numpy()
    print(f"{how:<12} include_self={include_self!s:<6} torch {wanted.tolist()}  onnxruntime {served.tolist()} {about}")
    found[how, include_self] = np.allclose(wanted, served), served.tolist(), about
last = [[6.0, 3.0], [2.0, 0.0], [5.0, 5.0]]
same = found["mean", False] == (False, last, []) and found["mean", True] == (False, last, [])
sys.exit(not (same and all(found[how, False][0] for how in ("sum", "amax", "sum / count"))))
PY
