"""``foster audit``: what sequences reveal of users."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foster.audit.options import AuditOptions
from foster.cli.arguments import LabelEncoder, Out, Overwrite
from foster.cli.flags import verb
from foster.cli.folders import free, read_data
from foster.cli.output import say, show
from foster.cli.values import CommonOptions, Values


@verb(
    AuditOptions,
    examples=(
        "foster audit distilled data --out audit",
        "foster audit distilled data --teacher teacher --out audit --json",
    ),
)
def audit(
    sequences: Annotated[Path, typer.Argument(help="folder that foster distill or select made")],
    data: Annotated[Path, typer.Argument(help="data set folder that it was made from")],
    out: Out,
    teacher: Annotated[
        Path | None, typer.Option(help="folder of its teacher: shadow teachers are trained as that one was")
    ] = None,
    encoder: LabelEncoder = None,
    overwrite: Overwrite = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Measure what sequences reveal of users: pieces of histories, and who can be told to be in the log."""
    from foster.audit.audit import audit as run
    from foster.condensed.sequences import Condensed
    from foster.engine import Engine

    place, common = free(out, overwrite, sequences, data, teacher), values.of(CommonOptions)
    options, engine = values.of(AuditOptions), Engine(common.device)
    found = run(
        Condensed.read(sequences, encoder_path=encoder),
        read_data(data),
        teacher_path=teacher,
        options=options,
        seed=common.seed,
        engine=engine,
        say=say,
    )
    with place.fill({"options": options.model_dump(), **engine.about}) as folder:
        found.write_to(folder)
    show({"out": str(out), **found.as_dict()}, as_json, f"{found.paragraph()}\n{out}: tables in README.md")
