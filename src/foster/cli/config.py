"""``foster config``: options as a file."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import TypeAdapter
from typer.core import TyperCommand

from foster.cli.arguments import TRAINING
from foster.cli.flags import VERBS, Once, app
from foster.cli.output import show as print_result
from foster.cli.values import Values
from foster.distillation.options import OF_LABELS
from foster.errors import InputError, did_you_mean
from foster.models.options import ModelOptions
from foster.options import flag_of
from foster.training.options import TrainOptions

FOLLOWS: dict[str, dict[str, tuple[str, ...]]] = {
    "distill": {"teacher": ("length",), "bytes": OF_LABELS},
    "bench": {"bytes": ("budgets",)},
    "pretrain": {
        "epsilon": (*ModelOptions.model_fields, *TrainOptions.model_fields),
        "start_from": tuple(name for group in TRAINING for name in group.model_fields),
    },
}
"""What follows from another option of a verb unless it is given itself, so that a file must not hold it."""

config: typer.Typer = typer.Typer(
    name="config",
    help="Options of a verb as a file for --config.",
    epilog="Example: foster config show distill > distill.yaml",
    no_args_is_help=True,
)


@config.command(
    cls=Once,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Examples:\nfoster config show distill --method td3 --rank 4 > td3.yaml\n"
    "foster distill data --teacher teacher --config td3.yaml --out distilled",
)
def show(
    verb: Annotated[str, typer.Argument(help="a verb, such as distill", autocompletion=lambda: list(VERBS))],
    flags: Annotated[list[str] | None, typer.Argument(help="its flags, as in a call; none is required")] = None,
) -> None:
    """Show the options that a call would have, from defaults, --config and flags, as YAML that --config takes."""
    if verb not in VERBS:
        raise InputError(f"config show {verb}: no verb{did_you_mean(verb, VERBS)}; known: {', '.join(VERBS)}")
    given = _parsed(verb, flags or [])
    file, as_json = given.pop("config"), given.pop("as_json")
    taken = VERBS[verb]
    names = (*taken.own, *(name for group in taken.groups for name in group.model_fields))
    values = Values(taken.groups, taken.own, file, {name: given[name] for name in names}, partial=True)
    held, left, followed = _merged(verb, values)
    print_result(held, as_json, "" if as_json else _yaml(verb, held, left, followed))


def _parsed(verb: str, flags: list[str]) -> dict[str, Any]:
    """Return what flags of a verb say, whose arguments may be missing."""
    root = typer.main.get_command(app)
    command = copy.copy(root.commands[verb])  # type: ignore[attr-defined]
    assert isinstance(command, TyperCommand)
    command.params = [copy.copy(parameter) for parameter in command.params]
    for parameter in command.params:
        parameter.required = False
    given = command.make_context(f"foster {verb}", list(flags)).params
    given = {name: list(value) or None if isinstance(value, tuple) else value for name, value in given.items()}
    # typer before 0.29 makes paths of texts when it calls the verb, and not before.
    kinds = {"config": Path, **{name: get_args(option.annotation)[0] for name, option in VERBS[verb].own.items()}}
    typed = {
        name: TypeAdapter(kind).validate_python(given[name]) for name, kind in kinds.items() if given[name] is not None
    }
    return {**given, **typed}


def _merged(verb: str, values: Values) -> tuple[dict[str, Any], dict[str, Any], dict[str, list[str]]]:
    """Return the options that a file can hold, and what it must not, since what is given counts for more.

    That are defaults which hold for some sources only, and the names of what follows from each option that is given.
    """
    taken = VERBS[verb]
    groups = list(taken.groups)
    if methods := taken.methods:
        chosen = taken.method(values.own["method"])
        values.only(chosen, str(values.own["method"]))
        groups = [chosen, *(group for group in groups if group not in methods.values())]
    held = {name: _plain(value) for name, value in values.own.items() if value is not None}
    given = values.given | held.keys()
    needed = {name for name, option in taken.own.items() if option.default is inspect.Parameter.empty}
    found = {by: names for by, names in FOLLOWS.get(verb, {}).items() if by in given | needed}
    left: dict[str, Any] = {}
    followed: dict[str, list[str]] = {}
    for group in groups:
        # Where defaults hold for some sources only, what a file gives would hold for all of them.
        everywhere = not taken.default_where or group not in TRAINING
        for name, value in values.of(group).model_dump(mode="json").items():
            by = next((by for by, names in found.items() if name in names), None)
            if name in given or (everywhere and by is None):
                held[name] = value
            elif by is None:
                left[name] = value
            else:
                followed.setdefault(by, []).append(name)
    return {name: value for name, value in held.items() if value is not None}, left, followed


def _yaml(verb: str, held: dict[str, Any], left: dict[str, Any], followed: dict[str, list[str]]) -> str:
    import yaml

    def lines(values: dict[str, Any]) -> list[str]:
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10**6)
        return text.splitlines() if values else []

    said = [f"# foster {verb}", *lines(held)]
    left = {name: value for name, value in left.items() if value is not None}
    if left:
        where = VERBS[verb].default_where.strip(" ;:")
        said += [f"# defaults ({where}):", *(f"# {line}" for line in lines(left))]
    for by, names in followed.items():
        said.append(f"# left out, since unless given it follows from {flag_of(by)}: {', '.join(names)}")
    return "\n".join(said)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | list) else str(value)


app.add_typer(config)
