import polars as pl
import pytest

from foster.data.parquet import holds_parquet, parquet_parts, scan_parquet_folder
from foster.errors import InputError


def write(path, value, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"user_id": [value], **columns}).write_parquet(path)
    return path


def users(folder):
    return scan_parquet_folder(folder).collect()["user_id"].to_list()


def test_parts_are_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 2):
        write(tmp_path / f"part-{number}.parquet", str(number))
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".part-2.parquet.crc").touch()
    assert users(tmp_path) == ["2", "9", "10"]


def test_splits_of_the_hub_are_all_rows_in_the_order_of_time(tmp_path):
    for name in ("test-00000-of-00001", "validation-00000-of-00001", "train-00001-of-00002", "train-00000-of-00002"):
        write(tmp_path / "data" / f"{name}.parquet", name[:9])
    (tmp_path / "README.md").touch()
    assert users(tmp_path) == ["train-000", "train-000", "validatio", "test-0000"]
    assert parquet_parts(tmp_path)[1].name == "train-00001-of-00002.parquet"


def test_splits_as_folders(tmp_path):
    for split in ("test", "train", "valid"):
        write(tmp_path / "default" / split / "0000.parquet", split)
    assert users(tmp_path) == ["train", "valid", "test"]


@pytest.mark.parametrize(
    ("have", "said"), [((0,), "train-00001-of-00003 and 1 more parts are"), ((0, 2), "train-00001-of-00003 is")]
)
def test_a_missing_part(tmp_path, have, said):
    for number in have:
        write(tmp_path / "data" / f"train-{number:05d}-of-00003.parquet", "u")
    with pytest.raises(InputError, match=f"data: {said} missing, of 3"):
        users(tmp_path)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"rating": [1.0]}, r"b\.parquet: column 'rating' is Float64 here, but Int64 in a\.parquet"),
        ({"stars": [1]}, r"b\.parquet: has a column 'stars', which is not in a\.parquet"),
        ({}, r"b\.parquet: has no column 'rating', which is in a\.parquet"),
    ],
)
def test_parts_that_differ(tmp_path, other, said):
    write(tmp_path / "a.parquet", "u", rating=[1])
    write(tmp_path / "b.parquet", "u", **other)
    with pytest.raises(InputError, match=said):
        users(tmp_path)


def test_columns_in_another_order_are_the_same_columns(tmp_path):
    write(tmp_path / "a.parquet", "u", rating=[1])
    pl.DataFrame({"rating": [2], "user_id": ["v"]}).write_parquet(tmp_path / "b.parquet")
    assert scan_parquet_folder(tmp_path).collect().rows() == [("u", 1), ("v", 2)]


def test_keys_of_hive_folders_are_columns(tmp_path):
    """Those below the folder that is given, as strings: 007 keeps its zeros."""
    folder = tmp_path / "region=eu" / "log"
    write(folder / "day=2020-01-02" / "shop=007" / "p.parquet", "b")
    write(folder / "day=2020-01-01" / "shop=a%2Fb" / "p.parquet", "a")
    write(folder / "day=2020-01-03" / "shop=__HIVE_DEFAULT_PARTITION__" / "p.parquet", "c")
    frame = scan_parquet_folder(folder)
    assert frame.collect().rows() == [("a", "2020-01-01", "a/b"), ("b", "2020-01-02", "007"), ("c", "2020-01-03", None)]
    assert frame.select("shop").collect()["shop"].to_list() == ["a/b", "007", None]


def test_names_are_no_patterns(tmp_path):
    write(tmp_path / "d[1]" / "log[1]*?.parquet", "right")
    write(tmp_path / "d1" / "log1.parquet", "wrong")
    assert users(tmp_path / "d[1]") == ["right"]


def test_a_damaged_part_is_named(tmp_path):
    write(tmp_path / "a.parquet", "u")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 but nothing more")
    with pytest.raises(InputError, match=r"b\.parquet: cannot be read"):
        users(tmp_path)


def test_a_folder_without_parts(tmp_path):
    (tmp_path / "_delta_log").mkdir()
    write(tmp_path / "_delta_log" / "0.parquet", "u")
    assert not holds_parquet(tmp_path)
    with pytest.raises(InputError, match=r"holds no \.parquet file"):
        parquet_parts(tmp_path)
    write(tmp_path / "x" / "y" / "0.parquet", "u")
    assert holds_parquet(tmp_path)


def test_a_link_that_leads_back_is_an_error_and_no_rows_twice(tmp_path):
    write(tmp_path / "a" / "0.parquet", "u")
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    with pytest.raises(InputError, match="back: is a link to a folder that it lies in"):
        scan_parquet_folder(tmp_path)
    (tmp_path / "a" / "back").unlink()
    write(tmp_path / "elsewhere" / "1.parquet", "v")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "elsewhere")
    assert users(tmp_path / "a") == ["u", "v"]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    write(tmp_path / "0.parquet", "u")
    monkeypatch.setattr("pathlib.Path.iterdir", lambda path: (_ for _ in ()).throw(PermissionError(13, "not allowed")))
    with pytest.raises(InputError, match=r"cannot be read \(not allowed\)"):
        scan_parquet_folder(tmp_path)
