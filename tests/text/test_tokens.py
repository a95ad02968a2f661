import shutil
from pathlib import Path

import pytest
import torch

from foster.errors import InputError
from foster.text.encoder import TextEncoder
from foster.text.options import EncoderOptions
from foster.text.tokens import TokenTable

IDS = [[2, 5, 3], [2, 3], [2, 7, 8, 9, 3], [2, 6, 3]]


def test_batch_is_padded_to_its_longest_text():
    table = TokenTable.build(IDS, pad=0)
    ids, mask = table.batch(torch.tensor([3, 1, 3]))
    assert ids.tolist() == [[2, 6, 3], [2, 3, 0], [2, 6, 3]]
    assert mask.tolist() == [[True] * 3, [True, True, False], [True] * 3]
    assert (ids.dtype, table.flat.dtype, len(table)) == (torch.int64, torch.int32, 4)


def test_padding_has_the_id_of_the_tokenizer():
    ids, _ = TokenTable.build(IDS, pad=1).batch(torch.tensor([0, 1]))
    assert ids.tolist() == [[2, 5, 3], [2, 3, 1]]


def test_concatenated_tables_give_the_texts_in_order():
    whole = TokenTable.concatenate([TokenTable.build(part, pad=0) for part in (IDS[:1], [], IDS[1:])])
    index = torch.arange(4)
    for got, expected in zip(whole.batch(index), TokenTable.build(IDS, pad=0).batch(index), strict=True):
        assert torch.equal(got, expected)


def test_batches_hold_every_text_once_the_longest_first_within_the_limit():
    table = TokenTable.build(IDS, pad=0)
    batches = list(table.batches(6))
    assert [batch.tolist() for batch in batches] == [[2], [0, 3], [1]]
    assert all(len(batch) * int(table.lengths[batch].max()) <= 6 for batch in batches)


def test_a_text_longer_than_the_limit_is_a_batch_of_its_own():
    assert [batch.tolist() for batch in TokenTable.build(IDS, pad=0).batches(1)] == [[2], [0], [3], [1]]


def test_an_encoder_without_a_vocabulary_is_refused(tiny_encoder, tmp_path):
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"holds no tokenizer\.json and no vocabulary"):
        TextEncoder.load(EncoderOptions(encoder=str(folder), max_tokens=8))


def test_an_encoder_in_the_users_folder(tiny_encoder, tmp_path, monkeypatch):
    shutil.copytree(tiny_encoder, tmp_path / "[my] encoder")
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = TextEncoder.load(EncoderOptions(encoder="~/[my] encoder", max_tokens=8))
    assert loaded.width == TextEncoder.load(EncoderOptions(encoder=str(tiny_encoder), max_tokens=8)).width
