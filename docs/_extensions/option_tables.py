"""Directives that show what the code says of itself: option classes and the verbs of the command line."""

from __future__ import annotations

import importlib
import inspect
import re
import types
from typing import Any, Literal, Union, get_args, get_origin

import typer.main
from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.parsing import nested_parse_to_nodes


def _kind(annotation: Any) -> str:
    """Return a type as a reader says it."""
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join("none" if kind is type(None) else _kind(kind) for kind in get_args(annotation))
    if hasattr(annotation, "__metadata__"):
        return _kind(get_args(annotation)[0])
    return "names" if get_origin(annotation) is tuple else getattr(annotation, "__name__", str(annotation))


def _shown(value: Any) -> str:
    return "" if value is None else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _table(header: list[str], rows: list[list[nodes.Element | str]]) -> nodes.table:
    """Return a table; cells are text, or a node."""

    def row(cells: list[nodes.Element | str]) -> nodes.row:
        entries = (nodes.entry("", nodes.paragraph("", "", _node(cell))) for cell in cells)
        return nodes.row("", *entries)

    columns = [nodes.colspec(colwidth=1) for _ in header]
    group = nodes.tgroup("", *columns, nodes.thead("", row([*header])), cols=len(header))
    group += nodes.tbody("", *map(row, rows))
    return nodes.table("", group, classes=["options"])


def _node(cell: nodes.Element | str) -> nodes.Node:
    return nodes.Text(cell) if isinstance(cell, str) else cell


def _literal(text: str) -> nodes.literal:
    return nodes.literal(text, text)


class OptionTable(SphinxDirective):
    """``options:: foster.TrainOptions``: the class, its docstring, and a table of its fields."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        module, _, name = self.arguments[0].rpartition(".")
        options = getattr(importlib.import_module(module), name)
        about = [f"   {line}" for line in (inspect.getdoc(options) or "").splitlines()]
        lines = StringList([f".. py:class:: {module}.{name}", "", *about], source=self.get_source_info()[0])
        found = nested_parse_to_nodes(self.state, lines)
        rows = [
            [
                _literal(field),
                _kind(info.annotation),
                _literal(shown) if (shown := _shown(info.default)) else "",
                info.description or "",
            ]
            for field, info in options.model_fields.items()
        ]
        (content,) = (node for part in found for node in part.findall(addnodes.desc_content))
        content += _table(["option", "values", "default", "what it is"], rows)
        self.env.note_dependency(inspect.getsourcefile(options))
        return found


class Verbs(SphinxDirective):
    """``verbs::``: a section for each verb of the command line, with its flags."""

    def run(self) -> list[nodes.Node]:
        """Return the nodes."""
        from foster import cli

        found: list[nodes.Node] = []
        for name, command in typer.main.get_command(cli.app).commands.items():
            section = nodes.section(
                "", nodes.title("", f"foster {name}"), ids=[f"foster-{name}"], names=[f"foster {name}"]
            )
            arguments = [part.name.upper() for part in command.params if part.param_type_name == "argument"]
            usage = " ".join(["foster", name, *arguments, "[OPTIONS]"])
            section += [*_help(command.help), nodes.literal_block(usage, usage, language="text")]
            rows = [
                [_literal(", ".join([*option.opts, *option.secondary_opts])), option.help or ""]
                for option in command.params
                if option.param_type_name == "option"
            ]
            section += [_table(["flag", "what it is"], rows), *_help(command.epilog)]
            found.append(section)
        return found


def _help(text: str | None) -> list[nodes.Node]:
    """Return the paragraphs of a help text; those that hold indented lines or command lines stay as they are."""
    found: list[nodes.Node] = []
    for part in re.split(r"\n\s*\n", inspect.cleandoc(text or "").replace("\b", "").strip("\n")):
        lines = part.strip("\n").splitlines()
        if any(line.startswith((" ", "foster ", "torchrun ")) for line in lines):
            code = "\n".join(lines)
            found.append(nodes.literal_block(code, code, language="text"))
        elif lines:
            found.append(nodes.paragraph("", " ".join(lines)))
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("options", OptionTable)
    app.add_directive("verbs", Verbs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
