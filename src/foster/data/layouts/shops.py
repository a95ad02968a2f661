"""Logs of shops from Kaggle: H&M (purchases and articles) and REES46 (months of events)."""

from __future__ import annotations

from pathlib import Path

from foster.data.layouts.layout import Files, Layout, open_file, open_files
from foster.errors import InputError

_HM = "H&M"
_HM_SOURCE = "https://www.kaggle.com/competitions/h-and-m-personalized-fashion-recommendations"
_HM_TEXT = ("prod_name", "product_type_name", "product_group_name", "department_name")
_HM_LOG = ("t_dat", "customer_id", "article_id", "price", "sales_channel_id")

_REES46_COLUMNS = (
    "event_time", "event_type", "product_id", "category_id", "category_code", "brand", "price", "user_id",
    "user_session",
)  # fmt: skip
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def find_hm(files: Files) -> Layout | None:
    """Return the purchases and the articles of H&M, or None.

    Raises:
        InputError: a part is missing, or one of the files has lost the zeros that its ids begin with.
    """
    log = files.one(files.tables(r"transactions_train\.csv(\.gz)?", _HM_LOG, also=()))
    items = files.one(files.tables(r"articles\.csv(\.gz)?", ("article_id", *_HM_TEXT)))
    both = files.both(_HM, log, items, ("transactions_train.csv", "articles.csv"), _HM_SOURCE)
    if both is None:
        return None
    log, items = both
    lengths = {path: len(_first(files, path, "article_id")) for path in (log, items)}
    if len(set(lengths.values())) > 1:
        short = min(lengths, key=lengths.__getitem__)
        raise InputError(
            f"{short}: its article_id '{_first(files, short, 'article_id')}' has lost the zero that ids of H&M begin "
            f"with, so it is in none of the other file; get the file as it is from {_HM_SOURCE}"
        )
    return Layout(
        name=_HM,
        log=open_file(log),
        items=open_file(items),
        user="customer_id",
        item="article_id",
        item_key="article_id",
        time="t_dat",
        time_format=None,
        text=_HM_TEXT,
        notes=(
            "Every purchase counts, also a second one of the same article.",
            "Times are days: purchases of one customer on the same day keep the order of the file.",
        ),
        files=(log, items),
    )


def find_rees46(files: Files) -> Layout | None:
    """Return the events of REES46, all months that are there as one log, or None."""
    found = files.tables(r"(20\d\d-[a-z]{3}|events)\.csv(\.gz)?", _REES46_COLUMNS, also=())
    months: dict[tuple[int, int], Path] = {}
    for path in found:
        files.one([path, *([months[_month(path)]] if _month(path) in months else [])])
        months[_month(path)] = path
    if not months:
        return None
    paths = [months[month] for month in sorted(months)]
    return Layout(
        name="REES46",
        log=open_files(paths),
        items=None,
        user="user_id",
        item="product_id",
        item_key="product_id",
        time="event_time",
        time_format="%Y-%m-%d %H:%M:%S UTC",
        text=("brand", "category_code"),
        notes=(
            "Every event counts: views, carts and purchases (event_type).",
            "Products have no titles: their texts are brand and category_code from the log, and many lack both.",
        ),
        files=tuple(paths),
    )


def _first(files: Files, path: Path, column: str) -> str:
    look = files.look(path)
    return dict(zip(look.header, look.fields(",", line=1), strict=False)).get(column, "")


def _month(path: Path) -> tuple[int, int]:
    """Return year and month of a name such as ``2019-Oct.csv``; (0, 0) for another name."""
    year, _, month = path.name.split(".")[0].partition("-")
    return (int(year), _MONTHS.index(month.lower()) + 1) if month.lower() in _MONTHS else (0, 0)
