#!/usr/bin/env bash
# duckdb 2.0.1: read_csv loses the rows that begin with "#", if the file is short.
#
# Behaviour: read_csv guesses whether "#" begins a comment. In a file whose first column is numeric otherwise, every
# row that begins with "#" (the #N/A of a spreadsheet, an order "#1003") is taken for a comment and left out, wherever
# it stands. In a file of 2,047 rows or more the same rows are kept, and the column is text: one more row at the end
# brings 205 rows back. No message.
# A good guess: "#" is a sign like others unless comment='#' is given: the column becomes text, or the row is an
# error.
# Hurt: who reads item tables or logs exported from spreadsheets and shops: a test with a small excerpt loses rows
# that the full file keeps, and small catalogues lose items. comment='' keeps them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
cd "$folder"
venv/bin/python - <<'PY'
import sys

import duckdb

print("duckdb", duckdb.__version__)


def rows_read(rows, option=""):
    """Return how many rows are read of a file in which every tenth price is the spreadsheet's #N/A."""
    lines = [f"{'#N/A' if n % 10 == 0 else n + 0.5},item {n}" for n in range(rows)]
    with open("items.csv", "w") as file:
        file.write("\n".join(["price,item", *lines]) + "\n")
    return duckdb.sql(f"select count(*) from read_csv('items.csv'{option})").fetchall()[0][0]


found = {rows: rows_read(rows) for rows in (100, 2046, 2047, 5000)}
for rows, read in found.items():
    print(f"{rows:>5} rows in the file, {read:>5} read")
kept = rows_read(100, ", comment=''")
print("  100 rows in the file,", kept, "read with comment=''")
sys.exit((found, kept) != ({100: 90, 2046: 1841, 2047: 2047, 5000: 5000}, 100))
PY
