"""Kinds of inputs that benchmarks/fuzz.py found, one each, and a thousand of its cases."""

import decimal
import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from foster import panics
from foster.data.dataset import Dataset
from foster.data.readers import open_table, read_table
from foster.data.sources import Columns, read_raw
from foster.errors import LONGEST, InputError

ROOT = Path(__file__).parents[1]


def test_a_thousand_mutated_inputs_are_read_or_refused_in_one_line():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "fuzz.py", "--cases", "1000", "--seed", "30"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"},  # tiny tables
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1,000 cases" in done.stdout and " 0 failures" in done.stdout


def refused(frame, **options) -> str:
    with pytest.raises(InputError) as error:
        Dataset.prepare(frame, k_core=0, **options)
    assert str(error.value).isprintable()
    return str(error.value)


def a_log(**columns) -> dict:
    log = {"user_id": ["a"] * 4, "item_id": ["x", "y", "z", "x"], "timestamp": [1, 2, 3, 4], "title": list("abca")}
    return log | columns


def test_messages_are_one_line_that_can_be_shown():
    assert str(InputError("a\nb\x1b[2J\0\u202e\ud800 é 🎸")) == "a b\\x1b[2J\\x00\\u202e\\ud800 é 🎸"
    long = str(InputError("begin " + "x" * 10_000 + " fix"))
    assert len(long) < LONGEST + 10 and long.startswith("begin x") and long.endswith("x fix")


@pytest.mark.parametrize("column", ["timestamp", "title"])
@pytest.mark.parametrize("kind", [pl.Datetime("ms"), pl.Datetime("ms", "Europe/Berlin"), pl.Date])
def test_dates_beyond_the_calendar(column, kind):
    far = pl.Series([0, 1, 2**31 - 1, 3]) if kind == pl.Date else pl.Series([0, 1, 2**62, 3])
    frame = pl.DataFrame(a_log()).with_columns(
        far.cast(pl.Int32 if kind == pl.Date else pl.Int64).cast(kind).alias(column)
    )
    options = {"time_column": "timestamp"} if column == "timestamp" else {"text": "title"}
    assert f"column '{column}' holds a time beyond the years 1 to 9999 in row 3" in refused(frame, **options)


def test_numbers_of_thousands_of_digits(tmp_path):
    digits = "9" * 5000
    for name, text in (("a.jsonl", f'{{"a": {digits}}}\n'), ("b.json", f'[{{"a": {digits}}}]')):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=r"is not valid JSON \(Exceeds the limit"):
            read_table(tmp_path / name)


def test_packed_json_with_a_damaged_inside(tmp_path):
    content = bytearray(gzip.compress(json.dumps({"a": list(range(500))}).encode()))
    content[30:60] = b"\xff" * 30
    (tmp_path / "a.json.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json\.gz: cannot be (unpacked|read)"):
        read_table(tmp_path / "a.json.gz")


class Odd:
    """An object that cannot be shown."""

    def __str__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "value", [Odd(), 10**5000, "\ud800", decimal.Decimal("sNaN")], ids=["odd", "long", "half", "nan"]
)
def test_objects_without_words(value):
    frame = pd.DataFrame(a_log(title=pd.Series([value, "b", "c", "d"], dtype=object)))
    assert "column 'title' holds" in refused(frame) and "in row 1" in refused(frame)


def test_half_a_character_in_a_written_list():
    for words in ('["\\ud800"]', "['\\ud800', 'b']", '{"a": ["\\ud800"]}'):
        frame = pl.DataFrame(a_log(title=[words, "b", "c", words]))
        field = "title.a" if words.startswith("{") else "title"
        assert "holds half a surrogate pair in a list, which is no character" in refused(frame, text=field)


def test_lists_with_a_backslash_that_begins_nothing():
    frame = pl.DataFrame(a_log(title=["['\\u12', 'b']", "b", "c", "['\\u12', 'b']"]))
    assert Dataset.prepare(frame, k_core=0).texts[0] == "['\\u12', 'b']"


def test_names_and_options_that_are_no_text(tmp_path):
    for options in ({"template": "{title} \udcff"}, {"name": "\udcff"}):
        assert "holds bytes that are no UTF-8; write it anew" in refused(pl.DataFrame(a_log()), **options)
    path = tmp_path / "log-\udcff.csv"
    pl.DataFrame(a_log()).write_csv(tmp_path / "log.csv")
    (tmp_path / "log.csv").rename(path)
    with pytest.raises(InputError, match="its name holds bytes that are no UTF-8; rename it"):
        Dataset.prepare(str(path), k_core=0)


def test_an_index_of_times_beside_a_column_named_index():
    frame = pd.DataFrame(a_log(index=[1, 2, 3, 4]))
    frame.index = pd.date_range("2020-01-01", periods=4)
    assert "its index cannot become columns (cannot insert index, already exists)" in refused(frame)


def test_a_set_has_an_order():
    words = sorted(f"w{n}" for n in range(20))
    frame = pl.DataFrame(a_log(title=[str(set(words)), "b", "c", str(set(words))]))
    assert Dataset.prepare(frame, k_core=0).texts[0] == ", ".join(words)


def test_a_list_that_holds_itself():
    circle: list = []
    circle.append(circle)
    assert "column 'title' holds a list in row 1" in refused(pd.DataFrame(a_log(title=[circle, "b", "c", "d"])))


def test_arrow_types_that_nobody_else_has():
    union = pa.UnionArray.from_sparse(pa.array([0] * 4, pa.int8()), [pa.array(list("abcd")), pa.array([1] * 4)])
    table = pa.table(a_log(title=union))
    assert "column 'title' is of a type that cannot be read" in refused(table)
    times = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1] * 4, pa.int8()))
    said = refused(pa.table(a_log(timestamp=times)), time_column="timestamp", time_format="%d.%m.%Y")
    assert "column 'timestamp' holds no words" in said


def test_lists_that_are_nested_too_deeply():
    deep = "[" * 900 + "]" * 900
    assert "column 'title' holds lists or objects that are nested too deeply" in refused(
        pl.DataFrame(a_log(title=[deep, "b", "c", deep]))
    )
    deep = '{"a":' + deep + "}"
    assert "nested too deeply" in refused(pl.DataFrame(a_log(title=[deep, "b", "c", deep])), text="title.a")


def test_a_template_of_a_field_within_what_the_texts_name():
    frame = pl.DataFrame(a_log(title=['{"x": 1}', "b", "c", '{"x": 1}']))
    said = refused(frame, text="title", template="{title.x}")
    assert "unknown field 'title.x'" in said and "known fields are title" in said
    frame = pl.DataFrame(a_log(title=['{"x": 1}', '{"x": 2}', '{"x": 3}', '{"x": 1}']))
    assert Dataset.prepare(frame, k_core=0, text="title.x", template="<{title.x}>").texts[0] == "<1>"


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl.gz", "ratings.dat", "a.inter"])
def test_a_pipe_is_no_file(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="is a pipe or a device"):
        open_table(tmp_path / name)
    signal.alarm(60)  # it would wait for ever
    try:
        with pytest.raises(InputError, match="is a pipe or a device"):
            Dataset.prepare(tmp_path / name)
        pl.DataFrame(a_log()).write_csv(tmp_path / "items.csv")
        with pytest.raises(InputError):
            Dataset.prepare(tmp_path / "items.csv", tmp_path / name)
    finally:
        signal.alarm(0)


def test_what_a_panic_prints_is_kept_and_nothing_else(capfd):
    with panics.hushed():
        os.write(2, b"said\n")
    assert capfd.readouterr().err == "said\n"
    with pytest.raises(InputError, match="here: holds values that cannot be read"), panics.refused("here"):
        os.write(2, b"thread panicked\n")
        raise panics.PanicException("out of range")
    assert capfd.readouterr().err == ""


def test_histories_are_lists_of_ids_and_texts(tiny_encoder):
    from foster.data.catalogue import Catalogue
    from foster.models.options import ModelOptions
    from foster.models.recommender import TextRecommender
    from foster.text.options import EncoderOptions

    catalogue = Catalogue(["1", "b", "c"], ["red game", "blue game", "old book"])
    model = TextRecommender.build(catalogue, EncoderOptions(encoder=str(tiny_encoder)), ModelOptions(dim=8, layers=1))
    for wrong in (None, "b", ["b"], [5], [b"b"], [{"b": 1}], np.array("b"), [["b", 1.5]], [[["b"]]], [[None]], [[]]):
        with pytest.raises(InputError, match="recommend: histor"):
            model.recommend(wrong, 1)
    for right in ([["b", 1]], [("b", "1")], np.array([["b", "1"]]), [pl.Series(["b", "1"])], [pd.Series(["b", "1"])]):
        assert model.recommend(right, 1)[0][0][0] == "c"


@pytest.mark.parametrize(("field", "value"), [("dropped", {}), ("text_fields", [])])
def test_what_a_data_set_says_of_itself_is_complete(tmp_path, field, value):
    from foster.manifest import seal

    folder = Dataset.prepare(pl.DataFrame(a_log()), k_core=0).save(tmp_path / "data")
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    seal(folder)
    with pytest.raises(InputError, match=rf"dataset\.json: field '{field}"):
        Dataset.read(folder)


def test_a_stored_template_that_is_none_is_of_the_folder(tmp_path):
    from foster.manifest import seal

    folder = Dataset.prepare(pl.DataFrame(a_log()), k_core=0, template="<{title}>").save(tmp_path / "data")
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"template": "no field"}))
    seal(folder)
    with pytest.raises(InputError, match="data: its content does not have the fingerprint"):
        Dataset.read(folder)


def test_a_header_among_the_rows():
    log = pl.DataFrame(a_log(user_id=["a", "a", "user_id", "a"], item_id=["x", "y", "item_id", "x"]))
    assert "row 3 is a header" in refused(log)
    sound = pl.DataFrame(a_log(item_id=["x", "y", "item_id", "x"]))
    assert "item_id" in Dataset.prepare(sound, k_core=0).item_ids


def test_times_with_a_zone_among_times_without_one():
    times = ["2020-01-01 12:00:00", "2020-01-01T12:00:00+02:00", "2020-01-01 13:00:00", "2020-01-01 14:00:00"]
    said = refused(pl.DataFrame(a_log(timestamp=times)))
    assert "'2020-01-01T12:00:00+02:00', and without one, such as '2020-01-01 12:00:00'" in said
    times[1] = "2020-01-01T12:30:00Z"
    assert Dataset.prepare(pl.DataFrame(a_log(timestamp=times)), k_core=0).item_ids == ["x", "y", "z"]


def test_times_in_two_units_are_said():
    times = [1_600_000_000, 1_600_000_001_000, 1_600_000_002, 1_600_000_003]
    remarks = read_raw(pl.DataFrame(a_log(timestamp=times)), None, Columns()).reading.remarks
    assert any("1 time is in milliseconds, such as 1600000001000, and others in seconds" in one for one in remarks)
    times[1] = 1_600_000_001
    assert not read_raw(pl.DataFrame(a_log(timestamp=times)), None, Columns()).reading.remarks
