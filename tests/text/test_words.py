"""Words of texts as vectors."""

from __future__ import annotations

import copy

import pytest
import torch

from foster.data.catalogue import Catalogue
from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.text import words
from foster.text.encoder import same_encoder
from foster.text.options import EncoderOptions
from foster.text.words import Words, word_vectors, words_of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Women's e-Reader, 250ML; e-reader!", ["women", "s", "e", "reader", "250ml"]),
        ("ＡＢ ﬁne Straße", ["ab", "fine", "strasse"]),
        ("snake_case naïve Ελλάς", ["snake", "case", "naïve", "ελλάσ"]),
        ("हिन्दी किताब", ["हिन्दी", "किताब"]),
        ("手机壳", ["手机", "机壳"]),
        ("iPhone手机", ["iphone", "手机"]),
        ("本", ["本"]),
        ("한국어 책", ["한국어", "책"]),
        ("--- !", []),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_or_pairs_of_signs(text, found):
    assert words_of(text) == found


def test_vectors_of_words_are_known_in_every_catalogue():
    vectors = word_vectors(["red tea", "!", "tea"], 8)
    # The bits of a hash of "red" and "tea" that is defined elsewhere (RFC 7693), 1 for a bit and -1 for none.
    from hashlib import blake2b

    red, tea = ([1 if (blake2b(w).digest()[0] >> (7 - bit)) & 1 else -1 for bit in range(8)] for w in (b"red", b"tea"))
    both = torch.tensor(red) + torch.tensor(tea)
    torch.testing.assert_close(vectors[0], both / both.float().norm())
    assert not vectors[1].any()
    torch.testing.assert_close(vectors[2], torch.tensor(tea) / 8**0.5)


def test_a_vector_depends_on_its_text_only(monkeypatch):
    texts = ["red tea", "green tea", "", "black coffee beans", "tea red"] * 3
    whole = word_vectors(texts, 512)
    monkeypatch.setattr(words, "CHUNK", 4)
    assert torch.equal(word_vectors(texts, 512), whole)
    assert torch.equal(word_vectors(texts[::-1], 512).flip(0), whole)
    assert torch.equal(whole[0], whole[4])
    assert word_vectors([], 16).shape == (0, 16)
    assert not word_vectors(["!", "", "🙂"], 512).any()


def test_inner_products_are_about_those_of_bags_of_words():
    texts = [f"w{i} w{i + 1} w{i + 2} w{i + 3}" for i in range(200)]
    vectors = word_vectors(texts, 512)
    shared = torch.tensor([[max(4 - abs(i - j), 0) / 4 for j in range(200)] for i in range(200)])
    error = vectors @ vectors.T - shared
    assert error.pow(2).mean().sqrt() < 1.2 / 512**0.5
    assert word_vectors(texts, 64).shape == (200, 64)


def test_words_by_index_are_shared_by_copies_and_grow():
    found = Words(["red", "green tea"], 16)
    torch.testing.assert_close(found(torch.tensor([1, 0, 1])), word_vectors(["green tea", "red", "green tea"], 16))
    assert copy.deepcopy(found) is found
    more = found.extended(["blue"])
    assert torch.equal(more(torch.tensor([2])), word_vectors(["blue"], 16)) and len(found.texts) == 2


def catalogue() -> Catalogue:
    texts = [f"{colour} {thing}" for colour in ("red", "green", "blue") for thing in ("dog", "castle", "apple", "car")]
    return Catalogue([str(i) for i in range(len(texts))], texts)


@pytest.mark.parametrize("finetune", ["frozen", "top:1", "all"])
def test_a_model_reads_words_beside_the_encoder(tiny_encoder, tmp_path, finetune):
    encoder = EncoderOptions(encoder=str(tiny_encoder), words=32)
    model = TextRecommender.build(catalogue(), encoder, ModelOptions(dim=8, heads=2, finetune=finetune)).eval()
    without = TextRecommender.build(
        catalogue(), encoder.model_copy(update={"words": 0}), ModelOptions(dim=8, heads=2, finetune=finetune)
    )
    width = without.tower.features.width
    assert model.tower.features.width == width + 32
    features, alone = (m.tower.features(torch.arange(12)) for m in (model, without))
    torch.testing.assert_close(features[:, :width], alone, rtol=1e-4, atol=1e-4)
    # Each kind is whitened apart, to the same size a number.
    lengths = [part.norm(dim=1).mean().item() for part in (features[:, :width], features[:, width:])]
    assert lengths == pytest.approx([width**0.5, 32**0.5], rel=1e-3)
    new = model.encode_texts(["red dog"])
    torch.testing.assert_close(new[0], model.tower(torch.tensor([0]))[0], rtol=1e-3, atol=1e-3)
    model.add_items(["red dog"], ["new"])
    torch.testing.assert_close(model.item_table()[12], model.item_table()[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.tower(torch.tensor([12])), model.tower(torch.tensor([0])), rtol=1e-3, atol=1e-3)
    model.save_pretrained(tmp_path / "model")
    loaded = TextRecommender.from_pretrained(tmp_path / "model")
    assert loaded.encoder.words == 32
    torch.testing.assert_close(loaded.tower.table(), model.item_table(), rtol=1e-3, atol=1e-3)


def test_items_that_an_encoder_cannot_read_are_told_apart_by_their_words(tiny_encoder):
    texts = ["手机壳", "电脑包", "耳机线", "充电器"]  # unknown to the encoder's vocabulary
    items = Catalogue(list("abcd"), texts)
    options = ModelOptions(dim=8, heads=2)
    with pytest.raises(InputError, match="have the same vector"):
        TextRecommender.build(items, EncoderOptions(encoder=str(tiny_encoder), words=0), options)
    model = TextRecommender.build(items, EncoderOptions(encoder=str(tiny_encoder)), options)
    distances = torch.cdist(model.item_table(), model.item_table())
    assert distances[~torch.eye(4, dtype=torch.bool)].min() > 0.1


def test_folders_of_before_words_read_none():
    before = {"encoder": "x", "pooling": "auto", "max_tokens": 64}
    assert EncoderOptions.stored(before, "config.json").words == 0
    assert EncoderOptions.stored(EncoderOptions().model_dump(), "config.json") == EncoderOptions()
    with pytest.raises(InputError, match=r"config\.json"):
        EncoderOptions.stored([], "config.json")


def test_encoders_with_other_words_are_not_the_same(tiny_encoder):
    one = EncoderOptions(encoder=str(tiny_encoder))
    assert not same_encoder(one, one.model_copy(update={"words": 0}))
    assert same_encoder(one, EncoderOptions(encoder=str(tiny_encoder)))
