"""What a study comes to: a frame of its trials, the best, what mattered, and options to train with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from foster.artefacts import CARD_NAME, CONFIG_NAME, read_json, write_json
from foster.condensed.sequences import Condensed
from foster.evaluation.metrics import noise
from foster.manifest import whole_files
from foster.models.options import ModelOptions
from foster.options import MOST_SEED, Options, flag_of
from foster.text.options import EncoderOptions
from foster.training.options import TrainOptions
from foster.tuning.folder import about
from foster.tuning.plots import drawable, plot_study
from foster.tuning.seals import RETRAINED, SEAL, sealed, seals
from foster.tuning.search import BEGUN, FINISHED, GROUPS, SAME, Setting, end_of, finished, ranked, reason_of
from foster.wording import many, percent

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

TRIALS, RESULTS, BEST, PLOT = "trials.csv", "results.json", "best.yaml", "results.png"
SHOWN = 10  # trials in the table
ENOUGH = 20  # finished trials from which on importances are given: of the best quarter there are five then
QUARTER = 0.25
ON = {"dataset": "the log", "distilled": "distilled sequences", "coreset": "a coreset"}
NOTES: dict[str, type[pl.DataType]] = {"last_step": pl.Int64, "best_step": pl.Int64, "seconds": pl.Float64}
NOT_OPTIONS = frozenset({"trial", "state", "value", "noise", "default", "reason", "full_log", *NOTES})
"""Columns of a trial that are none of its options."""


def frame_of(study: Study, setting: Setting) -> pl.DataFrame:
    """Return a row a trial: ``trial``, ``state``, ``value`` (validation NDCG@10; of a pruned trial its last one).

    Further columns: ``noise`` (of a finished trial, two standard errors over validation users of how far it is behind
    the best one; None of the best itself, and in studies of before), ``default`` (whether its options are those without
    a search), ``last_step``, ``best_step``, ``seconds``, ``reason`` (why it was not finished), a column an option, and
    ``full_log`` (validation NDCG@10 of the same options trained on the full log).
    """
    from optuna.trial import TrialState

    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    options = [setting.space.taken(trial.params) for trial in trials]
    done = ranked(finished(study))
    noises = {trial.number: _noise(done[0].user_attrs, trial.user_attrs) for trial in done[1:]}
    columns: list[pl.Series] = [
        pl.Series("trial", [trial.number for trial in trials], pl.Int64),
        pl.Series("state", [trial.state.name.lower() for trial in trials], pl.String),
        pl.Series("value", [trial.value for trial in trials], pl.Float64),
        pl.Series("noise", [noises.get(trial.number) for trial in trials], pl.Float64),
        pl.Series("default", [bool(trial.user_attrs.get(BEGUN)) for trial in trials], pl.Boolean),
        *(pl.Series(name, [t.user_attrs.get(name) for t in trials], dtype) for name, dtype in NOTES.items()),
        pl.Series("reason", [reason_of(trial) for trial in trials], pl.String),
        *(pl.Series(name, [drawn.get(name) for drawn in options]) for name in setting.space.parts),
        pl.Series("full_log", [retrained(study, trial.number).get("ndcg@10") for trial in trials], pl.Float64),
    ]
    return pl.DataFrame(columns)


def _noise(first: Mapping[str, Any], second: Mapping[str, Any]) -> float | None:
    """Return two standard errors of the difference of two trainings, of which that is noted; None where it is not."""
    groups, others = first.get(GROUPS), second.get(GROUPS)
    return None if groups is None or others is None else noise(groups, others)


def retrained(study: Study, number: int) -> dict[str, Any]:
    """Return what is noted of a trial's options trained on the full log; empty where they were not."""
    noted: dict[str, Any] = study.user_attrs.get(f"{RETRAINED}{number}", {})
    return {name: note for name, note in noted.items() if name != SEAL}


def note_retrained(study: Study, number: int, notes: Mapping[str, Any]) -> None:
    """Note what ``retrained`` returns."""
    study.set_user_attr(f"{RETRAINED}{number}", sealed(notes))


def best_trials(study: Study, setting: Setting, count: int) -> list[FrozenTrial]:
    """Return the best finished trials of different trainings, the best first."""
    out: list[FrozenTrial] = []
    there: list[dict[str, Any]] = []
    for trial in ranked(finished(study)):
        if (own := setting.counted(setting.space.taken(trial.params))) not in there:
            out.append(trial)
            there.append(own)
    return out[:count]


def importances(study: Study) -> dict[str, float] | None:
    """Return how much each option has to do with being among the best quarter, in sum 1; None of too few trials."""
    import optuna

    done = finished(study)
    if len(done) < ENOUGH or len({trial.value for trial in done}) == 1:
        return None
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=QUARTER)
    return {
        name: float(share)
        for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }


def config_of(trial: FrozenTrial, setting: Setting) -> dict[str, Any]:
    """Return the options of a trial for ``--config`` of train and pretrain.

    These are what was searched, what the user gave, and how encoder and model differ besides from the defaults, or the
    encoder from that of the sequences, which train takes by default. The rest of a recipe for sequences is for these
    alone, and so is the dropout that is stored with them.
    """
    model, encoder = _unusual(setting.model), _unusual(setting.encoder)
    if isinstance(setting.source, Condensed):
        model.pop("dropout", None)
        encoder = {
            name: value
            for name, value in setting.encoder.model_dump().items()
            if name in encoder or value != getattr(setting.source.encoder, name)
        }
    rest = {**encoder, **model, **setting.given}
    out = setting.space.taken(trial.params)
    return out | {name: value for name, value in rest.items() if name not in out}


def _unusual(options: Options) -> dict[str, Any]:
    usual = type(options)().model_dump()
    return {name: value for name, value in options.model_dump().items() if value != usual[name]}


def parsed(config: Mapping[str, Any]) -> tuple[EncoderOptions, ModelOptions, TrainOptions]:
    """Return what pretrain makes of such a ``--config`` file.

    Raises:
        InputError: options that do not go together.
    """
    parts = [
        {name: value for name, value in config.items() if name in group.model_fields}
        for group in (EncoderOptions, ModelOptions, TrainOptions)
    ]
    return EncoderOptions.parse(parts[0]), ModelOptions.parse(parts[1]), TrainOptions.parse(parts[2])


def results_of(study: Study, setting: Setting) -> dict[str, Any]:
    """Return what the study came to.

    Returns:
        ``trials`` (numbers by how they ended, see ``end_of``), ``best`` (a row a trial), ``importance`` (None of too
        few trials), ``retrained`` (a row a trial that was looked at on the full log; ``noise`` as in the frame, of how
        far it is behind the best one there), ``verdict`` (see ``_verdict``; None without), ``config`` (options to
        train with: of the trial that is best on the full log or, if none was looked at, of the best).
    """
    rows = {row["trial"]: row for row in frame_of(study, setting).to_dicts()}
    best = best_trials(study, setting, SHOWN)
    again = [trial for trial in ranked(finished(study)) if retrained(study, trial.number)]
    looked_at, first = _looked_at(study, again), best[0] if best else None
    verdict = _verdict(looked_at)
    if verdict:
        first = next(trial for trial in again if trial.number == verdict["best"])
    return {
        "trials": dict(sorted(Counter(filter(None, map(end_of, study.get_trials(deepcopy=False)))).items())),
        "best": [rows[trial.number] for trial in best],
        "importance": importances(study),
        "retrained": looked_at,
        "verdict": verdict,
        "trial": None if first is None else first.number,
        "config": None if first is None else config_of(first, setting),
        "source": setting.source.kind if isinstance(setting.source, Condensed) else "dataset",
        "finish": setting.finish,
        "seed": setting.seed,
    }


def _looked_at(study: Study, again: list[FrozenTrial]) -> list[dict[str, Any]]:
    """Return a row for each trial that was looked at on the full log, the best of the search first."""
    notes = [retrained(study, trial.number) for trial in again]
    best = _best_on_log(notes)
    return [
        {
            "trial": trial.number,
            "value": trial.value,
            **{name: value for name, value in note.items() if name != GROUPS},
            "noise": None if best is None or note is best else _noise(best, note),
        }
        for trial, note in zip(again, notes, strict=True)
    ]


def _is_known(row: Mapping[str, Any]) -> bool:
    return row.get("ndcg@10") is not None


def _best_on_log(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return max(filter(_is_known, rows), key=lambda row: row["ndcg@10"], default=None)


def _alike(others: Sequence[Mapping[str, Any]], best: Mapping[str, Any], name: str) -> list[int]:
    """Return the numbers of the trials that are behind the best in a figure by no more than the noise of that."""
    return [row["trial"] for row in others if best[name] - row[name] <= row["noise"]]


def _verdict(looked_at: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return which trial is best on the full log, and what it costs to take the search's best instead.

    Returns:
        ``search`` and ``best`` (numbers of the search's best trial and of the log's), ``regret`` (the share of the
        best one's NDCG@10 that the search's best lacks; None where its training failed), ``alike`` (numbers of those
        that the validation users do not tell from the best; None where they cannot say).
    """
    if (best := _best_on_log(looked_at)) is None:
        return None
    search, others = looked_at[0], [row for row in looked_at if _is_known(row) and row is not best]
    told = all(row["noise"] is not None for row in others)
    regret = 1 - search["ndcg@10"] / best["ndcg@10"] if _is_known(search) and best["ndcg@10"] else None
    return {
        "search": search["trial"],
        "best": best["trial"],
        "regret": 0.0 if search is best else regret,
        "alike": _alike(others, best, "ndcg@10") if told else None,
    }


def write_results(out: Path, study: Study, setting: Setting) -> dict[str, Any]:
    """Write trials.csv, results.json, README.md, best.yaml and, with matplotlib, results.png; return the results."""
    frame, results = frame_of(study, setting), results_of(study, setting)
    stated = about(read_json(out / CONFIG_NAME), seals(study)) | {"device": setting.engine.device.type}
    with whole_files(out, stated, also=[CONFIG_NAME]) as place:
        frame.write_csv(place(TRIALS))
        write_json(place(RESULTS), results)
        place(CARD_NAME).write_text(_card(results), encoding="utf-8")
        if results["config"] is not None:
            place(BEST).write_text(_yaml(results, setting), encoding="utf-8")
        if drawable(frame):
            plot_study(place(PLOT), frame, results, list(setting.space.parts))
    return results


def _yaml(results: Mapping[str, Any], setting: Setting) -> str:
    verdict = results["verdict"]
    chosen = "best on the full log, of those that were looked at there" if verdict else "best of the search"
    notes = [
        f"Options of trial {results['trial']}, the {chosen}. For --config of foster train and foster pretrain.",
        f"Its seed was {setting.seed}" + (f", on the full log {on_log_seed(setting.seed)}." if verdict else "."),
    ]
    steps = {row["trial"]: row["at_most"] for row in results["retrained"]}.get(results["trial"])
    if steps is not None and results["config"].get("steps") != steps:
        notes.append(f"Its training on the full log had --steps {steps}.")
    if alone := sorted(setting.fixed - setting.given.keys() - setting.space.parts.keys()):
        flags = " ".join(f"{flag_of(name)} {getattr(setting.train, name)}" for name in alone)
        notes.append(f"Given for the trials alone, and to be given again for one like them: {flags}.")
    lines = "".join(f"# {note}\n" for note in notes)
    return lines + yaml.safe_dump(results["config"], sort_keys=False, allow_unicode=True)


def on_log_seed(seed: int) -> int:
    """Return the seed of trainings on the full log: another one, since a search on the log would get its own figure."""
    return (seed + 1) % (MOST_SEED + 1)


def _card(results: Mapping[str, Any]) -> str:
    return f"# A search on {trained_on(results)}, seed {results['seed']}\n\n{markdown(results)}\n"


def trained_on(results: Mapping[str, Any]) -> str:
    """Say what the models of the trials were trained on."""
    return ON[results["source"]] + (", then on the log" if results["finish"] else "")


def markdown(results: Mapping[str, Any]) -> str:
    """Return the tables of a study in Markdown."""
    parts = [
        f"Trials: {counted(results)}. NDCG@10 on validation, of models that were trained on {trained_on(results)}."
    ]
    if best := results["best"]:
        names = [name for name in best[0] if name not in NOT_OPTIONS]
        heads = ["trial", "NDCG@10", "behind the best", "s", *names]
        rows = [
            [
                f"{row['trial']}{' (default)' if row['default'] else ''}",
                _number(row["value"]),
                behind(row, best[0]),
                f"{row['seconds']:.1f}",
                *(f"{row[name]}" for name in names),
            ]
            for row in best
        ]
        parts.append(_table(heads, rows))
        parts += filter(None, [alike_in_words(results)])
    if (importance := results["importance"]) is not None:
        parts.append("Importance, to be among the best quarter:")
        parts.append(_table(["option", "share"], [[name, f"{share:.2f}"] for name, share in importance.items()]))
    else:
        parts.append(why_no_importance(results))
    if again := results["retrained"]:
        rows = [
            [
                str(row["trial"]),
                _number(row["value"]),
                _number(row.get("ndcg@10")),
                behind_on_log(row, results),
                row.get("error") or "",
            ]
            for row in again
        ]
        parts.append("The same options on the full log, trained with another seed:")
        parts.append(_table(["trial", "search", "full log", "behind the best", ""], rows))
        parts.append(verdict_in_words(results))
    return "\n\n".join(parts)


def counted(results: Mapping[str, Any]) -> str:
    """Return how many trials ended how, in words."""
    return ", ".join(f"{number:,} {end}" for end, number in results["trials"].items()) or "none"


def behind(row: Mapping[str, Any], best: Mapping[str, Any], name: str = "value") -> str:
    """Return how far a trial is behind the best, with two standard errors where these are known.

    Args:
        row: of the trial.
        best: of the best one.
        name: of the figure.
    """
    if row["trial"] == best["trial"] or row.get(name) is None:
        return ""
    two = row.get("noise")
    return f"{best[name] - row[name]:.4f}" + ("" if two is None else f" ± {two:.4f}")


def behind_on_log(row: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Return the same of a trial's options on the full log."""
    best = _best_on_log(results["retrained"])
    return "" if best is None else behind(row, best, "ndcg@10")


def alike_in_words(results: Mapping[str, Any]) -> str:
    """Say which of the trials that are shown the validation users do not tell from the best; empty of one trial."""
    best, *others = results["best"]
    known = [row for row in others if row.get("noise") is not None]
    if not known:
        return "How much of these differences is noise is not known." if others else ""
    alike = _alike(known, best, "value")
    said = f"tell trial {best['trial']} from all others that are shown"
    if alike:
        said = f"do not tell {_trials(alike)} from the best"
    return f"± are two standard errors over the validation users, who {said}. What another seed changes comes on top."


def _trials(numbers: Sequence[int]) -> str:
    *others, last = map(str, numbers)
    return f"trials {', '.join(others)} and {last}" if others else f"trial {last}"


def why_no_importance(results: Mapping[str, Any]) -> str:
    """Say why there are no importances."""
    done = sum(results["trials"].get(end, 0) for end in (FINISHED, SAME, "complete"))  # as earlier versions said
    if done < ENOUGH:
        finished = many(done, "trial was", "trials were")
        return f"Importance of options: not given, since {finished} finished and {ENOUGH} are needed."
    return "Importance of options: not given, since all trials have one value."


def verdict_in_words(results: Mapping[str, Any]) -> str:
    """Say whether the best of a search was the best on the full log, of those that were looked at there."""
    verdict, count, best = results["verdict"], len(results["retrained"]), results["best"]
    if verdict is None:
        return "None of them could be trained on the full log."
    first = best[0]["trial"] if best else verdict["search"]
    users = _users_in_words(verdict)
    if count == 1:
        said = f"Trial {verdict['best']} alone was trained on the full log"
        if len(best) == 1:
            return f"{said}: there is no other to compare it with."
        if verdict["best"] == first:
            return f"{said}: whether the search was right is seen by two or more (--retrain 2)."
        return f"{said}, and the search's best is trial {first} by now; --retrain trains that, too."
    if verdict["search"] != first:  # trials came after the trainings on the log
        return (
            f"Of these {count}, trial {verdict['best']} is the best on the full log. {users} The search's best, trial "
            f"{first}, was not trained there; --retrain does that."
        )
    if sum(map(_is_known, results["retrained"])) == 1:
        return f"Of {count}, trial {verdict['best']} alone could be trained on the full log."
    if verdict["best"] == verdict["search"]:
        right, said = "The search was right", f"trial {verdict['best']} is the best on the full log, too"
    else:
        lacks = "failed there" if verdict["regret"] is None else f"is {percent(verdict['regret'])} behind it"
        right = "The full log prefers another"
        said = f"trial {verdict['best']} is the best there; the search's best, trial {verdict['search']}, {lacks}"
    told = verdict.get("alike") == []
    return f"{right}: of {count}, {said}. {users}" if told else f"Of {count}, {said}. {users}"


def _users_in_words(verdict: Mapping[str, Any]) -> str:
    if (alike := verdict.get("alike")) is None:  # as in studies of earlier versions
        return "How much of that is noise is not known."
    if alike:
        return f"The validation users do not tell {_trials(alike)} from trial {verdict['best']}."
    return "The validation users tell it from the others."


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
