"""The page: one HTML file without scripts that loads nothing."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from foster.artefacts import check_outside
from foster.errors import InputError
from foster.inspection.page import Inspected
from foster.storage import whole_file

if TYPE_CHECKING:
    from jinja2 import Environment

GENERATOR = '<meta name="generator" content="foster inspect">'
"""What the head of every page holds: by it a page is known that may be replaced."""
_HEAD = 2_048  # bytes in which it stands
_PACKAGES = ("jinja2", "matplotlib")


def check_page(path: Path, overwrite: bool, inputs: Iterable[Path | None]) -> None:
    """See to it that a page can be written: ask before the work, not after it.

    Args:
        path: the file.
        overwrite: whether a page that is there is to be replaced; anything else that is there never is.
        inputs: folders that are looked at, into which nothing may come.

    Raises:
        InputError: a package is missing, the file exists (with ``overwrite``: and is no page), lies in a folder that is
            looked at, or its place cannot be written to.
    """
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise InputError(f"--html: needs {' and '.join(missing)}: pip install 'foster[report]'")
    try:
        place = path.resolve()
        if place.is_dir():
            raise InputError(f"--html {path}: is a folder; give a file")
        if place.exists():
            if not overwrite:
                raise InputError(f"--html {path}: exists already; give another file or add --overwrite")
            if not place.is_file() or GENERATOR.encode() not in _first_bytes(place):
                raise InputError(f"--html {path}: is no page that foster wrote; give another file, or move it")
        if any(folder is not None and place.is_relative_to(folder.resolve()) for folder in inputs):
            raise InputError(f"--html {path}: lies in a folder that is looked at; give a file elsewhere")
        check_outside(place, f"--html {path}")
        parent = next(parent for parent in place.parents if parent.exists())
        if not parent.is_dir():
            raise InputError(f"--html {path}: {parent} is no folder; give another file")
        tempfile.TemporaryFile(dir=parent).close()
    except OSError as error:
        raise InputError(f"--html {path}: cannot be written ({error.strerror}); give another file") from error


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def write_page(path: Path, text: str, overwrite: bool) -> int:
    """Write a page, whole or not at all, and return its bytes.

    Raises:
        InputError: it cannot be written, or something else is there by now.
    """
    content = text.encode()
    try:
        if path.exists() and not overwrite:
            raise InputError(f"--html {path}: is there by now; give another file or add --overwrite")
        with whole_file(path.resolve()) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(f"--html {path}: cannot be written ({error.strerror}); give another file") from error
    return len(content)


def page(folder: Inspected) -> str:
    """Return the page of a folder; equal folders of one name give equal pages.

    Raises:
        InputError: something of the folder is damaged.
    """
    return (
        _templates()
        .get_template("page.html")
        .render(summary=folder.summary(), sections=folder.sections(), generator=GENERATOR)
    )


def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Texts of items are anybody's: all that templates put in is escaped, unless it is our own drawing.
    return Environment(
        loader=FileSystemLoader(os.fspath(Path(__file__).parent / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
