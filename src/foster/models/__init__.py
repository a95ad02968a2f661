"""The recommender and its parts."""

from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender

__all__ = ["ModelOptions", "TextRecommender"]
