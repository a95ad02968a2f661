"""Item texts: columns made tidy, then joined or put into a template; and what lies within lists and objects."""

from __future__ import annotations

import ast
import contextlib
import json
import math
import re
from collections.abc import Sequence
from string import Formatter
from typing import Any

import polars as pl

from foster.data.timestamps import beyond_calendar
from foster.errors import InputError, did_you_mean
from foster.panics import refused

SEPARATOR = ", "
# Lists as Python and numpy print them, which is what tables hold that went through CSV: ['a', 'b'] and ['a' 'b'].
_QUOTED = r"""[ubUB]?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_ENTRY = rf"(?:{_QUOTED}|None|nan|null|{_NUMBER})"
_PRINTED_LIST = re.compile(rf"[\[(]\s*(?:{_ENTRY}(?:[,\s]\s*{_ENTRY})*)?\s*,?\s*[\])]", re.DOTALL)
# A title such as [2012] or (2012) is none; a list in round brackets has words in quotation marks.
_ONE_NUMBER = re.compile(rf"\[\s*{_NUMBER}\s*\]|\([^'\"]*\)")


def shortened(text: str, most: int) -> str:
    """Return a text as messages show it: of a longer one the first ``most`` characters, and dots."""
    return text if len(text) <= most else f"{text[:most]}..."


def tidy(values: pl.Series, where: str = "the items") -> pl.Series:
    """Return a column as words: lists joined by ", ", runs of blanks made one, null if nothing is left.

    Args:
        values: [V] of any type; lists and objects also as JSON text, lists also as Python and numpy print them.
        where: the table, for messages.

    Raises:
        InputError: the column holds objects, of which one field must be named, or lengths of time, or bytes.
    """
    words = pl.Series(values.name, _plain_words(values, where), dtype=pl.String)
    words = words.str.replace_all(r"\s+", " ").str.strip_chars()
    return words.set(words == "", None)


def split_field(field: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    """Return the column that a field such as ``details.Brand`` lies in, and the names that lead to it within."""
    if field in columns:
        return field, []
    column, *path = field.split(".")
    return column, path


def within(values: pl.Series, path: Sequence[str], name: str, where: str) -> pl.Series:
    """Return what lies within the objects of a column, as tidy words.

    Args:
        values: [V] structs, maps, lists of these, or JSON text.
        path: the names from outside inwards; a list on the way gives one value for each of its objects.
        name: of the column that comes out.
        where: the table, for messages.

    Raises:
        InputError: the path leads to objects.
    """
    with refused(f"{where}: column '{values.name}'"):
        listed = values.to_list()
    read = (_parsed(value) if isinstance(value, str) else value for value in listed)
    found = [_words_or_refuse(value, name, where, path) for value in read]
    return tidy(pl.Series(name, found, dtype=pl.String), where)


def template_fields(template: str) -> list[str]:
    """Return the fields of a template such as ``"{title} by {details.Brand}"``, in order.

    Raises:
        InputError: the braces do not match, or a field is anything but a name, or names with dots between them.
    """
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise InputError(f"--template {template!r}: {error}; write it like '{{title}} by {{brand}}'") from error
    fields = [(field, form, conversion) for _, field, form, conversion in pieces if field is not None]
    for field, form, conversion in fields:
        # A field that indexes, converts or formats would be code from a string; names are all that is needed.
        if not all(field.split(".")) or field.isdigit() or form or conversion or any(sign in field for sign in "[]"):
            raise InputError(f"--template {template!r}: only plain column names may stand in braces")
    if not fields:
        raise InputError(f"--template {template!r}: names no column; write it like '{{title}} by {{brand}}'")
    return list(dict.fromkeys(field for field, _, _ in fields))


def check_template(template: str, columns: Sequence[str], exactly: bool = False) -> None:
    """Raise InputError where a template names a column that is not in ``columns``, nor (unless exactly) lies in one."""
    for field in template_fields(template):
        if field not in columns and (exactly or split_field(field, columns)[0] not in columns):
            raise InputError(
                f"--template {template!r}: unknown field '{field}'{did_you_mean(field, columns)}; "
                f"known fields are {', '.join(columns)}"
            )


def render(items: pl.DataFrame, fields: Sequence[str], template: str | None) -> list[str]:
    """Return one text an item.

    Args:
        items: V rows of tidy text columns.
        fields: the columns that are joined where there is no template.
        template: text with ``{column}`` in it, or None to join what is there by ", ".

    Returns:
        V texts; "" where all fields are null.
    """
    if template is None:
        text = pl.concat_str(list(fields), separator=SEPARATOR, ignore_nulls=True)
    else:
        fields = template_fields(template)
        parts: list[pl.Expr] = []
        for literal, field, _, _ in Formatter().parse(template):
            parts.append(pl.lit(literal))
            if field is not None:
                parts.append(pl.col(field).fill_null(""))
        text = pl.concat_str(parts).str.replace_all(r"\s+", " ").str.strip_chars()
    blank = pl.all_horizontal(pl.col(field).is_null() for field in fields)
    return items.select(pl.when(blank).then(pl.lit("")).otherwise(text).alias("text"))["text"].to_list()


def plain_numbers(words: pl.Series) -> pl.Series:
    """Return words, without the ``.0`` that all of them end with where whole numbers went through floats."""
    if bool(words.str.contains(r"^-?\d+\.0+$").all()) and not words.drop_nulls().is_empty():
        return words.str.replace(r"\.0+$", "")
    return words


def float_word(value: float) -> str | None:
    """Return a float as a word, a whole number without a point, None where it is not a number."""
    if math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def float_words(values: pl.Series) -> pl.Series:
    """Return floats as words, whole numbers without a point, null where a value is not a number."""
    values = values.cast(pl.Float64).fill_nan(None)
    whole = (values == values.round()) & (values.abs() < 2**53)
    words = values.cast(pl.String)
    return words.zip_with(~whole.fill_null(False), values.cast(pl.Int64, strict=False).cast(pl.String))


def _plain_words(values: pl.Series, where: str) -> pl.Series:
    """Return a column as strings."""
    name, dtype = values.name, values.dtype
    if dtype.is_nested() or dtype == pl.Object:
        with refused(f"{where}: column '{name}'"):
            listed = values.to_list()
        return pl.Series([_words_or_refuse(value, name, where) for value in listed], dtype=pl.String)
    if (row := beyond_calendar(values)) is not None:
        raise InputError(f"{where}: column '{name}' holds a time beyond the years 1 to 9999 in row {row + 1}")
    if isinstance(dtype, pl.Duration):
        raise InputError(f"{where}: column '{name}' holds lengths of time, which are no text; name others with --text")
    if isinstance(dtype, pl.Binary):
        try:
            return values.cast(pl.String)
        except pl.exceptions.PolarsError as error:
            raise InputError(
                f"{where}: column '{name}' holds bytes, which are no text; name others by --text"
            ) from error
    if dtype.is_float():
        return float_words(values)
    try:
        words = values.cast(pl.String)
    except pl.exceptions.PolarsError as error:  # types of Arrow that have names of their own
        raise InputError(
            f"{where}: column '{name}' is of type {dtype}, which is no text; convert it, or name others by --text"
        ) from error
    # Readers of text formats hand lists and objects on as text. A title such as "[New] Game" is neither and stays.
    if words.str.contains(r"^\s*[\[{(]").any():
        words = pl.Series(
            [
                _words_or_refuse(_parsed(word), name, where) if word and word.lstrip()[:1] in ("[", "{", "(") else word
                for word in words.to_list()
            ],
            dtype=pl.String,
        )
    return plain_numbers(words)


def _words_or_refuse(value: Any, name: str, where: str, path: Sequence[str] = ()) -> str | None:
    try:
        words = _join(_follow(value, path) if path else value, name)
        if words is not None and not words.isascii():
            words.encode()
        return words
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: column '{name}' holds half a surrogate pair in a list, which is no character; correct "
            "or remove it"
        ) from error
    except RecursionError as error:
        raise InputError(f"{where}: column '{name}' holds lists or objects that are nested too deeply") from error
    except _ObjectError as error:
        fields = [field for field in error.fields if isinstance(field, str)][:8]
        first = f"{name}.{fields[0]}" if fields else f"{name}.FIELD"
        raise InputError(
            f"{where}: column '{name}' holds objects with the fields {', '.join(fields)}; name one, as in "
            f"--text {first}, or in --template"
        ) from error


class _ObjectError(ValueError):
    """An object where words are needed."""

    def __init__(self, fields: Sequence[Any]) -> None:
        super().__init__(fields)
        self.fields = fields


def _parsed(word: str) -> Any:
    """Return a list or an object that is written as JSON or as Python prints it; other words as they are."""
    bare = word.strip()
    if bare[:1] not in ("[", "{", "(") or _ONE_NUMBER.fullmatch(bare):
        return word
    try:
        return json.loads(bare, strict=False)  # polars writes tabs in lists of JSON as they are
    except (ValueError, RecursionError):
        pass
    if _PRINTED_LIST.fullmatch(bare):
        # One by one: numpy leaves the commas out, and Python would join what has none between.
        with contextlib.suppress(ValueError, SyntaxError):  # a backslash that begins nothing
            return [_entry(one) for one in re.findall(_ENTRY, bare)]
    if re.match(r"""[\[{]+\s*['"]""", bare):
        try:
            return ast.literal_eval(bare)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            pass
    return word


def _entry(word: str) -> Any:
    """Return an entry of a printed list."""
    if word in ("None", "nan", "null"):
        return None
    value = ast.literal_eval(word) if word[-1] in "'\"" else word
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def _follow(value: Any, path: Sequence[str]) -> Any:
    """Return what a path of names leads to, None where it leads nowhere."""
    for place, name in enumerate(path):
        value = _as_map(value)
        if isinstance(value, list | tuple):
            return [_follow(one, path[place:]) for one in value]
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _as_map(value: Any) -> Any:
    """Return the dictionary that Arrow writes as a list of keys and values; other values as they are."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(one, dict) and one.keys() == {"key", "value"} for one in value)
    ):
        return {one["key"]: one["value"] for one in value}
    return value


def _join(value: Any, name: str) -> str | None:
    """Join a list, and lists within it; None and blank parts are left out."""
    if value is None or isinstance(value, str):
        return value
    value = _as_map(value)
    if isinstance(value, dict):
        if not any(one is not None for one in value.values()):
            return None
        raise _ObjectError(list(value))
    if isinstance(value, set):  # whose order is another one in each process
        value = sorted(value, key=str)
    if isinstance(value, list | tuple):
        parts = (_join(part, name) for part in value)
        return SEPARATOR.join(part.strip() for part in parts if part and part.strip()) or None
    if isinstance(value, float):
        return float_word(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value)
