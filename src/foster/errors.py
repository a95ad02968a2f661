"""What can go wrong because of the input, said in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 2000  # characters of a message
SHOWN = 60  # characters of a value
END = 500  # characters of the end of a longer one, where the fix is


class InputError(ValueError):
    """Input that we cannot work with: a file, a column, an option.

    The message is one line that names the file, the row or field, and the fix. The command line prints it and exits
    with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """Return a text as one line that can be shown whatever files and users put into it.

    What moves the cursor, cannot be seen or is no character is shown by its code; of a very long text the beginning and
    the end.
    """
    line = " ".join(text.splitlines())
    if len(line) > LONGEST:
        line = f"{line[: LONGEST - END]} ... {line[-END:]}"
    return line if line.isprintable() else "".join(map(_shown, line))


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


class Diverged(InputError):
    """Numbers of a training or a distillation are not finite any more; it can only go on so."""


class KeptElsewhereError(InputError):
    """A result is whole, but could not be put where it was wanted."""


def expect(where: str, value: object, *kinds: type) -> None:
    """See that a function is given an object that it works with, and no path of one, say.

    Args:
        where: the function and the argument.
        value: what is given.
        kinds: what it may be, one of them.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, kinds):
        wanted = " or ".join(f"a {kind.__name__}" for kind in kinds)
        raise InputError(f"{where} is {repr(value)[:SHOWN]}, of type {type(value).__name__}; give {wanted} object")


def expect_given(call: str, **given: tuple[object, type]) -> None:
    """Do what ``expect`` does for arguments of a function, by name, that may be None.

    Args:
        call: the function.
        given: of each argument, what is given and what it may be.

    Raises:
        InputError: one is something else.
    """
    for name, (value, kind) in given.items():
        if value is not None:
            expect(f"{call}: {name}", value, kind)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known word nearest to ``word``, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
