"""``foster demo``: the main job on data that a package carries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foster.cli.flags import verb
from foster.cli.folders import free
from foster.cli.output import say, show
from foster.cli.values import CommonOptions, Values


@verb(
    examples=(
        "foster demo",
        "foster demo --out demo --seed 1",
    ),
)
def demo(
    out: Annotated[Path | None, typer.Option("--out", help="keep the artefacts in this folder")] = None,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Run the main job on grocery data that a package carries: random 20, FOSTER 20 and the full log."""
    from foster.demo import run_demo
    from foster.engine import Engine

    if out is not None:
        free(out, False)
    common = values.of(CommonOptions)
    result = run_demo(out, seed=common.seed, engine=Engine(common.device), say=say)
    show(result.as_dict(), as_json, result.table())
