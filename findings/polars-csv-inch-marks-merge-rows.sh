#!/usr/bin/env bash
# polars 2.1.0: read_csv makes one row of two where an unquoted field holds an inch mark, and loses an item.
#
# Behaviour: rows such as  1,"a ""big"" cup",12"  followed by  2,drum,55" wide  become one row, whose last field goes on
# over the end of the line to the next mark. There is no error and no warning. The csv module (strict=True) and pandas
# read five rows. In most other files with such marks polars raises ComputeError ("CSV malformed"), so that it seems
# to look for them; it depends on which marks are there and on whether another field is quoted.
# A good guess: a mark in the middle or at the end of an unquoted field is a sign like others (as for the csv module,
# pandas and spreadsheets), or else an error in every such file.
# Hurt: who reads titles and sizes of products (12", 9" rod) next to titles with commas: rows vanish into a field, and
# the items of these rows are missing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q polars==2.1.0 pandas==3.1.1
cd "$folder"
venv/bin/python - <<'PY'
import csv
import sys

import pandas as pd
import polars as pl

lines = ["item,title,size", '1,"a ""big"" cup",12"', '2,drum,55" wide', "3,drum,small", '4,9" rod,55" wide', "5,x,y"]
with open("items.csv", "w") as file:
    file.write("\n".join(lines) + "\n")
with open("items.csv", newline="") as file:
    exact = [row[0] for row in csv.reader(file, strict=True)][1:]
found = pl.read_csv("items.csv", infer_schema=False)
print("polars", pl.__version__, "reads the items", found["item"].to_list(), "and the first size as", repr(found["size"][0]))
print("csv reads", exact, "and pandas", pd.__version__, "reads", pd.read_csv("items.csv", dtype=str)["item"].to_list())
sys.exit(not (found["item"].to_list() == ["1", "3", "4", "5"] and exact == ["1", "2", "3", "4", "5"]))
PY
