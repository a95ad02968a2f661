"""The two training jobs: a teacher on the full log, and a model on whatever a folder holds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from torch import Tensor

from foster.artefacts import check_free, write_metrics
from foster.condensed.labels import frozen_part, student_recipe, tunes_last
from foster.condensed.sequences import Condensed
from foster.condensed.sources import student_source
from foster.data.dataset import Dataset
from foster.engine import Engine, check_seed
from foster.errors import InputError, expect, expect_given
from foster.evaluation.evaluate import is_of
from foster.manifest import identity
from foster.models.options import ModelOptions
from foster.models.privacy import Privacy
from foster.models.recommender import NOT_STATED, ORIGIN, TextRecommender
from foster.text.options import EncoderOptions
from foster.training.loop import Fit, LogSource, Source, Watch, fit, going_on, on_log, validator
from foster.training.options import PrivacyOptions, TeacherOptions, TrainOptions
from foster.training.private import PrivateLog, check_private, plan, private_recipe, private_shape
from foster.training.teachers import started_from
from foster.training.trajectory import Recorder, Recording, checkpoint_steps
from foster.unfinished import Unfinished, unfinished
from foster.wording import rounded_bytes


def pretrain(
    data: Dataset,
    out: str | Path,
    *,
    encoder: EncoderOptions | None = None,
    model: ModelOptions | None = None,
    train: TrainOptions | None = None,
    teacher: TeacherOptions | None = None,
    privacy: PrivacyOptions | None = None,
    start_from: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    overwrite: bool = False,
    resume: bool = True,
    say: Callable[[str], None] | None = None,
) -> tuple[TextRecommender, Fit]:
    """Train on the full log and record the trajectory: the teacher, which is also the full-data baseline.

    Args:
        data: the log.
        out: folder for the model, its ``trajectory/`` and ``metrics.jsonl`` (validations, and the seconds of all).
        encoder: text encoder.
        model: shape of the model.
        train: the recipe.
        teacher: the trajectory.
        privacy: with an epsilon, users, windows and noise are drawn from the system's entropy, which is kept nowhere:
            such a training cannot be repeated or gone on with, and looks at no validation user. Shape and recipe are
            those of ``foster.training.private`` where they are not given.
        start_from: folder of a teacher of this log, in order to tune the language model that is frozen there. Training
            starts from its weights; what is not set of encoder and shape is the teacher's, and what is not set of the
            recipe is that of ``going_on``: a tenth of the usual steps.
        seed: of weights, batches, samples and dropout; of a private training, of the first weights and of samples.
        engine: device and processes.
        overwrite: replace ``out``, and what another call left unfinished there.
        resume: keep the state at each validation beside ``out`` until that is whole, and go on from one that a call
            with the same arguments left; see ``foster.unfinished``.
        say: called with a line where it goes on, and such.

    Returns:
        The model and how training went.

    Raises:
        InputError: ``out`` exists or is unfinished by another call, an unknown encoder, a log without training pairs,
            a training that diverged, a teacher to start from that does not fit, or what an epsilon cannot cover.
    """
    expect("pretrain: data", data, Dataset)
    _check_options("pretrain", encoder, model, train, teacher)
    engine, train, teacher = engine or Engine(), train or TrainOptions(), teacher or TeacherOptions()
    check_mixup(train, data)
    if start_from is not None:
        expect("pretrain: start_from", start_from, str, Path)
        train = going_on(train, data)
    check_seed(seed)
    place, spent, secret = check_free(out, overwrite, (start_from,)), None, np.random.default_rng()
    if privacy is not None and privacy.epsilon is not None:
        if start_from is not None:
            raise InputError("--start-from: a private training starts from random weights; leave out this or --epsilon")
        model, train, resume = private_shape(model), private_recipe(train), False
        spent = plan(privacy, train, check_private(data, engine.world), secret)
    if start_from is None:
        recommender = TextRecommender.build(data.catalogue, encoder, model, seed=seed, device=engine.device)
    else:
        recommender = started_from(start_from, data, encoder=encoder, model=model, device=engine.device)
    length = recommender.options.max_length
    source: Source
    if spent is not None:
        source = PrivateLog.of(data, length, spent, seed, secret)
    else:
        source, train = LogSource(data, train, length, seed, engine), on_log(train, data)
    started = {} if start_from is None else {"start_from": identity(start_from)}
    command = {
        "verb": "pretrain", "data": data.info.fingerprint, **started,
        "seed": seed, "encoder": recommender.encoder.model_dump(),
        "model": recommender.options.model_dump(), "train": train.model_dump(), "teacher": teacher.model_dump(),
    }  # fmt: skip
    engine.wait()  # until all have seen that the place is free
    about = {"arguments": teacher.model_dump(), **engine.about}
    state = unfinished(place, command, engine, overwrite=overwrite, say=say) if resume else nullcontext()
    with state as part, place.fill(about) if engine.is_main else nullcontext() as folder:
        record = None
        if folder:
            due = checkpoint_steps(train.total_steps, teacher.checkpoints)
            _check_room(folder, recommender, len(due), teacher.half, out)
            record = Recorder((part and part.folder) or folder, due, teacher.half)
        result = _fit_teacher(recommender, source, data, train, seed, engine, record, part, spent)
        if folder and record is not None:
            if record.folder.parent != folder:
                record.move_to(folder)
            if start_from is not None:
                recommender.origin["from_real_data"] += "; training started from another teacher of the log"
            recommender.write_to(folder, training_record(train, seed, result) | {"kind": "teacher"})
            # How long it took follows from how long histories are.
            seconds = {"seconds": result.seconds} if spent is None else {}
            write_metrics(folder, [*result.history, {"steps": result.steps, **seconds}])
    engine.wait()
    return recommender, result


def check_mixup(train: TrainOptions, source: Dataset | Condensed) -> None:
    """Raise InputError for a recipe that mixes contexts of soft labels where there are none."""
    if train.mixup and (isinstance(source, Dataset) or not source.labelled):
        raise InputError("--mixup: mixes contexts of soft labels, and there are none; leave it out")


def _check_options(
    call: str,
    encoder: EncoderOptions | None,
    model: ModelOptions | None,
    train: TrainOptions | None,
    teacher: TeacherOptions | None = None,
) -> None:
    """Raise InputError for options that are given as an argument of another name."""
    expect_given(
        call,
        encoder=(encoder, EncoderOptions),
        model=(model, ModelOptions),
        train=(train, TrainOptions),
        teacher=(teacher, TeacherOptions),
    )


def train_teacher(
    data: Dataset,
    *,
    encoder: EncoderOptions | None = None,
    model: ModelOptions | None = None,
    train: TrainOptions | None = None,
    teacher: TeacherOptions | None = None,
    seed: int = 0,
    engine: Engine | None = None,
) -> tuple[TextRecommender, Recording, Fit]:
    """Train on the full log and keep the trajectory in memory: the teacher of ``pretrain``, without a folder.

    Args:
        data: the log.
        encoder: as of ``pretrain``.
        model: as there.
        train: as there.
        teacher: as there; the trajectory takes as much memory as it would take on a disk.
        seed: as there.
        engine: as there.

    Returns:
        The model, its trajectory, both for ``distill_with``, and how training went.

    Raises:
        InputError: an unknown encoder, a log without training pairs, or a training that diverged.
    """
    expect("train_teacher: data", data, Dataset)
    _check_options("train_teacher", encoder, model, train, teacher)
    engine, train, teacher = engine or Engine(), train or TrainOptions(), teacher or TeacherOptions()
    check_mixup(train, data)
    check_seed(seed)
    recommender = TextRecommender.build(data.catalogue, encoder, model, seed=seed, device=engine.device)
    length = recommender.options.max_length
    source, train = LogSource(data, train, length, seed, engine), on_log(train, data)
    trajectory = Recording(checkpoint_steps(train.total_steps, teacher.checkpoints), teacher.half)
    result = _fit_teacher(recommender, source, data, train, seed, engine, trajectory)
    return recommender, trajectory, result


def _fit_teacher(
    recommender: TextRecommender,
    source: Source,
    data: Dataset,
    options: TrainOptions,
    seed: int,
    engine: Engine,
    record: Callable[[int, TextRecommender], None] | None,
    part: Unfinished | None = None,
    privacy: Privacy | None = None,
) -> Fit:
    result = fit(
        recommender,
        source,
        options,
        seed=seed,
        validate=validator(data, options.eval_users, engine) if privacy is None else None,
        record=record,
        engine=engine,
        progress="training on the log" if engine.is_main else None,
        part=part,
    )
    if privacy is None:
        recommender.origin = _origin(data, recommender, "all weights and the trajectory")
        return result
    # A fingerprint of the log would tell it from any other.
    derived = "all weights and the trajectory, with user-level differential privacy (privacy)"
    recommender.origin = {"data_fingerprint": NOT_STATED, "from_real_data": derived}
    recommender.privacy = privacy
    return result


def _check_room(folder: Path, model: TextRecommender, checkpoints: int, half: bool, out: str | Path) -> None:
    """Raise InputError if a teacher does not fit on the disk: before it is trained, not at its last checkpoint."""
    state = sum(tensor.nbytes for tensor in model.trained_state().values())
    needed = state * (1 + checkpoints / (2 if half else 1)) + 4 * model.n_items * model.options.dim
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{out}: a teacher takes {rounded_bytes(needed)}, and {rounded_bytes(free)} are free there; make room, "
            "give another --out or fewer --checkpoints"
        )


def train(
    source: Dataset | Condensed,
    *,
    encoder: EncoderOptions | None = None,
    model: ModelOptions | None = None,
    train: TrainOptions | None = None,
    validation: Dataset | None = None,
    start: dict[str, Tensor] | None = None,
    like: TextRecommender | None = None,
    watch: Watch | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    part: Unfinished | None = None,
) -> tuple[TextRecommender, Fit]:
    """Train a recommender on a log, on distilled sequences or on a coreset.

    It starts from random weights, or from ``start``; with soft labels its item map is the one that is stored with them
    (``start_from_labels``). On sequences, a model that tunes its language model is trained with a frozen one first, by
    the stored recipe in half of its steps (``tunes_last``).

    Args:
        source: what to train on. Distilled sequences and coresets need nothing else: no log, no teacher.
        encoder: text encoder; by default the one that is stored with the source.
        model: shape; by default the stored one.
        train: recipe; by default the stored one (see ``student_recipe``), and its steps where a recipe has none.
        validation: a log whose validation targets are ranked on the way and, where the recipe has a patience, stop
            training and choose the weights; a log as source is its own.
        start: weights to start from, as ``trained_state`` and ``Trajectory.state`` give them. Weights that were
            trained on the log carry it into the model: say so with the result.
        like: a model of the same items, encoder and device. Where both leave the language model as it is, its text
            features are taken, which take longer to compute than a small training.
        watch: called with the step and the NDCG@10 of each validation; what it raises ends the training.
        seed: of everything that is drawn.
        engine: device and processes.
        part: the state of a call with the same arguments that was cut off, to go on with; see ``foster.unfinished``.

    Returns:
        The model and how training went: of one whose language model was frozen first the steps afterwards, and the
        seconds of both.

    Raises:
        InputError: options that the source or the encoder cannot have, validation data with an item that the source
            lacks, a log without training pairs, or a training that diverged.
    """
    expect("train: source", source, Dataset, Condensed)
    expect_given("train", validation=(validation, Dataset))
    _check_options("train", encoder, model, train)
    engine = engine or Engine()
    check_seed(seed)
    if isinstance(source, Condensed):
        encoder, model = encoder or source.encoder, model or source.model
        if train is None or train.steps is None:
            stored = student_recipe(source, encoder, model)
            train = stored if train is None else train.model_copy(update={"steps": stored.steps})
    train = train or TrainOptions()
    check_mixup(train, source)
    validation = source if isinstance(source, Dataset) else validation
    model = model or ModelOptions()
    if like is not None and like.options.finetune == model.finetune == "frozen":
        recommender = like.fresh(seed, model)
    else:
        recommender = TextRecommender.build(source.catalogue, encoder, model, seed=seed, device=engine.device)
    first, own_start = None, start is None
    if own_start and isinstance(source, Condensed) and tunes_last(source, model):
        start, first = _with_frozen_encoder(source, recommender, validation, like, seed, engine)
    if start is not None:
        recommender.load_trained_state(start)
    losses: Source
    if isinstance(source, Dataset):
        length = recommender.options.max_length
        losses, train = LogSource(source, train, length, seed, engine), on_log(train, source)
    else:
        losses = student_source(source, recommender, seed, start=start is None, mixup=train.mixup)
    check = validator(validation, train.eval_users, engine) if validation is not None else None
    # A step on a handful of sequences is too small to divide: every process makes the same, and waits for none.
    divided = engine if isinstance(source, Dataset) else engine.alone()
    progress = "training" if engine.is_main else None
    result = fit(
        recommender, losses, train, seed=seed, validate=check, watch=watch, engine=divided, progress=progress, part=part
    )
    result.seconds += first.seconds if first else 0.0
    if isinstance(source, Dataset):
        recommender.origin = _origin(source, recommender, "all weights")
    else:
        derived = f"weights, by way of {len(source)} {source.kind} sequences ({source.method})"
        derived += f" and what they hold: {source.info.get('from_real_data', NOT_STATED)}"
        fingerprint = source.info.get("data_fingerprint", NOT_STATED)
        if validation is not None and train.patience:
            other = (
                "" if is_of(fingerprint, validation) is not False else f" of other data ({validation.info.fingerprint})"
            )
            derived += f"; validation users{other} chose among the weights of the training"
        origin = {name: source.info[name] for name in ORIGIN if name in source.info}
        if (stated := source.info.get("privacy")) is not None:
            # What validates is the log itself, and its figures stand in the folder.
            if validation is None and own_start:
                recommender.privacy = Privacy.of(stated, f"{source.method} sequences: 'privacy'")
            else:
                derived += "; figures of validation users or weights to start from, which no privacy covers"
        recommender.origin = {"data_fingerprint": fingerprint, **origin, "from_real_data": derived}
    return recommender, result


def _with_frozen_encoder(
    source: Condensed,
    recommender: TextRecommender,
    validation: Dataset | None,
    like: TextRecommender | None,
    seed: int,
    engine: Engine,
) -> tuple[dict[str, Tensor], Fit]:
    """Train a student like another one, with its language model frozen; return weights for that, and how it went."""
    model, recipe = frozen_part(source, recommender.encoder, recommender.options)
    student, fit = train(
        source,
        encoder=recommender.encoder,
        model=model,
        train=recipe,
        validation=validation,
        like=like,
        seed=seed,
        engine=engine,
    )
    return recommender.trained_state() | student.trained_state(), fit


def training_record(options: TrainOptions, seed: int, result: Fit) -> dict[str, object]:
    """Return what ``config.json`` of a trained model says of its training."""
    # One seed, one folder: how long it took is left out. Of groups of users nobody but a search has any use.
    fit = {name: value for name, value in vars(result).items() if name not in ("seconds", "by_group")}
    return {"training": options.model_dump(), "seed": seed, "fit": fit}


def _origin(data: Dataset, model: TextRecommender, derived: str) -> dict[str, str]:
    return {**data.info.origin, "from_real_data": derived + model.catalogue.disclosure}
