"""A folder is read as it was written, or not at all."""

import json
import os
import time

import pytest

from foster.artefacts import artefact_kind, marked, new_folder, write_json
from foster.errors import InputError
from foster.manifest import MANIFEST_NAME, read_whole, seal, verify


def write(out, overwrite=False, **files):
    """Make a folder of foster's with a few files."""
    with new_folder(out, overwrite) as folder:
        write_json(folder / "config.json", marked("teacher") | {"seed": 3, "model": {"dim": 8}})
        (folder / "trajectory").mkdir()
        for name, text in {"metrics.jsonl": "{}\n", "trajectory/step_000001.safetensors": "x", **files}.items():
            (folder / name).write_text(text)
    return out


def test_a_manifest_says_what_the_folder_is_and_is_the_same_of_equal_folders(tmp_path):
    one, two = (write(tmp_path / name) / MANIFEST_NAME for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    content = json.loads(one.read_text())
    assert list(content["files"]) == ["config.json", "metrics.jsonl", "trajectory/step_000001.safetensors"]
    assert content["files"]["metrics.jsonl"]["bytes"] == 3 and len(content["files"]["metrics.jsonl"]["sha256"]) == 64
    assert {name: content[name] for name in ("format", "kind", "seed", "options")} == {
        "format": 1, "kind": "teacher", "seed": 3, "options": {"model": {"dim": 8}},
    }  # fmt: skip
    assert content["torch"] and content["foster"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: (out / "metrics.jsonl").write_text("{}"), "metrics.jsonl: is not the file .*2 bytes instead of 3"),
        (lambda out: (out / "metrics.jsonl").write_text("[]\n"), r"metrics.jsonl: is not the file .*SHA-256 differs"),
        (lambda out: (out / "metrics.jsonl").unlink(), "metrics.jsonl: no such file; the folder is incomplete"),
        (lambda out: (out / "x.json").write_text("{}"), "x.json: is not in manifest.json; move it away"),
        (lambda out: (out / MANIFEST_NAME).unlink(), "has no manifest.json: .*an earlier version made it"),
        (lambda out: (out / "trajectory/step_000001.safetensors").write_text("xy"), "step_000001.*is not the file"),
        (lambda out: (out / "trajectory/step_000002.safetensors").write_text("x"), "step_000002.*is not in manifest"),
        (lambda out: as_link(out / "metrics.jsonl"), "metrics.jsonl: is a link; put the file itself there"),
        (lambda out: as_link(out / "trajectory"), "step_000001.safetensors: lies behind a link"),
        (lambda out: as_pipe(out / "metrics.jsonl"), "metrics.jsonl: is no file"),
        (lambda out: changed_manifest(out, '"seed": 3', '"seed": 4'), "manifest.json: is damaged .it was changed"),
        (lambda out: changed_manifest(out, '"format": 1', '"format": 2'), "is of format 2, and this version reads 1"),
        (lambda out: (out / MANIFEST_NAME).write_text("{"), "manifest.json: is damaged"),
        (lambda out: (out / MANIFEST_NAME).write_text("[" * 10**5), "manifest.json: is damaged .nested too deeply"),
    ],
)
def test_what_is_not_as_it_was_written_is_refused_in_one_line(tmp_path, change, message):
    out = write(tmp_path / "out")
    assert artefact_kind(out) == "teacher"
    change(out)
    with pytest.raises(InputError, match=message) as caught:
        artefact_kind(out)
    assert "\n" not in str(caught.value) and str(out) in str(caught.value)


def as_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def as_pipe(path):
    path.unlink()
    os.mkfifo(path)


def changed_manifest(out, old, new):
    text = (out / MANIFEST_NAME).read_text()
    assert old in text
    (out / MANIFEST_NAME).write_text(text.replace(old, new))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "..", "", "a//b", "./config.json", "nul\0"])
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    (tmp_path / "x").write_text("x")
    out = write(tmp_path / "out")
    path = out / MANIFEST_NAME
    content = json.loads(path.read_text())
    content["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    from foster.manifest import _text

    path.write_text(_text({key: value for key, value in content.items() if key != "sha256"}))
    with pytest.raises(InputError, match=r"manifest\.json: names .*, which is no file of the folder"):
        verify(out)


def test_files_of_others_and_hidden_ones_are_left_alone(tmp_path):
    out = write(tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    (out / ".cache").mkdir()
    (out / ".cache" / "x.json").write_text("{}")
    assert artefact_kind(out) == "teacher"
    seal(out)
    assert "notes.txt" in verify(out).files and len(verify(out).files) == 4


def test_files_are_hashed_once_as_long_as_they_stay_as_they_are(tmp_path, monkeypatch):
    out, hashed = write(tmp_path / "out"), []
    long_ago = time.time() - 100
    for name in ("config.json", "metrics.jsonl"):
        os.utime(out / name, (long_ago, long_ago))
    monkeypatch.setattr("foster.manifest.SETTLED", -(10**12))  # the times of changes cannot be set
    monkeypatch.setattr("foster.manifest.file_sha256", lambda path: hashed.append(path.name) or "0" * 64)
    for _ in range(2):
        with pytest.raises(InputError, match="SHA-256 differs"):
            verify(out, later="trajectory")
    assert hashed == ["config.json"]
    monkeypatch.setattr("foster.manifest.SETTLED", 10**15)  # nothing is old enough to be trusted
    os.utime(out / "config.json", (long_ago, long_ago + 1))
    for _ in range(2):
        with pytest.raises(InputError, match="SHA-256 differs"):
            verify(out, later="trajectory")
    assert hashed == ["config.json"] * 3


def test_a_reader_of_a_folder_that_is_replaced_sees_one_of_the_two(tmp_path):
    out, calls = write(tmp_path / "out", **{"metrics.jsonl": "old"}), []

    def read():
        verify(out)
        first = (out / "metrics.jsonl").read_text()
        calls.append(first)
        if len(calls) < 3:
            write(out, overwrite=True, **{"metrics.jsonl": f"new{len(calls)}"})
        return first, (out / "metrics.jsonl").read_text()

    assert read_whole(out, read) == ("new2", "new2")
    assert calls == ["old", "new1", "new2"]

    def never():
        write(out, overwrite=True)
        return None

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match="replaced again and again"):
        patch.setattr("foster.manifest.TRIES", 3)
        read_whole(out, never)


def test_the_kind_of_a_folder_that_is_replaced_is_that_of_one_of_the_two(tmp_path, monkeypatch):
    out, calls = write(tmp_path / "out"), []

    def replaced(folder, later=""):
        calls.append(folder)
        if len(calls) == 1:  # between the manifest and what it lists
            write(out, overwrite=True, **{"metrics.jsonl": "other"})
            raise InputError("is not the file that it lists")
        return verify(folder, later)

    monkeypatch.setattr("foster.artefacts.verify", replaced)
    assert artefact_kind(out) == "teacher" and len(calls) == 2


@pytest.mark.parametrize(
    "text",
    ['{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}', '{"a": "\\ud800"}', "[" * 10**5, '{"a": ' + "9" * 5000 + "}"],
)
def test_json_that_others_could_not_read_is_none(tmp_path, text):
    from foster.json_text import of_json

    with pytest.raises(ValueError):
        of_json(text)
    out = write(tmp_path / "out")
    (out / "config.json").write_text(text)
    seal(out)
    with pytest.raises(InputError, match=r"config\.json: not readable as JSON"):
        artefact_kind(out)
