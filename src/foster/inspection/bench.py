"""Folders of benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from foster.artefacts import CONFIG_NAME, DATASET_NAME, Count, Fraction, Stored, folder_bytes, read_json
from foster.bench.results import BENCH_NAME, RESULTS
from foster.errors import InputError
from foster.inspection.figures import FAINT, drawing
from foster.inspection.files import bytes_by_part
from foster.inspection.inspect import Look
from foster.inspection.page import Block, Cell, Figure, Figures, Items, Paragraph, Section, Summary, Table
from foster.inspection.wording import clean, folder_name, place_name, plain, size
from foster.manifest import read_whole, verify
from foster.report.plots import TITLES, draw_metric
from foster.report.tables import remarks, shown, spread
from foster.wording import many

SUMMARY_NAME = next(name for name in RESULTS if name.endswith(".json"))
QUALITY = ("recall@10", "ndcg@10")
Number = Annotated[float, Field(ge=0, lt=2**62)] | None
Interval = Annotated[list[float], Field(min_length=2, max_length=2)] | None


class _About(Stored):
    """What one has to know of the rows; what else is there is not shown."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    seeds: list[int] = Field(default_factory=list)
    users: Count = 0
    items: Count = 0
    interactions: Count = 0
    failed: dict[str, str] | None = None
    threads: Count = 1


class _Row(Stored):
    """A row; what else is there is not shown."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    name: str
    budget: Annotated[int, Field(ge=1, lt=2**62)] | None
    interactions: Number
    kept_steps: list[Count]
    minus_full: Interval
    minus_random: Interval
    minus_reference: Interval = None
    ndcg: Fraction = Field(alias="ndcg@10")
    ndcg_sd: Fraction | None = Field(alias="ndcg@10_sd")
    recall: Fraction = Field(alias="recall@10")
    recall_sd: Fraction | None = Field(alias="recall@10_sd")
    of_full: Number = None
    make_seconds: Number = None
    train_seconds: Number = None
    times_as_fast: Number = None
    make_peak_bytes: Number = None
    train_peak_bytes: Number = None
    bytes: Number = None
    break_even: Number = None


class _Results(Stored):
    """What ``results.json`` holds."""

    about: _About
    rows: dict[str, _Row]


LETTER = 0.075  # inches of a letter of a drawing


def look_at(folder: Path, look: Look) -> BenchFolder:
    """Open the folder of a benchmark.

    Raises:
        InputError: it is damaged, or shall be compared with a log.
    """
    return read_whole(folder, lambda: BenchFolder(folder, look), grows=True)


class BenchFolder:
    """The folder of a benchmark, finished or not.

    Args:
        folder: what ``foster bench`` wrote.
        look: nothing of it is used.

    Raises:
        InputError: it is damaged, or shall be compared with a log.
    """

    def __init__(self, folder: Path, look: Look) -> None:
        if look.data is not None:
            raise InputError("--data: is for distilled sequences and coresets; give a folder within the benchmark")
        verify(folder, depth=1)
        self.folder = folder
        self.config: dict[str, Any] = read_json(folder / BENCH_NAME)
        path = folder / SUMMARY_NAME
        content = read_json(path) if path.is_file() else {"about": {}, "rows": {}}
        _Results.of(content, path)
        self.about: dict[str, Any] = content["about"]
        self.rows: dict[str, dict[str, Any]] = content["rows"]

    def summary(self) -> Summary:
        """Return what it is."""
        about, rows = self.about, self.rows
        seeds = about.get("seeds", [])
        if rows:
            sentence = (
                f"A benchmark of {many(len(rows), 'row')} on {clean(str(about.get('data')))}, "
                f"{many(len(seeds), 'seed')}: quality and costs of training on the full log and on less."
            )
        else:
            sentence = "A benchmark without results so far; the same call of foster bench goes on with it."
        facts = [
            ("data", clean(str(about.get("data", "not stated")))),
            *((name, f"{about[name]:,}") for name in ("users", "items", "interactions") if name in about),
            ("split", clean(str(about.get("split", "not stated")))),
            ("seeds", plain(seeds)),
            *((name, plain(self.config.get(name))) for name in ("encoder", "model", "train", "teacher")),
            (
                "device",
                f"{plain(about.get('device'))}, {many(about.get('threads', 1), 'thread')}" if rows else "not stated",
            ),
            ("bytes", size(folder_bytes(self.folder))),
            ("data fingerprint", clean(str(self.config.get("data_fingerprint", "not stated")))),
        ]
        failed = about.get("failed") or {}
        return Summary(
            "bench",
            folder_name(self.folder),
            sentence,
            facts,
            bytes_by_part(self.folder, parts={f"seed{seed}": f"models and sequences of seed {seed}" for seed in seeds}),
            warnings=[f"{clean(name)} failed and is in no row" for name in failed],
            lines=[
                f"{clean(name):<24} NDCG@10 {spread(row['ndcg@10'], row.get('ndcg@10_sd'))}"
                for name, row in rows.items()
            ],
            content={"about": about, "rows": rows},
        )

    def sections(self) -> list[Section]:
        """Return the results, the costs, and which folders there are to look at."""
        sections = []
        if self.rows:
            notes = [line.replace("**", "").replace("`", "") for line in remarks(self.rows)]
            blocks: list[Block] = [Items(notes)] if notes else []
            blocks += [Figures([self._figure(metric) for metric in QUALITY]), self._quality()]
            sections = [Section("quality", "Quality", blocks), Section("costs", "Costs", [self._costs()])]
        return [*sections, Section("folders", "What else is here", self._folders())]

    def _figure(self, metric: str) -> Figure:
        rows = self.rows
        best = max(rows, key=lambda name: rows[name][metric])
        described = f"Best is {clean(best)} with {rows[best][metric]:.4f}."
        if "full" in rows:
            described += f" The full log has {rows['full'][metric]:.4f}, the dashed line."
        budgets = len({row["budget"] for row in rows.values() if row["budget"] is not None})
        high = 3.0 if budgets > 1 else 0.9 + 0.2 * len(rows)
        wide = 3.6 + (0 if budgets > 1 else LETTER * max(0, max(map(len, rows)) - 12))
        svg = drawing(
            f"{TITLES[metric]} of every row",
            described,
            lambda axes: draw_metric(axes, {clean(name): row for name, row in rows.items()}, metric, FAINT),
            (wide, high),
        )
        return Figure(svg, f"{TITLES[metric]} on the test, mean and deviation over seeds. {described}")

    def _quality(self) -> Table:
        reference = self.about.get("reference")
        compared = {"minus_random": "minus random", "minus_full": "minus full"}
        if reference:
            compared["minus_reference"] = f"minus {clean(str(reference))}"
        rows: list[Sequence[Cell]] = [
            (
                clean(name),
                *(spread(row[metric], row.get(f"{metric}_sd")) for metric in QUALITY),
                shown(row.get("of_full"), ".3f"),
                *(_interval(row.get(key)) for key in compared),
            )
            for name, row in self.rows.items()
        ]
        caption = (
            "Quality on the test; of full: the mean ratio of NDCG@10 within a seed; differences: 95 % intervals of "
            "NDCG@10 over users, in thousandths"
        )
        return Table(caption, ("row", *(TITLES[metric] for metric in QUALITY), "of full", *compared.values()), rows)

    def _costs(self) -> Table:
        def cells(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
            peaks = [row[key] for key in ("make_peak_bytes", "train_peak_bytes") if row.get(key)]
            return (
                clean(name),
                shown(row.get("make_seconds"), ",.0f"),
                shown(row.get("train_seconds"), ",.1f"),
                shown(row.get("times_as_fast"), ",.1f"),
                shown(max(peaks) / 2**20 if peaks else None, ",.0f"),
                shown(row.get("bytes"), ",.0f"),
                shown(row.get("break_even"), ".1f"),
            )

        caption = "What rows cost; break-even: trainings from which on making and training are faster than the full log"
        head = ("row", "making, s", "training, s", "times as fast", "peak MiB", "bytes", "break-even")
        return Table(caption, head, [cells(name, row) for name, row in self.rows.items()])

    def _folders(self) -> list[Block]:
        found = sorted(
            path.parent.relative_to(self.folder).as_posix()
            for pattern in (f"*/*/{CONFIG_NAME}", f"*/*/{DATASET_NAME}")
            for path in self.folder.glob(pattern)
        )
        if not found:
            return [Paragraph("No folders of teachers or sequences are kept.")]
        about = "Folders that 'foster inspect' shows, too:"
        return [Paragraph(about), Items([place_name(name) for name in found])]


def _interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{1000 * interval[0]:+.1f} to {1000 * interval[1]:+.1f}"
