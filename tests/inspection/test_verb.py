"""``foster inspect`` as users call it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys

import pytest

from foster import cli
from foster.artefacts import folder_bytes
from foster.errors import InputError
from foster.inspection.inspect import look_at
from foster.manifest import MANIFEST_NAME, seal


@pytest.fixture
def run(capfd, monkeypatch):
    """Call ``foster inspect ARGUMENTS`` and return the exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["foster", "inspect", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capfd.readouterr()

    return call


def test_summary_in_the_terminal(run, any_folder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # which needs no extra
    code, out, err = run(any_folder)
    assert (code, err) == (0, "")
    assert out.startswith(f"{any_folder.name}: ") and "\ndata fingerprint  " in out
    assert "\x1b" not in out and "\u202e" not in out
    # The whole is the sum of its parts, but for what a folder of sequences says of its texts.
    assert (
        f"{folder_bytes(any_folder):,} bytes by part, without manifest.json"
        in look_at(any_folder).summary().parts.caption
    )
    code, out, _ = run(any_folder, "--json")
    content = json.loads(out)
    assert code == 0 and content["name"] == any_folder.name and content["facts"]


def test_a_page_of_sequences_beside_their_log(run, distilled_folder, data_folder, tmp_path):
    path = tmp_path / "new" / "report.html"
    code, out, err = run(distilled_folder, "--data", data_folder, "--html", path, "--json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert content["html"] == str(path) and content["html_bytes"] == path.stat().st_size
    text = path.read_text(encoding="utf-8")
    assert "most popular in the log first" in text
    code, out, err = run(distilled_folder, "--html", path)
    assert (code, out) == (
        2,
        "",
    ) and err == f"foster: --html {path}: exists already; give another file or add --overwrite\n"
    assert path.read_text(encoding="utf-8") == text
    assert run(distilled_folder, "--html", path, "--overwrite")[0] == 0
    assert "most popular in the log first" not in path.read_text(encoding="utf-8")


def test_a_header_of_any_length_is_no_reason_to_read_that_much(model_folder, tmp_path):
    """The manifest of the folder is right: somebody computed it again."""
    damaged = shutil.copytree(model_folder, tmp_path / "damaged")
    (damaged / MANIFEST_NAME).unlink()
    (damaged / "model.safetensors").write_bytes(b"\xff" * 7 + b"\x7f" + b"{}")
    seal(damaged, {"kind": "model"})
    with pytest.raises(InputError, match=r"model\.safetensors: truncated or damaged"):
        look_at(damaged).summary()


def test_nothing_is_written_where_the_folder_is_damaged(run, model_folder, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in model_folder.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    (damaged / "items.safetensors").write_bytes(b"short")
    code, out, err = run(damaged, "--html", tmp_path / "report.html")
    assert (code, out) == (2, "") and "is not the file that" in err and err.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_a_missing_package_is_one_line(run, distilled_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, out, err = run(distilled_folder, "--html", tmp_path / "report.html")
    assert (code, out) == (2, "")
    assert err == "foster: --html: needs jinja2 and matplotlib: pip install 'foster[report]'\n"
