"""``foster recommend``: a list for one history, or lists for many users in a Parquet file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foster.cli.flags import verb
from foster.cli.output import SHOWN, say, show
from foster.cli.values import CommonOptions, Values
from foster.errors import InputError

if TYPE_CHECKING:
    from foster.data.sources import Columns
    from foster.models.item_index import ItemIndex
    from foster.models.recommender import TextRecommender

Exclude = Annotated[
    list[str] | None,
    typer.Option(help="item id, or file of ids (one a line, or a table), that is never recommended; can be repeated"),
]
Candidates = Annotated[
    list[str] | None, typer.Option(help="file of the ids of the only items that are ranked, or an id; can be repeated")
]
K = Annotated[int, typer.Option("-k", "--k", help="list length")]
Encoder = Annotated[str | None, typer.Option(help="another place of the model's encoder")]


@verb(
    examples=(
        "foster recommend model --history i17 --history i4",
        "foster recommend model --users data --out lists.parquet",
        "foster recommend model --history 'ground coffee, dark roast' -k 5 --json",
    ),
)
def recommend(
    model: Annotated[Path, typer.Argument(help="model or teacher folder, or its name on the Hugging Face hub")],
    history: Annotated[
        list[str] | None, typer.Option(help="item id or text; once for each item, oldest first: one list")
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(
            help="a list for every user of a data set folder, of a log, or of a table with the columns user_id and "
            "history (a list of item ids, oldest first; Parquet or JSON lines)"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Parquet file for the lists of --users: user_id, rank, item_id, score"),
    ] = None,
    user_ids: Annotated[
        Path | None, typer.Option(help="file of ids, one a line or a table, of the only --users who get a list")
    ] = None,
    k: K = 10,
    keep_history: Annotated[bool, typer.Option("--keep-history", help="rank the items of the history too")] = False,
    exclude: Exclude = None,
    candidates: Candidates = None,
    ann: Annotated[
        bool,
        typer.Option("--ann", help="search approximately with usearch, for catalogues of 100,000s; says its recall@k"),
    ] = False,
    user_column: Annotated[str | None, typer.Option(help="of the log: column of user ids")] = None,
    item_column: Annotated[str | None, typer.Option(help="of the log: column of item ids")] = None,
    time_column: Annotated[str | None, typer.Option(help="of the log: column of times")] = None,
    time_format: Annotated[str | None, typer.Option(help="of the log: how times are written")] = None,
    input_order: Annotated[bool, typer.Option("--input-order", help="of the log: rows are in time order")] = False,
    encoder: Encoder = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file of lists if it exists")] = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Recommend items for one history, or for many users (--users LOG --out recs.parquet)."""
    from foster.data.sources import Columns
    from foster.engine import Engine
    from foster.models.recommender import TextRecommender

    if users is not None and history:
        raise InputError("recommend: --history and --users were given; leave one of them out")
    if users is None and not history:
        raise InputError("recommend: give --history, once for each item of one user, or --users LOG --out FILE")
    many: dict[str, Any] = {
        "--out": out, "--user-ids": user_ids, "--ann": ann, "--user-column": user_column, "--item-column": item_column,
        "--time-column": time_column, "--time-format": time_format, "--input-order": input_order,
        "--overwrite": overwrite,
    }  # fmt: skip
    if users is None and (asked := [flag for flag, value in many.items() if value]):
        raise InputError(f"{asked[0]}: is for --users; leave it out")
    if users is not None and out is None:
        raise InputError("--out is missing: Parquet file for the lists of --users")
    if out is not None:
        from foster.serving.batch import check_out

        check_out(out, overwrite)
    if ann:
        from foster.serving.usearch_index import require_usearch

        require_usearch()
    device = Engine(values.of(CommonOptions).device).device
    recommender = TextRecommender.from_pretrained(model, encoder_path=encoder, device=device)
    chosen = choice(recommender, exclude, candidates)
    if users is None:
        _one(recommender, history or [], k, not keep_history, chosen, as_json)
    elif out is not None:
        columns = Columns(user_column, item_column, time_column, time_format, input_order)
        _many(recommender, users, user_ids, out, k, not keep_history, chosen, ann, columns, overwrite, as_json)


def choice(model: TextRecommender, exclude: Sequence[str] | None, candidates: Sequence[str] | None) -> dict[str, Any]:
    """Return which items are ranked, as ``model.recommend`` takes it; say which ids the catalogue lacks."""
    from foster.serving.users import item_choice

    out: dict[str, Any] = {}
    for name, given in (("exclude", exclude), ("candidates", candidates)):
        if given:
            out[name], unknown = item_choice(given, f"--{name}", model.catalogue)
            if unknown:
                say(f"--{name}: {len(unknown)} ids are not in the model's catalogue, '{unknown[0]}' first")
    return out


def show_items(
    model: TextRecommender, name: str, number: str, found: Sequence[tuple[str, float]], more: dict[str, Any],
    as_json: bool,
) -> None:  # fmt: skip
    """Print items with their numbers and texts.

    Args:
        model: of the items.
        name: of the list in the JSON object.
        number: the name of the numbers there.
        found: raw ids and numbers, best first.
        more: what else stands in the object.
        as_json: print that object, and not lines for people.
    """
    from foster.data.texts import shortened

    catalogue = model.catalogue
    rows = [{"item_id": item, number: value, "text": catalogue.texts[catalogue.index[item]]} for item, value in found]
    lines = [f"{x[number]:8.3f}  {x['item_id']}  {shortened(str(x['text']), SHOWN)}" for x in rows]
    show({name: rows, **more}, as_json, "\n".join(lines))


def read_as_texts(model: TextRecommender, entries: Sequence[str]) -> list[str]:
    """Return the entries that are no item ids, and say so."""
    from foster.data.texts import shortened

    texts = [entry for entry in entries if entry not in model.catalogue.index]
    for text in texts:
        say(f"'{shortened(text, SHOWN)}' is no item id of the catalogue and was read as a text")
    return texts


def _one(
    model: TextRecommender, history: list[str], k: int, exclude_history: bool, chosen: dict[str, Any], as_json: bool
) -> None:
    (found,) = model.recommend([history], k, exclude_history=exclude_history, **chosen)
    texts = read_as_texts(model, history)
    if len(found) < k:
        say(f"{len(found)} items instead of {k}: the history holds the rest of those that are ranked")
    show_items(model, "recommendations", "score", found, {"read_as_texts": texts}, as_json)


def _many(
    model: TextRecommender,
    source: Path,
    user_ids: Path | None,
    out: Path,
    k: int,
    exclude_history: bool,
    chosen: dict[str, Any],
    ann: bool,
    columns: Columns,
    overwrite: bool,
    as_json: bool,
) -> None:
    from foster.serving.batch import judged_recall, recommend_users, write_recommendations
    from foster.serving.users import Users, read_ids

    users = Users.of(source, model.catalogue, columns)
    remarks = users.remarks(str(source))
    for remark in remarks:
        say(remark)
    result: dict[str, Any] = {
        "out": str(out),
        "left_out_interactions": users.left_out,
        "unknown_items": users.unknown_items,
        "left_out_users": users.left_users,
    }
    if user_ids is not None:
        users = users.only(read_ids(user_ids, "--user-ids", "user"), f"--user-ids {user_ids}")
    start = time.perf_counter()
    exact = model.index(**chosen)
    index: ItemIndex = exact
    said = ""
    if ann:
        from foster.serving.usearch_index import UsearchIndex

        index = UsearchIndex(exact, threads=0)
        result["build_seconds"] = time.perf_counter() - start
        result[f"ann_recall@{k}"] = judged_recall(model, users, k, index, exact, exclude_history)
        said = f"; usearch: recall@{k} {result[f'ann_recall@{k}']:.4f} beside comparing all items"
    parts = recommend_users(model, users, k, exclude_history=exclude_history, index=index, progress=True)
    rows = write_recommendations(parts, out, overwrite=overwrite)
    seconds = time.perf_counter() - start
    result |= {"users": len(users), "rows": rows, "ranked_items": len(index), "seconds": seconds}
    if (short := k * len(users) - rows) > 0:
        said += f"; {short:,} places of lists are empty, since histories hold the rest"
    show(result, as_json, f"{out}: {rows:,} rows for {len(users):,} users in {seconds:.1f} s{said}")
