"""Directives that show what the code says of itself: option classes and the verbs of the command line."""

from __future__ import annotations

import importlib
import inspect
import re
import types
from typing import Any, Literal, Union, get_args, get_origin

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def _kind(annotation: Any) -> str:
    """Return a type as a reader says it."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"``{value}``" for value in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join("none" if kind is type(None) else _kind(kind) for kind in get_args(annotation))
    if hasattr(annotation, "__metadata__"):
        return _kind(get_args(annotation)[0])
    return "names" if get_origin(annotation) is tuple else getattr(annotation, "__name__", str(annotation))


def _default(value: Any) -> str:
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
    return "" if value is None else f"``{shown}``"


class Options(SphinxDirective):
    """``options:: foster.TrainOptions``: the class, its docstring, and a table of its fields."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        module, _, name = self.arguments[0].rpartition(".")
        options = getattr(importlib.import_module(module), name)
        lines = [f".. py:class:: {module}.{name}", "", *_indented(inspect.getdoc(options) or ""), ""]
        lines += ["   .. list-table::", "      :header-rows: 1", "      :class: options", ""]
        rows = [("option", "values", "default", "what it is")]
        for field, about in options.model_fields.items():
            rows.append((f"``{field}``", _kind(about.annotation), _default(about.default), about.description or ""))
        for row in rows:
            lines += [f"      {'*' if n == 0 else ' '} - {_escaped(cell)}" for n, cell in enumerate(row)]
        self.env.note_dependency(inspect.getsourcefile(options))
        return _parsed(self, lines)


class Verbs(SphinxDirective):
    """``verbs::``: a section for each verb of the command line, with its flags."""

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        import typer.main

        from foster import cli

        found = []
        for name, command in typer.main.get_command(cli.app).commands.items():
            section = nodes.section(ids=[f"foster-{name}"], names=[f"foster {name}"])
            section += nodes.title("", f"foster {name}")
            usage = " ".join(part.name.upper() for part in _parameters(command, "argument"))
            text = inspect.cleandoc(command.help or "")
            lines = [*_escaped(text).splitlines(), "", "::", "", f"   foster {name} {usage} [OPTIONS]".rstrip(), ""]
            lines += [
                ".. list-table::",
                "   :class: options",
                "   :header-rows: 1",
                "",
                "   * - flag",
                "     - what it is",
            ]
            for option in _parameters(command, "option"):
                flags = ", ".join(f"``{flag}``" for flag in [*option.opts, *option.secondary_opts])
                lines += [f"   * - {flags}", f"     - {_escaped(option.help or '')}"]
            section += _parsed(self, lines)
            found.append(section)
        return found


def _parameters(command: Any, kind: str) -> list[Any]:
    return [parameter for parameter in command.params if parameter.param_type_name == kind]


def _escaped(text: str) -> str:
    """Return a text in which nothing is markup but what stands between two backquotes."""
    return "".join(
        part if n % 2 else re.sub(r"([*|_\\])", r"\\\1", part) for n, part in enumerate(re.split(r"(``.*?``)", text))
    )


def _indented(text: str) -> list[str]:
    return [f"   {line}" if line else "" for line in text.splitlines()]


def _parsed(directive: SphinxDirective, lines: list[str]) -> list[nodes.Node]:
    from sphinx.util.docutils import sphinx_domains  # noqa: F401
    from sphinx.util.parsing import nested_parse_to_nodes

    return nested_parse_to_nodes(directive.state, StringList(lines, source=directive.get_source_info()[0]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("options", Options)
    app.add_directive("verbs", Verbs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
