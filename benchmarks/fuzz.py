#!/usr/bin/env python3
"""Hand mutated inputs to every reader: each is read, or refused with an InputError of one line, quickly.

    python benchmarks/fuzz.py                          # 100,000 cases
    python benchmarks/fuzz.py --cases 2000 --seed 1 --sorts json,parquet
    python benchmarks/fuzz.py --seed 1 --only 4711     # one case again, with its traceback

A case begins with a small sound log. Cells, columns, types, names and options are exchanged for what exports, programs
and people write in their place; what comes out is written as a file or a frame, and bytes are damaged then. It is read
as ``foster prepare`` does; what is accepted is shown, checked, saved and read again. There are these sorts:

- csv, json, parquet: files, with a table of items or without, packed or not, in folders;
- polars, pandas, arrow: frames, columns of every type;
- layouts: the files of public data sets (Amazon, Yelp, Food.com, MovieLens, RecBole, Steam, Goodreads, MIND);
- options: columns, templates, formats of times and splits, as they are given to ``prepare``;
- yaml: files for --config, --space, --variants and --students;
- history: what is given to ``recommend``;
- folders: damaged artefacts of every kind (see damage.py).

The cases of a seed are always the same. Each process does some hundred of them, so that a crash or a hang counts as one
of them. A failure is an exception of another class, a message of several lines or without sense, more than ``--slow``
seconds, more than 4 GiB above what was used before, or the end of the process. Exit status 1 if there was any.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import csv
import datetime as dt
import decimal
import functools
import gc
import gzip
import io
import json
import os
import random
import resource
import runpy
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unicodedata
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas  # noqa: F401 - what all processes need is loaded once
import polars as pl
import pyarrow.parquet  # noqa: F401
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import foster.cli  # noqa: E402
import foster.runs  # noqa: E402, F401
from foster.data.check import check  # noqa: E402
from foster.data.dataset import Dataset  # noqa: E402
from foster.errors import InputError  # noqa: E402

SPARE = 2**32
CHUNK = 2000  # cases of one process
LONGEST = 3000  # characters of a message that somebody reads
Run = Callable[[], Any]
Rows = list[dict[str, Any]]

DEEP = 20_000
WORDS = [
    "", " ", "\0", "a\0b", "\ufeff", "a\ufeffb", "\u202eabc", "\u200b", "é", "e\u0301", "日本語", "🎸",
    "\x1b[2J", "\x85",
    "\u2028", "a\nb", "a\r\nb", "\r", "\t", "a\tb", "\x0b", "\x1c", "nan", "NaN", "None", "NULL", "null", "<NA>", "\\N",
    "N/A", "inf", "-inf", "Infinity", "-", "?", "true", "False", "yes", "[]", "{}", "()", "[[]]", '[""]', "['a', 'b']",
    "['a' 'b']", '["a", ["b", null]]', "{'a': 1}", '{"a": {"b": [1]}}', '{"key": 1, "value": 2}', "[{}]", "[2012]",
    "(1, 2)",
    "{1, 2}", "[b'x', u'y']", "[b'\\xff']", "['\\ud800']", '["\\ud800"]', '{"\\ud83d": 1}', "[1e999]", "[NaN, nan]",
    "[None]",
    "['", '["', "[1,", "{", "{'a': {", "lambda: 1", "__import__('os')", "'", '"', '""', '"""', '"a', 'a"b', '"a"b',
    "\\", "\\\"",
    ",", ";", "|", "a,b", "a;b", "::", "=1+1", "@x", "#x", "%s", "{title}", "{0}", "&amp;", "<b>x</b>", "Ã©", "\ufffd",
    "a" * 70_000, "x " * 3000, "[" * DEEP, "[" * 900 + "]" * 900, "[" * 300 + "1" + "]" * 300, '{"a":' * DEEP,
    '{"a":' * 400 + "1" + "}" * 400, "(" * DEEP, "{'a':" * 300 + "1" + "}" * 300, "['" + "\\" * 2000,
    "[" + "9" * 5000 + "]", "[-" + "9" * 400 + "]", "['" + "a" * 30_000, "[1 " * 500, "('a' " * 4000,
    "[1" + " 2" * 5000 + "x",
]  # fmt: skip
NUMBERS = [
    "0", "-0", "1", "-1", "1.0", "1.5", "-1.5", "1e3", "1E+09", "1.6e+09", "1e308", "1e309", "-1e400", "1e-400",
    "5e-324",
    "0x10", "1_000", "1,000", "1.000,5", "１２", "٣", "²", "½", "1 ", " 1", "+1", "--1", "1-", ".5", "5.", ".",
    "9" * 20,
    "9" * 400,
    "9" * 5000, "2147483648", "4294967296", "9007199254740993", "9223372036854775807", "9223372036854775808",
    "-9223372036854775808", "-9223372036854775809", "18446744073709551616", "170141183460469231731687303715884105728",
    "1e18",
    "0" * 300, "0012", "12.0", "12.00", "1.0.0",
]  # fmt: skip
TIMES = [
    "0", "-1", "1", "1600000000", "1600000000000", "1600000000000000", "1600000000000000000", "16000000000000000000",
    "1600000000.5", "-62135596800", "253402300800", "1e10", "20200131", "20201345", "202001311226", "20200131122640",
    "43861.5",
    "2020-01-31", "2020-13-45", "2020-02-30", "0000-00-00", "0001-01-01", "9999-12-31", "9999-12-31T23:59:59.999999",
    "10000-01-01", "99999-01-01", "-0044-03-15", "1969-12-31", "1677-09-21", "2262-04-12", "292277026596-12-04",
    "2020-01-31 12:26:40", "2020-01-31T12:26:40Z", "2020-01-31T12:26:40.123456789Z", "2020-01-31 24:00:00",
    "2020-01-31 23:59:60", "2020-01-31 12:26:40+99:99", "2020-01-31 12:26:40 +0530",
    "2020-01-31 12:26:40 Europe/Berlin",
    "31.01.2020", "01/02/2020", "13/01/2020", "01/13/2020", "1/2/20", "31-Jan-2020", "Jan 31, 2020", "31 janvier 2020",
    "Fri Jan 31 12:26:40 +0000 2020", "Fri, 31 Jan 2020 12:26:40 +0000", "12:26", "12:26:40 PM", "25:61", "1226", "AM",
    "2020-W05", "2020Q1", "yesterday", "2020年1月31日", '{"$date": "2020-01-31"}', "١٩٧٠-٠١-٠١", "2020-01-31" * 300,
]  # fmt: skip
NAMES = [
    "user_id", "userId", "item_id", "parent_asin", "title", "name", "brand", "category", "genres", "timestamp", "date",
    "time",
    "event time", "year", "month", "day", "hour", "created_at", "ts", "id", "rating", "review", "price", "", " ", "\0",
    "\0beyond 1",
    "\0beyond", "column 1", "a\nb", "a\tb", "a,b", '"', "'", "{", "}", "{0}", "details.Brand", "a.b.c", ".", "..", "*",
    "^.*$", "len",
    "count", "rows", "number", "line", "index", "\ufeffuser_id", "USER ID", "user_id ", "é", "🎸", "\u202e", "\x1b[2J",
    "7", "2020-01-31",
    "n" * 5000, "literal", "fields", "texts", "time ", "user", "item",
]  # fmt: skip


# Rows, and what is done to them.


def sound(rng: random.Random) -> tuple[Rows, Rows]:
    """Return a small log and its items, all as strings."""
    items = [
        {"item_id": f"i{n}", "title": f"Thing {n}", "brand": f"Maker {n % 3}", "category": '["Tools", "Small"]'}
        for n in range(5)
    ]
    form = rng.choice(["{}", "{}", "1600000{:03d}", "2020-01-31 12:00:{:02d}", "2020-01-{:02d}", "{:02d}.12.2020"])
    log = [
        {
            "user_id": f"u{u}",
            "item_id": f"i{(u + t) % 5}",
            "timestamp": form.format(1 + u + 4 * t),
            "rating": str(t + 1),
        }
        for u in range(4)
        for t in range(4)
    ]
    return log, items


def some_word(rng: random.Random) -> str:
    """Return a word of the lists, or a piece of several."""
    word = rng.choice(rng.choice([WORDS, NUMBERS, TIMES]))
    kind = rng.random()
    if kind < 0.1:
        return word + rng.choice(WORDS[:80])
    if kind < 0.15:
        at = rng.randrange(len(word) + 1)
        return word[:at] + rng.choice(WORDS[:80]) + word[at:]
    if kind < 0.2 and word:
        at = rng.randrange(len(word))
        return word[:at] + word[at + 1 :]
    return word


def mutated(rng: random.Random, rows: Rows, value: Callable[[random.Random], Any] = some_word) -> Rows:
    """Change cells, columns and rows of a table."""
    rows = [dict(row) for row in rows]
    for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3, 5])):
        if not rows:
            break
        names = list(dict.fromkeys(name for row in rows for name in row))
        name, kind = rng.choice(names) if names else "x", rng.randrange(14)
        if kind < 5:
            for row in rng.sample(rows, min(len(rows), rng.choice([1, 1, 2, len(rows)]))):
                row[name] = value(rng)
        elif kind < 7:
            one = value(rng)
            for row in rows:
                row[name] = one
        elif kind == 7:
            new = rng.choice(NAMES)
            rows = [{new if key == name else key: one for key, one in row.items()} for row in rows]
        elif kind == 8:
            new = rng.choice(NAMES)
            for row in rows:
                row[new] = value(rng) if rng.random() < 0.9 else None
        elif kind == 9:
            for row in rows if rng.random() < 0.5 else rng.sample(rows, 1):
                row.pop(name, None)
        elif kind == 10:
            rng.shuffle(rows)
        elif kind == 11:
            rows += [dict(row) for row in rng.choices(rows, k=rng.choice([1, len(rows), 150]))]
        elif kind == 12:
            rows = rows[: rng.choice([0, 1, 3])]
        else:
            for row in rows:
                row[name] = None if rng.random() < 0.5 else row.get(name)
    return rows


def columns_of(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def some_options(rng: random.Random) -> dict[str, Any]:
    """Return arguments of ``Dataset.prepare``; of a log so small nothing is left by the usual filter."""
    options: dict[str, Any] = {"k_core": rng.choice([0, 0, 0, 0, 0, 1, 3])}
    words = [*NAMES, *WORDS[:80]]
    choices: dict[str, Callable[[], Any]] = {
        "user_column": lambda: rng.choice(words),
        "item_column": lambda: rng.choice(words),
        "time_column": lambda: rng.choice(
            [rng.choice(words), "date,time", "timestamp,timestamp", ",", ["timestamp", "rating"]]
        ),
        "time_format": lambda: rng.choice([*WORDS[:40], *FORMATS]),
        "input_order": lambda: True,
        "text": lambda: rng.choice(
            [rng.choice(words), "title,brand", ["title", "title"], [], ["title.x", "category.0"], ","]
        ),
        "template": lambda: rng.choice([*TEMPLATES, "{" + rng.choice(words) + "}", rng.choice(WORDS)]),
        "drop_textless": lambda: True,
        "popularity": lambda: True,
        "split": lambda: rng.choice(SPLITS),
        "targets": lambda: rng.choice(["last", "random", "successive", "", "x", "\0"]),
        "name": lambda: rng.choice(WORDS),
        "k_core": lambda: rng.choice([-1, 2, 5, 2**31, 2**63, 10**30]),
    }
    for name in rng.sample(sorted(choices), rng.choice([0, 0, 0, 1, 1, 2])):
        options[name] = choices[name]()
    return options


FORMATS = [
    "%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%d %H:%M:%S", "%s", "%Y%m%d", "%", "%%", "%Q", "%Y-%m-%d %Z", "%c", "%x %X", "%D",
    "%F", "%+",
    "%Y-%j", "%G-W%V-%u", "%-d/%-m/%Y", "%_d %b %Y", "%f", "%.3f", "%Y-%m-%d%", "%Y" * 300, "%e%Y%n%t", "%C%y", "%v",
    "%#z %Y-%m-%d", "%:z%Y-%m-%d",
]  # fmt: skip
TEMPLATES = [
    "{title}", "{title} by {brand}", "{", "}", "{}", "{0}", "{title!r}", "{title:>10}", "{title:{brand}}", "{title.x}",
    "{title[0]}",
    "{{title}}", "{{{title}}}", "no field", "{title}" * 500, "{title}\n{brand}", "\0{title}", "{ title }", "{nothing}",
    "{title.__class__}",
    "{category.0}", "{.title}", "{title.}", "{item_id}", "{\ud800}", "\ud800{title}",
]  # fmt: skip
SPLITS = [
    "leave-one-out", "time:0.5", "time:0.9", "time:0.5:0.8", "time:0.8:0.5", "time:0", "time:1", "time:2", "time:-1",
    "time:nan",
    "time:inf", "time:1e-400", "time:", "time:::", "time:0.5:0.6:0.7", "TIME:0.5", "", "x", "time:0,5", "time:٠.٥",
    "time:" + "9" * 5000,
]  # fmt: skip


# Files.


def damaged_bytes(rng: random.Random, content: bytes) -> bytes:
    """Damage bytes as disks, editors and transfers do."""
    out = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(10)
        if kind == 0 and out:
            out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at:]
        elif kind == 2:
            del out[at : at + rng.choice([1, 1, 4, 30])]
        elif kind == 3:
            out[at:at] = rng.choice(PIECES)
        elif kind == 4:
            out[at:at] = rng.randbytes(rng.choice([1, 4, 40]))
        elif kind == 5:
            one, other = rng.choice(
                [(b"\n", b"\r\n"), (b"\n", b"\r"), (b",", b";"), (b'"', b"'"), (b"\t", b" "), (b"u", b"\xff")]
            )
            out = bytearray(bytes(out).replace(one, other))
        elif kind == 6:
            out[at:at] = out[: rng.choice([at, 60])]
        elif kind == 7:
            out = bytearray(
                rng.choice(
                    [
                        b"\xef\xbb\xbf",
                        b"\xff\xfe",
                        b"\0\0\0\0",
                        b"\n\n",
                        b"sep=;\n",
                        b"sep=",
                        b"# x\n",
                        b"[",
                        b"\xef\xbb\xbf" * 2,
                    ]
                )
                + out
            )
        elif kind == 8:
            with contextlib.suppress(UnicodeDecodeError):
                out = bytearray(
                    bytes(out).decode().encode(rng.choice(["utf-16", "utf-32", "latin-1", "utf-8-sig"]), "replace")
                )
        else:
            out += rng.choice([b"\0", b"\n" * 50, b"\x1a", b'"', b",", b"{", b"]", b"\xc3", bytes(out[-40:])])
    return bytes(out)


PIECES = [
    b"\0", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\n", b"\r", b"\r\n", b"\n\n", b'"', b'""', b"'", b",",
    b",,,,,,,,", b";", b"\t",
    b"\\", b"{", b"}", b"[", b"]", b":", b"null", b"NaN", b"\x1a", b"\x85", b"\xe2\x80\xa8", b"[" * 3000,
    b'{"a":' * 3000, b'"\\ud800"',
    b"9" * 5000, b"PAR1", b"\x1f\x8b\x08", b"//", b"/*", b"#", b'"a\nb\nc"', b'"\n', b'\n"', b"x" * 100_000,
]  # fmt: skip


def write(rng: random.Random, path: Path, content: bytes) -> Path:
    """Write a file, packed where its name says so; perhaps damaged before or after."""
    if rng.random() < 0.35:
        content = damaged_bytes(rng, content)
    if path.suffix == ".gz":
        content = rng.choice([gzip.compress(content, 1)] * 8 + [content, gzip.compress(gzip.compress(content, 1), 1)])
        if rng.random() < 0.2:
            content = damaged_bytes(rng, content)
    path.write_bytes(content)
    return path


def delimited(rng: random.Random, rows: Rows, separator: str = ",", typed: bool = False) -> bytes:
    """Return rows as separated values; a name may stand twice, a value without quotation marks."""
    names = columns_of(rows)
    header = list(names)
    if rng.random() < 0.03 and header:
        header[rng.randrange(len(header))] = rng.choice(header)
    if typed:
        header = [f"{name}:{rng.choice(['token', 'float', 'token_seq', '', 'x:y'])}" for name in header]
    table = [["" if row.get(name) is None else str(row.get(name)) for name in names] for row in rows]
    if rng.random() < 0.05 and table:
        line = rng.choice(table)
        line += [""] * rng.choice([0, 1, 3]) if rng.random() < 0.5 else ["x"]
    if rng.random() < 0.05 and table:
        del rng.choice(table)[1:]
    end = rng.choice(["\n", "\n", "\r\n"])
    if rng.random() < 0.2:
        return (end.join(separator.join(line) for line in [header, *table]) + end).encode("utf-8", "surrogatepass")
    out = io.StringIO()
    writer = csv.writer(
        out, delimiter=separator, lineterminator=end, quoting=rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    )
    writer.writerows([header, *table])
    return out.getvalue().encode("utf-8", "surrogatepass")


def some_value(rng: random.Random, depth: int = 0) -> Any:
    """Return a value of JSON, or what Python writes as such."""
    kind = rng.randrange(12)
    if kind < 4:
        return some_word(rng)
    if kind < 6:
        return rng.choice(
            [
                0,
                -1,
                1.0,
                1.5,
                1e308,
                1e-320,
                2**53 + 1,
                2**63,
                -(2**63) - 1,
                2**64,
                2**200,
                10**400,
                10**4500,
                float("nan"),
                float("inf"),
                1600000000,
            ]
        )
    if kind == 6:
        return rng.choice([None, True, False])
    if kind == 7:
        return rng.choice(["\ud800", "a\udfffb", "\ud83d\ude00", "\udc80"])
    if depth > 3:
        return rng.choice([[], {}])
    if kind < 10:
        return [some_value(rng, depth + 1) for _ in range(rng.choice([0, 1, 2, 3]))]
    return {rng.choice(NAMES): some_value(rng, depth + 1) for _ in range(rng.choice([0, 1, 2, 3]))}


def as_json(rng: random.Random, rows: Rows, python: bool = False) -> bytes:
    """Return rows as JSON lines, an array of them, or dictionaries as Python prints them."""
    ascii_only = rng.random() < 0.5
    lines = []
    for row in rows:
        row = {name: value for name, value in row.items() if value is not None or rng.random() < 0.5}
        if python:
            with no_limit_of_digits():
                lines.append(repr(row))
        else:
            with no_limit_of_digits():
                lines.append(json.dumps(row, ensure_ascii=ascii_only))
        if rng.random() < 0.01:
            lines.append(
                rng.choice(
                    [
                        "",
                        " ",
                        "[]",
                        "null",
                        "3",
                        '"x"',
                        "{}",
                        "{",
                        '{"user_id": "u0", "user_id": "u1"}',
                        "\ufeff{}",
                        "// x",
                        "{}{}",
                    ]
                )
            )
    if not python and rng.random() < 0.1:
        text = rng.choice(["[%s]", "[\n%s\n]", "[%s", '{"rows": [%s]}', "[[%s]]", "[%s,]"]) % ",\n".join(lines)
    else:
        text = "\n".join(lines) + rng.choice(["\n", "", "\n\n"])
    return text.encode("utf-8", "surrogatepass")


@contextlib.contextmanager
def no_limit_of_digits() -> Iterator[None]:
    """Write whole numbers of any length, as other programs do."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)


# Columns of every type.


def some_series(rng: random.Random, name: str, length: int) -> pl.Series:
    """Return a column of any type of polars, with nulls perhaps."""
    makers: list[Callable[[], pl.Series]] = [
        lambda: pl.Series([rng.randrange(4) for _ in range(length)], dtype=rng.choice(INTEGERS)),
        lambda: pl.Series([rng.choice([0.0, 1.0, 1.5, 2.0**53, 1e300, float("nan"), float("inf"),
        -0.0]) for _ in range(length)]),
        lambda: pl.Series([rng.choice([0.5, 3.0, 16777217.0]) for _ in range(length)], dtype=pl.Float32),
        lambda: pl.Series([float(rng.randrange(3)) for _ in range(length)]),
        lambda: pl.Series([rng.choice([2**63 - 1, -(2**63), 0]) for _ in range(length)], dtype=pl.Int64),
        lambda: pl.Series([rng.choice([2**64 - 1, 2**63]) for _ in range(length)], dtype=pl.UInt64),
        lambda: pl.Series([rng.choice([2**126, -(2**126), 5]) for _ in range(length)], dtype=pl.Int128),
        lambda: pl.Series([rng.choice([True, False]) for _ in range(length)]),
        lambda: pl.Series([clean(some_word(rng)) for _ in range(length)]),
        lambda: pl.Series([clean(some_word(rng)) for _ in range(length)], dtype=pl.Categorical),
        lambda: pl.Series([rng.choice(["a", "b", ""]) for _ in range(length)], dtype=pl.Enum(["a", "b", ""])),
        lambda: pl.Series([rng.choice([b"a", b"\xff", b"", b"\0"]) for _ in range(length)], dtype=pl.Binary),
        lambda: pl.Series([decimal.Decimal(rng.choice(["1", "1.5", "0", "-2.25"])) for _ in range(length)],
        dtype=pl.Decimal(38, rng.choice([0, 2, 10]))),
        lambda: pl.Series([rng.choice([0, 20_000, -800_000, 2**31 - 1, -(2**31)]) for _ in range(length)],
        dtype=pl.Int32).cast(pl.Date),
        lambda: pl.Series([rng.choice([0, 10**15, -(2**62), 2**63 - 1]) for _ in range(length)], dtype=pl.Int64).cast(
            pl.Datetime(rng.choice(["ms", "us", "ns"]), rng.choice([None, None, "UTC", "Europe/Berlin"]))
        ),
        lambda: pl.Series([rng.choice([0, 1, 2**63 - 1, -5, 86_400_000_000]) for _ in range(length)],
        dtype=pl.Int64).cast(pl.Duration(rng.choice(["ms", "us", "ns"]))),
        lambda: pl.Series([rng.choice([0, 86_399_999_999_999, 3_600_000_000_000]) for _ in range(length)],
        dtype=pl.Int64).cast(pl.Time),
        lambda: pl.Series([None] * length, dtype=pl.Null),
        lambda: pl.Series([[clean(some_word(rng))] * rng.choice([0, 1, 2]) for _ in range(length)],
        dtype=pl.List(pl.String)),
        lambda: pl.Series([[[1, None], None, []]] * length, dtype=pl.List(pl.List(pl.Int64))),
        lambda: pl.Series([["a", None]] * length, dtype=pl.Array(pl.String, 2)),
        lambda: pl.Series([[]] * length, dtype=pl.Array(pl.Int64, 0)),
        lambda: pl.Series([rng.choice([{"a": 1, "b": None}, {"a": None, "b": None}]) for _ in range(length)],
        dtype=pl.Struct({"a": pl.Int64, "b": pl.String})),
        lambda: pl.Series([[{"key": "a", "value": None}]] * length, dtype=pl.List(pl.Struct({"key": pl.String,
        "value": pl.Duration}))),
        lambda: pl.Series([{"$date": None, "x": {"y": b"\xff"}}] * length, dtype=pl.Struct({"$date": pl.Datetime,
        "x": pl.Struct({"y": pl.Binary})})),
        lambda: pl.Series([{}] * length, dtype=pl.Struct({})),
        lambda: pl.Series([[dt.date(2020, 1, 1), None]] * length, dtype=pl.List(pl.Date)),
        lambda: pl.Series([[decimal.Decimal("1.5")]] * length, dtype=pl.List(pl.Decimal(10, 2))),
    ]  # fmt: skip
    series = rng.choice(makers)().alias(name)
    if rng.random() < 0.3 and length:
        keep = pl.Series([rng.random() < 0.7 for _ in range(length)])
        series = pl.select(pl.when(keep).then(series).otherwise(None).alias(name)).to_series()
    return series


INTEGERS = [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Int128]


def clean(word: str) -> str:
    """Return a word without halves of characters, which polars cannot hold."""
    return word.encode("utf-8", "replace").decode()


def some_frame(rng: random.Random, rows: Rows) -> pl.DataFrame:
    """Return rows as a frame of Polars, some of whose columns have other types."""
    rows = mutated(rng, rows, lambda rng: clean(some_word(rng)))
    frame = pl.DataFrame(
        {name: [None if row.get(name) is None else str(row[name]) for row in rows] for name in columns_of(rows)}
    )
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        name = rng.choice(frame.columns) if frame.columns and rng.random() < 0.8 else rng.choice(NAMES)
        frame = frame.with_columns(some_series(rng, name, frame.height))
    if rng.random() < 0.3 and "timestamp" in frame.columns:
        frame = frame.with_columns(
            pl.col("timestamp").cast(pl.Int64, strict=False) if frame["timestamp"].dtype == pl.String else pl.lit(None)
        )
    if rng.random() < 0.04:
        frame = rng.choice([frame.clear(), pl.DataFrame(), frame.select([]), frame.head(1)])
    return frame


def some_object(rng: random.Random) -> Any:
    """Return what a column of Python objects may hold."""
    return rng.choice(
        [
            some_word(rng), some_value(rng), None, float("nan"), decimal.Decimal("NaN"), decimal.Decimal("1.50"),
            decimal.Decimal("sNaN"), dt.date(2020, 1, 31),
            dt.datetime(2020, 1, 31, 12), dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.time(12), dt.timedelta(days=1),
            np.int64(5), np.float32("nan"), np.datetime64("NaT"),
            np.datetime64("2020-01-31"), np.bool_(True), np.array(["a", "b"]), np.array(5), np.array([[1, 2], [3, 4]]),
            np.str_("x"), np.bytes_(b"x"), b"\xff", b"ok",
            bytearray(b"x"), memoryview(b"x"), {"a": np.array([1])}, {1: 2, None: 3}, {"a", "b"}, frozenset([1, "a"]),
            (1, 2), ["a", None, float("nan")], [dt.date(2020, 1, 1)],
            range(3), uuid.UUID(int=5), 2**70, -(10**5000), 1 + 2j, object, Ellipsis, lambda: 1, Path("x"), type("Odd",
            (), {"__str__": lambda self: "a\nb"})(),
            type("Bad", (), {"__str__": lambda self: 1 / 0, "__repr__": lambda self: 1 / 0})(), np.ma.masked, circle(),
        ]
    )  # fmt: skip


def circle() -> list[Any]:
    """Return a list that holds itself."""
    out: list[Any] = []
    out.append(out)
    return out


# Cases: each returns what is to be run.


def prepared(source: Any, items: Any = None, **options: Any) -> Run:
    """Return what prepares a data set and, if that works, does with it what the verbs do."""

    def run() -> None:
        data = Dataset.prepare(source, items, **options)
        lines = [*data.understood(), repr(data)]
        json.dumps([data.first_history(), data.info.model_dump(mode="json"), data.parts().as_dict()], allow_nan=False)
        "\n".join(lines).encode("utf-8", "backslashreplace")
        report = check(data)
        json.dumps(report.as_dict(), allow_nan=False)
        report.as_text().encode("utf-8", "backslashreplace")
        with tempfile.TemporaryDirectory() as place:
            data.save(Path(place) / "data")
            if Dataset.read(Path(place) / "data").info != data.info:
                raise AssertionError("what was saved is not what is read")

    return run


def file_case(rng: random.Random, place: Path, suffixes: list[str], content: Callable[[Rows, str], bytes]) -> Run:
    """Write a log and its items as files of one kind, and prepare them."""
    log, items = sound(rng)
    one_file = rng.random() < 0.4
    if one_file:
        of = {item["item_id"]: item for item in items}
        log = [row | of[row["item_id"]] for row in log]
    which = rng.choice(["log", "items", "both"])
    tables = {"interactions": (log, which != "items" or one_file)} | (
        {} if one_file else {"items": (items, which != "log")}
    )
    paths = []
    for name, (rows, change) in tables.items():
        suffix = rng.choice(suffixes)
        path = place / f"{rng.choice([name] * 6 + ['[a]*?', name.upper(), 'é ü'])}{'' if one_file else name[0]}{suffix}"
        if change:
            path = write(rng, path, content(mutated(rng, rows, some_value if "json" in suffix else some_word), suffix))
        else:
            path.write_bytes(gzip.compress(content(rows, suffix)) if suffix.endswith(".gz") else content(rows, suffix))
        paths.append(path)
    options = some_options(rng)
    way = rng.random()
    if way < 0.1:
        for path, name in zip(paths, tables, strict=True):
            if path.exists():  # two may have one name
                path.rename(place / (name + "".join(path.suffixes[-2:])))
        return prepared(str(place), **options)
    if way < 0.2 and len(paths) == 2:
        return prepared(paths[0], paths[1], **options)
    rng.shuffle(paths)
    return prepared(paths if len(paths) == 2 else paths[0], **options)


def csv_case(rng: random.Random, place: Path) -> Run:
    def content(rows: Rows, suffix: str) -> bytes:
        recbole = suffix in (".inter", ".item")
        separator = "\t" if recbole or ".tsv" in suffix else rng.choice([",", ",", ",", ";", "\t", "|"])
        return delimited(rng, rows, separator, recbole)

    return file_case(rng, place, [".csv", ".csv", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".inter", ".item"], content)


def json_case(rng: random.Random, place: Path) -> Run:
    return file_case(
        rng,
        place,
        [".jsonl", ".jsonl", ".json", ".ndjson", ".json.gz", ".jsonl.gz"],
        lambda rows, _: as_json(rng, rows),
    )


def parquet_case(rng: random.Random, place: Path) -> Run:
    """Write a log as Parquet: by polars or by pyarrow, as one file or a folder of parts."""
    log, items = sound(rng)
    of = {item["item_id"]: item for item in items}
    frame = some_frame(rng, [row | of[row["item_id"]] for row in log])
    options, way = some_options(rng), rng.random()
    path = place / rng.choice(["log.parquet", "log.pq", "lo[g]*.parquet"])
    if way < 0.15:
        path.mkdir()
        for number in range(rng.choice([0, 1, 2])):
            folder = path / rng.choice(
                [
                    "",
                    "",
                    "day=2020-01-01",
                    "x=%00",
                    "=",
                    "title=y",
                    "__HIVE_DEFAULT_PARTITION__",
                    "k=__HIVE_DEFAULT_PARTITION__",
                ]
            )
            folder.mkdir(exist_ok=True)
            part = folder / rng.choice(
                [f"part-{number}.parquet", f"train-0000{number}-of-00002.parquet", f"{'9' * 200}.parquet"][
                    : 3 if number else 2
                ]
            )
            write_parquet(rng, some_frame(rng, log) if rng.random() < 0.3 else frame, part)
    else:
        write_parquet(rng, frame, path)
    if rng.random() < 0.3:
        table = place / "items.parquet"
        write_parquet(rng, some_frame(rng, items), table)
        return prepared(path, table, **options)
    return prepared(path, **options)


def write_parquet(rng: random.Random, frame: pl.DataFrame, path: Path) -> None:
    buffer = io.BytesIO()
    try:
        if rng.random() < 0.3:
            import pyarrow.parquet

            table = frame.to_arrow()
            pyarrow.parquet.write_table(
                table, buffer, data_page_version=rng.choice(["1.0", "2.0"]), use_dictionary=rng.random() < 0.5
            )
        else:
            frame.write_parquet(buffer, compression=rng.choice(["zstd", "uncompressed", "snappy"]))
    except BaseException as error:  # no type of this file format
        if isinstance(error, KeyboardInterrupt):
            raise
        frame.select(pl.col(pl.String)).write_parquet(buffer)
    content = buffer.getvalue()
    if rng.random() < 0.35:
        content = damaged_bytes(rng, content)
    path.write_bytes(content)


def polars_case(rng: random.Random, place: Path) -> Run:
    log, items = sound(rng)
    of = {item["item_id"]: item for item in items}
    frame: Any = some_frame(rng, [row | of[row["item_id"]] for row in log])
    if rng.random() < 0.1:
        name = rng.choice(NAMES)
        frame = frame.with_columns(pl.Series(name, [some_object(rng) for _ in range(frame.height)], dtype=pl.Object))
    if rng.random() < 0.3:
        frame = frame.lazy()
    options = some_options(rng)
    if rng.random() < 0.3:
        return prepared([frame, some_frame(rng, items)], **options)
    return prepared(
        rng.choice([frame] * 20 + [None, 5, [], [frame, frame, frame], {"a": 1}, object(), b"log.csv", Path(), ""]),
        **options,
    )


def pandas_case(rng: random.Random, place: Path) -> Run:
    import pandas as pd

    log, items = sound(rng)
    of = {item["item_id"]: item for item in items}
    rows = mutated(rng, [row | of[row["item_id"]] for row in log], some_object if rng.random() < 0.5 else some_value)
    frame = pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in columns_of(rows)})
    size = len(frame)
    makers: list[Callable[[], Any]] = [
        lambda: pd.array([1, None] * size, dtype=rng.choice(["Int64", "UInt8", "Float32", "boolean"]))[:size],
        lambda: pd.Series(["a", None, "\0"] * size, dtype="category")[:size],
        lambda: pd.Series([1, 2, None] * size, dtype="category")[:size],
        lambda: pd.Series(pd.to_timedelta([1, None] * size, unit="D"))[:size],
        lambda: pd.Series(pd.period_range("2020-01", periods=size, freq="M")),
        lambda: pd.Series(pd.interval_range(0, size)) if size else pd.Series([], dtype=object),
        lambda: pd.Series(pd.date_range("2020-01-01", periods=size, tz=rng.choice([None, "UTC", "Europe/Berlin"]))),
        lambda: pd.Series(pd.date_range("2020-01-01", periods=size, freq="ns")),
        lambda: pd.Series(pd.arrays.SparseArray([0, 1, 0] * size)[:size]),
        lambda: pd.Series(np.arange(size) * (1 + 2j)),
        lambda: pd.Series(np.arange(size, dtype=np.float16)),
        lambda: pd.Series(["a", None] * size, dtype=rng.choice(["string", "str"]))[:size],
        lambda: pd.Series([np.arange(2)] * size),
        lambda: pd.Series([b"a", b"\xff"] * size)[:size],
        lambda: pd.Series([["a", 5]] * size, dtype=object),
    ]
    for _ in range(rng.choice([0, 0, 1, 2])):
        name = (
            rng.choice([*frame.columns])
            if len(frame.columns) and rng.random() < 0.7
            else rng.choice([*NAMES, 5, None, ("a", "b"), 1.5])
        )
        with contextlib.suppress(ValueError, TypeError):
            frame[name] = pd.Series(rng.choice(makers)()).to_numpy() if rng.random() < 0.1 else rng.choice(makers)()
    shape = rng.randrange(14)
    if shape == 0 and len(frame.columns):
        frame.columns = pd.MultiIndex.from_tuples([(name, "x") for name in frame.columns])
    elif shape == 1 and len(frame.columns):
        with contextlib.suppress(NotImplementedError):  # half precision
            frame = frame.set_index(frame.columns[0])
    elif shape == 2 and len(frame.columns) > 1:
        with contextlib.suppress(Exception):
            frame = frame.set_index([frame.columns[0], frame.columns[1]])
    elif shape == 3 and len(frame.columns):
        frame = pd.concat([frame, frame[[frame.columns[0]]]], axis=1)
    elif shape == 4 and size:
        frame.index = [rng.choice(["a", "b"]) for _ in range(size)]
    elif shape == 5 and size:
        frame.index = pd.date_range("2020-01-01", periods=size)
    elif shape == 6 and size:
        frame.index = [rng.choice([0, 1, 5]) for _ in range(size)]
    elif shape == 7:
        frame = rng.choice([frame.iloc[:0], frame.iloc[:, :0], pd.DataFrame(), frame.get("title", frame)])
    options = some_options(rng)
    if rng.random() < 0.2:
        return prepared([frame, pd.DataFrame(items)], **options)
    return prepared(frame, **options)


def arrow_case(rng: random.Random, place: Path) -> Run:
    import pyarrow as pa

    log, items = sound(rng)
    of = {item["item_id"]: item for item in items}
    try:
        table = some_frame(rng, [row | of[row["item_id"]] for row in log]).to_arrow()
    except BaseException as error:  # no type or name of Arrow's; polars may panic
        if isinstance(error, KeyboardInterrupt):
            raise
        table = pa.Table.from_pylist(log)
    size = table.num_rows
    makers: list[Callable[[], Any]] = [
        lambda: pa.nulls(size),
        lambda: pa.array(["a", None] * size)[:size].dictionary_encode(),
        lambda: pa.array([5, None] * size)[:size].dictionary_encode(),
        lambda: pa.array(["a"] * size, pa.large_string()),
        lambda: pa.array(["a"] * size, pa.string_view()),
        lambda: pa.array([b"a\xff"] * size, pa.binary_view()),
        lambda: pa.array([b"ab"] * size, pa.binary(2)),
        lambda: pa.array([decimal.Decimal("1.5")] * size, pa.decimal256(40, 2)),
        lambda: pa.array([[("a", 1)]] * size, pa.map_(pa.string(), pa.int64())),
        lambda: pa.array([1, 2] * size, pa.duration("s"))[:size],
        lambda: pa.array([1, 2] * size, pa.time32("s"))[:size],
        lambda: pa.array([(1, 2, 3)] * size, pa.month_day_nano_interval()),
        lambda: pa.array([np.float16(1)] * size, pa.float16()),
        lambda: pa.array([[1]] * size, pa.list_view(pa.int8())),
        lambda: pa.array([[1]] * size, pa.large_list(pa.int8())),
        lambda: pa.array([{"a": None}] * size, pa.struct([("a", pa.null())])),
        lambda: pa.array([True, None] * size)[:size],
        lambda: pa.array([2**62] * size, pa.timestamp("s", rng.choice([None, "UTC", "+01:00", "Mars/Base"]))),
        lambda: pa.array([-(2**31)] * size, pa.date32()),
        lambda: pa.array([2**62] * size, pa.date64()),
        lambda: pa.RunEndEncodedArray.from_arrays(pa.array([size], pa.int32()), pa.array(["a"])),
        lambda: pa.UnionArray.from_sparse(
            pa.array([0] * size, pa.int8()), [pa.array(["a"] * size), pa.array([1] * size)]
        ),
        lambda: pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * size, pa.binary(16))),
        lambda: pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}'] * size)),
    ]
    for _ in range(rng.choice([0, 1, 1, 2])):
        with contextlib.suppress(pa.ArrowException, AttributeError, ValueError, TypeError):
            column = rng.choice(makers)()
            if table.num_columns and rng.random() < 0.8:
                at = rng.randrange(table.num_columns)
                table = table.set_column(at, table.column_names[at], column)
            else:
                table = table.append_column(rng.choice([*NAMES, *table.column_names[:1]]), column)
    options = some_options(rng)
    if rng.random() < 0.2:
        return prepared([table, pa.Table.from_pylist(items)], **options)
    batches = table.to_batches() if rng.random() < 0.1 else []
    return prepared(batches[0] if batches else table, **options)


def layout_case(rng: random.Random, place: Path) -> Run:
    """Write the files of a public data set, with some rows changed and some bytes damaged."""
    _, files = rng.choice(sorted(LAYOUTS.items()))
    which = rng.randrange(len(files))
    for number, (file, make) in enumerate(files):
        log, items = sound(rng)
        rows, as_text = make(log, items)
        packed = rng.choice([file, file, f"{file}.gz"]) if file.endswith((".json", ".jsonl", ".csv")) else file
        if number == which:
            rows = mutated(rng, rows, some_value if as_text in ("json", "python") else some_word)
        content = as_text(rows) if callable(as_text) else TEXTS[as_text](rng, rows)
        path = place / packed
        if number == which:
            write(rng, path, content)
        else:
            path.write_bytes(gzip.compress(content) if packed.endswith(".gz") else content)
        if rng.random() < 0.02:
            path.unlink()
    options = some_options(rng)
    paths = sorted(place.iterdir())
    if rng.random() < 0.3 and 1 < len(paths) < 3:
        rng.shuffle(paths)
        return prepared(paths, **options)
    return prepared(place, **options)


TEXTS: dict[str, Callable[[random.Random, Rows], bytes]] = {
    "csv": delimited,
    "tsv": lambda rng, rows: delimited(rng, rows, "\t"),
    "typed": lambda rng, rows: delimited(rng, rows, "\t", True),
    "json": as_json,
    "python": lambda rng, rows: as_json(rng, rows, python=True),
    "dat": lambda rng, rows: bare(rows, "::"),
    "bare": lambda rng, rows: bare(rows, "\t"),
    "bars": lambda rng, rows: bare(rows, "|"),
}


def bare(rows: Rows, separator: str) -> bytes:
    """Return rows without a header and without quotation marks."""
    names = columns_of(rows)
    return "".join(
        separator.join("" if row.get(n) is None else str(row[n]) for n in names) + "\n" for row in rows
    ).encode("utf-8", "surrogatepass")


def renamed(rows: Rows, names: dict[str, str], **more: Any) -> Rows:
    return [{new: row.get(old) for old, new in names.items()} | more for row in rows]


Make = Callable[[Rows, Rows], tuple[Rows, str]]
LAYOUTS: dict[str, list[tuple[str, Make]]] = {
    "amazon 2014": [
        ("reviews_Toys.json", lambda log, items: (renamed(log, {"user_id": "reviewerID", "item_id": "asin",
        "rating": "overall"}, helpful=[0, 1], unixReviewTime=1400000000), "json")),
        ("meta_Toys.json", lambda log, items: (renamed(items, {"item_id": "asin", "title": "title", "brand": "brand"},
        categories=[["Toys", "Small"]], related={"also_bought": ["x"]}), "python")),
    ],
    "amazon 2018": [
        ("Toys_5.json", lambda log, items: (renamed(log, {"user_id": "reviewerID", "item_id": "asin",
        "rating": "overall"}, verified=True, unixReviewTime=1400000000), "json")),
        ("meta_Toys.json", lambda log, items: (renamed(items, {"item_id": "asin", "title": "title", "brand": "brand"},
        category=["Toys"], details={"Brand": "x"}), "json")),
    ],
    "amazon 2023": [
        ("Toys.jsonl", lambda log, items: (renamed(log, {"user_id": "user_id", "item_id": "parent_asin",
        "rating": "rating"}, asin="x", timestamp=1600000000000, verified_purchase=True, title="fine"), "json")),
        ("meta_Toys.jsonl", lambda log, items: (renamed(items, {"item_id": "parent_asin", "title": "title",
        "brand": "store"}, main_category="Toys", categories=["Toys"], details={"Brand": "x"}), "json")),
    ],
    "amazon 2023 ratings": [
        *((f"Toys.{part}.csv", lambda log, items: (renamed(log, {"user_id": "user_id", "item_id": "parent_asin",
        "rating": "rating", "timestamp": "timestamp"}, history=""), "csv")) for part in ("train", "valid", "test")),
        ("meta_Toys.jsonl", lambda log, items: (renamed(items, {"item_id": "parent_asin", "title": "title"},
        main_category="Toys", categories=[], details={}), "json")),
    ],
    "yelp": [
        ("yelp_academic_dataset_review.json", lambda log, items: (renamed(log, {"user_id": "user_id",
        "item_id": "business_id", "rating": "stars"}, review_id="r", date="2018-07-07 22:09:11", text="x"), "json")),
        ("yelp_academic_dataset_business.json", lambda log, items: (renamed(items, {"item_id": "business_id",
        "title": "name"}, city="X", categories="A, B", attributes={"x": "True"}, hours=None), "json")),
    ],
    "food.com": [
        ("interactions.csv", lambda log, items: (renamed(log, {"user_id": "user_id", "item_id": "recipe_id",
        "rating": "rating"}, date="2003-02-17", review="a\nb"), "csv")),
        ("items.csv", lambda log, items: (renamed(items, {"title": "name", "item_id": "id"}, minutes="55",
        submitted="2005-09-16", tags="['a', 'b']", nutrition="[51.5, 0.0]", steps="['x']"), "csv")),
    ],
    "movielens csv": [
        ("ratings.csv", lambda log, items: (renamed(log, {"user_id": "userId", "item_id": "movieId", "rating": "rating",
        "timestamp": "timestamp"}), "csv")),
        ("movies.csv", lambda log, items: (renamed(items, {"item_id": "movieId", "title": "title"}, genres="Drama|War"),
        "csv")),
    ],
    "movielens 1m": [
        ("ratings.dat", lambda log, items: (renamed(log, {"user_id": "u", "item_id": "i", "rating": "r",
        "timestamp": "t"}), "dat")),
        ("movies.dat", lambda log, items: (renamed(items, {"item_id": "i", "title": "t"}, g="Drama|War"), "dat")),
    ],
    "movielens 100k": [
        ("u.data", lambda log, items: (renamed(log, {"user_id": "u", "item_id": "i", "rating": "r", "timestamp": "t"}),
        "bare")),
        ("u.item", lambda log, items: (renamed(items, {"item_id": "i", "title": "t"}, d="01-Jan-1995", v="", u="http",
        **{f"g{n}": str(n % 2) for n in range(19)}), "bars")),
        ("u.genre", lambda log, items: ([{"g": f"G{n}", "n": str(n)} for n in range(19)], "bars")),
    ],
    "recbole": [
        ("x.inter", lambda log, items: (renamed(log, {"user_id": "user_id", "item_id": "item_id",
        "timestamp": "timestamp"}), "typed")),
        ("x.item", lambda log, items: (items, "typed")),
    ],
    "steam": [
        ("steam_reviews.json", lambda log, items: (renamed(log, {"user_id": "username", "item_id": "product_id"},
        date="2017-12-17", hours=5.5, text="x"), "python")),
        ("steam_games.json", lambda log, items: (renamed(items, {"item_id": "id", "title": "app_name"}, url="http",
        developer="D", genres=["Action"], tags=["A"]), "python")),
    ],
    "goodreads": [
        ("goodreads_interactions.json", lambda log, items: (renamed(log, {"user_id": "user_id", "item_id": "book_id"},
        date_added="Mon Aug 01 13:41:57 -0700 2011", read_at="", is_read=True, rating=5), "json")),
        ("goodreads_books.json", lambda log, items: (renamed(items, {"item_id": "book_id", "title": "title"},
        authors=[{"author_id": "1", "role": ""}], popular_shelves=[{"count": "5", "name": "fiction"}]), "json")),
        ("goodreads_book_authors.json", lambda log, items: ([{"author_id": "1", "name": "A. Writer",
        "average_rating": "4.0"}], "json")),
    ],
    "mind": [
        ("behaviors.tsv", lambda log, items: ([{"n": str(n), "u": row["user_id"], "t": "11/11/2019 9:05:58 AM",
        "h": "i0 i1 i2", "i": f"{row['item_id']}-1 i4-0"} for n, row in enumerate(log)], "bare")),
        ("news.tsv", lambda log, items: (renamed(items, {"item_id": "i", "brand": "c", "category": "s", "title": "t"},
        a="About", u="http", e="[]", g="[]"), "bare")),
    ],
}  # fmt: skip


def option_case(rng: random.Random, place: Path) -> Run:
    """Give a sound log any options."""
    log, items = sound(rng)
    of = {item["item_id"]: item for item in items}
    options: dict[str, Any] = {}
    while len(options) < 3:
        options |= some_options(rng)
    paths = {
        rng.choice(
            [
                *WORDS[:70],
                "x" * 300,
                "/dev/null",
                "/",
                "~",
                "http://",
                "https://\0",
                "ftp://x",
                "file:///x",
                "http://[",
                "x.zip",
            ]
        )
        or "."
    }
    kind = rng.random()
    if kind < 0.1:
        return prepared([rng.choice([*paths])], **options)
    return prepared(pl.DataFrame([row | of[row["item_id"]] for row in log]), **options)


def yaml_case(rng: random.Random, place: Path) -> Run:
    """Write a file of options, and hand it to what reads it."""
    from foster.bench.options import BenchOptions
    from foster.models.options import ModelOptions
    from foster.text.options import EncoderOptions
    from foster.training.options import TeacherOptions, TrainOptions
    from foster.tuning.space import DEFAULT

    reader = rng.choice(["config", "config", "space", "space", "variants", "students"])
    fields = {
        name: group.model_fields[name].default
        for group in (ModelOptions, TrainOptions, EncoderOptions, TeacherOptions, BenchOptions)
        for name in group.model_fields
    }
    if reader == "space":
        content: Any = {name: DEFAULT[name] for name in rng.sample(sorted(DEFAULT), 3)}
    elif reader == "config":
        content = {name: plain(fields[name]) for name in rng.sample(sorted(fields), 3)} | {"seed": 1}
    else:
        own = {"method": "foster", "steps": 5} if reader == "variants" else {"backbone": "gru4rec", "dim": 32}
        content = {"one": own, "two": dict(own)}
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        holder = (
            content
            if rng.random() < 0.4
            else rng.choice([v for v in content.values() if isinstance(v, dict)] or [content])
        )
        key = (
            rng.choice([*holder])
            if rng.random() < 0.7 and holder
            else rng.choice([*fields, *NAMES, "low", "high", "step", "log", "choices", "finetune", "method", "budget"])
        )
        holder[key] = rng.choice([*YAML_VALUES, some_value(rng), clean(some_word(rng))])
    try:
        with no_limit_of_digits():
            text = yaml.safe_dump(content, allow_unicode=rng.random() < 0.5, sort_keys=False)
    except (yaml.YAMLError, UnicodeEncodeError):
        text = "steps: 5\n"
    path = place / "options.yaml"
    raw = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        raw = rng.choice(YAML_TEXTS) if rng.random() < 0.5 else damaged_bytes(rng, raw)
    path.write_bytes(raw)
    return lambda: read_options(reader, path)


YAML_VALUES: list[Any] = [
    None, True, -1, 0, 10**30, 10**4500, 1e400, float("nan"), "", [], {}, [None], [[]], {"low": 1, "high": 2},
    {"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True},
    {"low": 1, "high": 10**30}, {"low": 1e-320, "high": 1e308, "log": True}, {"low": 1, "high": 64, "step": 0},
    {"low": 1, "high": 64, "step": 10**30}, {"low": 0.0, "high": 1.0, "step": 1e-300},
    {"choices": []}, {"choices": [{}]}, {"choices": [1, 1.0, True]}, {"choices": [float("nan")]},
    {"choices": list(range(3000))}, [1, "a", None], dt.date(2020, 1, 1), b"\xff", "5", "1e3", "0x10",
    "top:1", "top:-1", "lora:0", "lora:" + "9" * 5000, "all", {"a": {"a": {"a": 1}}}, {None: 1}, {1: 2}, "foster",
    "cpu", "cuda:99", "auto", "x" * 10_000,
]  # fmt: skip
YAML_TEXTS = [
    b"", b"\0", b"- a\n- b\n", b"a", b"5", b"{", b"a: b: c", b"a: &x [*x]", b"a: *x", b"&a {x: *a}",
    b"!!python/object/apply:os.system [x]", b"!!set {a, b}", b"a: !!int x", b"a: !!float .", b"a: !!binary x",
    b"a: !!bool x", b"a: !!int ''", b"a: !!float ''", b"a: !!null x", b"a: !!omap x", b"a: !!pairs x",
    b"a: !!timestamp x", b"? [a]\n: b", b"? {a: 1}\n: b", b"<<: 5", b"<<: [1]", b"<<: {steps: 5}", b"steps: 2020-99-99",
    b"steps: 1:99:99", b"steps: 0b2", b"steps: 0o9", b"%YAML 9.9\n---\na: 1", b"a: 1\n---\nb: 2",
    b"a: |\n" + b" x\n" * 9, b"a: \t1", b"\xff", b"[" * 3000, b"{a: " * 3000, b"- " * 3000,
    b"a: " + b"[" * 400 + b"]" * 400, b"!!str", b"steps: 5\nsteps: 6", b"batch-size: 5\nbatch_size: 6", b"steps: ~",
    b"\xef\xbb\xbfsteps: 5",
    b"a: &a [x]\n" + b"".join(b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (98 + n, 98 + n,
    *[97 + n] * 8) for n in range(9)), b"steps: 9" + b"9" * 5000, b"steps: 1e9999", b"steps: .inf", b"steps: -.nan",
    b"lr: 99999999999999999999:59:59", b"a: 0000-00-00", b"a: 2020-01-01t99:99:99z", b"a: 2020-01-01 00:00:00 +99:99",
    b"? |\n  x\n: y", b"? " * 900, b"a: !<x> b", b"seed: 1_0", b"a: '\\ud800'", b'a: "\\ud800"', b'a: "\\uD83D\\uDE00"',
    b'"\\ud800": 1',
]  # fmt: skip


def plain(value: Any) -> Any:
    return (
        list(value)
        if isinstance(value, tuple)
        else value
        if isinstance(value, int | float | str | type(None))
        else str(value)
    )


def read_options(reader: str, path: Path) -> None:
    """Read a file as the verbs do."""
    from foster.bench.rows import Recipe, students_of, variants_of
    from foster.cli.values import read_yaml
    from foster.models.options import ModelOptions
    from foster.text.options import EncoderOptions
    from foster.training.options import TeacherOptions, TrainOptions
    from foster.tuning.space import Space

    if reader == "config":
        by_command_line("prepare", "no.csv", "--dry-run", "--config", str(path))
        by_command_line("bench", "nowhere", "--out", str(path.parent / "out"), "--config", str(path))
        return
    content = read_yaml(path, f"--{reader}", "a: {b: 1}")
    if reader == "space":
        space = Space.parse(content, str(path))
        space.check(ModelOptions(), TrainOptions(), str(path))
        json.dumps(space.terms())
    elif reader == "variants":
        variants_of((), content, str(path))
    else:
        students_of(content, Recipe(EncoderOptions(), ModelOptions(), TrainOptions(), TeacherOptions()), str(path))


def by_command_line(*arguments: str) -> str:
    """Run a verb; its one line is raised."""
    from foster.cli import main as foster

    before = sys.argv
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["foster", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            foster()
    except SystemExit as end:
        if end.code not in (0, 2, None):
            raise AssertionError(f"exit status {end.code}: {err.getvalue()}") from end
        last = err.getvalue().removesuffix("\n").split("\n")
        lines = [line for line in last if line.startswith("foster: ")]
        if end.code == 2 and (len(lines) != 1 or last[-1] != lines[0]):
            raise AssertionError(f"no one line: {err.getvalue()!r}") from end
    finally:
        sys.argv = before
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return out.getvalue()


@functools.cache
def the_model() -> Any:
    """Return a model with a tiny encoder, which can read texts."""
    from foster.data.catalogue import Catalogue
    from foster.models.options import ModelOptions
    from foster.models.recommender import TextRecommender
    from foster.text.options import EncoderOptions
    from tiny_encoder import build_tiny_encoder

    encoder = build_tiny_encoder(Path(tempfile.mkdtemp(dir=os.environ["FOSTER_CACHE"])))
    catalogue = Catalogue(
        [f"i{n}" for n in range(8)] + ["\0", "\u202e"],
        [f"{word} game" for word in ["red", "green", "blue", "old", "new", "small", "large", "fast", "dark", "light"]],
    )
    shape = ModelOptions(dim=8, layers=1, max_length=6)
    return TextRecommender.build(catalogue, EncoderOptions(encoder=str(encoder)), shape).eval()


def history_case(rng: random.Random, place: Path) -> Run:
    """Ask a model for recommendations with any history, or give it new items."""
    entries = [*WORDS, *NUMBERS, "\ud800", "a\udcff", "i0", "i1", "i2", "red game"]
    one = [
        rng.choice(entries) if rng.random() < 0.6 else f"i{rng.randrange(8)}"
        for _ in range(rng.choice([0, 1, 2, 5, 40]))
    ]
    odd: list[Any] = [
        one,
        tuple(one),
        [None],
        [5],
        [1.5],
        [float("nan")],
        [b"x"],
        [["i0"]],
        "i0",
        None,
        5,
        [True],
        np.array(["i0"]),
        [np.int64(1)],
        [object()],
        [{}],
    ]
    histories: Any = rng.choice(
        [
            [one],
            [one],
            [one],
            [one, ["i0"]],
            [],
            [rng.choice(odd)],
            rng.choice(odd),
            "i0",
            None,
            np.array([["i0", "i1"]]),
        ]
    )
    k = rng.choice([1, 3, 10, 0, -1, 11, 10**9, 2**70])
    model = the_model()

    def run() -> None:
        kind = rng.random()
        if kind < 0.15:
            ids, texts = rng.choices(entries, k=2), rng.choices(entries, k=rng.choice([1, 2, 2, 2]))
            copy.deepcopy(model).add_items(texts, ids)
        elif kind < 0.3:
            model.encode_texts(rng.choices(entries, k=3))
        else:
            for found in model.recommend(histories, k):
                json.dumps(found)

    return run


@functools.cache
def the_folders() -> tuple[dict[str, Any], Path]:
    """Return damage.py, and folders of every kind that it made with two seeds."""
    damage = runpy.run_path(str(ROOT / "benchmarks" / "damage.py"))
    place = Path(tempfile.mkdtemp(dir=os.environ["FOSTER_CACHE"]))
    for which in (0, 1):
        damage["make"](place / str(which), which)
    return damage, place


def folder_case(rng: random.Random, place: Path) -> Run:
    """Damage a folder, and read it."""
    damage, folders = the_folders()
    changes = rng.choice([damage["DAMAGE"], damage["WRONG"], damage["ANY"]])
    change = rng.choice([one for one in changes if one.__name__ != "sparse"])  # gigabytes, which take their time
    name = rng.choice(sorted(path.name for path in (folders / "0").iterdir()))
    folder = Path(shutil.copytree(folders / "0" / name, place / name))
    change(rng, folder, folders / "1" / name)

    def run() -> None:
        from foster.inspection.inspect import look_at

        if rng.random() < 0.2:
            summary = look_at(folder).summary()
            json.dumps(summary.as_dict()), summary.as_text()
        else:
            damage["read"](folder)

    return run


SORTS: dict[str, tuple[int, Callable[[random.Random, Path], Run]]] = {
    "csv": (20, csv_case), "json": (16, json_case), "parquet": (12, parquet_case), "polars": (8, polars_case),
    "pandas": (8, pandas_case), "arrow": (5, arrow_case),
    "layouts": (12, layout_case), "options": (5, option_case), "yaml": (8, yaml_case), "history": (3, history_case),
    "folders": (3, folder_case),
}  # fmt: skip


# Running them.


def case(seed: int, number: int, sorts: list[str], place: Path) -> tuple[str, Run]:
    """Return the sort of a case, and what is run."""
    rng = random.Random(f"{seed} {number}")
    (sort,) = rng.choices(sorts, [SORTS[name][0] for name in sorts])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sort, SORTS[sort][1](rng, place)


def outcome(run: Run, slow: float) -> str:
    """Run a case; return "read", "refused", or what is wrong."""
    # Seconds of the processor, since others may be at work.
    start, signalled = time.process_time(), signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, 4 * slow)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run()
        found = "read"
    except InputError as error:
        message = str(error)
        odd = [c for c in message if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in "\u202e\ufeff"]
        found = f"message: {message[:300]!r}" if odd or not message or len(message) > LONGEST else "refused"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if os.environ.get("TRACE"):
            traceback.print_exc()
        frames = traceback.extract_tb(error.__traceback__)
        ours = next((f for f in reversed(frames) if "/foster/" in f.filename), frames[-1])
        text = " ".join(str(error).split())[:200]
        found = f"{type(error).__name__} at {Path(ours.filename).name}:{ours.lineno}: {text}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signalled)
    seconds = time.process_time() - start
    return f"slow: {seconds:.1f} s, {found}" if seconds > slow and found in ("read", "refused") else found


def too_long(number: int, frame: object) -> None:
    raise TimeoutError("takes too long")


def work(seed: int, first: int, last: int, sorts: list[str], slow: float, report: int) -> None:
    """Do some cases, and write a line for each into a pipe."""
    the_model(), the_folders()
    gc.freeze()  # of what is loaded nothing is garbage, and to look at it takes longer than a case
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, used + SPARE))
    for number in range(first, last):
        os.write(report, json.dumps([number, ""]).encode() + b"\n")
        with tempfile.TemporaryDirectory() as place:
            try:
                sort, run = case(seed, number, sorts, Path(place))
            except BaseException as error:
                trace = traceback.extract_tb(error.__traceback__)[-1]
                sort, said = (
                    "none",
                    f"fuzz.py itself: {type(error).__name__} {error} ({Path(trace.filename).name}:{trace.lineno})",
                )
            else:
                said = outcome(run, slow)
                del run
        os.write(report, json.dumps([number, sort, said]).encode() + b"\n")
        gc.collect() if number % 50 == 0 else None


def fuzz(
    cases: int, seed: int, sorts: list[str], first: int = 0, slow: float = 3.0, say: Callable[[str], None] = print
) -> tuple[collections.Counter[str], list[str]]:
    """Run cases in processes one after another; return how often each thing happened, and the failures."""
    counts: collections.Counter[str] = collections.Counter()
    failures: list[str] = []

    def failed(number: int, sort: str, what: str) -> None:
        counts[f"{sort}: failed"] += 1
        failures.append(f"{number} {sort}: {what}")
        say(failures[-1])

    number, end = first, first + cases
    while number < end:
        reads, writes = os.pipe()
        last = min(end, number + CHUNK)
        if not (pid := os.fork()):
            os.close(reads)
            quiet = os.open(os.environ.get("FUZZ_ERRORS", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(quiet, 2)
            try:
                work(seed, number, last, sorts, slow, writes)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(writes)
        at, rest, hung = number, b"", False
        with selectors.DefaultSelector() as selector:
            selector.register(reads, selectors.EVENT_READ)
            while True:
                if not selector.select(timeout=200 * slow):
                    os.kill(pid, signal.SIGKILL)
                    hung = True
                    break
                part = os.read(reads, 65536)
                if not part:
                    break
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    at, sort, *said = json.loads(line)
                    if not said:
                        continue
                    number = at + 1
                    if said[0] in ("read", "refused"):
                        counts[f"{sort}: {said[0]}"] += 1
                    else:
                        failed(at, sort, said[0])
        os.close(reads)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if number < last:
            failed(at, "?", "hangs" if hung else f"ends the process ({code})")
            number = at + 1
    return counts, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to go on where another run was")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sorts", default=",".join(SORTS))
    parser.add_argument("--slow", type=float, default=3.0, help="seconds of the processor that a case may take")
    parser.add_argument("--only", type=int, help="run this case alone, here, and show its traceback")
    options = parser.parse_args()
    sorts = options.sorts.split(",")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["FOSTER_CACHE"] = cache
        if options.only is not None:
            os.environ["TRACE"] = "1"
            place = Path(cache) / "case"
            place.mkdir()
            sort, run = case(options.seed, options.only, sorts, place)
            for path in sorted(place.rglob("*")):
                print(path, path.read_bytes()[:3000] if path.is_file() else "", file=sys.stderr)
            print(sort, outcome(run, options.slow))
            return 0
        start = time.perf_counter()
        counts, failures = fuzz(
            options.cases, options.seed, sorts, options.first, options.slow, lambda line: print(line, flush=True)
        )
    for what, count in sorted(counts.items()):
        print(f"{count:7,} {what}")
    print(f"{sum(counts.values()):,} cases in {time.perf_counter() - start:.0f} s, {len(failures)} failures")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
