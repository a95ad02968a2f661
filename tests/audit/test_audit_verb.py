"""``foster audit`` on the command line."""

from __future__ import annotations

import json

import polars as pl
import pytest

from command_line import exit_status
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.models.options import ModelOptions
from foster.text.options import EncoderOptions
from synthetic_log import synthetic_log


@pytest.fixture
def foster(monkeypatch, capsys):
    def call(*args):
        return exit_status(monkeypatch, *args), *capsys.readouterr()

    return call


def test_the_verb_writes_what_it_prints(foster, tmp_path, tiny_encoder):
    data = Dataset.prepare(pl.DataFrame(synthetic_log()), k_core=0)
    data.save(tmp_path / "data")
    histories, info = list(data.training_histories()[:3]), {"data_fingerprint": data.info.fingerprint}
    model, encoder = ModelOptions(dim=8, layers=1, heads=1, max_length=10), EncoderOptions(encoder=str(tiny_encoder))
    coreset = Condensed.of_histories(histories, 10, "random", data.catalogue, encoder=encoder, model=model, info=info)
    coreset.save(tmp_path / "coreset")
    assert "not anonymous" in (tmp_path / "coreset" / "README.md").read_text()
    asked = ("audit", tmp_path / "coreset", tmp_path / "data", "--out", tmp_path / "report")
    status, out, err = foster(*asked, "--shadows", 0, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert json.loads((tmp_path / "report" / "results.json").read_text()) == {
        k: v for k, v in found.items() if k != "out"
    }
    assert found["pieces"]["sequences"]["runs"][0]["found"] == 1 and found["membership"] is None
    manifest = json.loads((tmp_path / "report" / "manifest.json").read_text())
    assert manifest["options"]["shadows"] == 0 and manifest["device"] == "cpu" and manifest["seed"] == 0
    assert found["paragraph"] in (tmp_path / "report" / "README.md").read_text()
    status, _, err = foster(*asked, "--shadows", 0)
    assert status == 2 and "report" in err and err.count("\n") == 1
    status, _, err = foster(*asked, "--shadows", 1, "--overwrite")
    assert status == 2 and "--shadows 1: give 3 or more" in err
    status, _, err = foster("audit", tmp_path / "data", tmp_path / "data", "--out", tmp_path / "other")
    assert (
        status == 2
        and "holds a data set; give distilled sequences or a coreset" in err
        and not (tmp_path / "other").exists()
    )
