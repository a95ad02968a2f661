"""Folders are whole or not there, and what is damaged is named."""

import os

import pytest
import torch

from foster.artefacts import artefact_kind, check_free, load_tensors, new_folder, read_config, save_tensors, write_json
from foster.errors import InputError


def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), new_folder(out) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_folder(out) as folder:
        (folder / "config.json").write_text("{}")
    with pytest.raises(RuntimeError), new_folder(out, overwrite=True) as folder:
        raise RuntimeError
    assert [path.name for path in out.iterdir()] == ["config.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with new_folder(out, overwrite=True) as folder:
        (folder / "config.json").write_text("{2}")
        (folder / "more").mkdir()
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "more"]
    assert (out / "config.json").read_text() == "{2}"
    with pytest.raises(InputError, match="exists already; give another --out or add --overwrite"), new_folder(out):
        pass


def test_only_artefacts_are_replaced_and_never_what_is_read_from(tmp_path):
    own = tmp_path / "thesis"
    own.mkdir()
    (own / "chapter.txt").write_text("x")
    with pytest.raises(InputError, match="thesis: holds other things"):
        check_free(own, overwrite=True)
    write_json(own / "config.json", {"kind": "model"})
    check_free(own, overwrite=True)
    with pytest.raises(InputError, match="thesis: is read from"):
        check_free(own, overwrite=True, inputs=[None, own / "teacher"])
    check_free(own, overwrite=True, inputs=[tmp_path / "other"])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_links_and_the_folder_that_one_is_in_are_filled(tmp_path, monkeypatch):
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    with new_folder(tmp_path / "link") as folder:
        write_json(folder / "config.json", {"kind": "model"})
    assert (tmp_path / "link").is_symlink() and artefact_kind(real) == "model"
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with new_folder(".") as folder:
        write_json(folder / "config.json", {"kind": "model"})
    assert [path.name for path in here.iterdir()] == ["config.json"]


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work():
    with pytest.raises(InputError, match="/proc/foster: cannot write there"):
        check_free("/proc/foster")


def test_others_can_read_what_is_written(tmp_path):
    mask = os.umask(0o022)
    try:
        with new_folder(tmp_path / "out") as folder:
            save_tensors(folder / "x.safetensors", {"x": torch.ones(2)})
    finally:
        os.umask(mask)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "x.safetensors").stat().st_mode & 0o777 == 0o644


def test_tensors_round_trip_and_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"b": torch.arange(6).view(2, 3).T, "a": torch.ones(2)})
    assert load_tensors(path)["b"].tolist() == [[0, 3], [1, 4], [2, 5]]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"x\.safetensors: truncated or damaged"):
        load_tensors(path)
    with pytest.raises(InputError, match=r"y\.safetensors: no such file"):
        load_tensors(tmp_path / "y.safetensors")


def test_kinds_are_told_apart(tmp_path):
    write_json(tmp_path / "config.json", {"kind": "model"})
    assert artefact_kind(tmp_path) == "model"
    assert read_config(tmp_path, ("model", "teacher"))["kind"] == "model"
    with pytest.raises(InputError, match="model"):
        read_config(tmp_path, "distilled")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="not readable as JSON"):
        read_config(tmp_path, "model")
