"""Folders of searches for options."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import polars as pl
from pydantic import ConfigDict, Field

from foster.artefacts import CONFIG_NAME, DATASET_NAME, RETRAINED_NAME, Fraction, Stored, folder_bytes, read_json
from foster.errors import InputError
from foster.inspection.figures import FAINT, SERIES, drawing
from foster.inspection.files import bytes_by_part
from foster.inspection.inspect import Look
from foster.inspection.page import Block, Cell, Figure, Items, ItemText, Paragraph, Section, Share, Summary, Table
from foster.inspection.wording import clean, folder_name, number, place_name, plain, size
from foster.manifest import read_whole, verify
from foster.tuning.folder import DATABASE, LOCKS
from foster.tuning.plots import draw_order
from foster.tuning.results import (
    BEST,
    NOT_OPTIONS,
    RESULTS,
    TRIALS,
    alike_in_words,
    behind,
    behind_on_log,
    counted,
    trained_on,
    verdict_in_words,
    why_no_importance,
)
from foster.wording import many

Trial = Annotated[int, Field(ge=0, lt=2**31)]


class _Row(Stored):
    """A trial, with its options."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    trial: Trial
    value: Fraction
    noise: Fraction | None = None


class _OnLog(_Row):
    """A trial whose options were trained on the full log."""

    ndcg: Fraction | None = Field(None, alias="ndcg@10")
    error: str | None = None


class _Verdict(Stored):
    search: Trial
    best: Trial
    regret: float | None
    alike: list[Trial] | None = None
    other: Trial | None = None  # this and the next two are of earlier versions
    behind: float | None = None
    noise: float | None = None


class _Results(Stored):
    """What ``results.json`` holds."""

    trials: dict[str, Trial]
    best: list[_Row]
    importance: dict[str, Fraction] | None
    retrained: list[_OnLog]
    verdict: _Verdict | None
    trial: Trial | None
    config: dict[str, Any] | None
    source: Literal["dataset", "distilled", "coreset"]
    finish: bool
    seed: int


COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {"trial": pl.Int64, "state": pl.String, "value": pl.Float64}
"""What is read of ``trials.csv``."""
PARTS = {
    DATABASE: "the study, for optuna",
    TRIALS: "all trials",
    BEST: "the best options",
    LOCKS: "locks of processes",
    RETRAINED_NAME: "models of the best options on the full log",
}


def look_at(folder: Path, look: Look) -> StudyFolder:
    """Open the folder of a search.

    Raises:
        InputError: it is damaged, or shall be compared with a log.
    """
    return read_whole(folder, lambda: StudyFolder(folder, look), grows=True)


class StudyFolder:
    """The folder of a search, finished or not.

    Args:
        folder: what ``foster tune`` wrote.
        look: nothing of it is used.

    Raises:
        InputError: it is damaged, or shall be compared with a log.
    """

    def __init__(self, folder: Path, look: Look) -> None:
        if look.data is not None:
            raise InputError("--data: is for distilled sequences and coresets; a search has its log already")
        manifest = verify(folder, depth=1)
        self.folder: Path = folder
        ended = manifest.about.get("trials")
        self.ended: int = len(ended) if isinstance(ended, dict) else 0
        self.config: dict[str, Any] = read_json(folder / CONFIG_NAME)
        path, table = folder / RESULTS, folder / TRIALS
        self.results: dict[str, Any] | None = read_json(path) if path.is_file() else None
        self.trials: pl.DataFrame = pl.DataFrame(schema=COLUMNS)
        if self.results is not None:
            _Results.of(self.results, path)
            manifest.check(TRIALS)
            self.trials = _read_trials(table)

    def summary(self) -> Summary:
        """Return what was searched, and the best of it."""
        config, found = self.config, self.results
        best = found["best"] if found is not None else []
        facts: list[tuple[str, str | ItemText]] = []
        warnings = []
        lost = bool(self.ended) and not (self.folder / DATABASE).exists()
        if lost:
            warnings.append(f"{DATABASE} is missing, without which foster tune cannot go on; copy the study again")
        if found is None:
            so_far = f"in {many(self.ended, 'trial')}, without tables" if self.ended else "without results so far"
            more = "" if lost else "; the same call of foster tune goes on with it"
            sentence = f"A search for options {so_far}{more}."
        else:
            count = many(sum(found["trials"].values()), "trial")
            sentence = f"A search for options in {count}, trained on {trained_on(found)}."
            facts.append(("trials", clean(counted(found))))
            if best:
                first = f"trial {best[0]['trial']}, validation NDCG@10 {best[0]['value']:.4f}"
                facts.append(("best of the search", first))
            if best and (alike := alike_in_words(found)):
                facts.append(("noise", alike))
            if found["retrained"]:
                facts.append(("on the full log", verdict_in_words(found)))
        validation = config.get("validation")
        facts += [
            ("encoder", _encoder(config.get("encoder"))),
            *((name, plain(config.get(name))) for name in ("model", "train", "seed")),
            ("bytes", size(folder_bytes(self.folder))),
            ("data fingerprint", plain(validation.get("fingerprint") if isinstance(validation, dict) else None)),
        ]
        return Summary(
            "study",
            folder_name(self.folder),
            sentence,
            facts,
            bytes_by_part(self.folder, parts=PARTS),
            warnings,
            lines=[
                f"trial {row['trial']:<5} NDCG@10 {row['value']:.4f}  {_behind(row, best)}{plain(_options(row))}"
                for row in best
            ],
            content={"results": found},
        )

    def sections(self) -> list[Section]:
        """Return the trials, the options, what the full log says, and which models there are to look at."""
        sections, found = [], self.results
        if found is not None and found["best"]:
            alike = filter(None, [alike_in_words(found)])
            sections = [
                Section("trials", "Trials", [self._figure(), self._best(found), *map(Paragraph, alike)]),
                Section("options", "Options", self._options(found)),
            ]
            if found["retrained"]:
                rows: list[tuple[Cell, ...]] = [
                    (
                        str(row["trial"]),
                        _shown(row["value"]),
                        _shown(row.get("ndcg@10")),
                        behind_on_log(row, found),
                        clean(row.get("error") or ""),
                    )
                    for row in found["retrained"]
                ]
                caption = "The same options trained on the full log with another seed: validation NDCG@10"
                table = Table(caption, ("trial", "search", "full log", "behind the best", "error"), rows, texts=(4,))
                sections.append(Section("log", "On the full log", [Paragraph(verdict_in_words(found)), table]))
        return [*sections, Section("folders", "What else is here", self._folders())]

    def _figure(self) -> Figure:
        done = self.trials.filter(pl.col("state") == "complete").drop_nulls("value")
        described = f"{many(done.height, 'trial')} of {self.trials.height:,} finished."
        if done.height:
            first, best = done.row(0, named=True), done.sort("value", descending=True).row(0, named=True)
            if first["trial"] == best["trial"]:
                described += f" The best is the first, trial {best['trial']}, with {best['value']:.4f}."
            else:
                described += (
                    f" The first has {first['value']:.4f}, the best, trial {best['trial']}, has {best['value']:.4f}."
                )
        svg = drawing(
            "Validation NDCG@10 by trial",
            described,
            lambda axes: draw_order(axes, self.trials, (FAINT, *SERIES[:2])),
        )
        rows = [(str(trial), clean(state), _shown(value)) for trial, state, value in self.trials.iter_rows()]
        head = ("trial", "state", "validation NDCG@10")
        table = Table("All trials", head, rows, texts=(1,), closed=True)
        return Figure(svg, f"Validation NDCG@10 by trial. {described}", numbers=table)

    def _best(self, found: Mapping[str, Any]) -> Table:
        names = list(_options(found["best"][0]))
        rows: list[tuple[Cell, ...]] = [
            (
                f"{row['trial']}{' (default)' if row.get('default') else ''}",
                _shown(row["value"]),
                behind(row, found["best"][0]),
                *(plain(row.get(name)) for name in names),
            )
            for row in found["best"]
        ]
        return Table("The best trials", ("trial", "NDCG@10", "behind the best", *map(clean, names)), rows)

    def _options(self, found: Mapping[str, Any]) -> list[Block]:
        stated, importance, config = self.config.get("space"), found["importance"], found["config"] or {}
        space: dict[str, Any] = stated if isinstance(stated, dict) else {}
        head = ("option", "searched", f"in {BEST}", *(("importance",) if importance else ()))
        rows: list[tuple[Cell, ...]] = [
            (
                clean(name),
                _searched(space[name]) if name in space else "fixed",
                plain(config.get(name)) if name in config else "",
                *((Share(importance[name]) if name in importance else "",) if importance else ()),
            )
            for name in [*space, *(name for name in config if name not in space)]
        ]
        about = (
            "Importance: how much an option has to do with being among the best quarter of the finished trials."
            if importance
            else why_no_importance(found)
        )
        return [Paragraph(about), Table(f"What was searched, and what {BEST} holds", head, rows, texts=(1, 2))]

    def _folders(self) -> list[Block]:
        found = sorted(
            path.parent.relative_to(self.folder).as_posix()
            for pattern in (f"{RETRAINED_NAME}/*/{CONFIG_NAME}", f"{RETRAINED_NAME}/*/{DATASET_NAME}")
            for path in self.folder.glob(pattern)
        )
        if not found:
            return [Paragraph("No models of the full log are kept.")]
        return [Paragraph("Folders that 'foster inspect' shows, too:"), Items([place_name(name) for name in found])]


def _behind(row: Mapping[str, Any], best: list[dict[str, Any]]) -> str:
    return f"{behind(row, best[0]):16}  " if len(best) > 1 else ""


def _options(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in NOT_OPTIONS}


def _encoder(stated: Any) -> str:
    if not isinstance(stated, dict) or "encoder" not in stated:
        return plain(stated)
    more = {name: value for name, value in stated.items() if name != "encoder"}
    return ", ".join([plain(stated["encoder"]), *([plain(more)] if more else [])])


def _searched(stated: Any) -> str:
    """Return among which values an option was searched, in words."""
    if not isinstance(stated, dict) or not ({"choices"} <= stated.keys() or {"low", "high"} <= stated.keys()):
        return plain(stated)
    if "choices" in stated:
        return f"one of {plain(stated['choices'])}"
    step = f" in steps of {plain(stated['step'])}" if stated.get("step") else ""
    return f"{plain(stated['low'])} to {plain(stated['high'])}{step}{' on a log scale' if stated.get('log') else ''}"


def _shown(value: float | None) -> str:
    return "" if value is None else number(value)


def _read_trials(path: Path) -> pl.DataFrame:
    # From bytes: a name with [ or * in it would be a pattern.
    try:
        trials = pl.read_csv(io.BytesIO(path.read_bytes()), columns=list(COLUMNS), schema_overrides=COLUMNS)
        if trials.select(pl.col("trial", "state").is_null().any()).row(0) != (False, False):
            raise pl.exceptions.ComputeError("a trial without number or state")
        if not trials.select(pl.col("value").drop_nulls().is_between(0, 1).all()).item():
            raise pl.exceptions.ComputeError("a value beyond 0 to 1")
        return trials
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read; the folder is damaged, run the same 'foster tune' again") from error
