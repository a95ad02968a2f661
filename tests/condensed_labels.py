"""Sequences with soft labels of a small teacher."""

from __future__ import annotations

import torch

from foster.condensed.contexts import label_windows
from foster.condensed.labels import with_soft_labels
from foster.condensed.sequences import Condensed


def soft_labelled(student, k=1, generator=None, sequences=4, features=None, **options):
    """Return sequences whose labels are the outputs of another model, ``options`` apart, and that model."""
    teacher = student.fresh(5, student.options.model_copy(update=options)).eval()
    if features is not None:
        teacher.tower.features = features
    items = torch.randint(40, (sequences, 8, k), generator=torch.Generator().manual_seed(6))
    plain = Condensed(
        "coreset", "soft-label", items, torch.ones(items.shape) / k, None, None, student.catalogue,
        encoder=student.encoder, model=student.options, info={"from_real_data": "histories"},
    )  # fmt: skip
    return with_soft_labels(plain, teacher, label_windows(8, 5), generator), teacher
