"""Item texts as vectors: encoders, a cache of embeddings on disk, and (``tuning``) trained encoders."""

from foster.text.cache import embed_texts
from foster.text.encoder import EncoderOptions, TextEncoder, same_encoder

__all__ = ["EncoderOptions", "TextEncoder", "embed_texts", "same_encoder"]
