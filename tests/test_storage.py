import errno
import os
from pathlib import Path

import pytest
import torch

from foster.storage import cache_root, whole_file, write_tensors
from full_disk import little_room


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "own"
    monkeypatch.delenv("FOSTER_CACHE")
    assert cache_root() == tmp_path / "xdg" / "foster"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "foster"


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "folder" / "file"
    with whole_file(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as temporary:
        temporary.write_text("sec")
        raise KeyboardInterrupt
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_what_killed_runs_left_of_a_file_goes_after_a_day(tmp_path):
    path = tmp_path / "file[1]"
    left, new, other = (tmp_path / f".{name}.0.tmp" for name in ("file[1]", "file[1].1", "file1"))
    for temporary in (left, new, other):
        temporary.write_text("part")
    for temporary in (left, other):
        os.utime(temporary, (0, 0))
    with whole_file(path) as temporary:
        temporary.write_text("whole")
    assert {one.name for one in tmp_path.iterdir()} == {"file[1]", ".file[1].1.0.tmp", ".file1.0.tmp"}


def test_tensors_for_which_there_is_no_room_are_an_error_of_the_system(tmp_path):
    path = tmp_path / "model.safetensors"
    with little_room(1000), pytest.raises(OSError, match=r"model\.safetensors") as caught:
        write_tensors(path, {"weight": torch.zeros(1000)})
    assert caught.value.errno == errno.EFBIG
    write_tensors(path, {"weight": torch.zeros(1000)})
    assert path.stat().st_size > 4000


def test_a_full_disk_is_named_by_the_file_that_did_not_fit(tmp_path):
    def full(path):
        with whole_file(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"No space left on device: '.*results\.json'"):
        full(tmp_path / "results.json")
