"""Which column is the user, the item, the time, the text: named by the caller, or known by its usual name."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from foster.data.readers import Table
from foster.errors import InputError, did_you_mean

# Usual names in order of preference, compared without case, "_", "-", "." and blanks.
USER_NAMES = (
    "userid", "user", "uid", "reviewerid", "customerid", "customer", "visitorid", "householdid", "profileid",
    "sessionid",
)  # fmt: skip
# Amazon 2023 reviews hold both asin (the variant) and parent_asin (the product, which the metadata describe).
ITEM_NAMES = (
    "itemid", "item", "iid", "parentasin", "asin", "businessid", "productid", "product", "sku", "movieid",
    "bookid", "recipeid", "gmapid", "trackid", "songid", "newsid", "articleid",
)  # fmt: skip
# A bare "id" says which item only in a table of items.
ITEM_TABLE_NAMES = (*ITEM_NAMES, "id")
TIME_NAMES = (
    "timestamp",
    "unixreviewtime",
    "unixtime",
    "datetime",
    "time",
    "date",
    "ts",
    "createdat",
    "eventtime",
)
# At most one column of each line is taken by default: what it is, who makes it, of which kind it is.
TEXT_NAMES = (
    ("title", "itemtitle", "name", "itemname", "productname", "producttitle", "movietitle"),
    ("brand", "brandname", "store", "manufacturer", "author", "artist"),
    ("category", "categories", "categoryname", "genre", "genres", "class", "maincategory", "maincat", "tags"),
)


def find_column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the column whose name comes first in ``names``, or None."""
    plain = {_plain(column): column for column in reversed(columns)}
    return next((plain[name] for name in names if name in plain), None)


def pick_column(table: Table, wanted: str | None, names: Sequence[str], role: str) -> str:
    """Return the column of a table that plays a role.

    Args:
        table: the table to look at.
        wanted: the column that the caller names, or None to go by the usual names.
        names: the usual names, most usual first.
        role: "user", "item" or "time"; the option that names the column is ``--<role>-column``.

    Raises:
        InputError: the column is not there, or none has a usual name.
    """
    if wanted is not None:
        require_column(table, wanted, f"--{role}-column")
        return wanted
    found = find_column(table.columns, names)
    if found is None:
        raise InputError(
            f"{table.name}: no {role} column found among {', '.join(table.columns)}; name it with --{role}-column"
        )
    return found


def require_column(table: Table, column: str, option: str) -> None:
    """Raise InputError where a table lacks a column that an option names."""
    if column not in table.columns:
        raise InputError(
            f"{table.name}: no column '{column}'{did_you_mean(column, table.columns)} for {option}; "
            f"the columns are {', '.join(table.columns)}"
        )


def usual_text_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns that usually describe an item: title, brand, category; [] where there is none."""
    found = (find_column(columns, names) for names in TEXT_NAMES)
    return [column for column in found if column is not None]


def other_text_columns(rows: pl.DataFrame, item_column: str) -> list[str]:
    """Return all columns of words or lists in file order, without ids and numbers written as strings."""
    return [
        column
        for column in rows.columns
        if column != item_column and not _plain(column).endswith("id") and _holds_words(rows[column])
    ]


def _holds_words(values: pl.Series) -> bool:
    if isinstance(values.dtype, pl.List | pl.Array):
        return True
    if not isinstance(values.dtype, pl.String | pl.Categorical | pl.Enum):
        return False
    filled = values.cast(pl.String).drop_nulls()
    return filled.len() > 0 and filled.cast(pl.Float64, strict=False).null_count() > 0


def _plain(name: str) -> str:
    return name.casefold().translate(str.maketrans("", "", "_-. "))
