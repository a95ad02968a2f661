"""Item texts: columns made tidy, then joined or put into a template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from string import Formatter
from typing import Any

import polars as pl

from foster.errors import InputError, did_you_mean

SEPARATOR = ", "


def tidy(values: pl.Series) -> pl.Series:
    """Return a column as strings: lists joined by ", ", runs of blanks made one, null if nothing is left."""
    if isinstance(values.dtype, pl.List | pl.Array):
        words = pl.Series(values.name, [_join(value) for value in values.to_list()], dtype=pl.String)
    else:
        words = values.cast(pl.String)
        # Readers of text formats hand lists on as JSON. A title such as "[New] Game" is no JSON and stays as
        # it is.
        if words.str.starts_with("[").any():
            words = pl.Series(values.name, [_join(_from_json(word)) for word in words.to_list()], dtype=pl.String)
    words = words.str.replace_all(r"\s+", " ").str.strip_chars()
    return words.set(words == "", None)


def template_fields(template: str) -> list[str]:
    """Return the fields of a template such as ``"{title} by {brand}"``, in order.

    Raises:
        InputError: the braces do not match, or a field is anything but a plain name.
    """
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise InputError(f"--template {template!r}: {error}; write it like '{{title}} by {{brand}}'") from error
    fields = [(field, form, conversion) for _, field, form, conversion in pieces if field is not None]
    for field, form, conversion in fields:
        # A field that indexes, converts or formats would be code from a string; names are all that is needed.
        if not field or field.isdigit() or form or conversion or any(sign in field for sign in ".[]"):
            raise InputError(f"--template {template!r}: only plain column names may stand in braces")
    if not fields:
        raise InputError(f"--template {template!r}: names no column; write it like '{{title}} by {{brand}}'")
    return list(dict.fromkeys(field for field, _, _ in fields))


def check_template(template: str, columns: Sequence[str]) -> None:
    """Raise InputError where a template names a column that is not in ``columns``."""
    for field in template_fields(template):
        if field not in columns:
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


def _from_json(word: str | None) -> Any:
    if word is None or not word.startswith("["):
        return word
    try:
        return json.loads(word)
    except ValueError:
        return word


def _join(value: Any) -> str | None:
    """Join a list, and lists within it; None and blank parts are left out."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        parts = (_join(part) for part in value)
        return SEPARATOR.join(part for part in parts if part and part.strip())
    return str(value)
