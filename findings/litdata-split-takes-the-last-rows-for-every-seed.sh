#!/usr/bin/env bash
# litdata 0.2.76 (torch 2.13.0, torchvision 0.28.0, numpy 2.4.6): train_test_split(shuffle=True, seed=...) of a data set
# that fits into one chunk tests on its last rows, whatever the seed.
#
# Behaviour: a log of 2,000 events, 20 of each of 100 users, ordered by user, is written by optimize() with
# chunk_bytes="64MB", as in the manual; it is one chunk. train_test_split(splits=[0.8, 0.2]), which shuffles unless told
# not to, gives the events of users 80 to 99 as the test set for each of ten seeds, as shuffle=False does: no user is on
# both sides. It is the chunks that are shuffled, not the items. With four chunks, ten seeds give four test sets, the
# last 400 events of one of the chunks; with chunks of one item it is a random split, with 95 to 100 users on both
# sides, and so is torch's random_split. No message. The docstring says that shuffle is for shuffling the data before
# the split, and the seed for reproducibility. The manual warns that the order of training is not fully random for
# ordered sources; it says nothing of splits.
# A good guess: a random fifth of the items, another one for another seed, as from random_split.
# Hurt: who splits a log that was written by user, by time or by class: validation is on users, days or classes that
# training never saw, or on one class alone, and five seeds give five times the same split, so that the spread of
# results is far too small. The larger the chunks, the less random. Shuffle before optimize(), or pass a list of random
# numbers to subset().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q litdata==0.2.76 torch==2.13.0 torchvision==0.28.0 numpy==2.4.6
cd "$folder"
cat >split.py <<'PY'
import importlib.metadata
import sys

import torch
from litdata import StreamingDataset, optimize, train_test_split


def event(number):
    """Return the event of a number: each user has 20 in a row."""
    return {"number": number, "user": number // 20, "item": number * 7919 % 1000}


def numbers(part):
    """Return the numbers of the events in a data set."""
    return frozenset(int(part[place]["number"]) for place in range(len(part)))


def users_on_both_sides(train, test):
    """Return how many users have events in both parts."""
    return len({number // 20 for number in train} & {number // 20 for number in test})


def splits(folder, shuffle=True):
    """Return the training and test sets of ten seeds."""
    pairs = []
    for seed in range(10):
        parts = train_test_split(StreamingDataset(folder), splits=[0.8, 0.2], seed=seed, shuffle=shuffle)
        pairs.append(tuple(numbers(part) for part in parts))
    return pairs


if __name__ == "__main__":
    print("litdata", importlib.metadata.version("litdata"), "torch", torch.__version__)
    sizes = {"one": {"chunk_bytes": "64MB"}, "four": {"chunk_size": 500}, "2000": {"chunk_size": 1}}
    for name, size in sizes.items():
        optimize(fn=event, inputs=list(range(2000)), output_dir=name, num_workers=1, verbose=False, **size)
    last = frozenset(range(1600, 2000))
    shared, different = {}, {}
    for name in sizes:
        pairs = splits(name)
        tests = {test for _, test in pairs}
        shared[name], different[name] = {users_on_both_sides(*pair) for pair in pairs}, len(tests)
        runs = {sum(number - 1 not in test for number in test) for test in tests}
        print(f"chunks: {name:<5} different test sets of ten seeds: {len(tests):>2}   runs of events in one:", end=" ")
        print(f"{min(runs)} to {max(runs)}   users on both sides: {min(shared[name])} to {max(shared[name])}")
    always_last = all(test == last for _, test in splits("one"))
    unshuffled = all(test == last for _, test in splits("one", shuffle=False))
    print("one chunk: the test set is the last 400 events for every seed:", always_last, "  unshuffled:", unshuffled)
    parts = torch.utils.data.random_split(range(2000), [0.8, 0.2], generator=torch.Generator().manual_seed(0))
    by_torch = users_on_both_sides(*(frozenset(part) for part in parts))
    print("random_split: users on both sides:", by_torch)
    wrong = always_last and unshuffled and shared["one"] == {0} and different["one"] == 1 and max(shared["four"]) < 5
    right = different["2000"] == 10 and min(shared["2000"]) > 90 and by_torch > 90
    sys.exit(not (wrong and right))
PY
OMP_NUM_THREADS=1 venv/bin/python -W ignore split.py
