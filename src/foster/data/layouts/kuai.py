"""Logs of Kuaishou: KuaiRand and KuaiRec, whose captions and categories are published apart."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import polars as pl

from foster.data.layouts.layout import Files, Layout, open_file, open_files, open_frame
from foster.data.readers import Table
from foster.errors import InputError
from foster.wording import many

_RAND = "KuaiRand"
_RAND_SOURCE = "https://kuairand.com"
_RAND_LOG = ("user_id", "video_id", "date", "hourmin", "time_ms", "is_click")
_RAND_KEY = "final_video_id"
_RAND_LEVELS = ("first_level_category_name", "second_level_category_name")

_REC = "KuaiRec"
_REC_SOURCE = "https://kuairec.com"
_REC_LOG = ("user_id", "video_id", "timestamp", "watch_ratio")
_REC_ITEMS = ("video_id", "caption", "first_level_category_name", "second_level_category_name")
_UNKNOWN = ("UNKNOWN", "UNK")


def find_kuairand(files: Files) -> Layout | None:
    """Return the standard logs of KuaiRand and the captions or features of the videos, or None."""
    logs = files.tables(r"log_standard_.+\.csv(\.gz)?", _RAND_LOG)
    basic = files.one(files.tables(r"video_features_basic_.+\.csv(\.gz)?", ("video_id", "tag")))
    captions = files.one(files.tables(r"kuairand_video_captions?.*\.csv(\.gz)?", (_RAND_KEY, "caption")))
    levels = files.one(files.tables(r"kuairand_video_categor.*\.csv(\.gz)?", (_RAND_KEY, *_RAND_LEVELS)))
    texts = [path for path in (captions, levels) if path is not None]
    found = files.both(
        _RAND,
        logs[0] if logs else None,
        texts[0] if texts else basic,
        ("log_standard_*.csv", "kuairand_video_captions.csv"),
        _RAND_SOURCE,
    )
    if found is None:
        return None
    releases = sorted({_release(path) for path in (*logs, *([basic] if basic else []))})
    if len(releases) > 1:
        raise InputError(
            f"{files.name}: holds files of {' and '.join(releases)}, whose users and videos have other numbers; "
            "keep those of one release"
        )
    logs = _in_order(logs)
    log = open_files(logs, kept=pl.col("is_click").ne_missing("0"))
    if texts:
        items, key, read = _rand_items(texts, log), _RAND_KEY, texts
        text: tuple[str, ...] = tuple(name for name in ("caption", *_RAND_LEVELS) if name in items.columns)
        about_text = "Of the captions and categories those of videos in the log are read; UNKNOWN is no text."
    else:
        items, key, read = open_file(found[1]), "video_id", [found[1]]
        text = ("tag",)
        about_text = (
            "The texts are numbers of categories (tag), which say little; put kuairand_video_captions.csv and "
            f"kuairand_video_categories.csv from {_RAND_SOURCE} beside the log."
        )
    return Layout(
        name=_RAND,
        log=log,
        items=items,
        user="user_id",
        item="video_id",
        item_key=key,
        time="time_ms",
        time_format=None,
        text=text,
        notes=(
            "Only clicked videos count (is_click is 1); those that were shown only are left out.",
            "Logs of randomly shown videos (log_random_*) are left out.",
            about_text,
        ),
        files=(*logs, *read),
    )


def find_kuairec(files: Files) -> Layout | None:
    """Return the big matrix of KuaiRec and the captions of the videos, or None."""
    log = files.one(files.tables(r"big_matrix\.csv(\.gz)?", _REC_LOG))
    items = files.one(files.tables(r"kuairec_caption_category\.csv(\.gz)?", _REC_ITEMS))
    both = files.both(_REC, log, items, ("big_matrix.csv", "kuairec_caption_category.csv"), _REC_SOURCE)
    if both is None:
        return None
    log, items = both
    captions, broken = _read_captions(items, files.look(items).header)
    notes = [
        "Every watched video counts, also a second time, however long it was watched (watch_ratio).",
        "small_matrix.csv is left out: its users watched all of its videos for the experiment.",
        "UNKNOWN is no text.",
    ]
    if broken:
        notes.append(f"Left out of {items.name}: {many(broken, 'broken row')}.")
    return Layout(
        name=_REC,
        log=open_file(log),
        items=open_frame(items, captions.lazy().with_columns(_known(captions.columns))),
        user="user_id",
        item="video_id",
        item_key="video_id",
        time="timestamp",
        time_format=None,
        text=("caption", "first_level_category_name", "second_level_category_name"),
        notes=tuple(notes),
        files=(log, items),
    )


def _rand_items(paths: list[Path], log: Table) -> Table:
    """Open captions, categories or both as one table; of millions of videos only those of the log."""
    table = open_file(paths[0])
    frame, columns = table.frame, table.columns
    for levels in paths[1:]:
        categories = open_file(levels).frame.select(_RAND_KEY, *_RAND_LEVELS)
        frame = frame.join(categories, on=_RAND_KEY, how="left", maintain_order="left")
        columns = [*_RAND_LEVELS, *columns]
    seen = log.frame.select(pl.col("video_id").alias(_RAND_KEY)).unique()
    frame = frame.join(seen, on=_RAND_KEY, how="semi", maintain_order="left")
    return replace(table, frame=frame.with_columns(_known(columns)), columns=columns)


def _known(columns: list[str]) -> pl.Expr:
    return pl.col(columns).replace(dict.fromkeys(_UNKNOWN))


def _read_captions(path: Path, header: list[str]) -> tuple[pl.DataFrame, int]:
    """Read the captions of KuaiRec, some of which break their rows: they hold ends of lines without quotes.

    Returns:
        The rows as strings, and the number of pieces that could not be put together.

    Raises:
        InputError: the file cannot be read, or an open quote swallows rows.
    """
    rows: list[list[str]] = []
    broken = 0
    piece: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            next(reader, None)
            for record in filter(None, reader):
                if any(re.search(rf"\n\d+,(?:[^\n]*,){{{len(header) - 2}}}", field) for field in record):
                    raise InputError(f"{path}: line {reader.line_num} ends a quote that rows above it opened; close it")
                whole = len(record) == len(header) and record[0].isdigit()
                if piece and piece[0].isdigit() and not whole:
                    piece = [*piece[:-1], f"{piece[-1]} {record[0]}", *record[1:]]
                else:
                    broken += bool(piece)
                    piece = record
                if len(piece) == len(header) and piece[0].isdigit():
                    rows.append(piece)
                    piece = []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); get the file again from {_REC_SOURCE}") from error
    return pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row"), broken + bool(piece)


def _in_order(logs: list[Path]) -> list[Path]:
    """Return logs such as ``log_standard_4_22_to_5_08_27k_part2.csv`` by their days and parts."""
    return sorted(logs, key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)])


def _release(path: Path) -> str:
    """Return ``pure``, ``1k`` or ``27k``, which stands in the name of each file."""
    found = re.search(r"_(pure|1k|27k)(?:_part\d+)?\.csv", path.name, re.IGNORECASE)
    return found[1].lower() if found else "an unknown release"
