"""README and docs as tests read them: pages, their blocks, links and headings, and the notebook's cells."""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"

NEEDS = re.compile(
    r"# needs (a GPU|two processes|the network|the extra private|the four logs|folders that the command line made)\b"
)
"""How the first line of a block tells a reader what it takes; tests have stand-ins."""

FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.S | re.M)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: bash, python, yaml, text, or what else stands behind the fence.
        text: its lines.
        line: the number of its first line in the page.
    """

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page."""
    content = page.read_text(encoding="utf-8")
    return [Block(found[1], found[2], content.count("\n", 0, found.start()) + 2) for found in FENCE.finditer(content)]


def prose(page: Path) -> str:
    """Return a page without blocks and inline code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and images."""
    return re.findall(r"\]\(([^()\s]+(?:\([^()\s]*\))?)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    content = FENCE.sub("", page.read_text(encoding="utf-8"))
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", content, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return set(found)


def run_cells(notebook: Path, parameters: str | None = None) -> list[tuple[dict, str]]:
    """Run a notebook's cells of code, one after another in one namespace; return each with what it printed.

    Args:
        notebook: the file.
        parameters: what runs in place of the cell that is tagged ``parameters``; None to run that.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    printed = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            given = parameters is not None and "parameters" in cell["metadata"].get("tags", ())
            source = parameters if given else "".join(cell["source"])
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(source, f"{notebook.name} {cell['id']}", "exec"), names)
            printed.append((cell, out.getvalue()))
    return printed
