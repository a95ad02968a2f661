"""Items that are withheld from a log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foster.data.catalogue import popularity_of
from foster.data.dataset import Dataset
from foster.data.new_items import withhold
from foster.errors import InputError

ROWS = [
    # user, item, time: items c and e come last
    ("u", "a", 1), ("u", "b", 2), ("u", "c", 9), ("u", "d", 10), ("u", "e", 11),
    ("v", "d", 2), ("v", "a", 3), ("v", "b", 4), ("v", "a", 5),
    ("w", "e", 12), ("w", "a", 13), ("w", "b", 14), ("w", "c", 15),
    ("x", "a", 1), ("x", "c", 9), ("x", "b", 16),
]  # fmt: skip


def log(times: bool = True) -> Dataset:
    import polars as pl

    frame = pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame = frame.with_columns(title=pl.lit("text of ") + pl.col("item_id"))
    return Dataset.prepare(frame if times else frame.drop("timestamp"), k_core=0)


def test_the_newest_items_leave_no_trace():
    data = log()
    known, new = withhold(data, 0.4)
    assert new.ids == ["c", "e"] and new.texts == ["text of c", "text of e"]
    assert known.item_ids == ["a", "b", "d"]
    sequences = {user: [known.item_ids[i] for i in known.sequence(row)] for row, user in enumerate(known.user_ids)}
    assert sequences == {"u": ["a", "b", "d"], "v": ["d", "a", "b", "a"]}  # w and x have two items left
    assert (known.info.users, known.info.items, known.info.interactions) == (2, 3, 7)
    assert known.timestamps.tolist() == [1, 2, 10, 2, 3, 4, 5]
    assert known.info.fingerprint != data.info.fingerprint


def test_users_are_asked_for_their_first_new_item():
    known, new = withhold(log(), 0.4)
    histories = [[known.item_ids[item] for item in history] for history in new.histories]
    assert histories == [["a", "b"], ["a"]]  # of u and x; w has nothing before its first one
    assert [new.ids[target] for target in new.targets] == ["c", "c"]


def test_withheld_items_leave_no_trace_in_the_popularity_of_others():
    data = log()
    data = replace(data, info=data.info.model_copy(update={"popularity": True}))
    known, _ = withhold(data, 0.4)
    assert known.catalogue.popularity == popularity_of(known.item_counts())


def test_a_log_that_lost_items_can_be_saved_and_read(tmp_path):
    known, _ = withhold(log(), 0.4)
    known.save(tmp_path / "known")
    assert Dataset.read(tmp_path / "known").info == known.info


def test_without_times_the_items_are_drawn():
    drawn = {tuple(withhold(log(times=False), 0.4, seed)[1].ids) for seed in range(20)}
    assert len(drawn) > 3
    assert withhold(log(times=False), 0.4, 3)[1].ids == withhold(log(times=False), 0.4, 3)[1].ids


@pytest.mark.parametrize(("share", "message"), [(0.01, "of 5 items that is 0"), (0.99, "of 5 items that is 5")])
def test_shares_that_cannot_be(share, message):
    with pytest.raises(InputError, match=message):
        withhold(log(), share)


def test_too_little_is_left():
    with pytest.raises(InputError, match="no user has 3 items"):
        withhold(log(), 0.8)


def test_new_items_are_ranked_among_all(tiny_encoder):
    from foster.evaluation.evaluate import rank_new_items
    from foster.models.options import ModelOptions
    from foster.models.recommender import TextRecommender
    from foster.text.options import EncoderOptions

    known, new = withhold(log(), 0.4)
    options = ModelOptions(dim=8, heads=1, layers=1, max_length=4)
    model = TextRecommender.build(known.catalogue, EncoderOptions(encoder=str(tiny_encoder)), options).eval()
    ranks = rank_new_items(model, new)
    assert model.n_items == 5
    for rank, history, target in zip(ranks, new.histories, new.targets, strict=True):
        names = [known.item_ids[item] for item in history]
        listed = [item for item, _ in model.recommend([names], 5 - len(set(names)))[0]]
        assert np.isclose(rank, 1 + listed.index(new.ids[target]), atol=0.5)
