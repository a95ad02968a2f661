"""Records of finished runs, and their ranks."""

from __future__ import annotations

import numpy as np

from foster.evaluation.metrics import ndcg_of_ranks

ABOUT = {
    "data": "toy",
    "users": 4,
    "items": 9,
    "interactions": 20,
    "split": "leave-one-out",
    "parts": {"test_users": 4, "test_targets": 4},
    "seeds": [0, 1],
}
RANKS = {
    ("full", 0): [1, 1, 2, 30],
    ("full", 1): [1, 2, 2, 30],
    ("random", 0): [3, 40, 2, 30],
    ("random", 1): [9, 40, 20, 30],
    ("foster", 0): [1, 3, 2, 30],
    ("foster", 1): [2, 2, 2, 30],
}


def records_of(budgets=(20,)):
    out = []
    for (name, seed), ranks in RANKS.items():
        for budget in budgets if name != "full" else (None,):
            out.append(
                {
                    "name": name,
                    "method": name,
                    "budget": budget,
                    "seed": seed,
                    "metrics": {
                        "ndcg@10": float(ndcg_of_ranks(np.array(ranks)).mean()),
                        "recall@10": float((np.array(ranks) <= 10).mean()),
                    },
                    "needs_teacher": name == "foster",
                    "train_seconds": 100.0 + seed if name == "full" else 10.0,
                    **({} if name == "full" else {"make_seconds": 45.0, "bytes": 1000, "recipe": "soft"}),
                }
            )
    return out


def ranks(record):
    return np.array(RANKS[record["name"], record["seed"]], dtype=float)
