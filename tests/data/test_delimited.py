"""Separated values: what polars would take without a word is read exactly or refused."""

import csv
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foster.data.readers import open_table, read_table
from foster.errors import InputError


def write(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def rows(path):
    return read_table(path).rows()


def refused(path, words):
    with pytest.raises(InputError) as error:
        read_table(path)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["log[1].csv", "log*.csv", "l?g.csv", "{a,b}.csv", "%41.csv", "[x].tsv.gz"])
def test_names_are_no_patterns(tmp_path, name):
    for other in ("log1.csv", "logs.csv", "log.csv", "a.csv", "A.csv", "x.tsv.gz"):
        write(tmp_path / other, "a\tb\nwrong\twrong\n" if "tsv" in other else "a,b\nwrong,wrong\n")
    separator = "\t" if "tsv" in name else ","
    assert rows(write(tmp_path / name, f"a{separator}b\n1{separator}2\n")) == [("1", "2")]


@pytest.mark.parametrize("columns", [["a"], ["b"], ["a", "b"], None])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_field_too_many_is_an_error_whatever_columns_are_read(tmp_path, columns, suffix):
    table = open_table(write(tmp_path / f"a{suffix}", "a,b\n1,2\n3,lamp, red\n"))
    with pytest.raises(InputError, match=r"line 3 has 3 fields, but the header has 2; put a field .* quotation marks"):
        table.read(columns)


def test_an_empty_field_too_many_at_the_end_is_nothing(tmp_path):
    assert rows(write(tmp_path / "a.csv", "a,b\n1,2,\n3,4\n")) == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize("rest", [",,,really", ",,,,,x", ",,"])
def test_what_stands_behind_empty_fields_is_seen(tmp_path, rest):
    path = write(tmp_path / "a.csv", f"a,title\n1,x\n2,Wow{rest}\n")
    if rest.strip(","):
        refused(path, f"line 3 has {2 + rest.count(',')} fields, but the header has 2")
    else:
        assert rows(path)[1] == ("2", "Wow")


def test_a_line_that_ends_early_is_an_error_and_an_empty_last_field_none(tmp_path):
    assert rows(write(tmp_path / "a.csv", "a,b\n1,\n3,4\n")) == [("1", None), ("3", "4")]
    refused(write(tmp_path / "b.csv", "a,b\n1,\n3\n"), "line 3 has 1 fields, but the header has 2")
    refused(write(tmp_path / "c.csv", 'a,b\n"1,2"\n3,4\n'), "line 2 has 1 fields, but the header has 2")


@pytest.mark.parametrize("empty", ["\n", "\r\n", ",,\n", "\n\n"])
def test_lines_without_anything_are_no_rows(tmp_path, empty):
    end = "\r\n" if "\r" in empty else "\n"
    text = f"a,b,c{end}1,2,3{end}{empty}4,5,6{end}{empty}"
    assert rows(write(tmp_path / "a.csv", text)) == [("1", "2", "3"), ("4", "5", "6")]
    assert rows(write(tmp_path / "a.csv.gz", text)) == [("1", "2", "3"), ("4", "5", "6")]


def test_marks_within_a_field_are_signs(tmp_path):
    path = write(tmp_path / "a.csv", 'a,b\n1,rope 12"\n2,"x, ""y"""\n3,lamp 9" big\n4,z\n')
    assert rows(path) == [("1", 'rope 12"'), ("2", 'x, "y"'), ("3", 'lamp 9" big'), ("4", "z")]


def test_a_field_may_go_over_lines_but_not_swallow_rows(tmp_path):
    assert rows(write(tmp_path / "a.csv", 'a,b,c\n1,"x\ny",2\n3,4,5\n')) == [("1", "x\ny", "2"), ("3", "4", "5")]
    text = 'id,title\n1,"Big lamp\nRed, soft"\n2,"Desk, white\nOak, oiled, 2 m, 3\n"\n'
    assert rows(write(tmp_path / "t.csv", text)) == [
        ("1", "Big lamp\nRed, soft"),
        ("2", "Desk, white\nOak, oiled, 2 m, 3\n"),
    ]
    refused(write(tmp_path / "s.csv", 'a, b\n1, 2\n3," Tall\n4, x 12"\n'), "makes lines 3 to 4 one row")
    refused(write(tmp_path / "b.csv", 'a,b,c\n1,"Tall,2\n3,x,5\n6,rope 12",7\n'), "makes lines 2 to 4 one row")


@given(
    st.lists(
        st.lists(st.sampled_from(["", "x", 'rope 12"', 'a "q" b', '"a, b"', '"a ""b"""', "é"]), min_size=3, max_size=3),
        min_size=1,
        max_size=6,
    )
)
def test_rows_are_those_of_the_csv_module(tmp_path_factory, fields):
    text = "a,b,c\n" + "".join(",".join(row) + "\n" for row in fields)
    expected = [tuple(value or None for value in row) for row in list(csv.reader(io.StringIO(text), strict=True))[1:]]
    expected = [row for row in expected if any(row)]
    path = write(tmp_path_factory.mktemp("csv") / "a.csv", text)
    if expected:
        assert rows(path) == expected


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_is_seen_in_the_header_and_said(tmp_path, separator):
    table = open_table(
        write(tmp_path / "a.csv", separator.join("abc") + "\n" + separator.join(["1", "x, y", "3"]) + "\n")
    )
    assert table.read().rows() == [("1", "x, y", "3")]
    assert table.remark.startswith("separated by")


def test_every_reader_of_separated_values_names_the_line(tmp_path):
    refused(
        write(tmp_path / "a.inter", "a:token\tb:float\n1\t2\n1\t2\t3\t4\t5\n"),
        "line 3 has 5 fields, but the header has 2",
    )


def test_a_line_that_says_the_separator_is_no_header(tmp_path):
    table = open_table(write(tmp_path / "a.csv", "sep=;\na;b\n1;x, y\n"))
    assert table.columns == ["a", "b"] and table.read().rows() == [("1", "x, y")]


class TestTabs:
    def test_marks_are_signs(self, tmp_path):
        text = 'a\tb\n1\t"Tall basket\n2\trope 12"\n3\t"Big" lamp\n4\t"The Lamp"\n'
        assert [row[1] for row in rows(write(tmp_path / "a.tsv", text))] == [
            '"Tall basket', 'rope 12"', '"Big" lamp', '"The Lamp"'
        ]  # fmt: skip

    @pytest.mark.parametrize("text", ['a\tb\n1\t"rope 12"""\n2\tx\n', '"a"\t"b"\n"1"\t"rope 12"""\n"2"\t"x"\n'])
    def test_quoting_as_in_csv_is_seen(self, tmp_path, text):
        table = open_table(write(tmp_path / "a.tsv", text))
        assert table.read().rows() == [("1", 'rope 12"'), ("2", "x")]
        assert table.remark == "fields in quotation marks"


@pytest.mark.parametrize(
    "content",
    ["a,b\n1,2\n".encode("utf-16"), gzip.compress(b"a,b\n1,2\n"), b"a,b\n\xe4,2\n"],
    ids=["utf-16", "gzip", "latin"],
)  # a name by content would hold the second in which it was packed, and differ between processes
def test_what_is_no_utf8_is_said_with_its_line(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    refused(path, "is not UTF-8 text; save the file as UTF-8")


def test_names_in_the_header(tmp_path):
    assert read_table(write(tmp_path / "a.csv", ",b , c\n1,2,3\n")).columns == ["column 1", "b", "c"]
    refused(write(tmp_path / "b.csv", "a, a\n1,2\n"), "column 'a' stands twice in the header; rename one")
    refused(
        write(tmp_path / "c.inter", "a:token\ta:float\n1\t2\n"), "column 'a' stands twice in the header; rename one"
    )
