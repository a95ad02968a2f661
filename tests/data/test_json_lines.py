import glob
import json

import pytest

from foster.data.json_lines import _names, scan_json_lines
from foster.data.readers import read_table
from foster.data.texts import tidy, within
from foster.errors import InputError


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", ["a[1].jsonl", "a*.jsonl", "a?.jsonl"])
def test_names_are_no_patterns(tmp_path, name):
    for other in ("a1.jsonl", "ab.jsonl"):
        write(tmp_path / other, '{"a": "wrong"}\n')
    assert read_table(write(tmp_path / name, '{"a": 1}\n')).rows() == [("1",)]
    assert glob.escape(name) != name


def test_a_name_that_comes_late_is_a_column(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n' * 20_000 + '{"a": 2, "late": "x"}\n')
    assert read_table(path)["late"].drop_nulls().to_list() == ["x"]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("price", ["NaN", "1.5"])
def test_what_polars_cannot_read_gives_the_same_values(tmp_path, start, price):
    lines = f'{{"a": 1.0, "b": ["x", 2], "c": true, "price": {price}}}\n\n{{"b": {{"k": "v"}}, "a": null, "d": "é"}}\n'
    rows = scan_json_lines(write(tmp_path / "a.jsonl", start + lines.encode())).collect()
    assert rows.to_dicts() == [
        {"a": "1", "b": '["x", 2]', "c": "true", "price": "1.5" if price == "1.5" else None, "d": None},
        {"a": None, "b": '{"k": "v"}', "c": None, "price": None, "d": "é"},
    ]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_objects(tmp_path, indent):
    path = write(tmp_path / "a.json", json.dumps([{"a": 1}, {"b": "x"}], indent=indent))
    assert read_table(path).rows() == [("1", None), (None, "x")]


def test_signs_of_two_halves_are_read_and_half_a_sign_is_an_error(tmp_path):
    assert read_table(write(tmp_path / "a.jsonl", '{"a": "\\ud83d\\ude00"}\n')).rows() == [("\U0001f600",)]
    with pytest.raises(InputError, match="half a surrogate pair"):
        read_table(write(tmp_path / "b.jsonl", '{"a": "\\ud83d"}\n'))


def test_a_name_that_stands_twice_is_an_error_in_any_line(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 1, "b": {"a": 2}}\n' * 3_000 + '{"a": 1, "a": 2}\n')
    with pytest.raises(InputError, match="line 3001 has the name 'a' twice"):
        read_table(path)
    assert read_table(write(tmp_path / "b.jsonl", '{"a": 1, "b": {"a": 2}}\n')).columns == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["C:\\new", "b"], "C:\\new, b"),
        (["ends with \\"], "ends with \\"),
        (["\\u0041"], "\\u0041"),
        (["a\tb", True], "a b, True"),
        ({'in "': ["x"], "k": ["a\\b"]}, "a\\b"),
        ({'say "k': 1, "k": "v"}, "v"),
    ],
)
def test_escapes_in_lists_and_objects_are_kept(tmp_path, value, text):
    first = json.dumps({"a": "x"}) + "\n"
    rows = read_table(write(tmp_path / "a.jsonl", first * 2_000 + json.dumps({"a": value}) + "\n"))
    field = tidy(rows["a"]) if isinstance(value, list) else within(rows["a"], ["k"], "a.k", "a.jsonl")
    assert field[-1] == text


def test_a_backslash_in_a_text_stays_and_costs_nothing(tmp_path):
    path = write(tmp_path / "a.jsonl", json.dumps({"a": "C:\\new", "b": ["x"]}) + "\n")
    assert _names(path) == ["a", "b"]
    assert read_table(path).rows() == [("C:\\new", '["x"]')]
