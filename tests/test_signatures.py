"""What ``import foster`` offers stays as it is, unless it is changed on purpose.

``tests/signatures.txt`` states names, parameters, annotations and defaults. After a change that is meant, write it anew
by ``python tests/test_signatures.py``.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import foster

KNOWN = Path(__file__).with_name("signatures.txt")
FEW = 3


def lines() -> Iterator[str]:
    for name in foster.__all__:
        offered = getattr(foster, name)
        if inspect.isclass(offered):
            yield from of_class(name, offered)
        elif callable(offered):
            yield f"{name}{signature(offered)}"
        else:
            yield f"{name}: {type(offered).__name__}"


def of_class(name: str, offered: type) -> Iterator[str]:
    yield f"class {name}{'' if has_fields(offered) else signature(offered)}"
    own = [base for base in reversed(offered.__mro__) if base.__module__.split(".")[0] == "foster"]
    fields = {key: written for base in own for key, written in inspect.get_annotations(base).items()}
    for key, default in defaults(offered).items():
        yield f"    {key}: {fields[key]}{default}"
    members = {key: member for base in own for key, member in vars(base).items() if not key.startswith("_")}
    for key, member in sorted(members.items()):
        if isinstance(member, property | cached_property):
            function = member.fget if isinstance(member, property) else member.func
            yield f"    {key} -> {inspect.signature(function).return_annotation}"
        elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
            yield f"    {key}{signature(getattr(offered, key))}"


def has_fields(offered: type) -> bool:
    return dataclasses.is_dataclass(offered) or issubclass(offered, BaseModel)


def defaults(offered: type) -> dict[str, str]:
    """Return how each field's default is written behind it."""
    if issubclass(offered, BaseModel):
        return {
            key: "" if field.is_required() else f" = {field.default!r}" for key, field in offered.model_fields.items()
        }
    found = {}
    for field in dataclasses.fields(offered) if dataclasses.is_dataclass(offered) else ():
        if field.default_factory is not dataclasses.MISSING:
            found[field.name] = " = ..."
        else:
            found[field.name] = "" if field.default is dataclasses.MISSING else f" = {field.default!r}"
    return found


def signature(function: Any) -> str:
    """Return parameters and result, without a class's own ``self``; many parameters have a line each."""
    found, parts, empty = inspect.signature(function), [], inspect.Parameter.empty
    star = False
    for one in found.parameters.values():
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and not star:
            parts.append("*")
        star = star or one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        mark = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        default = "" if one.default is empty else f" = {one.default!r}"
        parts.append(f"{mark}{one.name}{'' if one.annotation is empty else f': {one.annotation}'}{default}")
    result = "" if found.return_annotation is empty else f" -> {found.return_annotation}"
    if len(parts) <= FEW:
        return f"({', '.join(parts)}){result}"
    return "(\n" + "".join(f"        {part},\n" for part in parts) + f"    ){result}"


def test_what_is_offered_is_what_was_offered():
    known, found = KNOWN.read_text(encoding="utf-8").splitlines(), "\n".join(lines()).splitlines()
    changed = [line for line in difflib.unified_diff(known, found, "signatures.txt", "now", lineterm="", n=0)]
    said = "\n".join([*changed, "If that is meant, say so in CHANGELOG.md and run: python tests/test_signatures.py"])
    assert not changed, said


if __name__ == "__main__":
    KNOWN.write_text("\n".join(lines()) + "\n", encoding="utf-8")
