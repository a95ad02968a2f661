"""The sequence models by name."""

from __future__ import annotations

from torch import nn

from foster.models.gru4rec import GRU4Rec
from foster.models.hstu import HSTU
from foster.models.ligr import LiGR
from foster.models.mean_pool import MeanPool
from foster.models.options import ModelOptions
from foster.models.sasrec import SASRec


def backbone_of(options: ModelOptions) -> nn.Module:
    """Return a sequence model with random weights, of item vectors ``[batch, length, d]`` to states of that shape."""
    if options.backbone == "gru4rec":
        return GRU4Rec(options.dim, options.layers, options.dropout)
    if options.backbone == "mean":
        return MeanPool(options.dim, options.dropout)
    attentive = {"sasrec": SASRec, "hstu": HSTU, "ligr": LiGR}[options.backbone]
    return attentive(options.dim, options.layers, options.heads, options.max_length, options.dropout)
