"""Selection of real histories behind one function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from foster.coresets.random import random_histories, random_long_histories
from foster.data.dataset import Dataset
from foster.errors import InputError, did_you_mean
from foster.models import ModelOptions
from foster.text import EncoderOptions
from foster.training.condensed import Condensed
from foster.training.options import HARD_LABELS

Method = Callable[[list[np.ndarray], int, int, np.random.Generator], np.ndarray]

METHODS: dict[str, Method] = {"random": random_histories, "random-length": random_long_histories}


def select(
    method: str,
    data: Dataset,
    sequences: int = 20,
    *,
    seed: int = 0,
    encoder: EncoderOptions | None = None,
    model: ModelOptions | None = None,
) -> Condensed:
    """Choose M training histories.

    Args:
        method: a name in ``METHODS``.
        data: the log.
        sequences: M.
        seed: of the draw.
        encoder: encoder of the students.
        model: shape of the students; its ``max_length`` cuts the histories.

    Raises:
        InputError: unknown method, or a budget beyond the users that have two training items.
    """
    if method not in METHODS:
        raise InputError(
            f"select: unknown method '{method}'{did_you_mean(method, METHODS)}; known: {', '.join(METHODS)}"
        )
    model = model or ModelOptions()
    histories = data.training_histories()
    if not 1 <= sequences <= len(histories):
        raise InputError(
            f"--sequences {sequences}: the log has {len(histories)} users with two training items; give 1 to that"
        )
    chosen = METHODS[method](histories, sequences, model.max_length, np.random.default_rng(seed))
    return Condensed.of_histories(
        [histories[row] for row in chosen],
        model.max_length,
        method,
        data.catalogue,
        encoder=encoder or EncoderOptions(),
        model=model,
        recipe=HARD_LABELS,
        info={
            "data_fingerprint": data.info.fingerprint,
            "seed": seed,
            "from_real_data": "real histories of users, without their ids",
            "licence": data.info.terms,
        },
    )
