"""Scripts of the project that need a network or long installations: what they say without."""

import importlib.util
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def tool(name):
    """Import a script by its path."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_line_of_the_constraints_is_a_pin():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = tool("audit").pins_of(text)
    assert len(pins) > 50 and any(pin.startswith("torch==") for pin in pins)
    assert len({pin.split("==")[0].lower() for pin in pins}) == len(pins)
    assert tool("audit").pins_of("# x\ntorch==2.13.0+cpu  # y\n") == ["torch==2.13.0"]


@pytest.mark.parametrize(("text", "message"), [("numpy>=2", "'numpy>=2' is no pin"), (None, "No such file")])
def test_audit_of_no_pins_is_one_line(tmp_path, capsys, monkeypatch, text, message):
    audit = tool("audit")
    monkeypatch.setattr(audit.importlib.util, "find_spec", lambda name: object())
    if text is not None:
        (tmp_path / "pins.txt").write_text(text)
    assert audit.main([str(tmp_path / "pins.txt")]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


@pytest.mark.parametrize("reason", ["", "Traceback ...\nrequests.exceptions.ConnectionError: no route to host\n"])
def test_audit_without_a_network_is_one_line(capsys, monkeypatch, reason):
    audit = tool("audit")
    monkeypatch.setattr(audit.importlib.util, "find_spec", lambda name: object())
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr=reason)
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: failed)
    assert audit.main([]) == 2
    said = capsys.readouterr().err
    assert "is there a network?" in said and said.count("\n") == 1


SKIPPED = {"name": "a", "skip_reason": "not found"}
SOUND = {"name": "b", "version": "1", "vulns": []}
FAULTY = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([SOUND], 0, "1 packages of constraints.txt: no known faults"),
        ([SOUND, FAULTY, SKIPPED], 1, "c 2: CVE-1, mended in 3"),
        ([SOUND, SKIPPED], 0, "not looked up: a"),
        ([SKIPPED], 2, "none of the 1 packages of constraints.txt could be looked up"),
    ],
)
def test_audit_says_what_was_answered(capsys, monkeypatch, packages, code, words):
    audit = tool("audit")
    monkeypatch.setattr(audit.importlib.util, "find_spec", lambda name: object())
    answer = subprocess.CompletedProcess([], code, stdout=json.dumps({"dependencies": packages}), stderr="")
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: answer)
    assert audit.main([]) == code
    assert words in "".join(capsys.readouterr())


def test_dependencies_tries_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    dependencies = tool("dependencies")
    assert {*dependencies.EXTRAS, "demo"} == project["optional-dependencies"].keys()
    assert [word.split(">=")[0] for word in project["optional-dependencies"]["demo"]] == [*dependencies.DEMO]


def test_dependencies_says_how_it_is_used():
    command = [sys.executable, ROOT / "tools" / "dependencies.py"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "lowest" in done.stdout and "--torch" in done.stdout


def test_what_follows_two_dashes_is_for_pytest():
    split_off = tool("dependencies").split_off
    assert split_off(["lowest", "--torch", "x", "--", "-k", "y"]) == (["lowest", "--torch", "x"], ["-k", "y"])
    assert split_off(["newest"]) == (["newest"], [])


def test_only_torch_and_what_it_brings_is_left_out_of_the_pins():
    of_torch = tool("dependencies").OF_TORCH
    assert all(
        of_torch.match(pin) for pin in ("torch==2.6.0", "nvidia-cublas-cu12==1", "triton==3", "cuda-toolkit==13")
    )
    assert not any(of_torch.match(pin) for pin in ("torchmetrics==1", "numpy==2", "pot==0.9"))
