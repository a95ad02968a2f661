#!/usr/bin/env bash
# bm25s 0.3.16 (numpy 2.4.6): with the package's Tokenizer a query of which no word is known is answered with the items
# that have no text, at scores above those of real matches.
#
# Behaviour: of 1,000 items 6 have an empty description and 4 one of stop words ("this and that"). A query of two words
# that no item holds, an empty query and one of stop words give these ten first, each with a score of 3.0, where the
# best match of "copper kettle", a pair that 14 items hold, has 1.8. A text without a known word becomes a text of one
# word, the empty one, on both sides: so they match, the word is rare, and the text is short. One unknown word beside a
# known one does no harm. With bm25s.tokenize(), the function, such queries score 0.0 for all items. No error, no
# warning. The documentation says that the empty token is there to score documents without tokens and to keep an empty
# query from failing; it does not say that they match.
# A good guess: no word in common, no score: 0.0 for all items, as with the function.
# Hurt: who searches a catalogue with gaps in its texts, or takes item titles or user histories as queries: new words,
# other languages and empty histories bring up the least described items, and a filter "score > 0" or a threshold
# learned on other queries lets them through; mixed into a hybrid list they come first. Leave such items out of the
# index, or queries without a known word out of the search.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q bm25s==0.3.16 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 venv/bin/python - <<'PY'
import importlib.metadata
import sys

import bm25s
import numpy as np
from bm25s.tokenization import Tokenizer

print("bm25s", importlib.metadata.version("bm25s"), "numpy", np.__version__)
materials = ("copper", "iron", "steel", "glass", "wooden", "paper", "cotton", "silver", "marble")
things = ("kettle", "lamp", "chair", "table", "bowl", "spoon", "basket", "mirror")
texts = [""] * 6 + ["this and that"] * 4
texts += [f"{materials[n % 9]} {things[n % 8]} number {n % 50} of our garden series" for n in range(990)]
without = set(range(10))
queries = ["copper kettle", "zanzibar hovercraft", "", "is it that", "zanzibar kettle"]
quiet = {"show_progress": False}

tokenizer = Tokenizer()
by_class = bm25s.BM25()
by_class.index(tokenizer.tokenize(texts, return_as="tuple", **quiet), **quiet)
by_function = bm25s.BM25()
by_function.index(bm25s.tokenize(texts, **quiet), **quiet)
found = {}
for query in queries:
    tokens = tokenizer.tokenize([query], update_vocab=False, **quiet)
    items, scores = by_class.retrieve(tokens, k=10, **quiet)
    other, other_scores = by_function.retrieve(bm25s.tokenize([query], **quiet), k=10, **quiet)
    found[query] = set(items[0].tolist()), scores[0], other_scores[0]
    print(f"{query!r:<22} Tokenizer: {len(found[query][0] & without):>2} of ten without text, best score", end=" ")
    print(f"{scores.max():.2f}   tokenize(): {len(set(other[0].tolist()) & without):>2}, best {other_scores.max():.2f}")
matches = sum("copper kettle" in text for text in texts)
print("items with both words of the first query:", matches)
real, mixed = found["copper kettle"], found["zanzibar kettle"]
empty = [found[query] for query in queries[1:4]]
wrong = all(items == without and scores.min() > real[1].max() and not other.any() for items, scores, other in empty)
right = all(not items & without and scores.min() > 0 and np.allclose(scores, other, rtol=0.05)
            for items, scores, other in (real, mixed))
sys.exit(not (wrong and right))
PY
