"""Distilled sequences and coresets."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foster.artefacts import KEPT_STEP, METRICS_NAME, read_metrics
from foster.condensed.contexts import short_windows
from foster.condensed.folder import NOT_COUNTED, TENSORS_NAME, stored_bytes
from foster.condensed.packed_map import in_words
from foster.condensed.sequences import Condensed
from foster.distillation.budget import judged_forms
from foster.errors import InputError
from foster.evaluation.evaluate import is_of
from foster.inspection.coverage import ITEMS_A_VALUE, Masses, categories, category_table, popularity
from foster.inspection.curves import curves
from foster.inspection.files import bytes_by_part
from foster.inspection.inspect import Look
from foster.inspection.labels import keys_of, some_windows
from foster.inspection.page import Block, Paragraph, Section, Summary
from foster.inspection.projection import DRAWN, Projection, map_figure
from foster.inspection.sequences import (
    MIXTURE,
    MOST_ITEMS,
    Sequences,
    draw_counts,
    shown_sequences,
)
from foster.inspection.wording import clean, folder_name, place_name, plain, private_rows, size
from foster.models.moe import RANK, rank_of
from foster.models.recommender import NOT_STATED
from foster.text.cache import embed_texts
from foster.text.hub import locate
from foster.wording import many, percent

PARTS = {
    "items": "item indices of the steps",
    "weights": "probabilities of the steps",
    "lengths": "lengths of the sequences",
    "codes": "soft labels",
    "code_scales": "scales of the soft labels",
    "draws": "which items stand for the steps in the windows",
    "adapter": "the teacher's map from texts to items",
    "labeller": "the sequence model that makes the labels",
}
MOST_LINES = 20  # sequences that a terminal shows
FIRST = 3  # items of each of them


def look_at(folder: Path, look: Look) -> CondensedFolder:
    """Open a folder of sequences.

    Raises:
        InputError: it is damaged, or the log has none of its items.
    """
    return CondensedFolder(folder, look)


class CondensedFolder:
    """A distilled or coreset folder.

    Args:
        folder: what ``Condensed.save`` wrote.
        look: the log to compare it with, and where the encoder is.

    Raises:
        InputError: it is damaged, or the log has none of its items.
    """

    def __init__(self, folder: Path, look: Look) -> None:
        self.folder: Path = folder
        self.look: Look = look
        self.data: Condensed = Condensed.read(folder)
        if look.data is not None and not set(look.data.item_ids).intersection(self.data.catalogue.ids):
            raise InputError(f"--data {look.data.info.name}: has none of the items of {folder}; give its own log")

    def summary(self) -> Summary:
        """Return what it is."""
        data, info = self.data, self.data.info
        lengths = data.valid.sum(1)
        span = " to ".join(f"{length:,}" for length in dict.fromkeys((int(lengths.min()), int(lengths.max()))))
        kept = info.get(KEPT_STEP)
        made = "synthetic" if data.kind == "distilled" else "real"
        places = sum(end - start for start, end in data.windows)
        labels = f" with {self._counted(places)}" if data.labelled else ""
        sentence = (
            f"{many(len(data), f'{made} sequence')} of up to {many(data.items.shape[1], 'step')}{labels}, "
            f"{'made' if data.kind == 'distilled' else 'chosen'} by {clean(data.method)} from a log of "
            f"{many(len(data.catalogue), 'item')}."
        )
        options = info.get("options")
        forms = judged_forms(self._logged)
        facts = [
            ("method", clean(data.method)),
            ("sequences", f"{len(data):,}, of {span} steps"),
            ("items a step", f"up to {data.items.shape[2]:,}, {percent(self._first)} on the first on average"),
            ("different items", f"{self._distinct:,} of the catalogue's {len(data.catalogue):,}"),
            ("soft labels", self._labels()),
            *self._map_of_items(),
            ("bytes without item texts", f"{size(stored_bytes(self.folder))}; {NOT_COUNTED} are left out, too"),
            ("from real data", clean(str(info.get("from_real_data", NOT_STATED)), 1000)),
            *private_rows(info.get("privacy"), self.folder),
            ("encoder", place_name(str(data.encoder))),
            ("model", plain(data.model.model_dump())),
            ("students' recipe", plain(data.recipe.model_dump())),
            ("options", plain(options) if options else "none stated"),
            ("seed", plain(info.get("seed"))),
            ("split of the data", clean(str(info.get("data_split", "leave-one-out")))),
            ("data fingerprint", clean(str(info.get("data_fingerprint", NOT_STATED)))),
            ("licence", clean(str(info.get("licence", NOT_STATED)), 500)),
        ]
        if kept is not None:
            facts.insert(4, ("state", f"of distillation step {kept}" if kept else "the starting point (step 0)"))
        if forms:
            found = ", ".join(f"{form} {ndcg:.4f}" for form, ndcg in forms)
            facts.insert(4, ("form", f"chosen by validation NDCG@10 of a short student: {found}"))
        return Summary(
            data.kind,
            folder_name(self.folder),
            sentence,
            facts,
            bytes_by_part(self.folder, TENSORS_NAME, PARTS),
            warnings=self._warnings(),
            lines=self._lines(),
            content=self._content(),
        )

    def _windows(self) -> tuple[int, int]:
        """Return how many windows of a part of a sequence have labels, and of how many steps each is."""
        short = short_windows(self.data.windows, self.data.items.shape[1])
        return len(short), short[0][1] - short[0][0] if short else 0

    def _counted(self, labels: int) -> str:
        """Return how many soft labels a sequence has, and how they come to be more than its steps."""
        windows, steps = self._windows()
        parts = [f"{self.data.items.shape[1]:,} for the whole"] if windows < len(self.data.windows) else []
        if windows:
            parts.append(f"{steps:,} for each of {many(windows, 'window')}")
        return f"{many(labels, 'soft label')} each ({', '.join(parts)})"

    def _map_of_items(self) -> list[tuple[str, str]]:
        """Return the fact of the teacher's map from texts to items, if there is one."""
        data = self.data
        if data.adapter is None:
            return []
        rank = rank_of(data.adapter) if "up" in data.adapter else RANK
        return [("map of items", in_words("weight" in data.adapter, data.adapter_bits, rank))]

    def _labels(self) -> str:
        data = self.data
        if not data.labelled:
            start = "" if data.adapter is None else ", and start with the map of items"
            return f"none: students learn each step from those before it{start}"
        windows, steps = self._windows()
        where = ["whole sequences"] if windows < len(data.windows) else []
        if windows:
            where.append(f"{many(windows, 'window')} of {many(steps, 'step')}")
        if (model := data.labeller_model) is not None:
            kind = f"{model.backbone}, {many(model.layers, 'layer')}"
            return f"a sequence model ({kind}) in a bit a weight makes them, for {' and '.join(where)}"
        assert data.codes is not None
        return f"{data.codes.shape[-1]} numbers of {many(data.label_bits, 'bit')} a label, for {' and '.join(where)}"

    @cached_property
    def _tops(self) -> Tensor:
        """The most probable item of each step, ``[M, L]``."""
        return self.data.likeliest()

    @cached_property
    def _logged(self) -> list[dict[str, Any]]:
        return read_metrics(self.folder) if (self.folder / METRICS_NAME).is_file() else []

    @property
    def _first(self) -> float:
        return float(self.data.weights.amax(-1)[self.data.valid].mean())

    @property
    def _distinct(self) -> int:
        there = self.data.weights > 0
        drawn, _ = draw_counts(self.data)
        return len(self.data.items[there if drawn is None else there | (drawn > 0)].unique())

    def _warnings(self) -> list[str]:
        log = self.look.data
        if log is None:
            return []
        ids = set(log.item_ids)
        missing = sum(item_id not in ids for item_id in self.data.catalogue.ids)
        out = []
        if is_of(self.data.info.get("data_fingerprint"), log) is False:
            out.append(f"{clean(log.info.name)} is other data than that which these sequences were made from")
        if missing:
            out.append(f"{missing:,} items of the catalogue are not in {clean(log.info.name)} and count as never taken")
        return out

    def _lines(self) -> list[str]:
        texts, lengths = self.data.catalogue.texts, self.data.valid.sum(1).tolist()
        lines = []
        for row, length in enumerate(lengths[:MOST_LINES]):
            items = " | ".join(clean(texts[item], 40) for item in self._tops[row, : min(length, FIRST)].tolist())
            lines.append(f"{row + 1:>4}  {many(length, 'step')}: {items}{' | ...' if length > FIRST else ''}")
        if len(lengths) > MOST_LINES:
            lines.append(f"      and {len(lengths) - MOST_LINES:,} more")
        return lines

    def _content(self) -> dict[str, Any]:
        data = self.data
        ids, tops, first = data.catalogue.ids, self._tops, data.weights.amax(-1)
        return {
            "bytes": stored_bytes(self.folder),
            KEPT_STEP: data.info.get(KEPT_STEP),
            "different_items": self._distinct,
            "sequences": [
                [
                    {"item_id": ids[item], "probability": probability}
                    for item, probability in zip(tops[row, :length].tolist(), first[row, :length].tolist(), strict=True)
                ]
                for row, length in enumerate(data.valid.sum(1).tolist())
            ],
        }

    def sections(self) -> list[Section]:
        """Return the sequences, the map, coverage, labels and curves.

        Raises:
            InputError: the encoder is not what the sequences were made with, or ``metrics.jsonl`` is damaged.
        """
        data, fault = self.data, self._encoder_fault()
        encoder = data.encoder.at(self.look.encoder_path)
        vectors = None if fault else embed_texts(data.catalogue.texts, encoder, self.look.device)
        sections = [Section("sequences", "Sequences", self._sequences(vectors))]
        if vectors is None:
            sections.append(Section("map", "Map of the catalogue", [Paragraph(f"There is no map: {fault}.")]))
        else:
            sections.append(Section("map", "Map of the catalogue", self._map(vectors)))
        sections.append(Section("coverage", "Popularity and categories", self._coverage()))
        if data.labelled:
            blocks: list[Block] = [Paragraph(f"They cannot be read without the encoder: {fault}.")]
            if fault is None:
                about = (
                    "What a student reads of some windows, and the items that the last label of each holds most "
                    "probable, over all items that training knows."
                )
                blocks = [Paragraph(about), some_windows(data, keys_of(data, encoder, self.look.device))]
            sections.append(Section("labels", "What the labels say", blocks))
        if self._logged:
            about = "What the distillation logged."
            if (kept := data.info.get(KEPT_STEP)) is not None:
                about += f" The sequences are {f'those of step {kept}' if kept else 'the starting point, step 0'}."
            sections += curves(self._logged, "Distillation", about)
        return sections

    def _encoder_fault(self) -> str | None:
        """Return why texts cannot be encoded here; a place that the user named is looked up elsewhere."""
        if self.look.encoder_path is not None:
            return None
        try:
            locate(self.data.encoder.encoder)
        except InputError:
            name = place_name(self.data.encoder.encoder)
            return f"the encoder {name} is not on this machine; name a copy of it by --encoder"
        return None

    def _sequences(self, vectors: Tensor | None) -> list[Block]:
        data = self.data
        shown = shown_sequences(data, vectors)
        about = ["Each step is shown by its most probable item."] if data.items.shape[2] > 1 else []
        if data.items.shape[2] > 1:
            about.append(f"Others of a step can be opened, {MOST_ITEMS} items in all.")
        if data.draws is not None:
            about.append(
                "In the windows of the soft labels one item stands for each step, drawn among all that are stored, "
                "whatever their probability: how often each was drawn is said beside it."
            )
        if vectors is not None and any(step.cosine for sequence in shown for step in sequence.steps):
            about.append(
                f"Where no item has a probability of {100 * MIXTURE:.0f} % a step is a mixture, and the real item "
                "whose text vector is nearest to that of the mixture is named, with the cosine of both."
            )
        steps = int(data.valid.sum())
        listed = sum(len(sequence.steps) for sequence in shown)
        if listed < steps:
            about.append(
                f"{listed:,} of {steps:,} steps are shown, the first ones of {len(shown):,} of "
                f"{many(len(data), 'sequence')}; 'foster inspect --json' lists the first item of every step."
            )
        return [*([Paragraph(" ".join(about))] if about else []), Sequences(shown)]

    def _map(self, vectors: Tensor) -> list[Block]:
        data, lengths = self.data, self.data.valid.sum(1).tolist()
        paths = [
            torch.einsum("lk,lkd->ld", data.weights[row, :length], vectors[data.items[row, :length]])
            for row, length in enumerate(lengths[:DRAWN])
        ]
        what = "The encoder's vectors of the item texts"
        figure, table = map_figure(
            Projection.of(vectors), data.catalogue.texts, what, paths, max(0, len(data) - len(paths))
        )
        return [figure, table]

    def _coverage(self) -> list[Block]:
        data, log = self.data, self.look.data
        n, columns = len(data.catalogue), {}
        counts: np.ndarray | None = None
        if log is not None:
            of_log = dict(zip(log.item_ids, log.item_counts().tolist(), strict=True))
            counts = np.array([of_log.get(item_id, 0) for item_id in data.catalogue.ids], dtype=float)
            columns["log"] = counts
        columns["steps"] = self._mass(data.weights, n)
        drawn, _ = draw_counts(data)
        if drawn is not None:
            columns["windows"] = self._mass(drawn, n)
        masses = Masses(columns)
        blocks: list[Block] = []
        own = columns[list(columns)[-1]]
        if counts is not None:
            order, by = np.argsort(-counts, kind="stable"), "most popular in the log first"
        elif data.catalogue.popularity is not None:
            order = np.argsort(-np.array(data.catalogue.popularity), kind="stable")
            by = "most popular first, by the stored popularity"
        else:
            order, by = np.argsort(-own, kind="stable"), "most frequent in the sequences first"
        about = "Steps: the probabilities of the sequences' steps."
        if drawn is not None:
            about += " Windows: the items that stand for steps in the windows of the soft labels, which students read."
        if log is None:
            about += " The folder does not hold the log; with --data DATA the log's shares stand beside."
        blocks += [Paragraph(about), *popularity(masses, order, by)]
        found = categories(data.catalogue.texts, log, data.catalogue.ids)
        for category in found:
            sentence, table = category_table(category, masses)
            blocks += [Paragraph(sentence), table]
        if not found:
            where = "text column" if log is not None else "last part of the texts"
            blocks.append(
                Paragraph(f"No categories: no {where} has values that {ITEMS_A_VALUE} items share on average.")
            )
        return blocks

    def _mass(self, values: Tensor, n: int) -> np.ndarray:
        mass: np.ndarray = np.bincount(
            self.data.items.flatten().numpy(), weights=values.flatten().double().numpy(), minlength=n
        )
        return mass
