"""Kinds of encoders: each is read as its authors mean, or refused by name."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import torch
import transformers

from foster.errors import InputError
from foster.text.cache import embed_texts
from foster.text.encoder import TextEncoder
from foster.text.hub import folder_fingerprint, folder_pooling, locate
from foster.text.options import EncoderOptions
from tiny_encoder import build_tiny

TEXTS = ["red dog", "the old castle in the forest", "a", "sweet apple and sour milk"]
TRANSFORMER = {"path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
NORMALIZE = {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}


def add_modules(folder: Path, *modules: dict) -> None:
    """Make a folder one of sentence-transformers."""
    numbered = [{"idx": number, "name": str(number), **module} for number, module in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(numbered))


def change(folder: Path, name: str, **fields) -> None:
    """Set fields of a JSON file of a folder, which is made if it is not there."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | fields))


def load(folder: Path, **options) -> TextEncoder:
    return TextEncoder.load(EncoderOptions(encoder=str(folder), **{"max_tokens": 16, **options}))


@pytest.fixture(autouse=True)
def no_question(monkeypatch):
    """Whatever is asked on stdin, the answer is there."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_a_folder_never_runs(own_encoder, tmp_path, name):
    classes = {"AutoConfig": "own.C", "AutoModel": "own.M", "AutoTokenizer": ["own.T", None]}
    change(own_encoder, name, auto_map=classes, **({"model_type": "own"} if name == "config.json" else {}))
    (own_encoder / "own.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    with pytest.raises(InputError, match=rf"own_encoder: its {name} names code of its own \(auto_map\)"):
        load(own_encoder)
    with pytest.raises(InputError, match="auto_map"):
        embed_texts(TEXTS, EncoderOptions(encoder=str(own_encoder)))
    assert not (tmp_path / "ran").exists() and sys.stdin.tell() == 0


def test_an_unknown_kind_asks_for_nothing(own_encoder):
    change(own_encoder, "config.json", model_type="own")
    with pytest.raises(InputError, match="not loadable as an encoder") as caught:
        load(own_encoder)
    assert "\n" not in str(caught.value) and sys.stdin.tell() == 0


def test_modules_that_we_stand_for_are_read(own_encoder):
    add_modules(own_encoder, TRANSFORMER, {**POOLING, "path": "7_Pooling"}, NORMALIZE)
    change(own_encoder, "7_Pooling/config.json", pooling_mode_cls_token=True)
    change(own_encoder, "1_Pooling/config.json", pooling_mode_mean_tokens=True)
    assert load(own_encoder).pooling == "cls"
    new = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
    add_modules(own_encoder, TRANSFORMER, {**POOLING, "type": new})
    assert load(own_encoder).pooling == "mean"


@pytest.mark.parametrize(
    "kind",
    [
        "sentence_transformers.models.Dense",
        "sentence_transformers.models.LayerNorm",
        "sentence_transformers.models.WeightedLayerPooling",
        "sentence_transformers.models.StaticEmbedding",
        "sentence_transformers.models.CLIPModel",
        "sentence_transformers.base.modules.dense.Dense",
        "custom_st.Transformer",
    ],
)
def test_modules_that_would_be_lost_are_refused_by_name(own_encoder, options, kind):
    embed_texts(TEXTS, EncoderOptions(encoder=str(own_encoder)))  # what an earlier version has in its cache
    add_modules(own_encoder, TRANSFORMER, POOLING, {"path": "2_Dense", "type": kind}, NORMALIZE)
    for use in (load, lambda folder: embed_texts(TEXTS, EncoderOptions(encoder=str(folder)))):
        with pytest.raises(InputError, match=f"own_encoder: its modules.json has a module {kind}, which we cannot run"):
            use(own_encoder)


@pytest.mark.parametrize("content", ["{", "{}", "[3]", '[{"type": "x"}]', '{"a": 1}'])
def test_a_damaged_list_of_modules(own_encoder, content):
    (own_encoder / "modules.json").write_text(content)
    if content == "{}":
        assert load(own_encoder).pooling == "mean"  # no modules
        return
    with pytest.raises(InputError, match=r"modules\.json: is no list of modules"):
        load(own_encoder)


@pytest.mark.parametrize(
    ("prompts", "default", "prompt"),
    [
        ({"query": "find: ", "document": "new: "}, None, "new: "),
        ({"query": "find: ", "passage": "new: "}, None, "new: "),
        ({"query": "find: ", "document": "", "passage": "new: "}, "query", "new: "),  # as written since version 5
        ({"query": "find: ", "document": "", "music": "song: "}, "music", "song: "),
        ({"query": "find: ", "document": None}, "query", ""),
        ({"query": "find: ", "document": ""}, None, ""),
        ({}, None, ""),
    ],
)
def test_the_prompt_of_documents_stands_before_each_text(own_encoder, options, prompts, default, prompt):
    plain, before = load(own_encoder), folder_fingerprint(own_encoder)
    cached = embed_texts(TEXTS, EncoderOptions(encoder=str(own_encoder), max_tokens=16))
    change(own_encoder, "config_sentence_transformers.json", prompts=prompts, default_prompt_name=default)
    expected = plain.encode([prompt + text for text in TEXTS])
    torch.testing.assert_close(load(own_encoder).encode(TEXTS), expected)
    vectors = embed_texts(TEXTS, EncoderOptions(encoder=str(own_encoder), max_tokens=16))
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=0)
    assert torch.equal(vectors, cached) == (not prompt)
    assert (folder_fingerprint(own_encoder) == before) == (not prompt)


def test_prompts_that_we_cannot_do(own_encoder):
    change(own_encoder, "config_sentence_transformers.json", prompts={"document": "new: "})
    change(own_encoder, "1_Pooling/config.json", pooling_mode_mean_tokens=True, include_prompt=False)
    with pytest.raises(InputError, match=r"1_Pooling/config\.json: leaves the prompt out of the pooling"):
        load(own_encoder)
    change(own_encoder, "config_sentence_transformers.json", prompts=["new: "])
    with pytest.raises(InputError, match=r"config_sentence_transformers\.json: 'prompts' are no names with texts"):
        load(own_encoder)


def test_texts_are_lowercased_where_the_folder_says_so(tmp_path):
    folder = build_tiny(tmp_path / "bert", transformers.BertModel, transformers.BertConfig)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"normalizer": None}))
    cased, before = load(folder).encode(["Red Dog", "red dog"]), folder_fingerprint(folder)
    assert not torch.allclose(cased[0], cased[1], atol=1e-3)
    change(folder, "sentence_roberta_config.json", do_lower_case=True)
    lowered = load(folder).encode(["Red Dog", "red dog"])
    torch.testing.assert_close(lowered, cased[[1, 1]])
    assert folder_fingerprint(folder) != before


def test_the_length_that_a_model_was_made_for_is_its_limit(own_encoder):
    change(own_encoder, "sentence_bert_config.json", max_seq_length=20)
    with pytest.raises(InputError, match=r"max_tokens: 21 is more than .* reads; give at most 20"):
        load(own_encoder, max_tokens=21)
    assert load(own_encoder, max_tokens=20).tokenize(["red " * 50])[0][-1] == 3
    change(own_encoder, "sentence_bert_config.json", max_seq_length=None)
    assert load(own_encoder, max_tokens=128)


@pytest.mark.parametrize(
    ("kind", "padding", "limit"),
    [
        ("Bert", 0, 40),
        ("Roberta", 0, 39),
        ("Roberta", 1, 38),
        ("XLMRoberta", 1, 38),
        ("Camembert", 1, 38),
        ("MPNet", 1, 38),
        ("IBert", 1, 38),
        ("DistilBert", 0, 40),
        ("GPT2", 0, 40),
        ("OPT", 1, 40),
    ],
)
def test_positions_that_a_kind_does_not_use_do_not_count(tmp_path, kind, padding, limit):
    model, config = (getattr(transformers, kind + part) for part in ("Model", "Config"))
    folder = build_tiny(tmp_path, model, config, max_position_embeddings=40, pad_token_id=padding)
    with pytest.raises(InputError, match=f"max_tokens: {limit + 1} is more than .* reads; give at most {limit}$"):
        load(folder, max_tokens=limit + 1)
    encoder = load(folder, max_tokens=limit)
    assert encoder.encode(["red dog " * 50]).isfinite().all()
    ids = torch.full((1, limit + 1), 5)
    with pytest.raises((IndexError, RuntimeError)):
        encoder.model(input_ids=ids, attention_mask=torch.ones_like(ids))


def test_what_a_model_cannot_read_is_an_error_whatever_it_says_of_itself(tmp_path, monkeypatch):
    folder = build_tiny(tmp_path, transformers.BertModel, transformers.BertConfig, max_position_embeddings=40)
    monkeypatch.setattr("foster.text.encoder._positions", lambda model: 1000)
    with pytest.raises(InputError, match="cannot read 50 tokens") as caught:
        load(folder, max_tokens=50)
    assert "\n" not in str(caught.value)


CAUSAL = {"template": None, "bos_token_id": None, "eos_token_id": None}


@pytest.mark.parametrize("kind", ["GPT2LMHeadModel", "GPT2Model", "LlamaForCausalLM", "LlamaModel", "OPTForCausalLM"])
def test_causal_models_are_pooled_by_the_last_token_with_no_padding_token(tmp_path, kind):
    family = kind.removesuffix("LMHeadModel").removesuffix("ForCausalLM").removesuffix("Model")
    model, config = getattr(transformers, kind), getattr(transformers, family + "Config")
    encoder = load(build_tiny(tmp_path, model, config, **CAUSAL))
    assert encoder.pooling == "last" and encoder.tokenizer.pad_token_id is None
    vectors = encoder.encode([*TEXTS, ""])
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([encoder.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            alone = encoder.model(input_ids=ids).last_hidden_state[0, -1]
        torch.testing.assert_close(vectors[row], alone, atol=1e-5, rtol=1e-4)
    assert vectors.isfinite().all()


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"architectures": ["BertLMHeadModel"], "model_type": "bert"}, "last"),
        ({"architectures": ["BertModel"], "model_type": "bert", "is_decoder": True}, "last"),
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "mean"),
        ({"architectures": ["FlaubertWithLMHeadModel"], "model_type": "flaubert"}, "mean"),  # a masked one
        ({"architectures": ["BertGenerationEncoder"], "model_type": "bert-generation"}, "mean"),
        ({"architectures": ["Qwen3Model"], "model_type": "qwen3"}, "last"),
        ({"architectures": ["Qwen3Model"], "model_type": "qwen3", "is_causal": False}, "mean"),
        (
            {"architectures": ["Gemma3TextModel"], "model_type": "gemma3_text", "use_bidirectional_attention": True},
            "mean",
        ),
        ({"model_type": "gpt2"}, "last"),
        ({"model_type": "roberta"}, "mean"),
        ({}, "mean"),
    ],
)
def test_which_models_are_causal(tmp_path, config, pooling):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert folder_pooling(tmp_path) == pooling


def small(config_class, **options):
    return lambda: config_class(**options)


TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 99}
IMAGE = {**{key: value for key, value in TEXT.items() if key != "vocab_size"}, "image_size": 8, "patch_size": 4}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 99}


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("T5Model", small(transformers.T5Config, **T5), "is a t5, an encoder-decoder"),
        ("T5EncoderModel", small(transformers.T5Config, **T5), "is a t5, an encoder-decoder"),
        (
            "CLIPModel",
            small(transformers.CLIPConfig, text_config=TEXT, vision_config=IMAGE),
            r"is a clip, a model of parts \(text_config, vision_config\)",
        ),
        ("CLIPTextModel", small(transformers.CLIPTextConfig, **TEXT), "is a clip_text_model, a model that is a part"),
        ("ViTModel", small(transformers.ViTConfig, **IMAGE), "is a vit and reads pixel_values, not texts"),
        ("CLIPVisionModel", small(transformers.CLIPVisionConfig, **IMAGE), "is a clip_vision_model and reads pixel_"),
    ],
)
def test_other_models_are_refused_by_name(tmp_path, own_encoder, kind, config, words):
    for path in own_encoder.glob("model*"):
        path.unlink()
    getattr(transformers, kind)(config()).save_pretrained(own_encoder)
    with pytest.raises(InputError, match=f"own_encoder: {words}"):
        load(own_encoder)


def test_an_adapter_is_not_lost(own_encoder):
    change(own_encoder, "adapter_config.json", base_model_name_or_path="someone/base")
    with pytest.raises(InputError, match=r"own_encoder: holds an adapter .*merge it"):
        locate(str(own_encoder))
