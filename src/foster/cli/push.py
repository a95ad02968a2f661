"""``foster push``: a folder to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foster.cli.flags import verb
from foster.cli.output import show
from foster.cli.values import Values


@verb(
    examples=(
        "foster push distilled organisation/name",
        "foster push model organisation/name --public",
    ),
)
def push(
    folder: Annotated[Path, typer.Argument(help="folder that foster made")],
    name: Annotated[str, typer.Argument(help="of the repository on the hub, as in organisation/name")],
    public: Annotated[bool, typer.Option("--public", help="let everybody see a new repository")] = False,
    *,
    values: Values,
    as_json: bool,
) -> None:
    """Send a folder to the Hugging Face hub, as whom 'hf auth login' or HF_TOKEN says; private by default."""
    from foster.hub import push_to_hub

    address = push_to_hub(folder, name, private=not public)
    show({"address": address}, as_json, address)
