"""The trials of a study: drawn, trained, pruned, and taken up again where a process was killed."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foster.artefacts import CONFIG_NAME, Place
from foster.condensed.labels import student_recipe
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.engine import Engine
from foster.errors import InputError
from foster.finishing import finish
from foster.manifest import read_manifest
from foster.models.options import ModelOptions, unread
from foster.models.recommender import TextRecommender
from foster.runs import train
from foster.storage import file_sha256, whole_file
from foster.text.options import EncoderOptions
from foster.training.loop import Fit, Watch, on_log
from foster.training.options import FINISH, TrainOptions
from foster.tuning.folder import DATABASE, Worker, is_dead, study_lock
from foster.tuning.seals import SEAL, bind, check, check_pages, damaged, of_machine, reading, seal_of, writing
from foster.tuning.space import Space, merged
from foster.unfinished import Unfinished, unfinished

if TYPE_CHECKING:
    from filelock import FileLock
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial, TrialState

STARTUP = 10  # trials drawn at random before TPE has something to go by
UNPRUNED = 5  # trials that are finished before one is pruned
WARM = 4  # no trial is pruned in the first such part of its steps: slow starters are no bad ones
KILLED = 3  # times that a trial's process is killed before the trial is given up
NAME = "foster"
NO_MEMORY = "not enough memory on the device"
BUSY = 120.0  # seconds to wait for what another process writes
WORKER, BEGUN, REASON, FAILURE, KILLS, FIRST = "worker", "default", "reason", "failure", "killed", "first"
STEPS, GROUPS = "steps", "by_group"
"""Names of what is noted of a trial."""

PRUNED, STOPPED = "pruned at step", "stopped"  # begin of a reason, and a failure that is none
FINISHED, SAME = "finished", "the same as another"
"""How trials end that have a figure of their own, and that of a finished trial whose training was the same."""


@dataclass(frozen=True)
class Setting:
    """What all trials share.

    Attributes:
        source: what they train on.
        validation: whose validation targets they are judged by.
        encoder: of their models.
        model: what of the model is not searched.
        train: what of the recipe is not searched.
        space: what is searched.
        given: of model and recipe, what the user set and a training on the full log shares.
        fixed: names of what the user set of the recipe.
        finish: whether trials on sequences go on with the log.
        seed: of draws and of every training.
        engine: of this process alone.
    """

    source: Dataset | Condensed
    validation: Dataset
    encoder: EncoderOptions
    model: ModelOptions
    train: TrainOptions
    space: Space
    given: Mapping[str, Any]
    fixed: frozenset[str]
    finish: bool
    seed: int
    engine: Engine

    def defaults(self) -> dict[str, Any]:
        """Return the searched options as they are without a search.

        Of one that cannot be drawn, such as the high rate of students of soft labels, that of a training on the log.
        """
        own = {**self.model.model_dump(), **self.train.model_dump()}
        usual = on_log(TrainOptions(), self.validation)
        of_log = {**ModelOptions().model_dump(), **usual.model_dump()}
        return {name: own[name] if part.holds(own[name]) else of_log[name] for name, part in self.space.parts.items()}

    def counted(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of the searched options of a trial that its training reads."""
        backbone, finetune = (options.get(name, getattr(self.model, name)) for name in ("backbone", "finetune"))
        return {name: value for name, value in options.items() if name not in unread(backbone, finetune)}

    def of_trial(self, options: Mapping[str, Any]) -> tuple[ModelOptions, TrainOptions]:
        """Return model and recipe of a trial.

        On sequences, what is neither searched nor given of the recipe is as students of the trial's own shape have it,
        as of ``foster train``.

        Args:
            options: those that are searched.

        Raises:
            InputError: they do not go together.
        """
        model, recipe = merged(options, self.model, self.train)
        if self.finish or isinstance(self.source, Dataset):
            return model, on_log(recipe, self.validation, FINISH if self.finish else 1.0)
        own = student_recipe(self.source, self.encoder, model).model_dump()
        chosen = {name: value for name, value in recipe.model_dump().items() if name in options or name in self.fixed}
        return model, TrainOptions.parse({**own, **chosen})


class Search:
    """A study in its folder, and how this process takes part.

    Args:
        out: the folder, which is this study's.
        setting: what trials share.
        trials: how many there are to be in all.
        timeout: seconds after which none is begun here.
        like: a model whose text features trials take.
        say: called with a line a trial.
    """

    def __init__(
        self,
        out: Path,
        setting: Setting,
        trials: int,
        timeout: float | None,
        like: TextRecommender,
        say: Callable[[str], None],
    ) -> None:
        self.out: Path = out
        self.setting: Setting = setting
        self.trials: int = trials
        self.like: TextRecommender = like
        self.say: Callable[[str], None] = say
        self.end: float | None = None if timeout is None else time.monotonic() + timeout
        self.lock: FileLock = study_lock(out)
        self.worker: Worker = Worker(out)
        self._open = ExitStack()
        try:
            with self.lock:
                self.study: Study = self._open.enter_context(open_study(out))
                first = setting.defaults()
                new = not self.study.get_trials(deepcopy=False)
                if new and setting.space.holds(first):
                    self.study.enqueue_trial(first, {BEGUN: True})
                elif new:
                    say("the defaults are not in the space: the first trial is drawn as the others are")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the study; a trial that is not finished is for others."""
        with self._open:
            self.worker.close()

    def run(self) -> None:
        """Make trials until there are enough, or the time is over."""
        while (trial := self._next()) is not None:
            self._make(trial)

    def wait(self) -> None:
        """Wait for the trials of other processes, and make those of processes that were killed."""
        while self._running():
            time.sleep(0.2)
            self.run()

    def _running(self) -> bool:
        from optuna.trial import TrialState

        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def _next(self) -> Trial | None:
        """Return the next trial, or None."""
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        with self.lock:
            self._take_up()
            there = self.study.get_trials(deepcopy=False)
            # A trial that was stopped does not count: the one that takes it up does.
            count = sum(trial.state not in (TrialState.FAIL, TrialState.WAITING) for trial in there)
            if count >= self.trials or (self.end is not None and time.monotonic() >= self.end):
                return None
            # By its place among those that count: a search that was stopped and goes on draws as one that was not.
            seed = np.random.SeedSequence([self.setting.seed, count]).generate_state(1)
            self.study.sampler = TPESampler(n_startup_trials=STARTUP, seed=int(seed[0]))
            trial = self.study.ask(self.setting.space.distributions())
            trial.set_user_attr(WORKER, self.worker.name)
            return trial

    def _take_up(self) -> None:
        """Put the trials of killed processes into the queue again."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # One without a worker was killed just here, by the lock.
            if (worker := trial.user_attrs.get(WORKER)) is not None and not is_dead(self.out, worker):
                continue
            kills = trial.user_attrs.get(KILLS, 0) + 1
            if kills < KILLED:
                self._put_back(trial, kills)
            else:
                self._forget(trial)
                self._tell(trial, None, TrialState.PRUNED)

    def _put_back(self, trial: FrozenTrial, kills: int) -> None:
        """End a trial and put its options into the queue again."""
        from optuna.trial import TrialState

        self.study.tell(trial.number, state=TrialState.FAIL)
        if trial.params.keys() == self.setting.space.parts.keys():
            notes = {KILLS: kills, FIRST: trial.user_attrs.get(FIRST, trial.number)}
            notes |= {BEGUN: True} if trial.user_attrs.get(BEGUN) else {}
            self.study.enqueue_trial(trial.params, notes)

    def _make(self, trial: Trial) -> None:
        """Train with the options of a trial and write down how it went."""
        import optuna
        from optuna.exceptions import StorageInternalError
        from optuna.trial import TrialState

        options, start = self.setting.space.taken(trial.params), time.perf_counter()
        looked: list[float] = []
        steps = 0

        def watch(step: int, ndcg: float) -> None:
            looked.append(ndcg)
            trial.report(ndcg, step)
            trial.set_user_attr("last_step", step)
            if self._is_behind(step, steps, max(looked)):
                raise optuna.TrialPruned(f"{PRUNED} {step}")

        state, value, reason = TrialState.PRUNED, None, None
        try:
            steps = self.setting.of_trial(options)[1].total_steps  # what cannot be trained is nothing's twin
            trial.set_user_attr(STEPS, steps)
            if (twin := self._twin(options)) is not None:
                value, reason = twin.value, f"the same training as trial {twin.number}"
                self._copy(twin, trial)
                self._forget(trial)
            else:
                fit = self._trained(trial, options, watch)
                value = fit.best_ndcg
                trial.set_user_attr("best_step", fit.best_step)
                trial.set_user_attr(GROUPS, fit.by_group)
            state = TrialState.COMPLETE
        except optuna.TrialPruned as pruned:
            reason = str(pruned)
        except InputError as error:  # options that do not go together, a training that diverges
            reason = str(error).removeprefix("options: ")
        except torch.OutOfMemoryError:
            reason = NO_MEMORY
        except BaseException as error:
            # What stopped it may be that nothing can be written down any more.
            with self.lock, suppress(StorageInternalError):
                frozen = self.study.trials[trial.number]
                if isinstance(error, KeyboardInterrupt | SystemExit) or of_machine(error, self.out / DATABASE):
                    trial.set_user_attr(FAILURE, STOPPED)
                    self._put_back(frozen, frozen.user_attrs.get(KILLS, 0))
                else:
                    trial.set_user_attr(FAILURE, f"{type(error).__name__}: {error}")
                    self.study.tell(trial, state=TrialState.FAIL)
            raise
        seconds = time.perf_counter() - start
        trial.set_user_attr("seconds", round(seconds, 3))
        if reason is not None:
            trial.set_user_attr(REASON, reason)
        self._tell(trial, value, state)
        self.say(f"trial {trial.number}: {_shown(options)}: {_ended(value, reason)}, {seconds:.1f} s{self._best()}")

    def _tell(self, trial: Trial | FrozenTrial, value: float | None, state: TrialState) -> None:
        """End a trial, and seal what it says."""
        from optuna.trial import Trial

        there = self.study.get_trials(deepcopy=False)[trial.number]
        Trial(self.study, there._trial_id).set_user_attr(SEAL, seal_of(there, state, value))
        self.study.tell(trial.number, value, state)

    def _place(self, trial: Trial | FrozenTrial) -> Path:
        """Return the place beside which the state of a trial is kept while it runs: that of its first process."""
        return self.out / f"trial-{trial.user_attrs.get(FIRST, trial.number)}"

    def _forget(self, trial: Trial | FrozenTrial) -> None:
        """Remove the state that a killed process left of a trial, if it is there."""
        shutil.rmtree(f"{self._place(trial)}.part", ignore_errors=True)

    def _trained(self, trial: Trial, options: Mapping[str, Any], watch: Watch) -> Fit:
        """Do what ``train`` does; go on where a process was killed or stopped that was at the same trial.

        Raises:
            InputError: as ``train``.
        """
        import optuna

        ended: Exception | None = None
        place = self._place(trial)
        command = {"verb": "trial", "study": file_sha256(self.out / CONFIG_NAME), "options": dict(options)}
        state = unfinished(Place(place, place, ()), command, self.setting.engine, overwrite=True, say=self.say)
        with state as part:
            try:
                return self.train(options, watch, part)
            except (optuna.TrialPruned, InputError, torch.OutOfMemoryError) as error:
                ended = error  # with which the trial is over, too
        raise ended

    def train(self, options: Mapping[str, Any], watch: Watch | None = None, part: Unfinished | None = None) -> Fit:
        """Train with some options as a trial does, and return how it went.

        Args:
            options: those that are searched.
            watch: see ``foster.runs.train``.
            part: likewise.

        Raises:
            InputError: options that do not go together, or a training that diverges.
        """
        setting = self.setting
        model, recipe = setting.of_trial(options)
        shared: dict[str, Any] = {
            "encoder": setting.encoder, "model": model, "train": recipe, "like": self.like, "watch": watch,
            "seed": setting.seed, "engine": setting.engine, "part": part,
        }  # fmt: skip
        if setting.finish:
            assert isinstance(setting.source, Condensed)  # a log needs no finishing
            return finish(setting.source, setting.validation, **shared)[1]
        return train(setting.source, validation=setting.validation, **shared)[1]

    def _is_behind(self, step: int, steps: int, best: float) -> bool:
        """Whether a trial is pruned: its best so far is below the median, at this step, of trials of as many steps.

        The rate falls over the steps that a trial has: at one step, one of fewer is further. After the last step
        nothing is saved by it.
        """
        like = [trial for trial in finished(self.study) if trial.user_attrs.get(STEPS) == steps]
        if len(like) < UNPRUNED or not steps // WARM <= step < steps:
            return False
        there = [trial.intermediate_values[step] for trial in like if step in trial.intermediate_values]
        return bool(there) and best < float(np.median(there))

    def _twin(self, options: Mapping[str, Any]) -> FrozenTrial | None:
        """Return a finished trial whose training was the same."""
        setting = self.setting
        own = setting.counted(options)
        return next((t for t in finished(self.study) if setting.counted(setting.space.taken(t.params)) == own), None)

    def _copy(self, twin: FrozenTrial, trial: Trial) -> None:
        for step, ndcg in twin.intermediate_values.items():
            trial.report(ndcg, step)
        for name in ("last_step", "best_step", GROUPS):
            trial.set_user_attr(name, twin.user_attrs.get(name))

    def _best(self) -> str:
        best = ranked(finished(self.study))
        return f"; best {best[0].value:.4f}, trial {best[0].number}" if best else ""


def _shown(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())


def _ended(value: float | None, reason: str | None) -> str:
    if value is None:
        return str(reason)
    return f"NDCG@10 {value:.4f}" + (f" ({reason})" if reason else "")


@contextmanager
def open_study(out: Path) -> Iterator[Study]:
    """Yield the study of a folder, which is made if there is none; in the end its file is whole, with none beside it.

    The study can be used on, and opens its file again then. Call it with the study's lock.

    Raises:
        InputError: the file is damaged or another study's, or what the manifest lists is not in it.
    """
    path = out.resolve() / DATABASE
    if not os.path.lexists(path):
        if read_manifest(out).about.get("trials"):
            raise damaged(path, "it is missing")
        # Its tables are made in steps: a kill between them would leave a file that optuna cannot open. Without a log
        # beside it, which would not come along: a disk that is full is an error here, and not when the file is there.
        with whole_file(path) as part, _opened(part, "DELETE") as study, writing(path):
            bind(study, out)
    check_pages(path)
    with _opened(path) as study:
        check(study, out, path)
        yield study


@contextmanager
def _opened(path: Path, journal: str = "WAL") -> Iterator[Study]:
    import optuna

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY)
        # Several processes, and no waiting for the disk at each of the dozen small notes of a trial.
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    # By a function and not by an address, in which some characters of a path mean something else.
    with reading(path):
        storage = optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect})
    try:
        with reading(path):
            study = optuna.create_study(storage=storage, study_name=NAME, direction="maximize", load_if_exists=True)
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def finished(study: Study) -> list[FrozenTrial]:
    """Return the trials that were trained to their end."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def reason_of(trial: FrozenTrial) -> str | None:
    """Return why a trial was not trained to its end, or not at all; None for others."""
    from optuna.trial import TrialState

    # A process that is killed leaves no note of it, but perhaps the reason of what it was about to say.
    if trial.state == TrialState.FAIL:
        return trial.user_attrs.get(FAILURE, "its process was killed")
    killed = f"its process was killed {KILLED} times" if trial.state == TrialState.PRUNED else None
    return trial.user_attrs.get(REASON, killed)


def end_of(trial: FrozenTrial) -> str | None:
    """Return in a word how a trial ended; None of one that waits, or that was stopped and is made by another."""
    from optuna.trial import TrialState

    if trial.state == TrialState.RUNNING:
        return "running"
    if trial.state == TrialState.COMPLETE:
        return SAME if REASON in trial.user_attrs else FINISHED
    if trial.state == TrialState.PRUNED:
        return "pruned" if (reason_of(trial) or "").startswith(PRUNED) else "not to be trained"
    failed = trial.user_attrs.get(FAILURE, STOPPED) != STOPPED
    return "ended by an error" if trial.state == TrialState.FAIL and failed else None


def ranked(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return trials, the best first; of equal ones the earlier."""
    return sorted(trials, key=lambda trial: (-(trial.value or 0.0), trial.number))


def require_optuna() -> None:
    """Make sure that optuna, an extra, is there, before anything costly is done.

    Raises:
        InputError: it is missing.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise InputError("tune needs the package optuna; run: pip install 'foster[tune]'") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep optuna's own lines off stderr, where ours say the same, and a traceback of Ctrl-C within a query."""
    import optuna

    pools = logging.getLogger("sqlalchemy.pool")
    verbosity, level = optuna.logging.get_verbosity(), pools.level
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pools.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
        pools.setLevel(level)
