"""MovieLens: 100K (``u.data``), 1M and 10M (``ratings.dat``), and the releases in CSV (20M, 25M, 32M, latest)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from foster.data.layouts.layout import Files, Layout, open_file, open_frame
from foster.data.layouts.lines import latin_lines, latin_table, separated_table
from foster.errors import InputError

_SOURCE = "https://grouplens.org/datasets/movielens/"
_NO_GENRES = "(no genres listed)"
# The order of the flags in u.item, as u.genre states it.
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_ALL_RATINGS = "Every rating counts, whatever its stars."
_YEARS = "Titles end with the year in brackets; they are left as they are."


def find_movielens_100k(files: Files) -> Layout | None:
    """Return the folder of MovieLens 100K, or None."""
    log = files.one([path for path in files.named(r"u\.data") if len(files.look(path).fields("\t")) == 4])
    items = files.one([path for path in files.named(r"u\.item") if len(files.look(path).fields("|")) == 24])
    both = files.both("MovieLens 100K", log, items, ("u.data", "u.item"), _SOURCE)
    if both is None:
        return None
    log, items = both
    # In a folder the names of the genres lie beside; the flags alone are no text.
    names = [path for path in files.named(r"u\.genre") if len(files.look(path).fields("|")) == 2]
    genres = _genre_names(names[0]) if names else _GENRES
    columns = ("movie_id", "movie_title", "release_date", "video_release_date", "imdb_url", *genres)
    movies = latin_table(items, "|", columns)
    named = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in genres if genre != "unknown"]
    return Layout(
        name="MovieLens 100K",
        log=separated_table(log, "\t", ("user_id", "movie_id", "rating", "timestamp")),
        items=open_frame(
            items, movies.frame.with_columns(genres=pl.concat_str(named, separator=", ", ignore_nulls=True))
        ),
        user="user_id",
        item="movie_id",
        item_key="movie_id",
        time="timestamp",
        time_format=None,
        text=("movie_title", "genres"),
        notes=(_ALL_RATINGS, _YEARS, "The column genres names those whose flag is 1."),
        files=(log, items, *names),
    )


def find_movielens_dat(files: Files) -> Layout | None:
    """Return the folder of MovieLens 1M or 10M, or None."""
    log = files.one([path for path in files.named(r"ratings\.dat") if len(files.look(path).fields("::")) == 4])
    items = files.one([path for path in files.named(r"movies\.dat") if len(files.look(path).fields("::")) == 3])
    both = files.both("MovieLens 1M or 10M", log, items, ("ratings.dat", "movies.dat"), _SOURCE)
    if both is None:
        return None
    log, items = both
    movies = latin_table(items, "::", ("movie_id", "title", "genres"))
    return Layout(
        name="MovieLens 1M or 10M",
        log=separated_table(log, "::", ("user_id", "movie_id", "rating", "timestamp")),
        items=open_frame(items, movies.frame.with_columns(_genres())),
        user="user_id",
        item="movie_id",
        item_key="movie_id",
        time="timestamp",
        time_format=None,
        text=("title", "genres"),
        notes=(_ALL_RATINGS, _YEARS),
        files=(log, items),
    )


def find_movielens_csv(files: Files) -> Layout | None:
    """Return a folder of MovieLens in CSV, or None."""
    log = files.one(files.tables(r"ratings?\.csv", ("userId", "movieId", "rating", "timestamp"), also=()))
    items = files.one(files.tables(r"movies?\.csv", ("movieId", "title", "genres"), also=()))
    both = files.both("MovieLens", log, items, ("ratings.csv", "movies.csv"), _SOURCE)
    if both is None:
        return None
    log, items = both
    return Layout(
        name="MovieLens",
        log=open_file(log),
        items=open_file(items, _genres()),
        user="userId",
        item="movieId",
        item_key="movieId",
        time="timestamp",
        time_format=None,
        text=("title", "genres"),
        notes=(_ALL_RATINGS, _YEARS),
        files=(log, items),
    )


def _genres() -> pl.Expr:
    """Write ``A|B`` as ``A, B``, and none as null."""
    genres = pl.col("genres")
    return pl.when(genres != _NO_GENRES).then(genres.str.replace_all("|", ", ", literal=True)).alias("genres")


def _genre_names(path: Path) -> list[str]:
    """Return the genres of ``u.genre`` in the order of their flags."""
    fields = [line.split("|") for line in latin_lines(path) if line.strip()]
    numbers = {number: name for name, number in (field for field in fields if len(field) == 2)}
    if sorted(numbers) != sorted(map(str, range(len(_GENRES)))):
        raise InputError(f"{path}: does not name {len(_GENRES)} genres as 'name|number'; get the folder from {_SOURCE}")
    return [numbers[str(number)] for number in range(len(_GENRES))]
