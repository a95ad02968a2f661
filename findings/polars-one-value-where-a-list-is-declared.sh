#!/usr/bin/env bash
# polars 2.1.0: three ways to read one JSON value as List(String) give three results where the value is no list.
#
# Behaviour: for "3" or 3 str.json_decode(pl.List(pl.String)) gives the list ["3"], without a word; so a list that was
# encoded twice, "[\"a\", \"b\"]", becomes a list of one string, its own text. read_ndjson with the same type in its
# schema raises SchemaError for the same value. pl.DataFrame with the same type in its schema takes the string apart:
# a list of its characters.
# With List(Int64) json_decode refuses "3" and wraps 3; List(String) refuses no scalar, not even true.
# A good guess: a SchemaError in all three, as read_ndjson has it.
# Hurt: who keeps histories as JSON text in a column. A history that was encoded twice, by a database or a second
# json.dumps, is read as one item that no catalogue has, or as letters. FOSTER refuses text that does not begin with a
# bracket (src/foster/serving/users.py, tests/serving/test_batch.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q polars==2.1.0
cd "$folder"
venv/bin/python - <<'PY'
import io
import json
import sys

import polars as pl

strings = pl.List(pl.String)


def tried(function, *arguments, **options):
    try:
        found = function(*arguments, **options)
    except (pl.exceptions.PolarsError, TypeError) as error:
        return type(error).__name__
    return (found if isinstance(found, pl.Series) else found["h"]).to_list()[0]


print("polars", pl.__version__)
found = {}
for text in ('["3"]', '"3"', "3", "true", json.dumps('["a", "b"]')):
    found[text] = (
        tried(pl.Series([text]).str.json_decode, strings),
        tried(pl.read_ndjson, io.StringIO(f'{{"h": {text}}}\n'), schema={"h": strings}),
        tried(pl.DataFrame, {"h": [json.loads(text)]}, schema={"h": strings}),
    )
    print(f"{text:<18} json_decode {found[text][0]!s:<16} read_ndjson {found[text][1]!s:<12} DataFrame {found[text][2]}")
twice = '["a", "b"]'
expected = {
    '["3"]': (["3"], ["3"], ["3"]),
    '"3"': (["3"], "SchemaError", ["3"]),
    "3": (["3"], "SchemaError", "TypeError"),
    "true": (["true"], "SchemaError", "TypeError"),
    json.dumps(twice): ([twice], "SchemaError", list(twice)),
}
sys.exit(found != expected)
PY
