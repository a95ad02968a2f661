"""Full-ranking evaluation."""

from foster.evaluation.evaluate import Evaluation, evaluate, evaluate_popularity, rank_new_items
from foster.evaluation.metrics import metrics_of
from foster.evaluation.ranks import rank_targets

__all__ = ["Evaluation", "evaluate", "evaluate_popularity", "metrics_of", "rank_new_items", "rank_targets"]
