"""Selection of real histories behind one function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from foster.condensed.contexts import label_windows
from foster.condensed.labels import with_soft_labels
from foster.condensed.sequences import Condensed
from foster.coresets.dealrec import dealrec
from foster.coresets.geometric import herding, kcenter
from foster.coresets.goracs import goracs
from foster.coresets.pool import Pool
from foster.coresets.random import long_histories, random_histories, stratified_histories
from foster.data.dataset import Dataset
from foster.engine import Engine, deterministic
from foster.errors import InputError, did_you_mean, expect
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.text.encoder import same_encoder
from foster.text.options import EncoderOptions
from foster.training.imitation import public_teacher
from foster.training.options import HARD_LABELS, LABEL_WINDOW
from foster.training.teachers import check_teacher, load_teacher

Method = Callable[[Pool], np.ndarray]

METHODS: dict[str, Method] = {
    "random": random_histories,
    "random-length": long_histories,
    "stratified": stratified_histories,
    "herding": herding,
    "kcenter": kcenter,
    "dealrec": dealrec,
    "goracs": goracs,
    "soft-label": long_histories,
}

NEED_TEACHER = frozenset({"herding", "kcenter", "dealrec", "soft-label"})

NEED_SASREC = frozenset({"dealrec", "goracs"})
"""Methods that score by gradients in a layer of SASRec."""


@deterministic()
def select(
    method: str,
    data: Dataset,
    sequences: int = 20,
    *,
    teacher_path: str | Path | None = None,
    seed: int = 0,
    encoder: EncoderOptions | None = None,
    model: ModelOptions | None = None,
    engine: Engine | None = None,
) -> Condensed:
    """Choose M training histories, with the teacher of a folder where the method needs one.

    Args:
        method: random, random-length, stratified, herding, kcenter, dealrec, goracs or soft-label.
        data: the log.
        sequences: M.
        teacher_path: a folder that ``pretrain`` wrote of the same log, in place of the teacher of ``select_with``.
        seed: as of ``select_with``.
        encoder: as there.
        model: as there.
        engine: device.

    Raises:
        InputError: no teacher, a damaged one, or what ``select_with`` raises.
    """
    _check_method(method)
    expect("select: data", data, Dataset)
    engine = engine or Engine()
    teacher = None if teacher_path is None else load_teacher(teacher_path, data, device=engine.device)
    return select_with(method, data, sequences, teacher=teacher, seed=seed, encoder=encoder, model=model, engine=engine)


@deterministic()
def select_with(
    method: str,
    data: Dataset,
    sequences: int = 20,
    *,
    teacher: TextRecommender | None = None,
    seed: int = 0,
    encoder: EncoderOptions | None = None,
    model: ModelOptions | None = None,
    engine: Engine | None = None,
) -> Condensed:
    """Choose M training histories, with a teacher that is in memory.

    Args:
        method: random, random-length, stratified, herding, kcenter, dealrec, goracs or soft-label.
        data: the log.
        sequences: M.
        teacher: a model that was trained on the log; herding, kcenter, dealrec and soft-label need it. Students have
            its encoder and shape, unless others are given.
        seed: of everything that is drawn.
        encoder: encoder of the students; soft labels refer to the teacher's, and students of another one can be
            trained on them afterwards.
        model: shape of the students; its ``max_length`` cuts the histories.
        engine: device; the teacher's by default.

    Raises:
        InputError: an unknown method, a method that needs a teacher without one, a teacher of other data, a missing
            extra, a budget beyond the users that have two training items, or soft labels for longer histories than the
            teacher reads.
    """
    _check_method(method)
    engine = engine or (Engine() if teacher is None else Engine(str(teacher.device)))
    if teacher is not None:
        check_teacher(teacher.eval(), data, engine)
        encoder, model = encoder or teacher.encoder, model or teacher.options
        if method == "soft-label" and not same_encoder(encoder, teacher.encoder):
            raise InputError(
                f"select soft-label: the labels refer to the teacher's encoder, {teacher.encoder.encoder}; leave the "
                "encoder out, and name another one to 'foster train'"
            )
        if method == "soft-label" and model.max_length > teacher.options.max_length:
            raise InputError(
                f"--max-length {model.max_length}: soft labels are the teacher's, which reads "
                f"{teacher.options.max_length} items; give at most that"
            )
    elif method in NEED_TEACHER:
        raise InputError(
            f"select {method}: needs a teacher; make one with 'foster pretrain DATA --out TEACHER' "
            "and add --teacher TEACHER"
        )
    encoder, model = encoder or EncoderOptions(), model or ModelOptions()
    histories = data.training_histories()
    if not 1 <= sequences <= len(histories):
        raise InputError(
            f"--sequences {sequences}: the log has {len(histories)} users with two training items; give 1 to that"
        )
    kept = histories.latest(model.max_length)
    pool = Pool(data, kept, sequences, np.random.default_rng(seed), seed, encoder, model, engine, teacher)
    return coreset_of(method, pool)


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise InputError(
            f"select: unknown method '{method}'{did_you_mean(method, METHODS)}; known: {', '.join(METHODS)}"
        )


def coreset_of(method: str, pool: Pool) -> Condensed:
    """Choose from a pool by one of ``METHODS``."""
    data, model = pool.data, pool.model
    chosen = pool.histories[METHODS[method](pool)]
    catalogue = data.catalogue
    info = {
        **data.info.origin,
        "seed": pool.seed,
        "from_real_data": "real histories of users, without their ids" + catalogue.disclosure,
        "licence": data.info.terms,
    }
    rest: dict[str, Any] = {"encoder": pool.encoder, "model": model, "recipe": HARD_LABELS, "info": info}
    coreset = Condensed.of_histories(chosen, model.max_length, method, catalogue, **rest)
    if method != "soft-label":
        return coreset
    teacher = public_teacher(pool.teacher, data, seed=pool.seed, engine=pool.engine)
    return with_soft_labels(coreset, teacher, label_windows(coreset.items.shape[1], LABEL_WINDOW)).rounded()
