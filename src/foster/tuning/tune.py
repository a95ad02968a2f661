"""``foster.tune``: search for options on sequences or on a log, and train the best on the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import torch
from filelock import Timeout

from foster.artefacts import check_free
from foster.condensed.labels import student_recipe
from foster.condensed.sequences import Condensed
from foster.condensed.sources import SoftLabels, student_source
from foster.data.dataset import Dataset
from foster.engine import Engine, check_seed
from foster.errors import InputError, expect, expect_given
from foster.evaluation.evaluate import is_of
from foster.finishing import check_own_log, shape_on_log
from foster.manifest import verify
from foster.models.item_tower import IDS
from foster.models.options import OF_TUNED, ModelOptions, unread
from foster.models.recommender import TextRecommender
from foster.runs import train, training_record
from foster.text.options import EncoderOptions
from foster.training.loop import LogSource, on_log, validator
from foster.training.options import FINISH, TrainOptions
from foster.tuning.folder import (
    DATABASE,
    MEANT,
    claim,
    described,
    place_of,
    retrained_folder,
    retraining_lock,
    study_lock,
)
from foster.tuning.options import TuneOptions
from foster.tuning.results import (
    best_trials,
    config_of,
    frame_of,
    note_retrained,
    on_log_seed,
    parsed,
    retrained,
    write_results,
)
from foster.tuning.seals import writing
from foster.tuning.search import GROUPS, NO_MEMORY, Search, Setting, finished, open_study, quiet, require_optuna
from foster.tuning.space import Choice, Space
from foster.unfinished import unfinished
from foster.wording import many

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

OF_A_LENGTH = frozenset({"steps", "warmup", "eval_every", "patience"})
"""Options of a recipe that belong to how long it is."""

OF_LABELS = frozenset({"adapter", "ids", "finetune"})
"""Options with which a student may not be able to score as soft labels do, and samples items for its loss."""


@dataclass(frozen=True)
class Tuned:
    """A study and what it came to.

    Attributes:
        study: optuna's.
        frame: a row a trial, see ``frame_of``.
        results: see ``results_of``.
        stopped: what stopped the search before its end, if anything did.
    """

    study: Study
    frame: pl.DataFrame
    results: dict[str, Any]
    stopped: BaseException | None


def tune(
    source: Dataset | Condensed,
    out: str | Path,
    *,
    validation: Dataset | None = None,
    space: Mapping[str, Any] | None = None,
    encoder: EncoderOptions | None = None,
    model: ModelOptions | None = None,
    train: TrainOptions | None = None,
    options: TuneOptions | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    overwrite: bool = False,
) -> tuple[Study, pl.DataFrame]:
    """Search for options of model and recipe by training on sequences or on a log; test targets are never looked at.

    Args:
        source: what trials train on: distilled sequences, a coreset, or a log.
        out: folder of the study. One of the same data, space, options and seed goes on where it was; several processes
            can be at work on it at once.
        validation: the log whose validation targets judge the trials; a log as source is its own.
        space: what is searched, ``{option: {"choices": [..]} or {"low": .., "high": .., "step": .., "log": ..}}``; by
            default ``foster.tuning.space.DEFAULT`` without what is set in ``model`` and ``train``.
        encoder: text encoder; by default the one that is stored with the source.
        model: options that are set in it are fixed; others are searched or as stored with the source.
        train: the same for the recipe.
        options: how many trials, for how long, and how many of the best are trained on the full log.
        seed: of draws and of every training.
        engine: device and processes; each makes trials of its own.
        overwrite: begin anew.

    Returns:
        The study, and a frame with a row a trial (see ``foster.tuning.results.frame_of``).

    Raises:
        InputError: optuna is missing, bad options, a folder of another study, or no trial could be finished.
    """
    tuned = search(
        source, out, validation=validation, space=space, encoder=encoder, model=model, train=train, options=options,
        seed=seed, engine=engine, overwrite=overwrite,
    )  # fmt: skip
    if tuned.stopped is not None:
        raise tuned.stopped
    return tuned.study, tuned.frame


def search(
    source: Dataset | Condensed,
    out: str | Path,
    *,
    validation: Dataset | None = None,
    space: Mapping[str, Any] | None = None,
    where: str = "space",
    encoder: EncoderOptions | None = None,
    model: ModelOptions | None = None,
    train: TrainOptions | None = None,
    options: TuneOptions | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    overwrite: bool = False,
    inputs: Iterable[str | Path | None] = (),
    beside: AbstractContextManager[None] | None = None,
    say: Callable[[str], None] = lambda line: None,
    note: Callable[[str], None] = lambda line: None,
) -> Tuned:
    """Do what ``tune`` does, and return what there is also where it was stopped.

    Args:
        source: as there.
        out: as there.
        validation: as there.
        space: as there.
        where: where the space comes from, named in errors.
        encoder: as there.
        model: as there.
        train: as there.
        options: as there.
        seed: as there.
        engine: as there.
        overwrite: as there.
        inputs: folders that are read, which are not to be written over.
        beside: entered once the folder is the study's, and left when this process has done its part: it can have others
            take part, and wait for them.
        say: called with a line a trial.
        note: called with what is to be known of the study before it begins.

    Raises:
        InputError: as ``tune``.
    """
    require_optuna()
    expect("tune: source", source, Dataset, Condensed)
    expect("tune: out", out, str, Path)
    expect_given(
        "tune",
        validation=(validation, Dataset),
        encoder=(encoder, EncoderOptions),
        model=(model, ModelOptions),
        train=(train, TrainOptions),
        options=(options, TuneOptions),
        engine=(engine, Engine),
    )
    check_seed(seed)
    engine, options, out = engine or Engine(), options or TuneOptions(), Path(out)
    if options.retrain_steps is not None and not options.retrain:
        raise InputError("--retrain-steps: belongs to --retrain; add that, or leave it out")
    place = place_of(out, overwrite, inputs)
    setting = _setting(source, validation, space, where, encoder, model, train, options.finish, seed, engine.alone())
    with quiet(), writing(out / DATABASE):
        fault = setting.space.check(setting.model, setting.train, where)
        like = _rehearsed(setting, where)
        if fault and engine.is_main:
            note(fault)
        if isinstance(source, Condensed) and source.info.get("privacy") is not None and engine.is_main:
            note("the sequences are private, but figures of validation users, and options chosen by them, are not")
        engine.wait()  # until all have looked at the place
        if overwrite and place is not None and engine.is_main:
            with place.fill() as folder:
                _claim(folder, setting)
        engine.wait()
        if (other := _claim(out, setting)) is not None and engine.is_main:
            note(f"{out}: was begun by foster {other}, whose trials may have other numbers; --overwrite begins anew")
        stopped: BaseException | None = None
        work = Search(out, setting, options.trials, options.timeout, like, say)
        try:
            failed = _check_retrained(work, options.retrain_steps) if options.retrain else set()
            with beside or nullcontext():
                work.run()
                if options.retrain:
                    work.wait()
                    _retrain(work, options.retrain, options.retrain_steps, failed)
            work.run()  # again what a process beside this one was at when it was killed
        except (KeyboardInterrupt, SystemExit) as error:
            stopped = error
        finally:
            work.close()
        if stopped is None:
            engine.wait()
        with study_lock(out), open_study(out) as study:
            results, frame = write_results(out, study, setting), frame_of(study, setting)
        if stopped is None and not results["best"]:
            reasons = frame["reason"].drop_nulls().to_list()
            raise InputError(f"{out}: no trial could be finished: {reasons[-1] if reasons else 'there was no time'}")
        return Tuned(study, frame, results, stopped)


def _setting(
    source: Dataset | Condensed,
    validation: Dataset | None,
    space: Mapping[str, Any] | None,
    where: str,
    encoder: EncoderOptions | None,
    model: ModelOptions | None,
    train: TrainOptions | None,
    finish: bool,
    seed: int,
    engine: Engine,
) -> Setting:
    """Put together what all trials share.

    Raises:
        InputError: what does not go together.
    """
    given_model = {} if model is None else model.model_dump(exclude_unset=True)
    given_recipe = {} if train is None else train.model_dump(exclude_unset=True)
    given = {**given_model, **given_recipe}
    if isinstance(source, Dataset):
        if finish:
            raise InputError("--finish: is for sequences; trials on a log are on the log from the start")
        if validation is not None and validation.info.fingerprint != source.info.fingerprint:
            raise InputError("--validation: is other data than the log that is searched on; leave it out")
        validation = source
        stored_encoder, stored_model, stored_recipe = EncoderOptions(), ModelOptions(), TrainOptions()
    else:
        if validation is None:
            raise InputError("--validation is missing: the data set whose validation items judge the trials")
        stored_encoder, stored_model, stored_recipe = source.encoder, source.model, TrainOptions()
        if finish:
            check_own_log(source, validation)
            stored_model = shape_on_log(source)
        else:
            shape = ModelOptions.parse({**stored_model.model_dump(), **given_model})
            stored_recipe = student_recipe(source, encoder or stored_encoder, shape)
    if not len(validation.held_out("validation")):
        raise InputError(f"{validation.info.name}: has no validation items, by which trials are judged; split it anew")
    parts = Space.default(list(given), given.get("backbone")) if space is None else Space.parse(space, where)
    for name in parts.parts:
        if name in given:
            raise InputError(f"{where}: '{name}' is searched, but also given as {given[name]!r}; leave one out")
    if isinstance(source, Condensed):
        _check_sequences(source, parts, given, where, finish)
    shape = ModelOptions.parse({**stored_model.model_dump(), **given_model})
    _check_read(source, parts, shape, where, finish)
    return Setting(
        source,
        validation,
        encoder or stored_encoder,
        shape,
        TrainOptions.parse({**stored_recipe.model_dump(), **given_recipe}),
        parts,
        _shared(source, given_model, given_recipe, finish),
        frozenset(given_recipe),
        finish,
        seed,
        engine,
    )


def _shared(source: Dataset | Condensed, model: dict[str, Any], recipe: dict[str, Any], finish: bool) -> dict[str, Any]:
    """Return what of the given options a training on the full log shares, which has its own length if trials have."""
    if not (finish or isinstance(source, Dataset)):
        return model
    alone = OF_A_LENGTH if finish or "steps" in recipe else ()
    return {**model, **{name: value for name, value in recipe.items() if name not in alone}}


def _check_sequences(source: Condensed, space: Space, given: Mapping[str, Any], where: str, finish: bool) -> None:
    """Raise InputError for options that sequences have no use for."""
    if not finish and ("batch_size" in space.parts or "batch_size" in given):
        raise InputError(
            f"{where if 'batch_size' in space.parts else 'options'}: 'batch_size': a step on sequences sees all of "
            "them, or an eighth of their labels; leave it out"
        )
    if finish and "steps" in space.parts:
        raise InputError(
            f"{where}: 'steps' with --finish are those of a part of a training on the log, and say nothing of the "
            "whole of it; give one number for all trials by --steps"
        )
    ids = space.parts.get("ids")
    may = given.get("ids", source.model.ids) if ids is None else ids.holds(True)
    if may and source.labelled and IDS not in (source.adapter or {}):
        raise InputError(
            f"{where}: 'ids': these sequences and their labels come from a teacher without vectors of items' own; "
            "leave it out"
        )


def _check_read(source: Dataset | Condensed, space: Space, model: ModelOptions, where: str, finish: bool) -> None:
    """Raise InputError for a searched option that no trial would read, so that all its values would be one."""
    backbones, finetunes = (
        part.values if isinstance(part := space.parts.get(name), Choice) else (getattr(model, name),)
        for name in ("backbone", "finetune")
    )
    by_none = frozenset.intersection(*(unread(one, other) for one in backbones for other in finetunes))
    for name in space.parts:
        reason = None
        if name in by_none:
            reason = "the language model is frozen" if name in OF_TUNED else f"the backbone is {' or '.join(backbones)}"
        elif name == "mixup" and (finish or isinstance(source, Dataset) or not source.labelled):
            reason = "it is for trials on soft labels alone"
        if reason is not None:
            raise InputError(f"{where}: '{name}' would have no effect, since {reason}; leave it out")


def _rehearsed(setting: Setting, where: str) -> TextRecommender:
    """Return a model whose text features the trials take, having seen that it can be trained and judged.

    Raises:
        InputError: it cannot, nor could any trial; or items are to be sampled for a loss that is over all of them.
    """
    source, engine, seed = setting.source, setting.engine, setting.seed
    like = TextRecommender.build(source.catalogue, setting.encoder, setting.model, seed=seed, device=engine.device)
    if isinstance(source, Dataset):
        LogSource(source, setting.train, like.options.max_length, seed, engine)
        return like
    losses = student_source(source, like.fresh(seed), seed)
    of_labels = isinstance(losses, SoftLabels) and not setting.finish and not losses.matching.samples
    if of_labels and "candidates" in setting.space.parts and not OF_LABELS & setting.space.parts.keys():
        raise InputError(
            f"{where}: 'candidates' would have no effect, since the loss of these soft labels is over all items; leave "
            "it out"
        )
    if is_of(source.info.get("data_fingerprint"), setting.validation) is not True:
        known = set(source.catalogue.ids)
        if (other := next((item for item in setting.validation.item_ids if item not in known), None)) is not None:
            raise InputError(
                f"--validation: {setting.validation.info.name} has items that the sequences do not know, item_id "
                f"{other!r} first; give data of their items, or sequences that were made from this one"
            )
        validator(setting.validation, 1, engine)(like)  # every item is asked for
    return like


def _claim(out: Path, setting: Setting) -> str | None:
    """Mark the folder as this study's, or see that it is; return the version that did, if it is another one.

    Raises:
        InputError: it is another study's.
    """
    about: dict[str, Any] = {
        "source": described(setting.source),
        "validation": described(setting.validation),
        "space": setting.space.terms(),
        "encoder": setting.encoder.model_dump(),
        "model": setting.model.model_dump(),
        "train": setting.train.model_dump(),
        "finish": setting.finish or None,
        "share": FINISH if setting.finish else None,
        "seed": setting.seed,
    }
    assert about.keys() == MEANT.keys()
    return claim(out, about)


def _retrain(work: Search, count: int, steps: int | None, failed: set[int]) -> None:
    """Train the best trials' options on the full log; processes share them.

    Args:
        work: the search, which is over.
        count: how many.
        steps: of each; None for those of ``foster pretrain``.
        failed: numbers of trials whose trainings failed before this call, or whose models are gone: made again.
    """
    setting, like = work.setting, None
    best = best_trials(work.study, setting, count)
    # Each first takes what no other has begun, then waits for what others have: a killed one leaves it to do.
    for wait in (0, -1):
        for trial in best:
            try:
                with retraining_lock(work.out, trial.number).acquire(timeout=wait):
                    if not retrained(work.study, trial.number) or trial.number in failed:
                        failed.discard(trial.number)
                        like = _retrain_one(work, trial, _on_log(trial, setting, steps), like)
            except Timeout:
                continue


def _on_log(trial: FrozenTrial, setting: Setting, steps: int | None) -> dict[str, Any]:
    """Return the options of a trial for a training on the full log."""
    # Judged by the users of the search, so that the two figures can stand side by side.
    config = {"eval_users": setting.train.eval_users, **config_of(trial, setting)}
    config |= {} if steps is None else {"steps": steps}
    return {**config, "steps": on_log(parsed(config)[2], setting.validation).total_steps}


def _check_retrained(work: Search, steps: int | None) -> set[int]:
    """See that trainings on the full log that are there had as many steps as new ones would have.

    Returns:
        The numbers of trials whose trainings failed, or whose models are gone.

    Raises:
        InputError: they had not, so that the two could not be compared.
    """
    failed: set[int] = set()
    for trial in finished(work.study):
        found, asked = retrained(work.study, trial.number), _on_log(trial, work.setting, steps)["steps"]
        folder = retrained_folder(work.out, trial.number)
        if "error" in found:
            failed.add(trial.number)
        elif found and not _is_whole(folder):
            again = f"if trial {trial.number} is still among the best, it is trained again"
            work.say(f"{folder}: is gone, or damaged; {again}")
            failed.add(trial.number)
        elif (steps_then := found.get("at_most", asked)) != asked:
            raise InputError(
                f"{work.out}: trial {trial.number} was trained on the full log for {steps_then:,} steps, now it "
                f"would be {asked:,}; give --retrain-steps as before, or another --out"
            )
    return failed


def _is_whole(folder: Path) -> bool:
    try:
        verify(folder)
    except InputError:
        return False
    return True


def _retrain_one(
    work: Search, trial: FrozenTrial, config: Mapping[str, Any], like: TextRecommender | None
) -> TextRecommender | None:
    """Train a trial's options as ``foster pretrain --config`` does, with another seed, and keep the model.

    Another seed: of a search on the log itself the same one would give the same number.
    """
    setting, start = work.setting, time.perf_counter()
    seed, folder = on_log_seed(setting.seed), retrained_folder(work.out, trial.number)
    try:
        encoder, model, recipe = parsed(config)
        work.say(f"trial {trial.number}: its options train on the full log now, for {many(recipe.total_steps, 'step')}")
        if like is None:
            like = TextRecommender.build(setting.validation.catalogue, encoder, model, device=setting.engine.device)
        place = check_free(folder, overwrite=True)
        command = {"verb": "retrain", "data": setting.validation.info.fingerprint, **config}
        with unfinished(place, command, setting.engine, overwrite=True, say=work.say) as part:
            recommender, fit = train(
                setting.validation, encoder=encoder, model=model, train=recipe, like=like, seed=seed,
                engine=setting.engine, part=part,
            )  # fmt: skip
            with place.fill() as out:
                recommender.write_to(out, training_record(recipe, seed, fit))
    except (InputError, torch.OutOfMemoryError) as error:
        reason = str(error) if isinstance(error, InputError) else NO_MEMORY
        note_retrained(work.study, trial.number, {"at_most": config["steps"], "error": reason})
        work.say(f"trial {trial.number} on the full log: {reason}")
        return like
    notes = {
        "at_most": config["steps"],
        "ndcg@10": fit.best_ndcg,
        GROUPS: fit.by_group,
        "steps": fit.steps,
        "seconds": round(time.perf_counter() - start, 3),
    }
    if "ndcg@10" not in (before := retrained(work.study, trial.number)):
        note_retrained(work.study, trial.number, notes)
        before = notes
    again = "" if before["ndcg@10"] == fit.best_ndcg else f"; {before['ndcg@10']:.4f} was noted before, and stays"
    work.say(
        f"trial {trial.number} on the full log: NDCG@10 {fit.best_ndcg:.4f} (search {trial.value:.4f}), "
        f"{notes['seconds']:.1f} s{again}"
    )
    return like
