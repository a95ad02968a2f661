"""JSON as others can read it, too: numbers are finite, no key stands twice, all text is Unicode."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

SELF = "sha256"  # the field that tells an object itself from a damaged one


def to_json(content: Any, indent: int | None = None, ascii_only: bool = False) -> str:
    """Return ``content`` as JSON.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(content, indent=indent, ensure_ascii=ascii_only, allow_nan=False)


def json_sha256(content: Any) -> str:
    """Return the SHA-256 of what ``to_json`` returns, as 64 hex digits."""
    return hashlib.sha256(to_json(content).encode()).hexdigest()


def with_sha256(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object that ends with its own SHA-256."""
    return {**content, SELF: json_sha256(content)}


def without_sha256(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what ``with_sha256`` was given; None of an object that was changed since, or has no SHA-256."""
    rest = {name: value for name, value in content.items() if name != SELF}
    return rest if content.get(SELF) == json_sha256(rest) else None


def is_unicode(text: str) -> bool:
    """Whether a text can be written: not one with halves of characters, as Python has them for bytes in names."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def of_json(text: str) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: it is no JSON, a number is not finite, a key stands twice, or a string is no Unicode text.
    """
    try:
        content = json.loads(text, parse_constant=_number, parse_float=_number, object_pairs_hook=_distinct)
        to_json(content).encode()  # escapes can say halves of characters
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return content


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is not finite")
    return number


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"'{key}' stands there twice")
        content[key] = value
    return content
