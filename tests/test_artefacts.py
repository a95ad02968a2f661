"""Folders are whole or not there, and what is damaged is named."""

import os

import pytest
import torch

from foster.artefacts import artefact_kind, load_tensors, new_folder, read_config, save_tensors, write_json
from foster.errors import InputError


def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), new_folder(out) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_folder(out) as folder:
        (folder / "whole").write_text("x")
    with pytest.raises(RuntimeError), new_folder(out, overwrite=True) as folder:
        raise RuntimeError
    assert [path.name for path in out.iterdir()] == ["whole"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(InputError, match="exists already; give another --out or add --overwrite"), new_folder(out):
        pass


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
