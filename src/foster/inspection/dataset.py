"""Data sets."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from foster.artefacts import folder_bytes
from foster.data.check import CheckReport, check
from foster.data.dataset import Dataset
from foster.data.sources import INPUT_ORDER
from foster.errors import InputError
from foster.inspection.coverage import Masses, categories, category_table, popularity
from foster.inspection.figures import bars, drawing
from foster.inspection.files import bytes_by_part
from foster.inspection.inspect import Look
from foster.inspection.page import Block, Figure, Figures, ItemText, Section, Summary, Table
from foster.inspection.wording import clean, folder_name, place_name, size
from foster.text.options import EncoderOptions
from foster.text.readability import read_texts
from foster.wording import many, percent

BARS = 30
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def look_at(folder: Path, look: Look) -> DatasetFolder:
    """Open a data set folder.

    Raises:
        InputError: it is damaged, or shall be compared with a log.
    """
    return DatasetFolder(folder, look)


class DatasetFolder:
    """A data set folder.

    Args:
        folder: what ``Dataset.save`` wrote.
        look: where the encoder is whose reading of the texts is looked at.

    Raises:
        InputError: it is damaged, or shall be compared with a log.
    """

    def __init__(self, folder: Path, look: Look) -> None:
        if look.data is not None:
            raise InputError(f"--data: {folder} is a data set itself; leave it out")
        self.folder = folder
        self.data: Dataset = Dataset.read(folder)
        self.encoder: EncoderOptions = EncoderOptions().at(look.encoder_path)

    @cached_property
    def report(self) -> CheckReport:
        """What ``foster check`` finds."""
        return check(self.data, read_texts(self.data.texts, self.encoder))

    def summary(self) -> Summary:
        """Return what it is."""
        info, report = self.data.info, self.report
        spans = f"{report.times.first} to {report.times.last}" if report.times and report.times.unit else "no dates"
        facts = [
            ("users", f"{info.users:,}"),
            ("items", f"{info.items:,}"),
            ("interactions", f"{info.interactions:,}, {percent(report.density)} of all pairs"),
            ("filter", f"{info.k_core}-core of users and items" if info.k_core else "none"),
            ("split", clean(info.split_name)),
            ("parts", report_parts(report)),
            ("order", "that of the input" if info.time == INPUT_ORDER else clean(info.time)),
            ("dates", spans),
            ("text columns", ", ".join(map(clean, info.text_fields))),
            ("template", "the columns, joined by commas" if info.template is None else clean(info.template, 500)),
            ("popularity", "read beside the texts" if info.popularity else "not read"),
            ("made from", ", ".join(map(place_name, info.sources))),
            ("left out", "; ".join(info.dropped.as_lines(info.k_core)) or "nothing"),
            ("foster check", f"{many(len(report.problems), 'problem')}, {many(len(report.warnings), 'warning')}"),
            ("bytes", size(folder_bytes(self.folder))),
            ("from real data", "all of it"),
            ("data fingerprint", info.fingerprint),
            ("licence", clean(info.terms, 500)),
        ]
        return Summary(
            "dataset",
            folder_name(self.folder),
            f"A log of {many(info.interactions, 'interaction')} of {many(info.users, 'user')} with "
            f"{many(info.items, 'item')}, and a text for each item.",
            facts,
            bytes_by_part(self.folder),
            warnings=[clean(line, 500) for line in (*report.problems, *report.warnings)],
            content={"check": report.as_dict()},
        )

    def sections(self) -> list[Section]:
        """Return histories, popularity, times, categories and samples."""
        counts = self.data.item_counts().astype(float)
        masses = Masses({"log": counts})
        order = np.argsort(-counts, kind="stable")
        sections = [
            Section("histories", "Histories and dates", [Figures(self._histograms()), self._quantiles()]),
            Section("coverage", "Popularity and categories", [
                *popularity(masses, order, "most popular in the training part first"), *self._categories(masses),
            ]),
            Section("texts", "Texts", [self._texts()]),
            Section("samples", "Histories of some users", self._samples()),
        ]  # fmt: skip
        return sections

    def _histograms(self) -> list[Figure]:
        lengths = np.diff(self.data.offsets)
        out = [_lengths_figure(lengths)]
        times = self.report.times
        if times is not None and times.unit:
            out.append(_dates_figure(self.data.timestamps / UNITS[times.unit], times.first, times.last))
        return out

    def _quantiles(self) -> Table:
        rows = [
            (name, *(f"{value:,}" for value in quantiles.values()))
            for name, quantiles in (
                ("interactions of a user", self.report.sequence_lengths),
                ("words and signs of a text", self.report.text_lengths),
            )
        ]
        names = ("least", *list(self.report.sequence_lengths)[1:-1], "most")
        return Table("Least, most and quantiles", ("of", *names), rows)

    def _categories(self, masses: Masses) -> list[Block]:
        found = categories(self.data.texts, self.data, self.data.item_ids)
        return [category_table(category, masses)[1] for category in found]

    def _texts(self) -> Table:
        report = self.report
        rows = [
            (clean(name), f"filled for {percent(share)} of the items") for name, share in report.text_coverage.items()
        ]
        rows.append(("the same text as another item", f"{report.shared_texts:,} items"))
        if (reading := report.reading) is not None:
            name = place_name(reading.encoder)
            rows += [
                (f"tokens unknown to {name}", percent(reading.unknown_tokens)),
                (f"texts cut after {reading.max_tokens} tokens", f"{reading.cut:,}"),
                ("texts mostly unknown", f"{reading.unreadable:,}"),
                ("texts with the tokens of another text", f"{reading.same_tokens:,}"),
            ]
        return Table("What the texts are like", ("what", "how much"), rows)

    def _samples(self) -> list[Block]:
        return [
            Table(
                f"User {clean(sample.user_id, 40)}: the last {len(sample.texts)} of {many(sample.length, 'item')}, "
                "oldest first",
                ("place", "item"),
                [
                    (f"{sample.length - len(sample.texts) + place:,}", ItemText(text))
                    for place, text in enumerate(sample.texts, 1)
                ],
                texts=(1,),
            )
            for sample in self.report.samples
        ]


def report_parts(report: CheckReport) -> str:
    """Return the sizes of training, validation and test."""
    parts = report.parts
    return (
        f"training {parts['training_interactions']:,} interactions of {parts['training_users']:,} users; "
        f"validation {parts['validation_targets']:,}, test {parts['test_targets']:,} targets"
    )


def _lengths_figure(lengths: np.ndarray) -> Figure:
    # Histories differ by orders of magnitude: the last bar holds all that are longer than 99 % of them.
    high = max(int(np.quantile(lengths, 0.99)), int(lengths.min()) + 1)
    width = max(1, -(-(high - int(lengths.min()) + 1) // BARS))
    edges = np.arange(int(lengths.min()), high + width + 1, width)
    heights = np.histogram(np.minimum(lengths, edges[-1] - 1), edges)[0]
    longer = int((lengths >= edges[-1]).sum())
    described = (
        f"Half of the users have up to {int(np.median(lengths)):,} interactions, the most {int(lengths.max()):,}."
    )
    if longer:
        described += f" The last bar holds {many(longer, 'longer history', 'longer histories')}, too."
    svg = drawing("Lengths of histories", described, bars(edges.tolist(), heights.tolist(), "interactions", "users"))
    rows = [
        (f"{low:,}" if width == 1 else f"{low:,} to {low + width - 1:,}", f"{count:,}")
        for low, count in zip(edges[:-1].tolist(), heights.tolist(), strict=True)
    ]
    if longer:
        rows[-1] = (f"{edges[-2]:,} or more", rows[-1][1])
    table = Table("Users by number of interactions", ("interactions", "users"), rows, closed=True)
    return Figure(svg, f"Lengths of histories. {described}", numbers=table)


def _dates_figure(seconds: np.ndarray, first: str, last: str) -> Figure:
    start, end = (np.datetime64(day, "D").astype(np.int64) for day in (first, last))
    days = np.floor(seconds / 86_400)
    edges = np.linspace(float(start), float(end) + 1, BARS + 1)
    heights = np.histogram(days, edges)[0]
    dates = [str(np.datetime64(int(edge), "D")) for edge in edges[:-1]]
    busiest = int(heights.argmax())
    described = f"From {first} to {last}, in {BARS} parts of equal length; most in that from {dates[busiest]} on."
    svg = drawing(
        "Interactions by date", described, bars(edges.tolist(), heights.tolist(), "date", "interactions", days=True)
    )
    rows = [(date, f"{count:,}") for date, count in zip(dates, heights.tolist(), strict=True)]
    table = Table("Interactions by date", ("from", "interactions"), rows, closed=True)
    return Figure(svg, f"Interactions by date. {described}", numbers=table)
