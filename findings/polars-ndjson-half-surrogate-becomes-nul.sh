#!/usr/bin/env bash
# polars 2.1.0: read_ndjson makes a NUL character of half a surrogate pair, without a word.
#
# Behaviour: {"title": "lamp \ud83d"} (valid by the grammar of JSON; what json.dumps of Python and JavaScript write for
# a text that was cut in the middle of an emoji) is read as "lamp \x00". There is no error. Python's json keeps the
# half, which then cannot be encoded, so that the fault is seen.
# A good guess: an error, or U+FFFD, the character for what cannot be read.
# Hurt: who reads titles that an app has cut to a length: texts hold NUL, at which C libraries end them and which
# databases refuse, long after the file was read.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q polars==2.1.0
cd "$folder"
venv/bin/python - <<'PY'
import json
import sys

import polars as pl

with open("items.jsonl", "w") as file:
    file.write(json.dumps({"title": "lamp \U0001f4a1"}) + "\n" + json.dumps({"title": "lamp \ud83d"}) + "\n")
found = pl.read_ndjson("items.jsonl")["title"].to_list()
print("polars", pl.__version__, "reads", [title.encode() for title in found])
sys.exit(found != ["lamp \U0001f4a1", "lamp \x00"])
PY
