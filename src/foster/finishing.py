"""Training on sequences first and on their log afterwards: a trial that ranks options as the log does."""

from __future__ import annotations

from foster.condensed.labels import student_recipe, tunes_last
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.engine import Engine
from foster.errors import InputError, expect
from foster.evaluation.evaluate import is_of
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.runs import train as train_on
from foster.text.options import EncoderOptions
from foster.training.loop import Fit, Watch, on_log
from foster.training.options import FINISH, TrainOptions
from foster.unfinished import Unfinished

STUDENT_STEPS = 500
"""Most steps on the sequences: more of them teach little that the log does not (benchmarks/research.md, 72)."""


def shape_on_log(source: Condensed) -> ModelOptions:
    """Return the stored shape of sequences with the dropout of a log, of which labels need less."""
    return source.model.model_copy(update={"dropout": ModelOptions().dropout})


def check_own_log(source: Condensed, data: Dataset) -> None:
    """Raise InputError unless sequences were made from a log: item features of another are whitened otherwise."""
    known = is_of(source.info.get("data_fingerprint"), data)
    if known is None:
        raise InputError(
            "--finish: the sequences do not state which log they were made from, as private ones do not, and a model "
            "can go on with that one only; leave it out"
        )
    if not known:
        raise InputError(
            f"--finish: {data.info.name} is other data than that which the sequences were made from, and a model can "
            "go on with their own log only; distil from this one, or leave it out"
        )


def finish(
    source: Condensed,
    data: Dataset,
    *,
    encoder: EncoderOptions | None = None,
    model: ModelOptions | None = None,
    train: TrainOptions | None = None,
    like: TextRecommender | None = None,
    watch: Watch | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    part: Unfinished | None = None,
) -> tuple[TextRecommender, Fit]:
    """Train a recommender on sequences, and go on with it on the log that they were made from.

    On the sequences it has their stored recipe, of at most ``STUDENT_STEPS`` (500) steps, and their dropout. On those
    of a frozen teacher the language model stays frozen, too, and is tuned on the log only. All options of the model and
    of the recipe count on the log.

    Args:
        source: sequences.
        data: the log, whose validation targets choose the weights.
        encoder: text encoder; by default the one that is stored with the sequences.
        model: shape; by default the stored one with the dropout of a log.
        train: recipe on the log; without steps of its own it makes a quarter of those that a log has by default.
        like: as of ``train``.
        watch: as of ``train``, for validations on the log.
        seed: of everything that is drawn.
        engine: device and processes.
        part: as of ``train``; a call that was cut off trains on the sequences again, and goes on with the log.

    Returns:
        The model and how training on the log went.

    Raises:
        InputError: a log that the sequences were not made from, or what ``train`` raises.
    """
    expect("finish: source", source, Condensed)
    expect("finish: data", data, Dataset)
    encoder, model = encoder or source.encoder, model or shape_on_log(source)
    check_own_log(source, data)
    train = on_log(train or TrainOptions(), data, FINISH)
    first = source.recipe.model_copy(update={"steps": min(source.recipe.total_steps, STUDENT_STEPS)})
    if source.labelled:
        first = first.model_copy(update={"warmup": first.total_steps // 2})  # so few steps at a high rate need it
    shape = model.model_copy(update={"dropout": source.model.dropout})
    start = {}
    if tunes_last(source, model):
        shape = shape.model_copy(update={"finetune": "frozen"})
        device = (engine or Engine()).device  # made first of all, since it is refused where it cannot be
        start = TextRecommender.build(source.catalogue, encoder, model, seed=seed, device=device).trained_state()
    first = student_recipe(source, encoder, shape, first)
    student, _ = train_on(
        source,
        encoder=encoder,
        model=shape,
        train=first,
        validation=data if first.patience else None,
        like=like,
        seed=seed,
        engine=engine,
    )
    recommender, fit = train_on(
        data,
        encoder=encoder,
        model=model,
        train=train,
        start=start | student.trained_state(),
        like=like or student,
        watch=watch,
        seed=seed,
        engine=engine,
        part=part,
    )
    recommender.origin["from_real_data"] += (
        f"; trained first on {len(source)} {source.kind} sequences ({source.method})"
    )
    return recommender, fit
