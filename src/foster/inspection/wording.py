"""How texts and numbers are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from foster.data.texts import shortened
from foster.models.privacy import Privacy

# Signs that do something to what stands around them: a terminal's and others' control characters, those that turn the
# direction of the text around, and halves of characters, which no file can hold.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: str, most: int = 120) -> str:
    """Return a text of somebody else in one line, without signs that change what stands around it.

    Args:
        text: the text.
        most: characters that are kept.
    """
    return shortened(_CONTROL.sub(REPLACEMENT, " ".join(text.split())), most)


def private_rows(stated: Any, folder: Path) -> list[tuple[str, str]]:
    """Return what a folder states of its differential privacy as a row, if it does."""
    return [] if stated is None else [("privacy", clean(Privacy.of(stated, folder).words, 1000))]


def number(value: float) -> str:
    """Return a number with four digits that count, a whole one in full."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def size(n: int) -> str:
    """Return a number of bytes as people say it, and exactly."""
    value, unit = float(n), "bytes"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{n:,} bytes" if unit == "bytes" else f"{value:.3g} {unit} ({n:,} bytes)"


def plain(value: Any) -> str:
    """Return the value of an option as people read it; of a place on a machine its name only."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "not set"
    if isinstance(value, Mapping):
        return ", ".join(f"{clean(str(name))} {plain(part)}" for name, part in value.items()) or "nothing"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "nothing"
    return place_name(value) if isinstance(value, str) else number(value) if isinstance(value, float) else str(value)


def place_name(text: str) -> str:
    """Return the last part of a text that is a path on a machine, and others as they are."""
    absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    if absolute or text.startswith(("./", "../", "~", ".\\", "..\\")):
        return Path(text.replace("\\", "/")).name or "a folder"
    return clean(text)


def folder_name(folder: Path) -> str:
    """Return the name of a folder, also of one that is given as ``.``."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name
