#!/usr/bin/env bash
# polars 2.1.0: a nested JSON value that is read as text comes out as other JSON, or as none.
#
# Behaviour: scan_ndjson and read_ndjson with schema={"a": pl.String} give a list or an object as its JSON text. In that
# text backslashes and tabs within strings are not escaped again, nor are quotation marks in names. The list of one
# string  C:\new\table  becomes  ["C:\new\table"], which every JSON reader takes for a line end and a tab; a string
# that ends in a backslash becomes text that is no JSON. There is no error and no warning. Line ends and quotation marks
# in values are escaped.
# A good guess: the text is JSON of the same value, as it is written for strings without backslashes.
# Hurt: who reads item metadata with nested fields (features, categories, details) as text first, to parse it later:
# paths, units and formulas in it change, and some rows cannot be parsed any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q polars==2.1.0
cd "$folder"
venv/bin/python - <<'PY'
import json
import sys
from pathlib import Path

import polars as pl

values = [["plain"], ["C:\\new\\table"], ["ends in \\"], {'12" vinyl': "x"}, ['a "mark"\nand a line']]
Path("items.jsonl").write_text("".join(json.dumps({"a": value}) + "\n" for value in values))
outcomes = []
for read in (pl.read_ndjson, lambda *a, **k: pl.scan_ndjson(*a, **k).collect()):
    seen = []
    for value, text in zip(values, read("items.jsonl", schema={"a": pl.String})["a"], strict=True):
        try:
            seen.append("same" if json.loads(text) == value else "other")
        except json.JSONDecodeError:
            seen.append("no JSON")
        print(f"{json.dumps(value):<32} as text: {text!r:<36} read again: {seen[-1]}")
    outcomes.append(seen)
print("polars", pl.__version__, outcomes)
sys.exit(outcomes != [["same", "other", "no JSON", "no JSON", "same"]] * 2)
PY
