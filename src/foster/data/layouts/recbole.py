"""RecBole's atomic files: ``NAME.inter`` and ``NAME.item``, or the parts of a split."""

from __future__ import annotations

import re
from pathlib import Path

from foster.data.layouts.layout import Files, Layout, open_file, open_files
from foster.errors import InputError

_NAME = "RecBole"
_PARTS = ("train", "valid", "test")
_COLUMNS = ("user_id", "item_id", "timestamp")


def find_recbole(files: Files) -> Layout | None:
    """Return the atomic files of one data set, or None where its columns have other names than usual.

    Raises:
        InputError: there are several data sets, or a part of a split is missing.
    """
    logs: dict[str, dict[str, Path]] = {}
    for path in files.named(r".+\.inter"):
        if not set(_COLUMNS) <= {field.partition(":")[0] for field in files.look(path).fields("\t")}:
            continue
        split = re.fullmatch(r"(.+)\.(train|valid|test)\.inter", path.name)
        stem, part = (split[1], split[2]) if split else (path.stem, "")
        logs.setdefault(stem, {})[part] = path
    files.one([next(iter(parts.values())) for parts in logs.values()])
    if not logs:
        return None
    parts = next(iter(logs.values()))
    missing = [part for part in _PARTS if part not in parts]
    if "" in parts and len(parts) > 1:
        files.one([parts[""], next(path for part, path in parts.items() if part)])
    if "" not in parts and missing:
        have = next(iter(parts.values()))
        raise InputError(
            f"{files.name}: {have.name} is a part of a split, but the part {' and '.join(missing)} is not there; "
            "give all of train, valid and test, or the whole log"
        )
    paths = [parts[part] for part in ("", *_PARTS) if part in parts]
    items = files.one(files.named(r".+\.item"))
    return Layout(
        name=_NAME,
        log=open_files(paths),
        items=None if items is None else open_file(items),
        user="user_id",
        item="item_id",
        item_key="item_id",
        time="timestamp",
        time_format=None,
        text=(),
        notes=("The parts train, valid and test are one log again.",) if len(paths) > 1 else (),
        files=(*paths, *([items] if items else [])),
    )
