"""The recommender and its parts."""
