"""Goodreads, as UCSD published it: interactions or reviews, books, and the names of the authors."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from foster.data.layouts.layout import Files, Layout, open_frame
from foster.data.layouts.lines import object_table
from foster.data.readers import Table
from foster.errors import InputError

_NAME = "Goodreads (UCSD)"
_SOURCE = "https://cseweb.ucsd.edu/~jmcauley/datasets/goodreads.html"
_FILES = r".+\.json(\.gz)?"
_BOOK_KEYS = ("book_id", "title", "authors", "popular_shelves")
_SHELVES = 5
# Shelves that say what a reader does with a book, not what it is.
_STATES = (
    "to-read", "currently-reading", "read", "owned", "books-i-own", "owned-books", "i-own", "own", "own-it", "my-books",
    "favorites", "favourites", "all-time-favorites", "wish-list", "wishlist", "to-buy", "default", "library",
    "my-library", "kindle", "ebook", "ebooks", "e-book", "e-books", "audiobook", "audiobooks", "did-not-finish", "dnf",
    "re-read", "borrowed", "maybe",
)  # fmt: skip


def find_goodreads(files: Files) -> Layout | None:
    """Return the interactions and the books of Goodreads, or None.

    Raises:
        InputError: a part is missing, or the log is the one without times.
    """
    log = files.one(files.objects(_FILES, ("user_id", "book_id", "date_added", "read_at")))
    items = files.one(files.objects(_FILES, _BOOK_KEYS))
    if log is None:
        for path in files.tables(r".+\.csv(\.gz)?", ("user_id", "book_id", "is_read", "rating", "is_reviewed")):
            raise InputError(
                f"{path}: holds no times, so no order of the books of a user is known; take "
                f"goodreads_interactions_dedup.json.gz, or that of a genre, from {_SOURCE} instead"
            )
    both = files.both(
        _NAME, log, items, ("goodreads_interactions_GENRE.json.gz", "goodreads_books_GENRE.json.gz"), _SOURCE
    )
    if both is None:
        return None
    log, items = both
    authors = files.one(files.objects(_FILES, ("author_id", "name"), without=("book_id",)))
    return Layout(
        name=_NAME,
        log=object_table(files, log, ()),
        items=_books(files, items, authors),
        user="user_id",
        item="book_id",
        item_key="book_id",
        time="date_added",
        time_format="%a %b %d %H:%M:%S %z %Y",
        text=("title", "authors", "popular_shelves") if authors else ("title", "popular_shelves"),
        notes=(
            "Every book on a shelf counts, read or not, whatever its rating; the time is when it was put there.",
            f"Of popular_shelves the first {_SHELVES} names that say what the book is are kept, without counts.",
            "Authors are those of the file of authors."
            if authors
            else "Authors have numbers only; with goodreads_book_authors.json.gz beside they are part of the text.",
        ),
        files=(log, items, *([authors] if authors else [])),
    )


def _books(files: Files, path: Path, authors: Path | None) -> Table:
    frame = object_table(files, path, _BOOK_KEYS).frame
    name = pl.element().struct.field("name")
    shelves = _listed("popular_shelves", "name").list.eval(name.filter(~name.is_in(_STATES)))
    changed = [shelves.list.head(_SHELVES).list.join(", ").alias("popular_shelves")]
    if authors is not None:
        known = object_table(files, authors, ("author_id", "name")).read(["author_id", "name"]).drop_nulls()
        known = known.unique("author_id", keep="first", maintain_order=True)
        number = pl.element().struct.field("author_id")
        names = number.replace_strict(known["author_id"], known["name"], default=None).drop_nulls()
        changed.append(_listed("authors", "author_id").list.eval(names).list.join(", ").alias("authors"))
    return open_frame(path, frame.with_columns(changed))


def _listed(column: str, field: str) -> pl.Expr:
    """Return a list of objects that is written as JSON, with one field of each."""
    return pl.col(column).str.json_decode(pl.List(pl.Struct({field: pl.String})))
