"""``foster inspect``: look at a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foster.cli.flags import verb
from foster.cli.folders import read_data
from foster.cli.output import show
from foster.cli.values import CommonOptions, Values


@verb(
    examples=(
        "foster inspect distilled",
        "foster inspect distilled --data data --html report.html",
    ),
)
def inspect(
    folder: Annotated[
        Path, typer.Argument(help="folder of a data set, teacher, model, sequences, an audit, a benchmark or a search")
    ],
    html: Annotated[Path | None, typer.Option("--html", help="file to make: one page that loads nothing")] = None,
    data: Annotated[
        Path | None, typer.Option(help="log of the sequences, to compare their popularity and categories with")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="another place of the encoder that it was made with")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the page if it exists")] = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Show what a folder is and holds: in the terminal, or as a page with its sequences, a map, labels and curves."""
    from foster.engine import Engine
    from foster.inspection.html import check_page, page, write_page
    from foster.inspection.inspect import Look, look_at

    if html is not None:
        check_page(html, overwrite, (folder, data))
    log = None if data is None else read_data(data)
    found = look_at(folder, Look(log, encoder, Engine(values.of(CommonOptions).device).device))
    summary = found.summary()
    result, text = summary.as_dict(), summary.as_text()
    if html is not None:
        size = write_page(html, page(found), overwrite)
        result |= {"html": str(html), "html_bytes": size}
        text = f"{html}: {size:,} bytes; {summary.sentence}"
    show(result, as_json, text)
