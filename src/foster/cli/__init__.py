"""The command line: parse, call, print. Flags are the fields of the options classes, which a YAML file can hold too.

A verb is one file of this package and one line here.
"""

from __future__ import annotations

import importlib
import sys
from itertools import pairwise
from typing import Annotated

import typer

from foster.cli.errors import run
from foster.cli.flags import app
from foster.cli.output import complain
from foster.errors import InputError
from foster.options import in_our_words
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
    run(_command)


def _check_empty(arguments: list[str]) -> None:
    """Refuse an argument without a character: it would be the current folder, where a path is wanted."""
    for before, argument in pairwise(["foster", *arguments]):
        name, equals, value = argument.partition("=")
        if argument == "" or (equals and not value and name.startswith("--")):
            where = name or before
            raise InputError(f"an empty argument after {where}; give a value, or leave it out (is a variable not set?)")


def _command() -> None:
    _check_empty(sys.argv[1:])
    try:
        status = app(prog_name="foster", standalone_mode=False)  # shells complete it by this name
    except Exception as error:
        # Typer has a copy of click within, whose classes are its own affair; all these have such a method.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            complain(error.format_message())
            sys.exit(2)
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "foster"
        message = " ".join(error.format_message().split()).rstrip(".")
        if (found := getattr(error.__cause__, "errors", None)) is not None:  # pydantic's, which names no value
            message = f"{in_our_words(message)} (got {found()[0]['input']!r})"
        raise InputError(f"{message}; see '{where} --help'") from error
    sys.exit(status)
