#!/usr/bin/env bash
# duckdb 2.0.1 (torch 2.13.0, numpy 2.4.6): .torch() gives 0 for a missing value, in every type, and says nothing.
#
# Behaviour: a relation of six events of which one has no rating and another no item comes back from .torch() with
# rating 0.0 and item 0, and a missing boolean is False. So do the numbers that a left join does not find, that lag()
# has before the first event, and that try_cast cannot read. .fetchnumpy() marks the same values (a masked array), .df()
# and .pl() have them missing; .torch() takes the array under the mask. The mean rating falls from 4.0 to 3.33, and
# item 0 is an item of the catalogue.
# A good guess: NaN for floats and an error for whole numbers, which have no NaN, as tensors cannot hold a null.
# Hurt: who makes batches of a log by SQL: events without a rating become dislikes, the item before a first event is
# item 0, cold items that the join with a number table does not find train the first row of an embedding table.
# coalesce(x, -1), or .fetchnumpy() and its mask, tells them apart.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q duckdb==2.0.1 numpy==2.4.6 pandas==3.1.1
cd "$folder"
venv/bin/python - <<'PY'
import sys

import duckdb
import numpy as np

print("duckdb", duckdb.__version__)
log = duckdb.sql("""
    select * from (values ('a', 1, 5.0::float, true), ('b', 2, null, null), ('a', 3, 3.0, false), ('c', 4, 4.0, true),
                          ('z', 5, 4.0, true), ('b', 6, 4.0, false)) log(title, time, rating, bought)
""")
numbers = duckdb.sql("select * from (values ('a', 0), ('b', 1), ('c', 2)) numbers(title, item)")
events = duckdb.sql("""
    select item, lag(item) over (order by time) as before, rating, bought
    from log left join numbers using (title) order by time
""")
tensors, arrays, frame = events.torch(), events.fetchnumpy(), events.df()
for name, tensor in tensors.items():
    print(f"{name:<7} .torch() {tensor.tolist()}   .df() {frame[name].tolist()}")
print("mean rating: .torch()", round(tensors["rating"].mean().item(), 2), " .fetchnumpy()", arrays["rating"].mean())
masked = {name: np.flatnonzero(np.ma.getmaskarray(array)).tolist() for name, array in arrays.items()}
expected = {"item": [0, 1, 0, 2, 0, 1], "before": [0, 0, 1, 0, 2, 0], "rating": [5.0, 0.0, 3.0, 4.0, 4.0, 4.0]}
same = all(tensors[name].tolist() == values for name, values in expected.items())
same &= tensors["bought"].tolist() == [True, False, False, True, True, False]
same &= masked == {"item": [4], "before": [0, 5], "rating": [1], "bought": [1]} and arrays["rating"].mean() == 4.0
sys.exit(not same)
PY
