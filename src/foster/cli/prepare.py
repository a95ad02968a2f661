"""``foster prepare``: make a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foster.cli.arguments import Overwrite
from foster.cli.flags import verb
from foster.cli.folders import free
from foster.cli.output import show
from foster.cli.values import Values
from foster.data.defaults import K_CORE, LEAVE_ONE_OUT
from foster.errors import InputError


@verb(
    examples=(
        "foster prepare log.csv items.csv --out data",
        "foster prepare log.parquet --text title,brand --k-core 0 --out data",
        "foster prepare ratings.csv --split time:0.9 --dry-run",
    ),
)
def prepare(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="log and item table: CSV, TSV, Parquet, JSON lines (.gz), a folder, an address; or 'grocery'"
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="folder to make (required without --dry-run)")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what is understood, and write nothing")] = False,
    items: Annotated[Path | None, typer.Option(help="item table, where SOURCES do not show which one it is")] = None,
    user_column: Annotated[str | None, typer.Option(help="column of user ids (default: by its usual name)")] = None,
    item_column: Annotated[str | None, typer.Option(help="column of item ids")] = None,
    time_column: Annotated[
        str | None, typer.Option(help="column of times, or a date and a time of day, as in date,time")
    ] = None,
    time_format: Annotated[str | None, typer.Option(help="how times are written, as in '%d.%m.%Y %H:%M'")] = None,
    input_order: Annotated[
        bool, typer.Option("--input-order", help="the rows are in time order, whatever looks like a time")
    ] = False,
    text: Annotated[
        list[str] | None,
        typer.Option(help="text columns, as in title,brand; a field of objects as in details.Brand; can be repeated"),
    ] = None,
    template: Annotated[str | None, typer.Option(help="as in '{title} by {brand}'")] = None,
    k_core: Annotated[int, typer.Option(help="keep users and items with so many interactions; 0: all")] = K_CORE,
    drop_textless: Annotated[bool, typer.Option("--drop-textless", help="drop items without text")] = False,
    popularity: Annotated[
        bool, typer.Option("--popularity", help="let models read how popular an item is, beside its text")
    ] = False,
    split: Annotated[
        str, typer.Option(help="leave-one-out; time:Q, test is after that quantile of times; or time:Q1:Q2")
    ] = LEAVE_ONE_OUT,
    targets: Annotated[
        str | None, typer.Option(help="of users in a test by time: last, random or successive (default last)")
    ] = None,
    overwrite: Overwrite = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Make a data set folder from a log and item texts."""
    from foster.data.dataset import Dataset
    from foster.data.grocery import grocery

    if out is None and not dry_run:
        raise InputError("--out is missing: folder to make; or say --dry-run, to see what is understood")
    place = None
    if out is not None and not dry_run:
        place = free(out, overwrite, items, *(source for source in sources if source != "grocery"))
    if sources == ["grocery"]:
        given = {
            "--items": items, "--user-column": user_column, "--item-column": item_column, "--time-column": time_column,
            "--time-format": time_format, "--input-order": input_order, "--text": text, "--template": template,
            "--k-core": k_core != K_CORE, "--drop-textless": drop_textless, "--popularity": popularity,
        }  # fmt: skip
        if asked := [flag for flag, value in given.items() if value]:
            raise InputError(
                f"grocery: these data come with the package and are made in one way; leave out {', '.join(asked)} "
                "(a folder of that name: write ./grocery)"
            )
        data = grocery() if split == LEAVE_ONE_OUT and targets is None else grocery().with_split(split, targets)
    else:
        data = Dataset.prepare(
            sources, items, user_column=user_column, item_column=item_column, time_column=time_column,
            time_format=time_format, input_order=input_order,
            text=[name.strip() for part in text or () for name in part.split(",") if name.strip()], template=template,
            k_core=k_core, drop_textless=drop_textless, popularity=popularity, split=split, targets=targets,
        )  # fmt: skip
    if place is not None:
        with place.fill(data.about) as folder:
            data.write_to(folder)
    parts = data.parts()
    said = [] if data.info.split == LEAVE_ONE_OUT else [f"{data.info.split_name}: {parts.as_text()}"]
    said.append("nothing was written" if place is None else f"written to {out}")
    show(
        {
            "out": None if dry_run else str(out),
            **data.info.model_dump(mode="json"),
            "parts": parts.as_dict(),
            "first_history": data.first_history(),
        },
        as_json,
        "\n".join([*data.understood(), *said]),
    )
