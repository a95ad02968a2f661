"""Lists of recommendations for many users, written to a Parquet file part after part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import torch
from polars.exceptions import PolarsError
from polars.io.plugins import register_io_source

from foster.artefacts import check_outside
from foster.data.parquet import check_parquet_name, has_schema
from foster.errors import InputError
from foster.models.item_index import ItemIndex, recall_of
from foster.models.recommender import TextRecommender, check_k
from foster.progress import Progress
from foster.serving.users import Users
from foster.storage import whole_file

SCHEMA: dict[str, type[pl.DataType]] = {
    "user_id": pl.String,
    "rank": pl.Int32,
    "item_id": pl.String,
    "score": pl.Float32,
}
"""The columns of a file of recommendations, by which foster knows it as its own."""
USERS = 2048  # whose lists are computed and written together
JUDGED = 1000  # users by whom an index is judged


def check_out(path: Path, overwrite: bool = False) -> None:
    """See to it that recommendations can be written to a file: ask before the work, not after it.

    Raises:
        InputError: its folder does not exist or is one of foster's, its name says another format, or a file is there
            (with ``overwrite``: one of something else).
    """
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"--out {path}: cannot be written; give a file in a folder that exists")
    check_outside(path.resolve(), f"--out {path}")
    if not path.exists():
        check_parquet_name(path, "--out")
        return
    if not overwrite:
        raise InputError(f"--out {path}: exists already; give another file or add --overwrite")
    if not has_schema(path, SCHEMA):
        raise InputError(f"--out {path}: holds no recommendations; give another file")


def recommend_users(
    model: TextRecommender,
    users: Users,
    k: int = 10,
    *,
    exclude_history: bool = True,
    index: ItemIndex | None = None,
    progress: bool = False,
) -> Iterator[pl.DataFrame]:
    """Yield the lists of users, part after part: ``user_id``, ``rank`` (from 1), ``item_id``, ``score``.

    Beside the item table, the ids and the histories, memory is that of one part.

    Args:
        model: the recommender.
        users: whom to recommend to.
        k: list length; a list is shorter where the history leaves fewer items.
        exclude_history: leave out the items of the history.
        index: what is ranked, as ``model.index`` or a backend of ``foster.serving`` makes it; by default all items.
        progress: show a bar on stderr, or a line a minute where that is no terminal.

    Raises:
        InputError: ``k`` beyond the items that are ranked, or scores that are not finite.
    """
    index = model.index() if index is None else index
    check_k(k, len(index))
    model.eval()
    table, item_ids = model.item_table(), pl.Series(model.catalogue.ids, dtype=pl.String)
    with Progress(what="recommending", total=len(users), shown=progress, unit="user") as bar:
        for start in range(0, len(users), USERS):
            rows = slice(start, start + USERS)
            histories = users.histories[rows]
            with torch.no_grad():
                states = model.queries(model.states(histories, table))
                items, scores = index.search(states, k, histories if exclude_history else histories.emptied())
            found = items.cpu().reshape(-1).numpy()
            count = len(histories)
            part = pl.DataFrame(
                {
                    "user_id": users.ids[rows].gather(pl.arange(count, eager=True).repeat_by(k).explode()),
                    "rank": pl.Series(list(range(1, k + 1)) * count, dtype=pl.Int32),
                    "item": found,
                    "score": scores.cpu().reshape(-1).float().numpy(),
                }
            ).filter(pl.col("item") >= 0)
            yield part.select("user_id", "rank", item_ids.gather(part["item"]).alias("item_id"), "score").cast(SCHEMA)  # type: ignore[arg-type]
            bar.update(count)


def write_recommendations(parts: Iterator[pl.DataFrame], path: str | Path, *, overwrite: bool = False) -> int:
    """Write lists to a Parquet file, whole or not at all.

    Args:
        parts: see ``recommend_users``.
        path: the file.
        overwrite: replace a file of recommendations that is there.

    Returns:
        The number of rows.

    Raises:
        InputError: it cannot be written, or something else is there.
    """
    path, rows = Path(path), 0
    check_out(path, overwrite)
    fault: list[InputError] = []

    def batches(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        nonlocal rows
        try:
            for part in parts:
                rows += part.height
                yield part
        except InputError as error:  # polars makes an error of its own of it
            fault.append(error)
            raise

    try:
        with whole_file(path.resolve()) as temporary:
            register_io_source(batches, schema=SCHEMA).sink_parquet(temporary)
            check_out(path, overwrite)
    except (OSError, PolarsError) as error:
        if fault:
            raise fault[0] from error
        reason = (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]
        raise InputError(f"--out {path}: cannot be written ({reason}); give another file") from error
    return rows


def judged_recall(
    model: TextRecommender, users: Users, k: int, index: ItemIndex, exact: ItemIndex, exclude_history: bool = True
) -> float:
    """Return recall@k of an index beside what comparing all items finds, on up to a thousand users."""
    step = max(1, len(users) // JUDGED)
    histories = users.histories[slice(0, step * JUDGED, step)]
    with torch.no_grad():
        states = model.queries(model.states(histories))
    return recall_of(index, exact, states, k, histories if exclude_history else histories.emptied())
