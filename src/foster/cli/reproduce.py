"""``foster reproduce``: make a folder again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foster.cli.flags import verb
from foster.cli.output import say, show
from foster.cli.values import CommonOptions, Values


@verb(
    examples=(
        "foster reproduce distilled --data data --teacher teacher",
        "foster reproduce data --source log.csv --source items.csv --json",
    ),
)
def reproduce(
    folder: Annotated[Path, typer.Argument(help="folder of a data set, teacher, sequences, coreset or model")],
    data: Annotated[
        Path | None, typer.Option(help="data set it was made from; of a model of sequences, what validated it")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="teacher that it was made with or started from")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(help="source file of a data set, once for each; or the sequences that a model was trained on"),
    ] = None,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Make a folder again as it says that it was made, and compare: exit status 0 if equal to the byte, 1 if not."""
    from foster.engine import Engine
    from foster.reproduction.reproduce import reproduce as run

    common = values.of(CommonOptions)
    if common.seed != 0:
        values.refuse({"seed": "the folder says its seed; leave it out"})
    engine = Engine(common.device)
    result = run(folder, data_path=data, teacher_path=teacher, source_paths=tuple(source or ()), engine=engine, say=say)
    show(result.as_dict(), as_json, result.as_text())
    if not result.equal:
        raise typer.Exit(1)
