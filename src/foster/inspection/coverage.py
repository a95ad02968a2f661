"""Which parts of the catalogue sequences hold: popular and rare items, and categories, beside the log's share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from foster.data.dataset import Dataset
from foster.data.texts import SEPARATOR
from foster.inspection.figures import concentration, drawing
from foster.inspection.page import Cell, Figure, ItemText, Share, Table
from foster.inspection.wording import clean, number
from foster.wording import percent

GROUPS = (
    (0.0, 0.01, "the first 1 %"), (0.01, 0.1, "1 to 10 %"), (0.1, 0.5, "10 to 50 %"), (0.5, 1.0, "the other half"),
)  # fmt: skip
ITEMS_A_VALUE = 5  # a text column is a category if its values are shared by so many items on average
FILLED = 0.5  # and if so many items have one
LISTED = 15  # values of a category


@dataclass(frozen=True)
class Masses:
    """What falls to each item, by columns: how often it is in the log, and its share of sequences.

    Attributes:
        columns: ``[V]`` by name, the log first, if there is one.
    """

    columns: dict[str, np.ndarray]

    def shares(self, chosen: np.ndarray) -> list[float]:
        """Return which share of each column falls to the chosen items."""
        return [float(mass[chosen].sum() / max(float(mass.sum()), 1e-12)) for mass in self.columns.values()]


def popularity(masses: Masses, order: np.ndarray, ordered_by: str) -> tuple[Figure, Table]:
    """Return how much falls to popular and to rare items.

    Args:
        masses: what falls to each item.
        order: the items in that order.
        ordered_by: the order, in words.
    """
    n, rows = len(order), []
    for low, high, name in GROUPS:
        chosen = order[round(low * n) : round(high * n)]
        if len(chosen):
            rows.append((f"{name} ({len(chosen):,} items)", masses.shares(chosen)))
    table = Table(f"Shares of items, {ordered_by}", ("items", *masses.columns), _with_bars(rows))
    first = "; ".join(
        f"{name}: {percent(share)} in the first tenth of the items"
        for name, share in zip(masses.columns, masses.shares(order[: max(1, n // 10)]), strict=True)
    )
    curves = [(name, mass[order]) for name, mass in masses.columns.items()]
    svg = drawing("How much falls to the first items", first, concentration(curves, ordered_by), (4.8, 3.0))
    return Figure(svg, f"Which share falls to how many items, {ordered_by}. {first[0].upper()}{first[1:]}."), table


def _with_bars(rows: Sequence[tuple[Cell, list[float]]]) -> list[tuple[Cell, ...]]:
    """Return rows of a table whose largest share has the longest bar."""
    whole = max((share for _, shares in rows for share in shares), default=1.0)
    return [(name, *(Share(share, whole) for share in shares)) for name, shares in rows]


@dataclass(frozen=True)
class Category:
    """A column of values that many items share.

    Attributes:
        name: of it.
        values: V values, "" where there is none.
    """

    name: str
    values: Sequence[str]


def categories(texts: Sequence[str], data: Dataset | None, ids: Sequence[str]) -> list[Category]:
    """Return the columns that are categories.

    Args:
        texts: of V items.
        data: whose text columns are looked at; without it what stands behind the last comma of the texts is.
        ids: of the V items.
    """
    if data is None:
        parts = [text.rsplit(SEPARATOR, 1) for text in texts]
        found = [Category("what stands behind the last comma of a text", [p[1] if len(p) > 1 else "" for p in parts])]
    else:
        place = {item_id: row for row, item_id in enumerate(data.item_ids)}
        rows = [place.get(item_id) for item_id in ids]
        found = []
        for field in data.info.text_fields:
            column = data.items[field].cast(pl.String).fill_null("").to_list()
            found.append(Category(clean(field, 60), ["" if row is None else column[row] for row in rows]))
    return [category for category in found if _is_category(category.values)]


def _is_category(values: Sequence[str]) -> bool:
    filled = [value for value in values if value]
    distinct = len(set(filled))
    return distinct > 1 and len(filled) >= FILLED * len(values) and len(filled) >= ITEMS_A_VALUE * distinct


def category_table(category: Category, masses: Masses) -> tuple[str, Table]:
    """Return a sentence, and a table of the values that most items have."""
    names, codes, counts = np.unique(np.array(category.values, dtype=object), return_inverse=True, return_counts=True)
    filled = [value for value in np.argsort(-counts, kind="stable").tolist() if names[value]]
    rows: list[tuple[Cell, list[float]]] = []
    for value in filled[:LISTED]:
        chosen = codes == value
        rows.append((ItemText(names[value], 60), [float(chosen.mean()), *masses.shares(chosen)]))
    table = _with_bars(rows)
    rest = np.isin(codes, filled[LISTED:])
    none = np.array([name == "" for name in names])[codes]
    for name, chosen in ((f"{max(0, len(filled) - LISTED):,} more", rest), ("none", none)):
        if chosen.any():
            table.append((name, *map(percent, (float(chosen.mean()), *masses.shares(chosen)))))
    last, mass = list(masses.columns.items())[-1]
    there = len({int(codes[item]) for item in np.flatnonzero(mass)} & set(filled))
    sentence = f"{last[0].upper()}{last[1:]} hold items of {number(there)} of the {number(len(filled))} values."
    return sentence, Table(f"Shares by {category.name}", (category.name, "catalogue", *masses.columns), table)
