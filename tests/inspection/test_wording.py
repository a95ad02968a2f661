"""How texts and numbers are shown."""

from __future__ import annotations

import pytest

from foster.inspection.wording import clean, number, place_name, plain, size
from foster.wording import many, percent


def test_texts_are_one_line_without_signs_that_act():
    assert clean("a\n b\t c") == "a b c"
    assert clean("x\x1b[31m\u202ey\x00\ud800z") == "x\ufffd[31m\ufffdy\ufffd\ufffdz"
    assert clean("עברית 日本語 é") == "עברית 日本語 é"
    assert clean("abcdef", 3) == "abc..."


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 %"),
        (0.0004, "<0.1 %"),
        (0.1234, "12.3 %"),
        (0.5, "50.0 %"),
        (2358 / 2363, "99.8 %"),
        (0.9999, ">99.9 %"),
        (1, "100 %"),
    ],
)
def test_percent(value, shown):
    assert percent(value) == shown


def test_numbers():
    assert [number(n) for n in (1234567, 0.000123456, 12345.6)] == ["1,234,567", "0.0001235", "12,346"]
    assert size(999) == "999 bytes" and size(1_236_861) == "1.24 MB (1,236,861 bytes)"
    assert many(1, "step") == "1 step" and many(2, "history", "histories") == "2 histories"


def test_of_places_the_name_is_shown():
    assert [place_name(p) for p in ("/home/me/enc", "C:\\me\\enc", "./enc", "all-MiniLM", "org/model")] == [
        "enc", "enc", "enc", "all-MiniLM", "org/model",
    ]  # fmt: skip
    assert plain({"encoder": "/home/me/enc", "ids": False, "lr": None}) == "encoder enc, ids no, lr not set"
