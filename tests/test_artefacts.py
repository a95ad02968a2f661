"""Folders are whole or not there, and what is damaged is named."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from allocations import Allocations
from foster import artefacts
from foster.artefacts import (
    FILES,
    artefact_kind,
    check_free,
    foreign_file,
    load_tensors,
    marked,
    new_folder,
    not_finite,
    own_kind,
    read_config,
    save_tensors,
    tensor_shapes,
    write_json,
    write_metrics,
)
from foster.errors import InputError
from foster.manifest import MANIFEST_NAME, seal

DATASET_OF_OLD = {
    "name": "log", "users": 3, "items": 2, "interactions": 9, "k_core": 0, "split": "leave-one-out",
    "text_fields": ["title"], "template": None, "time": "timestamp", "sources": ["log.csv"], "terms": "", "dropped": {},
    "popularity": False, "fingerprint": "0" * 64,
}  # fmt: skip


def write_own(folder, kind="model", **files):
    """Make a folder as foster does, with a few more files."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / ("dataset.json" if kind == "dataset" else "config.json"), marked(kind))
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def nothing_wrong(shapes):
    return None


def content_of(folder):
    """Return every path below a folder with its content or, of a link, its target; manifests and folders in the making
    apart."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    paths = {name: path for name, path in paths.items() if path.name != MANIFEST_NAME and ".foster-" not in name}
    return {
        name: str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        for name, path in paths.items()
    }


def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path):
    out = tmp_path / "a" / "b" / "out"
    with pytest.raises(RuntimeError), new_folder(out) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_folder(out) as folder:
        write_own(folder)
    before = content_of(tmp_path)
    with pytest.raises(RuntimeError), new_folder(out, overwrite=True) as folder:
        write_own(folder, kind="coreset")
        raise RuntimeError
    assert content_of(tmp_path) == before
    with new_folder(out, overwrite=True) as folder:
        write_own(folder, kind="teacher")
        (folder / "trajectory").mkdir()
    assert sorted(content_of(tmp_path / "a" / "b")) == ["out", "out/config.json", "out/trajectory"]
    assert artefact_kind(out) == "teacher"
    with pytest.raises(InputError, match="exists already; give another --out or add --overwrite"), new_folder(out):
        pass


@pytest.mark.parametrize("kind", FILES)
def test_what_foster_wrote_is_replaced(tmp_path, kind):
    out = write_own(tmp_path / "out", kind)
    for pattern in FILES[kind]:
        path = out / pattern.replace("*", "000010")
        if path.suffix:
            path.parent.mkdir(exist_ok=True)
            path.touch()
    write_own(out, kind)
    with new_folder(out, overwrite=True) as folder:
        write_own(folder, "coreset")
    assert list(content_of(tmp_path)) == ["out", "out/config.json"]


def test_a_data_set_from_before_the_marker_is_replaced(tmp_path):
    write_json(tmp_path / "dataset.json", DATASET_OF_OLD)
    (tmp_path / "items.parquet").touch()
    assert foreign_file(tmp_path) is None


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"thesis.txt": "x"}, "thesis.txt"),
        ({"config.json": '{"model_type": "bert"}', "a.txt": "x"}, "config.json"),
        ({"config.json": '{"kind": "model"}'}, "config.json"),
        ({"config.json": '{"kind": "model", "foster": 3}'}, "config.json"),
        ({"config.json": '{"kind": "Deployment", "foster": "1"}'}, "config.json"),
        ({"config.json": '{"kind": "dataset", "foster": "1"}'}, "config.json"),
        ({"config.json": "no json"}, "config.json"),
        ({"config.json": "[]"}, "config.json"),
        ({"dataset.json": '{"name": "x"}'}, "dataset.json"),
        ({"dataset.json": json.dumps(DATASET_OF_OLD | {"fingerprint": "x"})}, "dataset.json"),
        ({"dataset.json": json.dumps({"fingerprint": "0" * 64})}, "dataset.json"),
        ({"config.json": json.dumps(marked("model")), "thesis.txt": "x"}, "thesis.txt"),
        ({"config.json": json.dumps(marked("model")), "metrics.jsonl": ""}, "metrics.jsonl"),
        ({"config.json": json.dumps(marked("teacher")), "trajectory/notes.txt": "x"}, "trajectory/notes.txt"),
        ({"config.json": json.dumps(marked("model")), ".git/HEAD": "x"}, ".git"),
        ({"config.json": json.dumps(marked("model")), "dataset.json": '{"name": "x"}'}, "dataset.json"),
    ],
)  # fmt: skip
def test_what_foster_did_not_write_is_never_replaced(tmp_path, files, named):
    out = tmp_path / "mine"
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    before = content_of(tmp_path)
    with pytest.raises(InputError, match=f"mine: holds {re.escape(named)}, which foster did not write; give another"):
        check_free(out, overwrite=True)
    with pytest.raises(InputError, match="mine: holds"), new_folder(out, overwrite=True):
        pytest.fail("the work was begun")
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("name", ["model.safetensors", "README.md", "trajectory"])
def test_links_in_a_folder_are_not_fosters(tmp_path, name):
    (tmp_path / "big").mkdir()
    out = write_own(tmp_path / "out", "teacher")
    (out / name).symlink_to(tmp_path / "big")
    with pytest.raises(InputError, match=f"out: holds {name}, which foster did not write"):
        check_free(out, overwrite=True)


def test_what_is_read_from_is_never_replaced(tmp_path):
    own = write_own(tmp_path / "own")
    check_free(own, overwrite=True)
    with pytest.raises(InputError, match="own: is read from"):
        check_free(own, overwrite=True, inputs=[None, own / "teacher"])
    check_free(own, overwrite=True, inputs=[tmp_path / "other"])
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def by_a_folder(out):
    write_own(out, "coreset", **{"mine.txt": "x"})


def by_a_file(out):
    out.write_text("x")


def by_a_link(out):
    out.symlink_to(out.parent / "nowhere")


def by_a_link_to_a_folder(out):
    write_own(out.parent / "target")
    out.symlink_to(out.parent / "target")


@pytest.mark.parametrize("taken", [by_a_folder, by_a_file, by_a_link, by_a_link_to_a_folder])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("when", ["work", "writing"])
def test_a_result_whose_place_was_taken_meanwhile_is_kept_beside(tmp_path, taken, overwrite, when):
    out = tmp_path / "deep" / "out"
    out.parent.mkdir()
    write_own(out.with_name("out-2"))
    place = check_free(out, overwrite)
    if when == "work":
        taken(out)
        before = content_of(tmp_path)
    with pytest.raises(InputError, match=f"{out}: cannot be made there .*is kept in {out}-3$"), place.fill() as folder:
        (folder / "result").write_text("hours of work")
        if when == "writing":
            taken(out)
            before = content_of(tmp_path)
    assert content_of(tmp_path) == before | {"deep/out-3": None, "deep/out-3/result": b"hours of work"}


@pytest.mark.parametrize(
    "change",
    [
        lambda out: (out / "thesis.txt").write_text("x"),
        lambda out: (out / "README.md").write_text("longer"),
        lambda out: (out / "README.md").unlink(),
    ],
)
def test_a_folder_that_changed_meanwhile_is_not_replaced(tmp_path, change):
    out = write_own(tmp_path / "out", **{"README.md": "x"})
    message = f"something else is there by now.; what was made is kept in {out}-2"
    with pytest.raises(InputError, match=message), new_folder(out, overwrite=True) as folder:
        (folder / "result").touch()
        change(out)
        before = content_of(out)
    assert content_of(out) == before
    assert content_of(tmp_path / "out-2") == {"result": b""}


def test_who_looks_at_a_lock_changes_nothing(tmp_path):
    locks = tmp_path / "study" / "locks"
    locks.mkdir(parents=True)
    (locks / "trial.lock").touch()
    before = artefacts._content(tmp_path / "study")
    os.utime(locks / "trial.lock", (0, 0))
    (locks / "study.lock").touch()
    assert artefacts._content(tmp_path / "study") == before
    (locks / "notes.txt").touch()
    assert artefacts._content(tmp_path / "study") != before


def test_a_result_that_cannot_be_moved_is_kept_and_what_was_there_stays(tmp_path, monkeypatch):
    out = write_own(tmp_path / "out", **{"README.md": "old"})
    before, rename = content_of(out), Path.rename

    def full(self, target):
        if self.name == "second":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path) == out)
    message = f"No space left on device.*kept in {out}-2"
    with pytest.raises(InputError, match=message), new_folder(out, overwrite=True) as folder:
        (folder / "README.md").write_text("new")
        (folder / "second").write_text("new")
    assert content_of(out) == before
    assert content_of(tmp_path / "out-2") == {"README.md": b"new", "second": b"new"}

    def never(self, target):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", never)
    with (
        pytest.raises(InputError, match=r"Permission denied.*kept in (\S+)") as caught,
        new_folder(tmp_path / "b") as folder,
    ):
        (folder / "x").touch()
    kept = Path(str(caught.value).rpartition(" ")[2])
    assert sorted(path.name for path in kept.iterdir()) == [".kept", MANIFEST_NAME, "x"]
    monkeypatch.undo()
    check_free(tmp_path / "b")  # which removes what killed runs left, and nothing else
    assert (kept / "x").exists()


def test_a_place_that_vanished_meanwhile_costs_nothing(tmp_path, monkeypatch):
    place = check_free(tmp_path / "folder" / "out")
    (tmp_path / "folder").write_text("a file now")
    with pytest.raises(InputError, match="what was made is kept in") as caught, place.fill() as folder:
        (folder / "x").touch()
    kept = Path(str(caught.value).rpartition(" ")[2])
    assert (kept / "x").exists()
    shutil.rmtree(kept)


def test_links_and_the_folder_that_one_is_in_are_filled(tmp_path, monkeypatch):
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    with new_folder(tmp_path / "link") as folder:
        write_own(folder)
    assert (tmp_path / "link").is_symlink() and artefact_kind(real) == "model"
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with new_folder(".") as folder:
        write_own(folder)
    assert sorted(path.name for path in Path().iterdir()) == ["config.json", MANIFEST_NAME]


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work():
    for place in ("/proc/foster", "/tmp/" + 300 * "x"):
        with pytest.raises(InputError, match=f"{place}: cannot write there"):
            check_free(place)


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
    assert load_tensors(path, nothing_wrong)["b"].tolist() == [[0, 3], [1, 4], [2, 5]]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"x\.safetensors: truncated or damaged"):
        load_tensors(path, nothing_wrong)
    with pytest.raises(InputError, match=r"y\.safetensors: no such file"):
        load_tensors(tmp_path / "y.safetensors", nothing_wrong)


def test_kinds_are_told_apart(tmp_path):
    write_json(tmp_path / "config.json", {"kind": "model"})
    seal(tmp_path)
    assert artefact_kind(tmp_path) == "model"
    assert read_config(tmp_path, ("model", "teacher"))["kind"] == "model"
    with pytest.raises(InputError, match="model"):
        read_config(tmp_path, "distilled")
    for kind in ([], {"study": 1}, 5, None):
        write_json(tmp_path / "config.json", {"kind": kind, "foster": "1"})
        seal(tmp_path)
        with pytest.raises(InputError, match=r"holds something of kind .*; give distilled sequences"):
            read_config(tmp_path, "distilled")
        assert own_kind(tmp_path) is None
    (tmp_path / "config.json").write_text("{")
    seal(tmp_path)
    with pytest.raises(InputError, match="not readable as JSON"):
        read_config(tmp_path, "model")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_are_neither_saved_nor_read(tmp_path, value):
    tensors = {"a": torch.arange(3), "b": torch.tensor([0.0, value])}
    with pytest.raises(InputError, match=r"x\.safetensors: b has numbers that are not finite; nothing was saved"):
        save_tensors(tmp_path / "x.safetensors", tensors)
    for number, write in enumerate((write_json, lambda path, content: write_metrics(path.parent, [content]))):
        with pytest.raises(InputError, match=r"\.jsonl?: a number in it is not finite.*nothing was saved"):
            write(tmp_path / "x.json", {"a": 1, "deep": {"b": [value]}})
        assert list(tmp_path.iterdir()) == [], number
    save_file(tensors, tmp_path / "old.safetensors")
    with pytest.raises(InputError, match=r"old\.safetensors: b has numbers that are not finite; make it again"):
        load_tensors(tmp_path / "old.safetensors", nothing_wrong)


def test_large_tensors_are_looked_at_part_after_part(monkeypatch):
    monkeypatch.setattr("foster.artefacts.PART", 100)
    tensors = {"flag": torch.tensor(True), "none": torch.empty(0), "table": torch.zeros(100, 100)}
    with Allocations() as allocations:
        assert not_finite(tensors) is None
    assert allocations.peak < tensors["table"].nbytes / 10
    tensors["table"][99, 98] = torch.inf
    assert not_finite(tensors) == "table"


def test_a_file_of_tensors_that_goes_while_it_is_opened_is_an_input_error(tmp_path, monkeypatch):
    import safetensors

    def gone(*arguments):
        raise RuntimeError("unable to open file")  # what safetensors raises, and not an OSError

    (tmp_path / "x.safetensors").write_bytes(b"x")
    monkeypatch.setattr(safetensors, "safe_open", gone)
    with pytest.raises(InputError, match=r"x\.safetensors: truncated or damaged \(unable to open file\)"):
        tensor_shapes(tmp_path / "x.safetensors")


def test_nothing_is_made_in_a_folder_of_fosters(tmp_path):
    write_own(folder := tmp_path / "model")
    seal(folder)
    for out in (folder / "new", folder / "trajectory" / "new"):
        with pytest.raises(InputError, match=r"new: lies in .*model, which foster made"):
            check_free(out, overwrite=True)
    (tmp_path / MANIFEST_NAME).write_text("{}")  # of another program
    check_free(tmp_path / "new")
