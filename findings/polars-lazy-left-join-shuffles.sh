#!/usr/bin/env bash
# polars 2.1.0: the same left join keeps the order of its left side on frames and loses it on lazy frames.
#
# Behaviour: lists.join(items, on="item", how="left") gives the rows of `lists` in their order, and so does the lazy
# join run with collect(engine="in-memory"). lists.lazy().join(items.lazy(), ...).collect() gives them in another one,
# already for 20 rows: since 2.0 collect() means the streaming engine. In 1.44.2 the same line kept the order. How
# they are mixed depends on sizes and on the number of threads; large left sides with one thread stay in order.
# filter, with_columns and scans keep it.
# A good guess: the order of the left side, as for frames, in 1.x and in pandas; or else lost in both forms.
# Hurt: who joins titles to a ranked list or a log, lazily, and then takes the first k, the last item of each user, or
# the row number as rank: recommendations and sequences are out of order. maintain_order="left" keeps it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q polars==2.1.0
cd "$folder"
venv/bin/python - <<'PY'
import sys

import polars as pl

print("polars", pl.__version__, "with", pl.thread_pool_size(), "threads")
items = pl.DataFrame({"item": range(500)}).with_columns(title=pl.format("title {}", "item"))
lists = pl.DataFrame({"rank": range(1, 21), "item": [(n * 137) % 500 for n in range(20)]})
lazy = lists.lazy().join(items.lazy(), on="item", how="left")
found = {
    "frames": lists.join(items, on="item", how="left"),
    "lazy, collect(engine='in-memory')": lazy.collect(engine="in-memory"),
    "lazy, collect()": lazy.collect(),
    "lazy, maintain_order='left', collect()": lists.lazy()
    .join(items.lazy(), on="item", how="left", maintain_order="left")
    .collect(),
}
for name, joined in found.items():
    print(f"{name:<40} ranks {joined['rank'].to_list()}")
sys.exit([joined["rank"].is_sorted() for joined in found.values()] != [True, True, False, True])
PY
