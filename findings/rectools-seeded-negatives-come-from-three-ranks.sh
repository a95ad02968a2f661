#!/usr/bin/env bash
# RecTools 0.19.0 (numpy 1.26.4, pandas 2.3.3, scikit-learn 1.8.0): PerUserNegativeSampler(random_state=0) takes the
# negatives of all users from the same few ranks.
#
# Behaviour: the sampler draws 3 of the negative candidates of each user for the training of a reranker. With a
# random_state the draw starts again from the seed for each user, so that users with the same number of negatives give
# the ones in the same places, and candidates stand by rank. Of 1,000 users with 100 candidates and one hit each the
# 3,000 negatives lie on 6 of the 100 ranks (three, and each a place earlier or later, by where the hit stands); without
# random_state they lie on all 100. A gradient boosting reranker on the rank and score of the first stage then learns
# these ranks: on other users the hit rate at 10 is 0.29 or, with another seed, 0.26, where the first stage has 0.43
# and the same reranker without random_state 0.41. So it has if the same number is drawn by one seeded stream over all
# users (groupby.sample of pandas). In a whole CandidateRankingModel with one generator, whose users have different
# numbers of hits, it is 32 ranks; a second generator, whose candidates come in between, hides it. No warning; the
# documentation calls random_state a seed for reproducibility.
# A good guess: random_state makes the draw repeatable, and it is still another draw for each user.
# Hurt: rerankers of RecTools with one generator and one or few hits a user: the model tells negatives by their rank,
# training looks good, and the lists are worse than those of the first stage. It strikes those who set their seeds.
# Leave random_state out, or shuffle the candidates first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q RecTools==0.19.0 numpy==1.26.4 pandas==2.3.3 scikit-learn==1.8.0
cat > "$folder/script.py" <<'PY'
import importlib.metadata
import sys

import numpy as np
import pandas as pd
from rectools import Columns
from rectools.dataset import Dataset
from rectools.model_selection import TimeRangeSplitter
from rectools.models import PopularModel
from rectools.models.ranking import CandidateGenerator, CandidateRankingModel, PerUserNegativeSampler, Reranker
from sklearn.ensemble import GradientBoostingClassifier

print("RecTools", importlib.metadata.version("RecTools"))
chance = np.random.default_rng(0)


def candidates(users):
    """100 candidates of each user by rank, one of them a hit, more often near the top."""
    weight = 1 / np.arange(3, 103)
    hits = chance.choice(100, users, p=weight / weight.sum())
    scores = -np.sort(-chance.gamma(2, 1, (users, 100)), axis=1)
    return pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(users), 100),
            Columns.Item: np.concatenate([chance.choice(5000, 100, replace=False) for _ in range(users)]),
            Columns.Score: scores.ravel(),
            Columns.Rank: np.tile(np.arange(1, 101), users),
            Columns.Target: (np.arange(100) == hits[:, None]).astype(int).ravel(),
        }
    )


def hit_rate(rows, reranker=None):
    """The share of users whose hit is in the best ten."""
    scored = rows.drop(columns=Columns.Rank)
    if reranker is None:
        scored[Columns.Score] = -rows[Columns.Rank]
    else:
        scored[Columns.Score] = reranker.predict_scores(rows.drop(columns=Columns.Target))
    return Reranker.recommend(scored, k=10)[Columns.Target].sum() / rows[Columns.User].nunique()


def by_one_stream(rows):
    negative = rows[rows[Columns.Target] == 0].groupby(Columns.User).sample(n=3, random_state=0)
    return pd.concat([negative, rows[rows[Columns.Target] == 1]]).sample(frac=1, random_state=0)


train, test = candidates(1000), candidates(1000)
first = hit_rate(test)
print(f"first stage: hit rate {first:.3f}")
draws = {
    "no random_state": PerUserNegativeSampler(3).sample_negatives,
    "random_state=0": PerUserNegativeSampler(3, random_state=0).sample_negatives,
    "random_state=1": PerUserNegativeSampler(3, random_state=1).sample_negatives,
    "one stream": by_one_stream,
}
ranks, rates = {}, {}
for name, draw in draws.items():
    rows = draw(train)
    negative = rows[rows[Columns.Target] == 0]
    assert len(rows) == 4000 and len(negative) == 3000 and (negative.groupby(Columns.User).size() == 3).all()
    reranker = Reranker(GradientBoostingClassifier(random_state=0))
    reranker.fit(rows)
    ranks[name], rates[name] = negative[Columns.Rank].nunique(), hit_rate(test, reranker)
    most = negative[Columns.Rank].value_counts().head(3).to_dict()
    print(f"{name:<16} negatives of {ranks[name]:3d} ranks, most of rank {most}, hit rate {rates[name]:.3f}")

weight = 1 / np.arange(1, 301)
weight /= weight.sum()
log = pd.DataFrame(
    [
        (user, int(item), 1, pd.Timestamp("2026-01-01") + pd.Timedelta(days=int(chance.integers(30))))
        for user in range(600)
        for item in chance.choice(300, 15, replace=False, p=weight)
    ],
    columns=Columns.Interactions,
)
whole = {}
for seed in (None, 32):
    model = CandidateRankingModel(
        [CandidateGenerator(PopularModel(), 100, keep_ranks=True, keep_scores=True)],
        TimeRangeSplitter("7D", n_splits=1),
        Reranker(GradientBoostingClassifier(random_state=0)),
        PerUserNegativeSampler(3, random_state=seed),
    )
    rows = model.get_train_with_targets_for_reranker(Dataset.construct(log))
    negative = rows[rows[Columns.Target] == 0]
    whole[seed] = negative["PopularModel_1_rank"].nunique()
    print(f"CandidateRankingModel, random_state={seed}: {len(negative)} negatives of {whole[seed]} ranks")
wanted = [
    ranks["no random_state"] == ranks["one stream"] == 100,
    ranks["random_state=0"] <= 6 and ranks["random_state=1"] <= 6,
    all(rates[name] > 0.85 * first for name in ("no random_state", "one stream")),
    all(rates[name] < 0.7 * first for name in ("random_state=0", "random_state=1")),
    whole[None] > 90 and whole[32] < 45,
]
print(wanted)
sys.exit(not all(wanted))
PY
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/script.py"
