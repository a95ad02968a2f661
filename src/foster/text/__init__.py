"""Item texts as vectors: encoders, a cache of embeddings on disk, and (``tuning``) trained encoders."""
