"""Amazon Reviews of 2014, 2018 and 2023: reviews or ratings, and the metadata of the products."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from foster.data.layouts.layout import Files, Layout, open_files
from foster.data.layouts.lines import object_table
from foster.data.readers import Table
from foster.errors import InputError

_OBJECTS = r".+\.(json|jsonl)(\.gz)?"
_META = r"meta_.+\.(json|jsonl)(\.gz)?"
_RATINGS = r".+\.csv(\.gz)?"
# The parts of the splits that are published, in the order of time.
_PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class _Edition:
    """One of the three editions.

    Attributes:
        year: the year by which it is called.
        user: the user column.
        item: the item column of both tables.
        time: the time column.
        log: keys by which its reviews are known, beside these.
        text: the text columns.
        keys: documented keys of the metadata.
        source: where it is from.
        files: how its metadata are called.
    """

    year: str
    user: str
    item: str
    time: str
    log: tuple[str, ...]
    text: tuple[str, ...]
    keys: tuple[str, ...]
    source: str
    files: str

    @property
    def name(self) -> str:
        return f"Amazon Reviews {self.year}"


_2014, _2018, _2023 = _EDITIONS = (
    _Edition(
        year="2014",
        user="reviewerID",
        item="asin",
        time="unixReviewTime",
        log=("helpful",),
        text=("title", "brand", "categories"),
        keys=("asin", "title", "description", "price", "imUrl", "related", "salesRank", "brand", "categories"),
        source="https://jmcauley.ucsd.edu/data/amazon/links.html",
        files="meta_CATEGORY.json.gz",
    ),
    _Edition(
        year="2018",
        user="reviewerID",
        item="asin",
        time="unixReviewTime",
        log=("verified",),
        text=("title", "brand", "category"),
        keys=("asin", "title", "brand", "category"),
        source="https://nijianmo.github.io/amazon/",
        files="meta_CATEGORY.json.gz",
    ),
    _Edition(
        year="2023",
        user="user_id",
        item="parent_asin",
        time="timestamp",
        log=("asin", "verified_purchase"),
        text=("title", "store", "categories"),
        keys=("parent_asin", "title", "main_category", "store", "categories", "details"),
        source="https://amazon-reviews-2023.github.io/",
        files="meta_CATEGORY.jsonl.gz",
    ),
)


def find_amazon(files: Files) -> Layout | None:
    """Return the reviews and the metadata of a category of Amazon Reviews, or None."""
    logs = []
    for edition in _EDITIONS:
        keys = (edition.user, edition.item, edition.time, *edition.log)
        logs += [(edition, [path]) for path in files.objects(_OBJECTS, keys)]
    logs += [(_2023, parts) for parts in _ratings(files)]
    items = _metadata(files)
    files.one([paths[0] for _, paths in logs])
    files.one([path for _, path in items])
    if not logs:
        if items:
            edition, path = items[0]
            files.incomplete(f"{edition.name} (metadata)", path, "the file of its reviews", edition.source)
        return None
    edition, log_paths = logs[0]
    if not items:
        files.incomplete(f"{edition.name} (reviews)", log_paths[0], f"the item file {edition.files}", edition.source)
        return None
    of_items, item_path = items[0]
    if of_items is not edition:
        raise InputError(
            f"{files.name}: {log_paths[0].name} is of {edition.name}, but {item_path.name} of {of_items.name}, whose "
            f"products have other ids; get both of one year, from {edition.source} or {of_items.source}"
        )
    return Layout(
        name=edition.name,
        log=_log(files, log_paths),
        items=object_table(files, item_path, edition.keys),
        user=edition.user,
        item=edition.item,
        item_key=edition.item,
        time=edition.time,
        time_format=None,
        text=edition.text,
        notes=_notes(edition, log_paths),
        files=(*log_paths, item_path),
    )


def _metadata(files: Files) -> list[tuple[_Edition, Path]]:
    """Return the files of metadata, each with its edition."""
    found = [(_2023, path) for path in files.objects(_META, ("parent_asin", "main_category"), without=("user_id",))]
    for path in files.objects(_META, ("asin",), without=("reviewerID", "parent_asin")):
        keys, is_json = files.look(path).object or {}, files.look(path).is_json
        found.append((_2014 if "categories" in keys or not is_json else _2018, path))
    return found


def _ratings(files: Files) -> list[list[Path]]:
    """Return the files of ratings of 2023, the parts of a split as one log in the order of time.

    Raises:
        InputError: a part of a split is missing.
    """
    found = files.tables(_RATINGS, ("user_id", "parent_asin", "rating", "timestamp"), also=("history",))
    logs: dict[str, dict[str, Path]] = {}
    for path in found:
        split = re.fullmatch(r"(.+)\.(train|valid|test)\.csv(\.gz)?", path.name, re.IGNORECASE)
        stem, part = (split[1], split[2].lower()) if split else (path.name, "")
        logs.setdefault(stem, {})[part] = path
    for stem, parts in logs.items():
        missing = [part for part in _PARTS if part not in parts]
        if "" not in parts and missing:
            raise InputError(
                f"{files.name}: of the parts train, valid and test of {stem}, {' and '.join(missing)} is not there; "
                "give all three, since the last ones of each user are in these, or the file of rating_only"
            )
    return [[parts[part] for part in ("", *_PARTS) if part in parts] for parts in logs.values()]


def _log(files: Files, paths: list[Path]) -> Table:
    if len(paths) == 1 and not re.search(r"\.csv(\.gz)?$", paths[0].name, re.IGNORECASE):
        return object_table(files, paths[0], ())
    return open_files(paths)


def _notes(edition: _Edition, log_paths: list[Path]) -> tuple[str, ...]:
    notes = ["Every review counts, whatever its rating."]
    if edition.year == "2014":
        notes.append("Many products have no title or brand.")
    if edition.year == "2018":
        notes.append("Some titles and categories hold rests of HTML; they are left as they are.")
    if edition.year == "2023":
        notes.append(
            "Items are products (parent_asin), not their variants (asin); a review's own title is no item text."
        )
    if edition.year != "2023":
        notes.append("Times are days: reviews of one user on the same day keep the order of the file.")
    if len(log_paths) > 1:
        notes.append("The parts train, valid and test are one log again; its column history is not used.")
    return tuple(notes)
