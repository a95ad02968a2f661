"""One loop for every distiller: step, judge by a student, keep the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from foster.artefacts import KEPT_STEP, new_folder, not_finite, write_metrics
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.distillation.baselines.dc import GradientMatching
from foster.distillation.baselines.dm import DistributionMatching
from foster.distillation.baselines.farzi import Farzi
from foster.distillation.baselines.mtt import TrajectoryMatching
from foster.distillation.baselines.td3 import TD3
from foster.distillation.budget import FORMS, Form, as_stored, check_sequences, form_within, may_be_written
from foster.distillation.compact import CompactTeacher, compact_teacher
from foster.distillation.foster import Foster
from foster.distillation.generated import Generated, written_sample
from foster.distillation.options import CondenseOptions, DistillOptions, LatentOptions
from foster.distillation.private_log import generated_log
from foster.distillation.setting import Setting
from foster.engine import Engine, check_seed, deterministic
from foster.errors import Diverged, InputError, expect
from foster.manifest import read_whole
from foster.models.recommender import TextRecommender
from foster.options import flag_of
from foster.progress import Progress
from foster.training.imitation import begun, imitate
from foster.training.teachers import check_teacher, load_teacher
from foster.training.trajectory import Checkpoints, Trajectory, without_ids
from foster.unfinished import State, Unfinished, tensors_of


class Distiller(Protocol):
    """A method of distillation: a state that moves step by step and can be exported at any time."""

    def step(self, step: int) -> dict[str, Any]:
        """Make step number ``step`` (from 1) and return what is logged."""
        ...

    def export(self) -> Condensed:
        """Return the sequences as they are now."""
        ...

    def state(self) -> State:
        """Return what the next steps depend on, besides the draws of the setting."""
        ...

    def load_state(self, state: State) -> None:
        """Go on from a state of the same setting and options."""
        ...


def _foster(setting: Setting, options: DistillOptions) -> Distiller:
    return Generated(setting, options) if options.generated else Foster(setting, options)


DISTILLERS: dict[str, Callable[[Setting, Any], Distiller]] = {
    "foster": _foster,
    "dm": DistributionMatching,
    "dc": GradientMatching,
    "mtt": TrajectoryMatching,
    "farzi": Farzi,
    "td3": TD3,
}
"""FOSTER and the baselines of distillation; their options are in ``options.OPTIONS``."""


def distiller_of(setting: Setting) -> Distiller:
    """Return the distiller of a setting, by its options, before its first step."""
    return DISTILLERS[setting.options.method](setting, setting.options)


@deterministic()
def distill(
    data: Dataset,
    teacher_path: str | Path,
    options: CondenseOptions | None = None,
    *,
    seed: int = 0,
    engine: Engine | None = None,
    encoder_path: str | None = None,
    progress: bool = True,
    part: Unfinished | None = None,
) -> tuple[Condensed, list[dict[str, Any]]]:
    """Condense a log into M synthetic sequences, with the teacher of a folder: ``distill_with`` what lies there.

    Args:
        data: the log.
        teacher_path: a folder that ``pretrain`` wrote: the best model and the trajectory of the same log.
        options: as of ``distill_with``.
        seed: as there.
        engine: device and processes.
        encoder_path: another place of the teacher's encoder.
        progress: as there.
        part: as there.

    Returns:
        What ``distill_with`` returns.

    Raises:
        InputError: no teacher, a damaged one, or what ``distill_with`` raises.
    """
    expect("distill: data", data, Dataset)
    options, engine = options or DistillOptions(), engine or Engine()
    expect("distill: options", options, CondenseOptions)
    check_seed(seed)
    teacher, trajectory = read_teacher(data, teacher_path, options, encoder_path=encoder_path, device=engine.device)
    return distill_with(data, teacher, trajectory, options, seed=seed, engine=engine, progress=progress, part=part)


@deterministic()
def distill_with(
    data: Dataset,
    teacher: TextRecommender,
    trajectory: Checkpoints,
    options: CondenseOptions | None = None,
    *,
    seed: int = 0,
    engine: Engine | None = None,
    progress: bool = True,
    part: Unfinished | None = None,
) -> tuple[Condensed, list[dict[str, Any]]]:
    """Condense a log into M synthetic sequences, with a teacher that is in memory.

    Sequences start as real histories. Students of the states on the way are judged on validation users, and a state
    takes the place of an earlier one, the start included, only if its student is better by more than the standard
    error of the difference: most differences are noise, and choosing by noise costs accuracy.

    With a private teacher the log is not looked at: sequences start as histories that the teacher generates, and are
    judged by nobody.

    Args:
        data: the log.
        teacher: a model that was trained on it.
        trajectory: checkpoints of that training, as ``train_teacher`` or ``Trajectory`` gives them.
        options: their class says the method: ``DistillOptions`` (the default) is FOSTER; the others are baselines.
        seed: of everything that is drawn.
        engine: device, the teacher's by default, and processes.
        progress: show a bar on stderr, or a line a minute where that is no terminal.
        part: the state of a call with the same arguments that was cut off, to go on with; it is saved whenever a
            student has judged the sequences. See ``foster.unfinished``.

    Returns:
        The sequences, in the numbers that a folder stores, with ``info[KEPT_STEP]``, the step after which they were so
        (0: the starting point); and one dict a logged step: losses, gradient norm, student scores and what the method
        adds. Before these, where validation users chose between two forms of few bytes, one dict a form: ``targets``,
        ``sequences`` and ``student_ndcg@10``.

    Raises:
        InputError: a subset beyond the catalogue, more checkpoints than were recorded, more sequences than users, bytes
            that are too few or, with ``sequences``, too many, a teacher of other data, a language model that is tuned
            where the method needs the vectors of all items, or a distillation that diverged.
    """
    options, engine = options or DistillOptions(), engine or Engine(str(teacher.device))
    check_seed(seed)
    check_teacher(teacher, data, engine)
    options = fitted(options, teacher)
    best, trajectory = as_distilled(teacher.eval(), trajectory, options)
    shown = progress and engine.is_main
    setting = _setting(data, best, trajectory, options, seed, engine, shown)
    judged_start: tuple[Condensed, np.ndarray] | None = None
    log: list[dict[str, Any]] = []
    if isinstance(options, DistillOptions) and options.bytes is not None:
        setting, judged_start, log = within_bytes(setting, options, part)
        options = setting.options
    distiller = distiller_of(setting)
    kept = judged_start[0] if judged_start else distiller.export().rounded()
    kept_step, first = 0, 1
    if isinstance(distiller, Generated):  # there is nothing to choose between, so that no student has to judge
        return kept, log
    if setting.privacy is not None:  # nobody may judge
        return replace(kept, info={**kept.info, KEPT_STEP: 0}), [{"step": 0}]
    if part is not None and (saved := part.take("distillation")) is not None:
        best_so_far = part.take("kept")
        assert best_so_far is not None  # it is saved with the other
        kept, kept_step = replace(kept, **best_so_far["sequences"]), best_so_far["step"]
        kept_ndcg: np.ndarray = best_so_far["ndcg"].numpy()
        setting.load_state(saved["setting"])
        distiller.load_state(saved["distiller"])
        log, first = saved["log"], saved["step"] + 1
    else:
        kept_ndcg = judged_start[1] if judged_start else setting.student_ndcg(kept, "a student judges")
        log.append({"step": 0, "student_ndcg@10": float(kept_ndcg.mean())})
        _save(part, 0, setting, distiller.state(), log, _kept(kept, 0, kept_ndcg))
    steps = range(first, options.steps + 1)
    for step in Progress(steps, what="distilling", total=options.steps, initial=first - 1, shown=shown):
        record = distiller.step(step)
        _check_finite(record, step, options)
        judged: dict[str, State] = {}
        state: State | None = None
        if step % options.select_every == 0 or step == options.steps:
            state = distiller.state()  # a copy of its models: one for the look at it and for what is saved
            _check_state(state, step, options)
            sequences = distiller.export().rounded()
            ndcg = setting.student_ndcg(sequences)
            record["student_ndcg@10"] = float(ndcg.mean())
            if clearly_better(ndcg, kept_ndcg):
                kept, kept_step, kept_ndcg = sequences, step, ndcg
                judged = _kept(kept, kept_step, kept_ndcg)
        if step % 10 == 0 or "student_ndcg@10" in record or "reset" in record:
            log.append({"step": step, **record})
        if state is not None:
            _save(part, step, setting, state, log, judged)
    return replace(kept, info={**kept.info, KEPT_STEP: kept_step}), log


def _save(
    part: Unfinished | None,
    step: int,
    setting: Setting,
    distiller: State,
    log: list[dict[str, Any]],
    kept: dict[str, State],
) -> None:
    """Save the state after a step, but for the last one."""
    if part is not None and step < setting.options.steps:
        state = {"step": step, "setting": setting.state(), "distiller": distiller, "log": log}
        part.save(f"step {step}", distillation=state, **kept)


def _kept(sequences: Condensed, step: int, ndcg: np.ndarray) -> dict[str, State]:
    """Return the state of the best sequences so far: what of them differs from step to step."""
    tensors = {name: getattr(sequences, name) for name in ("items", "weights", "codes", "adapter", "draws", "labeller")}
    return {"kept": {"sequences": tensors, "step": step, "ndcg": ndcg}}


def start_of(
    data: Dataset, teacher_path: str | Path, options: CondenseOptions, *, seed: int = 0, engine: Engine | None = None
) -> Condensed:
    """Return the sequences that a distillation starts from; arguments and errors are those of ``distill``."""
    engine = engine or Engine()
    best, trajectory = read_teacher(data, teacher_path, options, device=engine.device)
    options = fitted(options, best)
    return distiller_of(_setting(data, best, trajectory, options, seed, engine)).export()


def _setting(
    data: Dataset,
    best: TextRecommender,
    trajectory: Checkpoints,
    options: CondenseOptions,
    seed: int,
    engine: Engine,
    shown: bool = False,
) -> Setting:
    """Return what a distiller works with: of a private teacher, a log that it generated.

    Raises:
        InputError: see ``distill_with``.
    """
    if best.privacy is not None:
        _check_private(options)
        length = min(options.length, best.options.max_length)  # a longer one is an error by and by
        users = options.sequences
        if isinstance(options, DistillOptions) and options.bytes is not None:
            users = max(users, min(options.bytes // length, best.privacy.users))  # an item takes a byte or more
        data = generated_log(best, users, length, seed, progress=shown)
    _check(data, best, trajectory, options)
    return Setting(data, best, trajectory, options, seed, engine, privacy=best.privacy, shown=shown)


def within_bytes(
    setting: Setting, options: DistillOptions, part: Unfinished | None = None
) -> tuple[Setting, tuple[Condensed, np.ndarray] | None, list[dict[str, Any]]]:
    """Return a setting whose sequences fit into a budget of ``options.bytes``, with a teacher to match.

    Args:
        setting: of the teacher.
        options: with ``bytes``.
        part: as of ``distill``.

    Returns:
        The setting. Where two forms may be the better one, a student of each is judged by validation users: then the
        sequences, which are there already, and their student's NDCG@10 of each user, else None. And what is logged: a
        dict for each form that was judged.

    Raises:
        InputError: a budget that does not fit.
    """
    settings = settings_within(setting, options, part=part)
    if len(settings) == 1:
        return settings[0], None, []
    judged, log = [], []
    for form in settings:
        targets = "written" if form.form.written else "soft"
        sequences = distiller_of(form).export().rounded()
        ndcg = form.student_ndcg(sequences, f"a student of {FORMS[targets]} judges")
        judged.append((form, sequences, ndcg))
        log.append({"targets": targets, "sequences": len(sequences), "student_ndcg@10": float(ndcg.mean())})
    best, sequences, ndcg = max(judged, key=lambda found: float(found[2].mean()))
    return best, (sequences, ndcg), log


def settings_within(
    setting: Setting, options: DistillOptions, trained: bool = True, part: Unfinished | None = None
) -> list[Setting]:
    """Return the settings that may be the best one of a budget: one, or one of labels and one of written histories.

    Args:
        setting: of the teacher.
        options: with ``bytes``.
        trained: whether a compact teacher is trained; to see what is to come an untrained one will do.
        part: as of ``distill``.

    Raises:
        InputError: a budget that does not fit.
    """
    if options.targets == "written" and "sequences" in options.model_fields_set:
        raise InputError("--sequences: with --targets written --bytes says how many there are; leave it out")
    if options.targets == "next":  # a benchmark of bytes may have set these beside other options
        return [replace(setting, options=as_stored(options, setting.form))]

    teacher, (public, recipe) = setting.best, begun(setting.best, setting.data, setting.seed, updates=False)
    states = [] if public is teacher else [public.trained_state()]
    if states:
        setting = replace(setting, best=public, trajectory=CompactTeacher(public, [0], states))

    @cache
    def untrained(form: Form) -> CompactTeacher:
        return CompactTeacher.untrained(setting.best, form)

    def sample(form: Form, sequences: int) -> Condensed:
        # The folder holds these options, too: a number of bytes no shorter than those that are asked for.
        few = options.model_copy(update={"sequences": sequences, "bytes": max(options.bytes or 0, 10**9)})
        few = as_stored(few, form)
        of_form = replace(setting, options=few, form=form)
        if form.compact:
            compact = untrained(form)
            of_form = replace(of_form, best=compact.model, trajectory=compact, original=teacher)
        return written_sample(of_form, sequences) if form.written else Foster(of_form, few).export()

    users = len(setting.data.histories("train"))
    form, sequences = form_within(options, sample, setting.best.options, users)
    of_labels = as_stored(options.model_copy(update={"sequences": sequences}), form)
    if trained and states:  # the budget is one that fits
        imitate(public, teacher, setting.data, recipe, setting.seed, setting.engine, setting.shown)
        states.append(public.trained_state())
        setting = replace(setting, trajectory=CompactTeacher(public, [0, 1], states))
    if not form.compact:
        return [replace(setting, options=of_labels)]
    if not trained:
        compact = untrained(form)
    else:
        compact = compact_teacher(
            setting.best,
            setting.data,
            form,
            seed=setting.seed,
            engine=setting.engine,
            progress=setting.shown,
            part=part,
        )
    labelled = replace(setting, options=of_labels, best=compact.model, trajectory=compact, form=form, original=teacher)
    if not may_be_written(options, form):
        return [labelled]
    of_histories = replace(form, written=True)
    written = replace(labelled, options=as_stored(options, of_histories), form=of_histories)
    return [written] if form.written else [labelled, written]


def _check_finite(record: dict[str, Any], step: int, options: CondenseOptions) -> None:
    """Raise Diverged where a distillation has diverged."""
    name = next((name for name, value in record.items() if not math.isfinite(value)), None)
    if name is not None:
        raise _diverged(name, step, options)


def _check_state(state: State, step: int, options: CondenseOptions) -> None:
    """Raise Diverged where numbers are not finite that no loss has told of yet."""
    if name := not_finite(tensors_of(state)):
        raise _diverged(f"{name} of its state", step, options)


def _diverged(name: str, step: int, options: CondenseOptions) -> Diverged:
    rates = [flag_of(field) for field in type(options).model_fields if field.endswith("lr")]
    return Diverged(
        f"distill {options.method}: diverged, {name} is not finite at step {step}; lower {' or '.join(rates)}"
    )


def clearly_better(new: np.ndarray, old: np.ndarray) -> bool:
    """Return whether values of the same users ``[users]`` grew by more than the standard error of the difference."""
    gain = new - old
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


def save_distilled(distilled: Condensed, log: list[dict[str, Any]], out: str | Path, overwrite: bool = False) -> Path:
    """Write the artefact, with the log of the distillation beside it as ``metrics.jsonl``."""
    with new_folder(out, overwrite) as folder:
        write_distilled(distilled, log, folder)
    return Path(out)


def write_distilled(distilled: Condensed, log: list[dict[str, Any]], folder: Path) -> None:
    """Write the files of ``save_distilled`` into an existing folder."""
    distilled.write_to(folder)
    write_metrics(folder, log)


def read_teacher(
    data: Dataset,
    teacher_path: str | Path,
    options: CondenseOptions,
    *,
    encoder_path: str | None = None,
    device: str | torch.device = "cpu",
) -> tuple[TextRecommender, Checkpoints]:
    """Load what a distillation starts from, the best model and the trajectory, and see that the options fit them.

    Raises:
        InputError: see ``distill``.
    """

    def read() -> tuple[TextRecommender, Checkpoints]:
        teacher = load_teacher(teacher_path, data, encoder_path=encoder_path, device=device)
        return as_distilled(teacher, Trajectory(teacher_path), options)

    best, trajectory = read_whole(teacher_path, read)
    if best.privacy is None:  # else nothing may depend on the log
        _check(data, best, trajectory, fitted(options, best))
    return best, trajectory


def fitted(options: CondenseOptions, teacher: TextRecommender) -> CondenseOptions:
    """Return options of which the length, unless it was given, is no more than the teacher reads."""
    if "length" in options.model_fields_set:
        return options
    return options.model_copy(update={"length": min(options.length, teacher.options.max_length)})


def _check_private(options: CondenseOptions) -> None:
    """Raise InputError for options that would look at the log again; that of a private teacher is not looked at."""
    wrong = [f"--method {options.method}"] if not isinstance(options, DistillOptions) else []
    if isinstance(options, DistillOptions):
        asked = {
            "--targets next without --start generated": options.targets == "next" and not options.generated,
            f"--steps {options.steps}": options.steps > 0,
            "--anonymity": options.anonymity is not None,
            "--targets written": options.targets == "written",
            "--bytes without --targets next": options.bytes is not None and not options.generated,
        }
        wrong = [flag for flag, given in asked.items() if given]
    if wrong:
        raise InputError(
            f"{wrong[0]}: would look at the log again, or was not made for private teachers; choose otherwise, or take "
            "a teacher without --epsilon"
        )


def as_distilled(
    teacher: TextRecommender, trajectory: Checkpoints, options: CondenseOptions
) -> tuple[TextRecommender, Checkpoints]:
    """Return a teacher as a method works with it: FOSTER with the vectors that items have of their own.

    The others move what texts give: with tables in it their unrolled steps would fill the memory.
    """
    if isinstance(options, DistillOptions) or not teacher.options.ids:
        return teacher, trajectory
    return teacher.without_ids(), without_ids(trajectory)


def _check(data: Dataset, best: TextRecommender, trajectory: Checkpoints, options: CondenseOptions) -> None:
    if isinstance(options, DistillOptions) and options.targets == "written" and options.bytes is None:
        raise InputError("--targets written: is for a folder of few bytes; add --bytes, such as --bytes 50000")
    if isinstance(options, DistillOptions) and (options.checkpoints or 0) > len(trajectory):
        raise InputError(
            f"--checkpoints {options.checkpoints}: the teacher recorded {len(trajectory)}; give at most that, or leave "
            "it out"
        )
    if isinstance(options, LatentOptions) and options.subset is not None and options.subset > best.n_known:
        raise InputError(
            f"--subset {options.subset}: the catalogue has {best.n_known} items; give at most that, or leave it out"
        )
    if not len(trajectory):
        raise InputError("the trajectory has no checkpoint; 'train_teacher' and 'pretrain' record some")
    labels_by_bytes = isinstance(options, DistillOptions) and options.bytes is not None and options.targets == "soft"
    if not labels_by_bytes:  # else see ``form_within``
        check_sequences(options.sequences, len(data.histories("train")))
    if options.length > best.options.max_length:
        raise InputError(
            f"--length {options.length}: the teacher reads {best.options.max_length} items; give at most that"
        )
