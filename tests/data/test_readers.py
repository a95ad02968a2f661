import gzip
import json

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from foster.data.readers import FORMATS, open_table, read_table
from foster.errors import InputError

ROWS = [{"user_id": "u1", "item_id": "007", "title": 'a "b", c'}, {"user_id": "u2", "item_id": "1", "title": None}]


def write(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_rows(folder, suffix):
    """Write ROWS in the format that the suffix stands for."""
    path = folder / f"rows{suffix}"
    kind = suffix.removesuffix(".gz")
    frame = pl.DataFrame(ROWS)
    if kind in (".parquet", ".pq"):
        frame.write_parquet(path)
        return path
    if kind == ".csv":
        return write(path, frame.write_csv())
    if kind == ".tsv":
        return write(path, frame.write_csv(separator="\t"))
    if kind in (".inter", ".item"):
        lines = ["user_id:token\titem_id:token\ttitle:token_seq"]
        lines += ["\t".join(value or "" for value in row.values()) for row in ROWS]
        return write(path, "\n".join(lines) + "\n")
    return write(path, "".join(json.dumps(row) + "\n" for row in ROWS))


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    assert read_table(write_rows(tmp_path, suffix)).to_dicts() == ROWS


def test_upper_case_suffixes_are_known(tmp_path):
    assert read_table(write(tmp_path / "ROWS.CSV", "a\n1\n")).to_dicts() == [{"a": "1"}]


def test_a_folder_of_parts_is_one_table_in_the_order_of_names(tmp_path):
    folder = tmp_path / "log.parquet"
    folder.mkdir()
    for name, value in (("part-1", "b"), ("part-0", "a")):
        pl.DataFrame({"x": [value]}).write_parquet(folder / f"{name}.parquet")
    (folder / "_SUCCESS").touch()
    assert read_table(folder)["x"].to_list() == ["a", "b"]


def test_json_numbers_and_lists_are_read_as_text_whatever_the_lines_hold(tmp_path):
    path = write(
        tmp_path / "a.jsonl", '{"id": 7, "c": ["x", "é"]}\n\n{"id": "08", "c": "y"}\n{"c": null, "new": {"k": 1}}\n'
    )
    assert read_table(path)["id"].to_list() == ["7", "08", None]
    assert json.loads(read_table(path)["c"][0]) == ["x", "é"]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    assert read_table(write(tmp_path / "a.csv", "\ufeffuser_id\n1\n")).columns == ["user_id"]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pl.LazyFrame, pa.Table.from_pylist])
def test_frames_of_all_makes(make):
    table = open_table(make(ROWS))
    assert table.path is None
    assert table.read(["item_id", "user_id"]).to_dict(as_series=False) == {
        "item_id": ["007", "1"],
        "user_id": ["u1", "u2"],
    }


def test_only_the_wanted_columns_are_read(tmp_path):
    assert open_table(write_rows(tmp_path, ".csv")).read(["item_id"]).columns == ["item_id"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.csv", "a,b\n", "holds no rows"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", "line 3 has 3 fields, but the header has 2"),
        ("a.tsv", "a\tb\n1\t2\t3\n", "line 2 has 3 fields, but the header has 2"),
        ("a.jsonl", "", "the file is empty"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "line 2 is not valid JSON"),
        ("a.jsonl", '[{"a": 1},\n{"a": 2]\n', "line 2 is not valid JSON"),
        ("a.jsonl", '[{"a": 1}, 2]\n', "entry 2 of the array is not a JSON object"),
        ("a.jsonl", '{"a": 1}\n{"b": 1, "b": 2}\n', "line 2 has the name 'b' twice"),
        ("a.jsonl", '{"a": ' + "[" * 99_999 + "]" * 99_999 + "}\n", "line 1 is not valid JSON (nested too deeply)"),
        ("a.csv", "a,a\n1,2\n", "column 'a' stands twice in the header"),
        ("a.csv", "a,b,c\n1,2,3\n4\n5,6,7\n", "line 3 has 1 fields, but the header has 3"),
        ("a.csv", 'a,b\n1,"2\n3,4\n', "line 2 cannot be read (a quotation mark is never closed)"),
        ("a.csv", 'a,b\n1,"Big" one\n3,4\n', "line 2 cannot be read"),
        ("a.csv", 'a,b,c\n1,"2,3\n4,5,6\n7,8",9\n', "a quotation mark makes lines 2 to 4 one row"),
        ("a.csv", "a\r1\r2\r", "lines end with a carriage return alone"),
        ("a.json.gz", '{"a": 1}\n{"a": 2\n{"a": 3}\n', "line 2 is not valid JSON"),
        ("a.jsonl.gz", "", "the file is empty"),
        ("a.parquet", "PAR1 but nothing more", "cannot be read"),
        ("a.xlsx", "x", "unknown format; the name must end in one of .csv"),
        ("a", "x", "unknown format"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, name, content, said):
    path = write(tmp_path / name, content)
    with pytest.raises(InputError) as error:
        read_table(path)
    message = str(error.value)
    assert message.startswith(f"{path}: {said}")
    assert "\n" not in message


def test_a_line_that_is_no_object(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n[1, 2]\n')
    with pytest.raises(InputError, match="line 2 is not a JSON object"):
        read_table(path)


def test_bytes_that_are_no_utf8(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n1,2\n3,\xff\xfe\n")
    with pytest.raises(InputError, match="line 3 is not UTF-8 text"):
        read_table(path)


@pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl.gz"])
def test_a_truncated_gzip_file(tmp_path, suffix):
    whole = write(tmp_path / f"a{suffix}", '{"a": 1}\n' * 9999 if "json" in suffix else "a\n" + "1\n" * 9999)
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"a\.(csv|jsonl)\.gz: cannot be "):
        read_table(whole)


def test_a_truncated_parquet_file(tmp_path):
    path = write_rows(tmp_path, ".parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"rows\.parquet: cannot be read"):
        read_table(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "none.csv")


def test_neither_path_nor_frame():
    with pytest.raises(InputError, match="the dict: neither a path nor a data frame"):
        open_table({"a": [1]})


def test_quotation_marks_after_blanks_are_none_of_the_field(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('"user_id", "item_id", "title"\n"u1", "i1", "lamp, big"\nu2, i2, rope 5" long\n')
    table = read_table(path)
    assert table.columns == ["user_id", "item_id", "title"]
    assert table.rows() == [("u1", "i1", "lamp, big"), ("u2", "i2", 'rope 5" long')]


@pytest.mark.parametrize(("other", "quoted"), [("rope", True), ("rope, long", False), ('"rope"', False)])
def test_tabs_with_quotation_marks_around_commas_are_of_a_spreadsheet(tmp_path, other, quoted):
    path = tmp_path / "items.tsv"
    path.write_bytes(f'item_id\ttitle\tbrand\r\n1\t"lamp, big"\tx\r\n2\t{other}\t"a, b"\r\n'.encode())
    lamp, brand = ("lamp, big", "a, b") if quoted else ('"lamp, big"', '"a, b"')
    assert read_table(path).rows() == [("1", lamp, "x"), ("2", other, brand)]
