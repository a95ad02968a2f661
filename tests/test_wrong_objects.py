"""Functions that are given something of another kind say so in one line."""

from __future__ import annotations

import pytest

import foster
from foster import Dataset, EncoderOptions, InputError, ModelOptions, TrainOptions
from synthetic_log import synthetic_log, write_csv


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Dataset:
    return Dataset.prepare([str(write_csv(tmp_path_factory.mktemp("log") / "log.csv", synthetic_log()))], k_core=0)


@pytest.fixture(scope="module")
def model(data, tiny_encoder):
    encoder, shape = EncoderOptions(encoder=str(tiny_encoder)), ModelOptions(dim=8, heads=1, layers=1, max_length=8)
    return foster.train(data, encoder=encoder, model=shape, train=TrainOptions(steps=2, eval_every=2))[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda data: foster.train("distilled"), "train: source is 'distilled', of type str; give a Dataset or a Cond"),
        (lambda data: foster.train(None), "train: source is None, of type NoneType"),
        (
            lambda data: foster.train(data, model=TrainOptions()),
            "train: model is TrainOptions.* give a ModelOptions obj",
        ),
        (
            lambda data: foster.train(data, validation="data"),
            "train: validation is 'data', of type str; give a Dataset",
        ),
        (lambda data: foster.train(data, seed="1"), "seed '1': give a number"),
        (lambda data: foster.pretrain("data", "out"), "pretrain: data is 'data'"),
        (lambda data: foster.train_teacher(data, train=ModelOptions()), "train_teacher: train is ModelOptions"),
        (lambda data: foster.distill("data", "teacher"), "distill: data is 'data'"),
        (lambda data: foster.distill(data, "teacher", {"steps": 3}), "distill: options is {'steps': 3}, of type dict"),
        (lambda data: foster.select("random", "data"), "select: data is 'data'"),
        (
            lambda data: foster.evaluate("model", data),
            "evaluate: model is 'model', of type str; give a TextRecommender",
        ),
        (lambda data: foster.finish("distilled", data), "finish: source is 'distilled'"),
    ],
)
def test_an_object_of_another_kind_is_one_line(data, call, message):
    with pytest.raises(InputError, match=f"^{message}"):
        call(data)


@pytest.mark.parametrize("k", [2.5, True, 0, "3"])
def test_lists_have_whole_lengths(model, k):
    with pytest.raises(InputError, match=f"^k={k!r}; give 1 to "):
        model.recommend([["i1"]], k=k)


@pytest.mark.parametrize(("texts", "ids"), [("abc", "abc"), (["x"], [5]), ([None, "t"], ["z", "y"]), ("abc", None)])
def test_items_that_are_added_are_lists_of_texts(model, texts, ids):
    before = model.n_items
    with pytest.raises(InputError, match=r"^add_items: (ids|texts) is one list of texts, as in \['new-1', 'new-2'\]"):
        model.add_items(texts, ids)
    assert model.n_items == before
