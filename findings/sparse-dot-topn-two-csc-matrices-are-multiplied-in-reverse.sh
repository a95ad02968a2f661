#!/usr/bin/env bash
# sparse-dot-topn 1.2.0 (numpy 2.4.6, scipy 1.17.1): of two CSC matrices sp_matmul_topn(A, B) gives the best entries
# of (B @ A).T in place of those of A @ B.
#
# Behaviour: if both matrices are CSC and A has as many rows as B has columns, both are transposed and then multiplied
# in the order in which they came. Of square item-item matrices the scores are of other pairs: of a walk of two steps,
# W @ W, the result is the walk backwards, and in this log 1% of the five best items of an item are right. Of users by
# items and items by users the result has the other shape: items by items, not users by users. If one of the two is
# CSR or COO, or both are, the same call is right. sp_matmul does the same. No error, no warning; the docstring says
# that a CSC matrix is converted to CSR.
# A good guess: the storage format changes the speed, not the product.
# Hurt: who multiplies item-item weights (SLIM and EASE weights are often kept by column; the transpose of a CSR
# matrix is CSC): items get the neighbours of which they are a neighbour, popular items and rare ones change places,
# and a test with a symmetric matrix (cosines) finds nothing. Call .tocsr() first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q sparse-dot-topn==1.2.0 numpy==2.4.6 scipy==1.17.1
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import importlib.metadata
import sys

import numpy as np
from scipy import sparse
from sparse_dot_topn import sp_matmul, sp_matmul_topn

print("sparse-dot-topn", importlib.metadata.version("sparse-dot-topn"))
chance = np.random.default_rng(0)
items = 300
popularity = 1 / np.arange(1, items + 1)
from_item = chance.integers(0, items, 4000)
to_item = chance.choice(items, 4000, p=popularity / popularity.sum())
counts = sparse.csr_matrix((np.ones(4000), (from_item, to_item)), shape=(items, items))
walk = sparse.csr_matrix(sparse.diags_array(1 / np.maximum(counts.sum(axis=1).A1, 1)) @ counts)
exact = (walk @ walk).toarray()
best = np.argsort(-exact, axis=1, kind="stable")[:, :5]
right = {}
for one in ("csr", "csc", "coo"):
    for other in ("csr", "csc", "coo"):
        found = sp_matmul_topn(walk.asformat(one), walk.asformat(other), top_n=5, sort=True)
        lists = [set(found.indices[found.indptr[row] : found.indptr[row + 1]]) for row in range(items)]
        share = np.mean([len(mine & set(wanted)) / 5 for mine, wanted in zip(lists, best, strict=True)])
        right[one, other] = bool(np.isclose(found.data, exact[found.tocoo().coords]).all()), round(float(share), 2)
        print(f"{one} @ {other}: scores are those of the product {right[one, other][0]!s:<5} ", end="")
        print(f"share of the five best {right[one, other][1]:.2f}")
both = walk.tocsc()
backwards = np.allclose(sp_matmul(both, both).toarray(), exact.T) and not np.allclose(exact, exact.T)
print("sp_matmul of two CSC matrices is the transposed product:", backwards)
log = sparse.random(40, 25, 0.2, random_state=1, format="csc")
shape = sp_matmul_topn(log, log.T.tocsc(), top_n=3).shape
print("40 users by 25 items, times its transpose, both CSC:", shape)
pairs = [pair for pair, (scores, share) in right.items() if not scores or share < 0.9]
sys.exit(not (pairs == [("csc", "csc")] and right["csc", "csc"][1] < 0.1 and backwards and shape == (25, 25)))
PY
