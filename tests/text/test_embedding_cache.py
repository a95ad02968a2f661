import logging
import os
import random
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file

from foster.errors import InputError
from foster.text import cache as module
from foster.text.cache import _checksum, embed_texts
from foster.text.encoder import TextEncoder

TEXTS = [f"{adjective} {noun}" for adjective in ("red", "old", "sweet", "fast") for noun in ("dog", "castle", "tea")]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr("foster.text.cache.SHARD_TEXTS", 4)


@pytest.fixture
def encoded(monkeypatch):
    """The texts that went through the encoder, in order."""
    texts = []
    real = TextEncoder.encode
    monkeypatch.setattr(
        TextEncoder, "encode", lambda self, part, **kwargs: texts.extend(part) or real(self, part, **kwargs)
    )
    return texts


def shards(cache):
    return sorted(cache.glob("embeddings/*/*"))


def test_vectors_are_those_of_the_encoder(options, encoder):
    torch.testing.assert_close(embed_texts(TEXTS, options), encoder.encode(TEXTS), atol=1e-5, rtol=0)


def test_second_call_does_not_load_the_model(options, monkeypatch):
    first = embed_texts(TEXTS, options)
    monkeypatch.setattr(TextEncoder, "load", lambda *args: pytest.fail("the model was loaded"))
    assert torch.equal(embed_texts(TEXTS[::-1], options), first.flip(0))


def test_a_text_is_encoded_once(options, encoded):
    vectors = embed_texts(["red dog", "old tea", "red dog", "red dog"], options)
    assert encoded == ["red dog", "old tea"]
    assert torch.equal(vectors[[0, 0, 0]], vectors[[0, 2, 3]])
    assert not torch.equal(vectors[0], vectors[1])


@pytest.mark.parametrize("known", [0, 3, 12])
def test_texts_that_come_often_have_their_vector_wherever_they_are(options, encoder, known):
    embed_texts(TEXTS[:known], options)
    order = random.Random(0).choices(range(12), k=50)
    vectors = embed_texts([TEXTS[n] for n in order], options)
    torch.testing.assert_close(vectors, encoder.encode(TEXTS)[order], atol=1e-5, rtol=0)


def test_only_new_texts_are_encoded(options, encoded):
    embed_texts(TEXTS[:5], options)
    embed_texts([TEXTS[7], *TEXTS[:6]], options)
    assert encoded == [*TEXTS[:5], TEXTS[7], TEXTS[5]]


def test_a_killed_run_goes_on_where_it_was(options, encoder, monkeypatch, encoded):
    expected = encoder.encode(TEXTS)
    encoded.clear()
    counting = TextEncoder.encode

    def killed(self, part, **kwargs):
        if len(encoded) >= 8:
            raise KeyboardInterrupt
        return counting(self, part, **kwargs)

    monkeypatch.setattr(TextEncoder, "encode", killed)
    with pytest.raises(KeyboardInterrupt):
        embed_texts(TEXTS, options)
    assert encoded == TEXTS[:8]

    encoded.clear()
    monkeypatch.setattr(TextEncoder, "encode", counting)
    torch.testing.assert_close(embed_texts(TEXTS, options), expected, atol=1e-5, rtol=0)
    assert encoded == TEXTS[8:]


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def empty(path):
    path.write_bytes(b"")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, empty, flip_a_bit])
def test_a_damaged_shard_is_encoded_again(options, cache, encoded, caplog, damage):
    first = embed_texts(TEXTS, options)
    path = shards(cache)[1]
    damage(path)
    encoded.clear()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(embed_texts(TEXTS, options), first)
    assert len(encoded) == 4
    assert [record.getMessage() for record in caplog.records] == [caplog.messages[0]]
    assert caplog.messages[0].startswith(f"{path}: damaged")
    # The second call has made it whole.
    encoded.clear()
    caplog.clear()
    assert torch.equal(embed_texts(TEXTS, options), first)
    assert (encoded, caplog.messages) == ([], [])


@pytest.mark.parametrize("change", [{"pooling": "cls"}, {"max_tokens": 4}])
def test_other_options_do_not_share_vectors(options, change):
    first = embed_texts(["red old sweet dog"], options)
    other = options.model_copy(update=change)
    assert not torch.equal(embed_texts(["red old sweet dog"], other), first)
    assert torch.equal(
        embed_texts(["red old sweet dog"], other), embed_texts(["red old sweet dog"], other, cache=False)
    )


def test_pooling_named_is_pooling_found(options, encoded):
    embed_texts(TEXTS, options)
    embed_texts(TEXTS, options.model_copy(update={"pooling": "mean"}))
    assert encoded == TEXTS


def test_a_loaded_encoder_shares_the_cache_of_its_options(options, encoder, encoded):
    embed_texts(TEXTS, options)
    embed_texts(TEXTS, encoder=encoder)
    assert encoded == TEXTS


def broken(text):
    """Return an encoder's ``encode`` that gives one text a vector of NaN."""
    real = TextEncoder.pool

    def pool(self, hidden, mask):
        vectors = real(self, hidden, mask)
        return torch.where((mask.sum(1) == len(self.tokenize([text])[0]))[:, None], torch.nan, vectors)

    return pool


def test_vectors_that_are_not_finite_are_an_error_and_not_cached(options, cache, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(TextEncoder, "pool", broken("old castle and castle"))
        with pytest.raises(
            InputError, match="the vector of 'old castle and castle' is not finite; the model is damaged"
        ):
            embed_texts([*TEXTS[:4], "red dog", "old castle and castle"], options)
    assert embed_texts(["old castle and castle"], options).isfinite().all()
    assert all(load_file(path)["vectors"].isfinite().all() for path in shards(cache))


def test_a_cached_shard_with_such_vectors_is_not_used(options, cache, encoded, caplog):
    first = embed_texts(TEXTS, options)
    path = shards(cache)[1]
    content = load_file(path)
    content["vectors"][1, 2] = torch.nan
    save_file(content, path, metadata={"checksum": _checksum(**content)})  # as an earlier version wrote it
    encoded.clear()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(embed_texts(TEXTS, options), first)
    assert len(encoded) == 4 and caplog.messages[0].startswith(f"{path}: damaged (vectors are not finite)")


@pytest.mark.parametrize("unsorted", [0, 10, 10**6])
def test_a_look_up_opens_the_shards_of_its_texts_only(options, cache, encoded, monkeypatch, unsorted):
    monkeypatch.setattr(module, "UNSORTED", unsorted)
    texts = [f"{text} {n}" for n in range(8) for text in TEXTS]  # 24 shards
    first = embed_texts(texts, options)
    for n in range(5):  # one by one
        embed_texts([f"new {n} {TEXTS[n]}"], options)
    opened, real = [], module._read_shard
    monkeypatch.setattr(module, "_read_shard", lambda path, wanted: opened.append(path) or real(path, wanted))
    encoded.clear()
    found = embed_texts([texts[50], texts[51], f"new 3 {TEXTS[3]}", "a text that is not there"], options)
    assert torch.equal(found[:2], first[50:52]) and len(opened) == 2
    assert encoded == ["a text that is not there"]


def test_shards_that_others_add_and_remove_are_seen(options, cache, encoded):
    first = embed_texts(TEXTS, options)
    away = shards(cache)[1]
    away.rename(away.with_suffix(".away"))
    encoded.clear()
    assert torch.equal(embed_texts(TEXTS, options), first) and len(encoded) == 4
    for path in shards(cache):
        path.unlink()
    encoded.clear()
    assert torch.equal(embed_texts(TEXTS, options), first) and len(encoded) == 12
    other = embed_texts(["a text of another run"], options)
    module._INDICES.clear()
    encoded.clear()
    assert torch.equal(embed_texts([*TEXTS, "a text of another run"], options), torch.cat([first, other]))
    assert not encoded


def test_without_cache_nothing_is_written(options, cache, encoded):
    first, second = (embed_texts(TEXTS, options, cache=False) for _ in range(2))
    assert torch.equal(first, second)
    assert encoded == TEXTS * 2
    assert not cache.exists()


def test_no_texts_give_no_vectors(options):
    assert embed_texts([], options).shape == (0, 32)


def test_runs_at_once_leave_a_whole_cache(options, encoder, cache, caplog):
    parts = [TEXTS, TEXTS[::-1], TEXTS[3:], TEXTS[:7]]
    with ThreadPoolExecutor(4) as pool:
        for part, got in zip(parts, pool.map(lambda texts: embed_texts(texts, options), parts), strict=True):
            torch.testing.assert_close(got, encoder.encode(part), atol=1e-5, rtol=0)
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(embed_texts(TEXTS, options), encoder.encode(TEXTS), atol=1e-5, rtol=0)
    assert not caplog.messages
    assert all(path.suffix == ".safetensors" for path in shards(cache))


def test_a_cache_that_cannot_be_written_costs_only_time(options, encoder, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path / "file" / "cache"))
    vectors = embed_texts(TEXTS[:3], options)
    torch.testing.assert_close(vectors, encoder.encode(TEXTS[:3]), atol=1e-5, rtol=0)
    assert "cannot write there (Not a directory)" in caplog.text


@pytest.mark.parametrize("progress", [True, False])
def test_progress_is_shown_where_it_is_asked_for(options, capfd, monkeypatch, progress):
    monkeypatch.setattr("foster.progress.LINE_SECONDS", 0.0)
    embed_texts(TEXTS, options, progress=progress)
    out, err = capfd.readouterr()
    assert out == ""
    assert (f"encoding texts: 100%, {len(TEXTS)} of {len(TEXTS)}" in err) == progress == bool(err)


def test_importing_the_package_brings_no_torch_in():
    code = "import foster.text.cache, sys; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="permission bits of POSIX")
def test_files_of_the_cache_can_be_shared(options, cache):
    old = os.umask(0o022)
    try:
        embed_texts(TEXTS[:1], options)
    finally:
        os.umask(old)
    assert stat.S_IMODE(shards(cache)[0].stat().st_mode) == 0o644
