"""MIND, the Microsoft News Dataset: impressions with clicks, and the news."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from foster.data.layouts.layout import Files, Layout, open_frame
from foster.data.layouts.lines import separated_table
from foster.errors import InputError

_NAME = "MIND"
_SOURCE = "https://msnews.github.io/"
_TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"
_BEHAVIORS = ("impression_id", "user_id", "time", "history", "impressions")
_NEWS = ("news_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
_SHOWN = r"^\S+-[01]( \S+-[01])*$"


def find_mind(files: Files) -> Layout | None:
    """Return a folder of MIND (one of train and dev), or None.

    Raises:
        InputError: a part is missing, or the impressions do not say what was clicked, as those of the test set.
    """
    log = files.one([path for path in files.named(r"behaviors\.tsv") if _fields(files, path) == len(_BEHAVIORS)])
    items = files.one([path for path in files.named(r"news\.tsv") if _fields(files, path) == len(_NEWS)])
    both = files.both(_NAME, log, items, ("behaviors.tsv", "news.tsv"), _SOURCE)
    if both is None:
        return None
    log, items = both
    behaviors = separated_table(log, "\t", _BEHAVIORS).frame
    _check_clicks(log, behaviors)
    return Layout(
        name=_NAME,
        log=open_frame(log, _clicks(behaviors)),
        items=separated_table(items, "\t", _NEWS),
        user="user_id",
        item="news_id",
        item_key="news_id",
        time="time",
        time_format=_TIME_FORMAT,
        text=("title", "category", "subcategory"),
        notes=(
            "The log holds the clicked news of each impression at its time; news that were shown only are left out.",
            "The history of a user's first impression comes before his clicks, in its order; it has no times, so "
            "that of the first impression of all is written for it.",
        ),
        files=(log, items),
    )


def _fields(files: Files, path: Path) -> int:
    return len(files.look(path).fields("\t"))


def _check_clicks(path: Path, behaviors: pl.LazyFrame) -> None:
    shown = pl.col("impressions").fill_null("").str.contains(_SHOWN)
    bad = behaviors.filter(~shown).select("impression_id", "impressions").head(1).collect()
    if bad.height:
        raise InputError(
            f"{path}: impression {bad['impression_id'][0]} does not say of each news whether it was clicked, as N1-1 "
            f"N2-0 does; no impression of the test set does: take a train or dev set from {_SOURCE}"
        )


def _clicks(behaviors: pl.LazyFrame) -> pl.LazyFrame:
    """Return ``user_id``, ``time`` and ``news_id``: the histories, then the clicks in the order of the file."""
    when = pl.col("time").str.to_datetime(_TIME_FORMAT, strict=False)
    first = pl.col("time").get(when.arg_min())
    histories = (
        behaviors.with_columns(time=first, when=when)
        .group_by("user_id", maintain_order=True)
        .agg(pl.col("time").first(), pl.col("history").get(pl.col("when").arg_min()).alias("news_id"))
        .with_columns(pl.col("news_id").str.split(" "))
        .explode("news_id")
        .filter(pl.col("news_id").fill_null("") != "")
    )
    clicks = (
        behaviors.select("user_id", "time", pl.col("impressions").str.split(" ").alias("news_id"))
        .explode("news_id")
        .filter(pl.col("news_id").str.ends_with("-1"))
        .with_columns(pl.col("news_id").str.strip_suffix("-1"))
    )
    return pl.concat([histories, clicks])
