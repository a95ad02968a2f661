"""Flags of a verb: its own, and the fields of the option groups that it takes."""

from __future__ import annotations

import copy
import inspect
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperCommand
from typer.models import ArgumentInfo

from foster.cli.arguments import TRAINING
from foster.cli.processes import check_alone
from foster.cli.values import CommonOptions, Values
from foster.errors import InputError, did_you_mean
from foster.options import Options, flag_of
from foster.progress import quietly

NARROW = 60  # columns below which the boxes of a help leave no room for words
METHOD = "foster.method"  # under which the parser keeps the value of --method for the help

app: typer.Typer = typer.Typer(
    name="foster",
    help="Condense an interaction log with item texts into a handful of synthetic sequences. Several processes of one "
    "machine: torchrun --nproc_per_node N -m foster VERB ..., for pretrain, distill, train, tune, evaluate and bench.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@dataclass(frozen=True)
class Verb:
    """What a verb takes.

    Attributes:
        groups: its option groups, what every verb takes at last.
        own: its own options.
        default_where: where the defaults of model and training hold, if not everywhere.
        examples: command lines.
    """

    groups: tuple[type[Options], ...]
    own: Mapping[str, inspect.Parameter]
    default_where: str
    examples: tuple[str, ...]

    @property
    def methods(self) -> dict[str, type[Options]]:
        """The option groups of which ``--method`` chooses one, by its values."""
        return {str(group.method): group for group in self.groups if hasattr(group, "method")}

    def method(self, name: str | None) -> type[Options]:
        """Return the option group of a method, by default of the verb's own default.

        Raises:
            InputError: an unknown method.
        """
        name, known = str(self.own["method"].default) if name is None else name, self.methods
        if name not in known:
            raise InputError(f"--method {name}: unknown{did_you_mean(name, known)}; known: {', '.join(known)}")
        return known[name]


VERBS: dict[str, Verb] = {}
"""What the verbs take, by their names."""


class Once(TyperCommand):
    """A command of which a flag that holds one value can be given once only; the usual one takes the last.

    Its help shows the flags of one method where it has several.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line, after a look at what stands there twice."""
        given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for parameter in order:
            repeated = order.count(parameter) > 1 and parameter.param_type_name == "option"
            if repeated and not parameter.multiple and not ctx.resilient_parsing:
                raise InputError(f"{parameter.opts[0]} is given twice; give it once")
        ctx.meta[METHOD] = given.get("method")
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with the flags of the method that ``--method`` names; without boxes in a narrow terminal."""
        shown = copy.copy(self)
        if shutil.get_terminal_size().columns < NARROW:
            shown.rich_markup_mode = None
            shown.epilog = re.sub(r"(?:^|(?<=\n\n))", "\b\n", self.epilog or "")  # whose lines stay lines
        taken = VERBS.get(self.name or "")
        if taken is not None and taken.methods:
            shown.params = self._of_one_method(taken, ctx.meta.get(METHOD))
        super(Once, shown).format_help(ctx, formatter)

    def _of_one_method(self, taken: Verb, method: str | None) -> list[Any]:
        group = taken.method(method)
        others, keys, params = set(taken.methods.values()) - {group}, set(group.model_fields), []
        for parameter in self.params:
            if parameter.name in keys:
                parameter = copy.copy(parameter)
                parameter.help = _flag_help(str(parameter.name), [group], (group,), taken.default_where)  # type: ignore[attr-defined]
            elif any(parameter.name in other.model_fields for other in others):
                continue
            params.append(parameter)
        return params


def verb(
    *groups: type[Options], examples: tuple[str, ...], default_where: str = "", divided: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose flags are its own options and the fields of the option groups.

    The function gets ``values`` (the merged options) and ``as_json`` besides its own arguments and options.

    Args:
        groups: the option groups.
        examples: command lines for the help.
        default_where: where the defaults of model and training hold, if not everywhere; for the help.
        divided: whether several processes divide the work; else several are an error.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        classes: tuple[type[Options], ...] = (*groups, CommonOptions)
        arguments: list[inspect.Parameter] = []
        own: dict[str, inspect.Parameter] = {}
        for p in inspect.signature(function, eval_str=True).parameters.values():
            if p.name in ("values", "as_json"):
                continue
            if isinstance(get_args(p.annotation)[1], ArgumentInfo):
                arguments.append(p.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            else:
                own[p.name] = p
        flags = {name: _own_flag(p) for name, p in own.items()}
        for key, owners in _owners(classes).items():
            kind = _flag_type(owners[0].model_fields[key].annotation)
            flag = flag_of(key)
            # Given a name, typer makes no negation of its own.
            names = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
            where = default_where if owners[0] in TRAINING else ""
            option = typer.Option(
                names,
                help=_flag_help(key, owners, classes, where),
                show_default=False,
                autocompletion=_choices(owners[0].model_fields[key].annotation),
            )
            flags[key] = inspect.Parameter(
                key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
            )
        extra = [
            inspect.Parameter(
                "config", inspect.Parameter.KEYWORD_ONLY, default=None,
                annotation=Annotated[Path | None, typer.Option(help="YAML file of options; flags go before it")],
            ),
            inspect.Parameter(
                "as_json", inspect.Parameter.KEYWORD_ONLY, default=False,
                annotation=Annotated[bool, typer.Option("--json", help="print one JSON object on stdout")],
            ),
            inspect.Parameter(
                "quiet", inspect.Parameter.KEYWORD_ONLY, default=False,
                annotation=Annotated[
                    bool, typer.Option("--quiet", help="no progress and no notes on stderr; errors stay")
                ],
            ),
        ]  # fmt: skip

        def command(quiet: bool, **given: Any) -> None:
            with quietly() if quiet else nullcontext():
                call(**given)

        def call(**given: Any) -> None:
            if not divided:
                check_alone(function.__name__)
            as_json, file = given.pop("as_json"), given.pop("config")
            named = {p.name: given.pop(p.name) for p in arguments}
            values = Values(classes, own, file, given)
            values.of(CommonOptions)  # a wrong seed is an error of every verb
            function(**named, **values.own, values=values, as_json=as_json)

        command.__signature__ = inspect.Signature([*arguments, *flags.values(), *extra])  # type: ignore[attr-defined]
        command.__doc__ = function.__doc__
        command.__name__ = function.__name__
        taken = VERBS[function.__name__] = Verb(classes, own, default_where, examples)
        app.command(function.__name__, cls=Once, epilog=_epilog(function.__name__, taken))(command)
        return function

    return register


def _epilog(name: str, taken: Verb) -> str:
    """Return what stands below the flags: examples and, where there are several methods, how to see their flags."""
    text = "\n".join(("Examples:", *taken.examples))
    if methods := list(taken.methods):
        default = taken.own["method"].default
        others = ", ".join(method for method in methods if method != default)
        text = f"Flags of another method ({others}): foster {name} --method {methods[-1]} --help\n\n{text}"
    return text


def _flag_type(annotation: Any) -> Any:
    """Return the type that typer reads a field's flag as: names and choices are text until the options parse them."""
    kinds = get_args(annotation)
    kind = next(kind for kind in kinds if kind is not NoneType) if NoneType in kinds else annotation
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return str if get_origin(kind) in (Literal, tuple) else kind


def _words(annotation: Any) -> list[str]:
    """Return the words of which a field takes one; none where it takes something else."""
    kinds = (annotation, *get_args(annotation))
    return [str(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]


def _choices(annotation: Any) -> Callable[[], list[str]] | None:
    """Return what shells complete the value of a flag to, if that is one of several words."""
    words = _words(annotation)
    return (lambda: words) if words else None


def _own_flag(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return the flag of an option that belongs to a verb alone: None if it is not given, since a file may give it."""
    kind, option = get_args(parameter.annotation)
    option, default = copy.copy(option), parameter.default
    if default is inspect.Parameter.empty:
        option.help = f"{option.help} (required)"
    elif default is not None and default is not False:
        option.help = f"{option.help} (default {default})"
    option.show_default = False
    return parameter.replace(
        kind=inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _owners(classes: tuple[type[Options], ...]) -> dict[str, list[type[Options]]]:
    """Return the option groups that have each option; several do where a verb has several methods."""
    owners: dict[str, list[type[Options]]] = {}
    for group in classes:
        for key in group.model_fields:
            owners.setdefault(key, []).append(group)
    return owners


def _flag_help(key: str, owners: list[type[Options]], classes: tuple[type[Options], ...], where: str) -> str:
    """Describe an option as its first group does; say its words, which methods have it and where its default holds."""
    default_of = {group: group.model_fields[key].default for group in owners}
    text, default = str(owners[0].model_fields[key].description), default_of[owners[0]]
    methods = {group: str(group.method) for group in classes if hasattr(group, "method")}
    own = [name for group, name in methods.items() if group in owners]
    if own and len(own) < len(methods):
        text = f"{', '.join(own)}: {text}"
    notes = [] if default is None else [f"default {_shown(default)}{where}"]
    notes += [f"{methods[group]} {_shown(other)}" for group, other in default_of.items() if other != default]
    words = _words(owners[0].model_fields[key].annotation)
    if any(re.search(rf"\b{re.escape(word)}\b", text) is None for word in words):
        notes.insert(0, ", ".join(words))
    return f"{text} ({'; '.join(notes)})" if notes else text


def _shown(default: Any) -> str:
    return ",".join(default) if isinstance(default, tuple) else str(default)
