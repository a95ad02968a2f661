"""What ``prepare`` understood of its sources: said to the user, and kept in ``dataset.json``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from foster.artefacts import Count, Size


class Reading(BaseModel):
    """Which columns were taken for what, and what was read."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    log: str
    """The log: its path, or the kind of frame."""
    items: str | None
    """The item table; None where the texts are in the log."""
    user: str
    """The column of users."""
    item: str
    """The column of items in the log."""
    item_key: str | None
    """The column of items in the item table."""
    time: tuple[str, ...]
    """The columns that order the rows; () where the rows are taken in their order."""
    time_why: str = ""
    """How these were found, where that is not plain."""
    time_range: tuple[str, str] | None = None
    """The first and the last time."""
    time_factor: Size | None = None
    """What a second is in the unit of the times, if they count from 1970."""
    text: tuple[str, ...]
    """The fields that make up the texts."""
    rows: Count
    """Rows of the log."""
    item_rows: Count | None
    """Rows of the item table."""
    unused: tuple[str, ...] = ()
    """Columns of the log that are not read."""
    item_unused: tuple[str, ...] = ()
    """Columns of the item table that are not read."""
    remarks: tuple[str, ...] = ()
    """What was found out about the files."""

    def as_lines(self) -> list[str]:
        """Return what was understood as lines for people."""
        time = ", ".join(self.time) or "none: the order of the rows counts"
        if self.time_range is not None:
            time += f" ({self.time_range[0]} to {self.time_range[1]})"
        if self.time_why:
            time += f" [{self.time_why}]"
        lines = [
            f"log        {self.log}: {self.rows:,} rows",
            f"  user     {self.user}",
            f"  item     {self.item}",
            f"  time     {time}",
        ]
        if self.items is None:
            lines.append(f"  text     {', '.join(self.text)}")
        lines += [f"  not read {', '.join(self.unused)}"] if self.unused else []
        if self.items is not None:
            lines += [
                f"items      {self.items}: {self.item_rows or 0:,} rows",
                f"  item     {self.item_key}",
                f"  text     {', '.join(self.text)}",
            ]
            lines += [f"  not read {', '.join(self.item_unused)}"] if self.item_unused else []
        return lines + [f"remark     {remark}" for remark in self.remarks]
