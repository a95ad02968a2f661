"""What is said of a folder, apart from how it is shown: a summary, and sections of paragraphs, tables and figures.

Blocks have a ``block`` and cells a ``cell``, the name of the macro of ``templates/page.html`` that shows them. Strings
that come from data (texts of items, ids) are ``ItemText``, which shows them apart from the text around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from foster.inspection.wording import clean
from foster.wording import percent


@dataclass(frozen=True)
class ItemText:
    """A text that somebody else wrote: of an item, or an id.

    Attributes:
        text: as it is stored.
        most: characters that are shown.
    """

    cell: ClassVar[str] = "item_text"
    text: str
    most: int = 120

    def __str__(self) -> str:
        return clean(self.text, self.most)


@dataclass(frozen=True)
class Share:
    """A number from 0 to 1, shown as percent with a bar.

    Attributes:
        value: the number.
        whole: what makes a full bar.
    """

    cell: ClassVar[str] = "share"
    value: float
    whole: float = 1.0

    @property
    def width(self) -> str:
        """The length of the bar in percent."""
        return f"{100 * min(self.value / self.whole, 1.0) if self.whole > 0 else 0:.1f}"

    def __str__(self) -> str:
        return percent(self.value)


Cell = str | ItemText | Share


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    block: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Items:
    """A list of things that are worth knowing, such as warnings."""

    block: ClassVar[str] = "items"
    lines: Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        caption: what it shows.
        head: names of the columns.
        rows: cells, as many a row as the head has.
        texts: the columns that hold words, beside the first one; others hold numbers.
        closed: whether it is shown on demand.
    """

    block: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    texts: Sequence[int] = ()
    closed: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes:
        svg: an ``<svg>`` element, made by ``figures.py``.
        caption: what it shows, below it.
        picks: how many parts of it, numbered from 1, can be picked out; 0 for none.
        numbers: the table of what is drawn, shown on demand.
        large: whether it takes the width of the page.
    """

    block: ClassVar[str] = "figure"
    svg: str
    caption: str
    picks: int = 0
    numbers: Table | None = None
    large: bool = False


@dataclass(frozen=True)
class Figures:
    """Small drawings side by side."""

    block: ClassVar[str] = "figures"
    figures: Sequence[Figure]


class Block(Protocol):
    """Part of a section."""

    @property
    def block(self) -> str:
        """The macro that shows it."""
        ...


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        name: of its anchor.
        title: its heading.
        blocks: what it holds.
    """

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Summary:
    """What a folder is.

    Attributes:
        kind: dataset, distilled, coreset, teacher, model, audit, bench or study.
        name: of the folder.
        sentence: what it is in a sentence.
        facts: names and values.
        parts: the bytes of what it holds.
        warnings: what may go wrong with it.
        lines: a first look at its content, for a terminal.
        content: the same and more as plain data, for JSON.
    """

    kind: str
    name: str
    sentence: str
    facts: Sequence[tuple[str, str | ItemText]]
    parts: Table
    warnings: Sequence[str] = ()
    lines: Sequence[str] = ()
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def shown_name(self) -> str:
        """The name as it is shown."""
        return clean(self.name)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "sentence": self.sentence,
            "facts": {name: value if isinstance(value, str) else value.text for name, value in self.facts},
            "warnings": list(self.warnings),
            **self.content,
        }

    def as_text(self) -> str:
        """Return it as lines for people."""
        width = max(len(name) for name, _ in self.facts) + 2
        lines = [f"{self.shown_name}: {self.sentence}", ""]
        lines += [f"{name:<{width}}{value}" for name, value in self.facts]
        lines += ["", *self.lines] if self.lines else []
        lines += ["", *(f"warning: {warning}" for warning in self.warnings)] if self.warnings else []
        return "\n".join(lines)


class Inspected(Protocol):
    """A folder of one kind."""

    def summary(self) -> Summary:
        """Return what it is, which takes a moment only."""
        ...

    def sections(self) -> list[Section]:
        """Return what there is to see in it, which may need an encoder and some time.

        Raises:
            InputError: something of it is damaged.
        """
        ...
