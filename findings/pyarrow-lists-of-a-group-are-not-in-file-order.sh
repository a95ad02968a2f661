#!/usr/bin/env bash
# pyarrow 26.0.1 (numpy 2.4.6): group_by("user").aggregate([("item", "list")]) gives histories out of order, as soon as
# the table has more than one chunk.
#
# Behaviour: a log of 20 Parquet files, one a day, is read with read_table() and is in order of time. The lists that
# group_by gathers by user hold whole files in another order, the same one for all users: the history of nearly every
# user is out of order, and in most calls the last item of the list is not the newest one for all 1,000 users. The next
# call gives another order. The threads put their parts together as they finish. A table of one chunk (one small file,
# or after combine_chunks()) comes out in order, and so does use_threads=False. For the aggregates "first" and "last"
# the same call is refused, as it has no order with threads. Of use_threads the docstring says that no stable ordering
# of the output is guaranteed, which reads as the order of the users; "list" is only said to gather the values.
# A good guess: the users in any order, each list in the order of the file, as in pandas and in polars (whose manual
# says so for agg); or refused, as "first" and "last" are.
# Hurt: who makes histories for a sequence model from an Arrow table: the held-out item is from the middle of the log,
# the training part holds later events than the test, and runs differ from one start to the next. A test with one
# small file finds nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=4 venv/bin/python - <<'PY' # the number of threads, whatever the machine has
import pathlib
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

print("pyarrow", pa.__version__, "with", pa.cpu_count(), "threads")
pathlib.Path("log").mkdir()
chance = np.random.default_rng(0)
for day in range(20):
    times = np.arange(day * 20_000, (day + 1) * 20_000)
    items = pa.table({"user": chance.integers(0, 1_000, 20_000), "item": times % 5_003, "time": times})
    pq.write_table(items, f"log/day-{day:02}.parquet")
log = pq.read_table("log")
in_order = bool(np.all(np.diff(log["time"].to_numpy()) > 0))
print("rows:", log.num_rows, "  chunks:", log["time"].num_chunks, "  the table is in order of time:", in_order)


def look(table, **options):
    """Return how many histories are out of order, and how many do not end with the newest event."""
    histories = table.group_by("user", **options).aggregate([("time", "list"), ("time", "max")])
    lists, newest = histories["time_list"].to_pylist(), histories["time_max"].to_pylist()
    return sum(times != sorted(times) for times in lists), sum(a[-1] != b for a, b in zip(lists, newest))


calls = [look(log) for _ in range(20)]
print("of 1,000 users, (out of order, last one not the newest), in 20 calls:\n ", calls)
alone, joined = look(log, use_threads=False), look(log.combine_chunks())
print("with use_threads=False:", alone, "  after combine_chunks():", joined)
refused = []
for name in ("first", "last"):
    try:
        log.group_by("user").aggregate([("time", name)])
    except pa.ArrowNotImplementedError as error:
        refused.append(name)
        print(f"{name}: {error}")
many = sum(wrong > 900 for wrong, _ in calls) >= 5 and max(last for _, last in calls) > 900
sys.exit(not (in_order and many and alone == joined == (0, 0) and refused == ["first", "last"]))
PY
