"""What a bug report needs, and what is missing."""

import tomllib
from pathlib import Path

from foster.doctor import OPTIONAL, examine


def test_doctor_names_what_is_missing(monkeypatch, network):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = examine()
    assert any("completejourney" in line for line in found["missing"])
    assert found["torch"]
    network.clear()  # the encoder is looked for on the hub


def test_doctor_looks_for_every_extra():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {extra for extra in project["optional-dependencies"] if f"'foster[{extra}]'" in " ".join(OPTIONAL.values())}
    assert named == project["optional-dependencies"].keys() - {"demo", "dev", "docs"}
