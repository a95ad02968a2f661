"""What onnxruntime makes of exported models: the numbers of torch, for any number and length of histories."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from foster.data.catalogue import Catalogue, popularity_of
from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.text.encoder import pooling_here
from foster.text.options import EncoderOptions

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from foster.serving.onnx_export import item_inputs, write_onnx  # noqa: E402


def build(tiny_encoder, popularity: bool = False, words: int = 16, **options) -> TextRecommender:
    things = ["dog", "cat", "boat", "song", "tea", "game"]
    texts = [f"{colour} {thing}" for colour in ("red", "green", "blue") for thing in things]
    catalogue = Catalogue([f"i{n}" for n in range(18)], texts)
    if popularity:
        catalogue = replace(catalogue, popularity=popularity_of(np.arange(18)))
    encoder = EncoderOptions(encoder=str(tiny_encoder), words=words)
    model = TextRecommender.build(catalogue, encoder, ModelOptions(dim=8, layers=2, heads=2, max_length=9, **options))
    if model.tower.ids is not None:
        model.tower.mark(torch.arange(0, 18, 2))
        model.tower.ids.data.normal_()
    return model.eval()


CASES = {
    "sasrec, experts": {"backbone": "sasrec", "adapter": "moe"},
    "gru4rec, linear, ids": {"backbone": "gru4rec", "adapter": "linear", "ids": True},
    "hstu, linear": {"backbone": "hstu", "adapter": "linear"},
    "ligr, linear": {"backbone": "ligr", "adapter": "linear"},
    "mean, experts, ids, popularity, no words": {"backbone": "mean", "ids": True, "popularity": True, "words": 0},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_numbers_of_torch_with_any_batch_and_length(tiny_encoder, tmp_path, options):
    model = build(tiny_encoder, **options)
    made = write_onnx(model, tmp_path)
    assert made["deviation"] < 1e-4
    table = np.load(tmp_path / "items.npy")
    lines = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["item_id"] for line in lines] == model.catalogue.ids
    np.testing.assert_allclose(table, model.item_table(), atol=1e-6)

    # The item side gives the table back, and vectors of new texts.
    items = ort.InferenceSession(tmp_path / "items.onnx")
    given = item_inputs(model, model.catalogue.texts)
    if options.get("popularity"):
        given["popularity"] = np.array(model.catalogue.popularity, dtype=np.float32)[:, None]
    if options.get("ids"):
        given["item"] = np.arange(18)
    assert {i.name for i in items.get_inputs()} == set(given)
    np.testing.assert_allclose(items.run(None, given)[0], table, rtol=1e-4, atol=1e-4 * np.abs(table).max())
    new = items.run(None, item_inputs(model, ["a red horse"]))[0]
    np.testing.assert_allclose(new, model.encode_texts(["a red horse"]), rtol=1e-4, atol=1e-4)

    # The sequence side ranks as the model does, whatever stands behind the end of a history.
    sequence = ort.InferenceSession(tmp_path / "sequence.onnx")
    generator = np.random.default_rng(0)
    for batch, length in ((1, 1), (3, 9), (20, 4)):
        lengths = generator.integers(1, length + 1, batch)
        histories = [generator.integers(0, 18, n) for n in lengths]
        vectors = np.full((batch, length, 8), 7, dtype=np.float32)
        for row, history in enumerate(histories):
            vectors[row, : len(history)] = table[history]
        (states,) = sequence.run(None, {"vectors": vectors, "lengths": lengths})
        wanted = model.queries(model.states(histories)).numpy()
        np.testing.assert_allclose(states, wanted, rtol=1e-4, atol=1e-4)
    for path in tmp_path.glob("*.onnx"):  # nothing of this machine is in them
        assert b".py" not in path.read_bytes() and b"/site-packages" not in path.read_bytes()


def test_the_card_says_how_texts_are_pooled(tiny_encoder, tmp_path):
    model = build(tiny_encoder, backbone="mean")
    assert model.encoder.pooling == "auto"
    assert pooling_here(EncoderOptions(encoder="nobody/has-this")) is None
    write_onnx(model, tmp_path)
    assert "`text` (the mean token vector of" in (tmp_path / "README.md").read_text()


def test_a_tuned_language_model_has_no_item_side(tiny_encoder, tmp_path):
    model = build(tiny_encoder, backbone="mean", finetune="top:1")
    assert "items.onnx" not in write_onnx(model, tmp_path)["files"] and not (tmp_path / "items.onnx").exists()
    assert "no `items.onnx`" in (tmp_path / "README.md").read_text()
    with pytest.raises(InputError, match="was tuned"):
        item_inputs(model, ["a text"])


def test_without_the_extra_the_error_says_what_to_install(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs onnx, onnxscript, onnxruntime; pip install 'foster\[onnx\]'"):
        write_onnx(build(tiny_encoder), tmp_path)


def test_other_numbers_than_torchs_are_refused(tiny_encoder, tmp_path, monkeypatch):
    real = ort.InferenceSession.run
    monkeypatch.setattr(
        ort.InferenceSession, "run", lambda *given, **named: [out * 1.001 for out in real(*given, **named)]
    )
    with pytest.raises(InputError, match=r"sequence\.onnx: onnxruntime gives other numbers than torch \(by 1\.0e-03\)"):
        write_onnx(build(tiny_encoder, backbone="mean"), tmp_path)
    assert not (tmp_path / "config.json").exists()
