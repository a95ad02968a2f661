"""The command line: parse, call, print. Flags are the fields of the options classes, which a YAML file can hold too.

A verb is one file of this package and one line here.
"""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from foster.cli.errors import run
from foster.cli.flags import app
from foster.version import __version__

VERBS = (
    "prepare",
    "check",
    "pretrain",
    "distill",
    "select",
    "train",
    "tune",
    "evaluate",
    "recommend",
    "similar",
    "export",
    "push",
    "demo",
    "inspect",
    "reproduce",
    "audit",
    "bench",
    "doctor",
)  # in the order in which the help lists them

for _verb in (*VERBS, "config"):
    importlib.import_module(f"foster.cli.{_verb}")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="show the version", is_eager=True)] = False,
) -> None:
    if version:
        print(__version__)  # noqa: T201
        raise typer.Exit


def main() -> None:
    """Run the command line; see ``foster.cli.errors.run`` for its exit codes."""
    run(lambda: app(prog_name="foster"))  # shells complete it by this name
