"""Leave-one-out and splits by time, on logs that are small enough to divide by hand."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import polars as pl
import pytest

from foster.data.catalogue import MEAN_POPULARITY, popularity_of
from foster.data.check import check
from foster.data.dataset import Dataset, fingerprint
from foster.data.new_items import withhold
from foster.data.split import cut_time, parse_split
from foster.errors import InputError
from foster.manifest import seal

# Thirteen interactions at 1 1 2 4 5 5 5 7 8 9 9 10 10; w comes late, x does one thing early; e, z and d come late.
ROWS = [
    ("u", "a", 1), ("u", "b", 2), ("u", "c", 5), ("u", "a", 7), ("u", "z", 8),
    ("w", "a", 9), ("w", "e", 10),
    ("v", "b", 1), ("v", "c", 5), ("v", "b", 5), ("v", "d", 9),
    ("x", "c", 4), ("x", "d", 10),
]  # fmt: skip
ITEMS = pl.DataFrame({"item_id": list("ezabcd")}).with_columns(title=pl.lit("text of ") + pl.col("item_id"))


def log(rows=ROWS) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def split(how="time:0.4", targets=None, frame=None, **rest) -> Dataset:
    return Dataset.prepare(log() if frame is None else frame, ITEMS, k_core=0, split=how, targets=targets, **rest)


def ids(data: Dataset, items) -> str:
    return "".join(data.item_ids[item] for item in items)


def asked(data: Dataset, which: str) -> list[tuple[str, str, str]]:
    """Return user, history and target of every target."""
    targets = data.held_out(which)
    users = [data.user_ids[user] for user in targets.users]
    histories = [ids(data, history) for history in data.histories(which)]
    return list(zip(users, histories, ids(data, data.targets(which)), strict=True))


@pytest.mark.parametrize(
    ("share", "cut"), [("0.01", 1), ("0.15", 1), ("0.16", 2), ("0.4", 5), ("0.5", 5), ("0.54", 7), ("0.99", 10)]
)
def test_the_cut_is_the_least_time_that_so_many_lie_at_or_before(share, cut):
    assert cut_time(log()["timestamp"].to_numpy(), Fraction(share)) == cut


def test_a_share_is_what_it_says_and_not_its_nearest_double():
    assert cut_time(np.arange(100), parse_split("time:0.07")[0]) == 6  # 0.07 * 100 is 7.000000000000001


class TestOneCut:
    def test_ties_with_the_cut_are_the_past(self):
        data = split()
        assert data.info.cut_times == (5,)
        assert [ids(data, history) for history in data.histories("train")] == ["ab", "bc", "c"]
        assert [ids(data, history) for history in data.training_histories()] == ["ab", "bc"]

    def test_the_last_past_item_of_who_has_two_is_for_validation(self):
        assert asked(split(), "validation") == [("u", "ab", "c"), ("v", "bc", "b")]

    def test_last(self):
        data = split()
        assert data.info.targets == "last"
        assert asked(data, "test") == [("u", "abca", "z"), ("v", "bcb", "d"), ("x", "c", "d")]

    def test_successive(self):
        found = asked(split(targets="successive"), "test")
        assert found == [("u", "abc", "a"), ("u", "abca", "z"), ("v", "bcb", "d"), ("x", "c", "d")]

    def test_random_is_one_of_the_test_period_and_stays_the_same(self):
        rows = [(f"u{user}", "a", time) for user in range(300) for time in range(7)]
        data = split("time:0.3", "random", log(rows))
        targets = data.held_out("test")
        assert targets.users.tolist() == list(range(300))
        drawn = targets.positions - data.offsets[targets.users]
        assert data.info.cut_times == (2,) and data.info.target_seed == 0
        counts = np.bincount(drawn, minlength=7)
        assert counts[:3].sum() == 0 and (counts[3:] > 45).all()  # of 75 each
        assert drawn[:8].tolist() == [6, 6, 4, 4, 5, 4, 6, 4]  # a stored data set keeps its targets in all versions

    def test_counts_are_those_of_the_training_part(self):
        data = split()
        assert dict(zip(data.item_ids, data.item_counts().tolist(), strict=True)) == {
            "a": 1, "b": 2, "c": 2, "e": 0, "z": 0, "d": 0,
        }  # fmt: skip

    def test_items_that_come_later_stand_behind_and_are_unknown(self):
        data = split()
        assert ids(data, range(6)) == "abcezd"
        assert data.texts == [f"text of {item}" for item in "abcezd"]
        assert [data.n_known(part) for part in ("train", "validation", "test")] == [3, 3, 6]
        assert data.catalogue.known == 3 and data.catalogue.n_known == 3

    def test_their_popularity_is_that_of_any_new_item(self):
        data = split(popularity=True)
        known = popularity_of(np.array([1, 2, 2]))
        assert data.catalogue.popularity == [*known, *[MEAN_POPULARITY] * 3]

    def test_chosen_users(self):
        data = split(targets="successive")
        x, u, w = (data.user_ids.index(name) for name in "xuw")
        assert [ids(data, history) for history in data.histories("test", [x, u, w, x])] == ["c", "abc", "abca", "c"]
        assert ids(data, data.targets("test", [x, u, w, x])) == "dazd"
        assert [ids(data, history) for history in data.histories("train", [w, x])] == ["c"]

    def test_parts(self):
        assert split(targets="successive").parts().as_dict() == {
            "training_users": 2, "training_interactions": 5, "validation_users": 2, "validation_targets": 2,
            "test_users": 3, "test_targets": 4, "later_items": 3,
        }  # fmt: skip


class TestTwoCuts:
    def test_training_ends_at_the_first(self):
        data = split("time:0.4:0.7")
        assert data.info.cut_times == (5, 9)
        assert [ids(data, history) for history in data.histories("train")] == ["abc", "bcb", "c"]
        assert dict(zip(data.item_ids, data.item_counts().tolist(), strict=True)) == {
            "a": 1, "b": 3, "c": 3, "z": 0, "d": 0, "e": 0,
        }  # fmt: skip

    def test_validation_lies_between(self):
        assert asked(split("time:0.4:0.7"), "validation") == [("u", "abca", "z"), ("v", "bcb", "d")]
        assert asked(split("time:0.4:0.7", "successive"), "validation") == [
            ("u", "abc", "a"), ("u", "abca", "z"), ("v", "bcb", "d"),
        ]  # fmt: skip

    def test_the_test_is_of_all_who_came_before_the_second(self):
        assert asked(split("time:0.4:0.7"), "test") == [("w", "a", "e"), ("x", "c", "d")]

    def test_each_part_knows_the_items_of_its_time(self):
        data = split("time:0.4:0.7")
        assert ids(data, range(6)) == "abczde"
        assert [data.n_known(part) for part in ("train", "validation", "test")] == [3, 5, 6]


def test_all_items_known_is_no_restriction():
    frame = log([(user, item, time) for user in "uvw" for time, item in enumerate("abcab")])
    data = split("time:0.6", frame=frame)
    assert data.catalogue.known is None and data.n_known("train") == data.n_items


def test_leave_one_out_is_what_it_was():
    data = split("leave-one-out", frame=log([(user, item, time) for user in "uvw" for time, item in enumerate("abca")]))
    assert data.info.split == "leave-one-out" and data.info.cut_times == () and data.info.targets is None
    assert asked(data, "validation") == [(user, "ab", "c") for user in "uvw"]
    assert asked(data, "test") == [(user, "abc", "a") for user in "uvw"]
    assert data.catalogue.known is None
    assert data.info.origin == {"data_fingerprint": data.info.fingerprint}


class TestFolder:
    @pytest.mark.parametrize("how", [("time:0.4", "random"), ("time:0.4:0.7", "successive"), ("time:.40", None)])
    def test_what_is_read_is_what_was_saved(self, tmp_path, how):
        data = split(*how)
        data.save(tmp_path / "data")
        again = Dataset.read(tmp_path / "data")
        assert again.info == data.info
        for part in ("validation", "test"):
            assert asked(again, part) == asked(data, part)
        assert again.catalogue == data.catalogue
        stored = json.loads((tmp_path / "data" / "dataset.json").read_text())
        assert (stored["split"], stored["cut_times"][0]) == (data.info.split, 5)
        card = (tmp_path / "data" / "README.md").read_text()
        assert data.info.split in card

    def test_folders_of_before_are_read(self, tmp_path):
        frame = log([(user, item, time) for user in "uvw" for time, item in enumerate("abca")])
        split("leave-one-out", frame=frame).save(tmp_path / "data")
        path = tmp_path / "data" / "dataset.json"
        old = json.loads(path.read_text())
        assert not {"targets", "target_seed", "cut_times"} & old.keys()  # it is as it was
        path.write_text(json.dumps(old | {"targets": None, "target_seed": None, "cut_times": []}))
        for _ in range(2):
            seal(tmp_path / "data")
            assert Dataset.read(tmp_path / "data").info.split == "leave-one-out"
            path.write_text(json.dumps(old))

    @pytest.mark.parametrize(
        "change",
        [{"split": "time:1.5"}, {"split": "leave-one-out"}, {"cut_times": []}, {"targets": None}, {"target_seed": 3}],
    )
    def test_fields_that_do_not_fit(self, tmp_path, change):
        split().save(tmp_path / "data")
        path = tmp_path / "data" / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        seal(tmp_path / "data")
        with pytest.raises(InputError, match=r"dataset\.json: field "):
            Dataset.read(tmp_path / "data")

    @pytest.mark.parametrize("change", [{"cut_times": [7]}, {"targets": "successive"}, {"split": "time:0.5"}])
    def test_another_split_is_another_fingerprint(self, tmp_path, change):
        split().save(tmp_path / "data")
        path = tmp_path / "data" / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        seal(tmp_path / "data")
        with pytest.raises(InputError, match="fingerprint"):
            Dataset.read(tmp_path / "data")

    def test_every_split_has_its_fingerprint(self):
        made = [split(how, targets) for how in ("time:0.4", "time:0.4:0.7") for targets in ("last", "successive")]
        made.append(split("time:0.4", "random"))
        assert len({data.info.fingerprint for data in made}) == 5
        assert split("time:.40").info == split("time:0.4").info
        assert all(fingerprint(data) == data.info.fingerprint for data in made)


SHARES_THAT_CANNOT_BE = ("1.2", "0", "0.0", "1", "", "0.9:0.8", "0.8:0.8", "0.1:0.2:0.3", "-0.1", "nan", "9e-1", "0.9:")


@pytest.mark.parametrize("how", [*(f"time:{share}" for share in SHARES_THAT_CANNOT_BE), "random", "", "time0.9", "0.9"])
def test_splits_that_cannot_be(how):
    with pytest.raises(InputError, match=f"--split {how}: give ") as error:
        split(how)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("how", "targets", "message"),
    [
        ("time:0.4", "first", "--targets first: unknown; give last, random, successive"),
        ("time:0.4", "rando", "did you mean 'random'"),
        ("leave-one-out", "last", "--targets last: is for a split by time"),
        ("time:0.1", None, "leaves no user with two interactions to train on"),
        ("time:0.99", None, "leaves no target to test"),
        ("time:0.4:0.5", None, "leaves no target to validate by"),
        ("time:0.97:0.98", None, "leaves no target to validate by"),
    ],
)
def test_logs_that_cannot_be_split_so(how, targets, message):
    with pytest.raises(InputError, match=message) as error:
        split(how, targets)
    assert "\n" not in str(error.value)


def test_a_cut_needs_times():
    rows = [(user, item) for user in "uvw" for item in "abca"]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    with pytest.raises(InputError, match=r"--split time:0\.9: dataset has no times, only an order of rows"):
        split("time:0.9", frame=frame)


def test_a_split_by_time_is_not_split_again():
    with pytest.raises(InputError, match="is split by time already"):
        split().with_split("time:0.5")


def test_new_items_are_those_after_the_cut():
    with pytest.raises(InputError, match=r"--new-items 0\.2: dataset is split by time"):
        withhold(split(), 0.2)


class TestCheck:
    def test_leave_one_out_that_knows_the_future_is_a_warning(self):
        rows = [(f"u{user}", item, 10 * user + time) for user in range(10) for time, item in enumerate("abcab")]
        report = check(split("leave-one-out", frame=log(rows)))
        # Training ends at 92; the last events are at 4, 14, .., 84 and 94.
        assert (report.future_targets, report.future_share) == (9, 0.9)
        assert any("9 test targets (90.0 %)" in line and "--split time:0.9" in line for line in report.warnings)
        assert "9 test targets (90.0 %) have training events after them" in report.as_text()

    def test_few_of_them_are_none(self):
        rows = [(f"u{user}", item, time) for user in range(10) for time, item in enumerate("abcab")]
        report = check(split("leave-one-out", frame=log(rows)))
        assert (report.future_targets, report.future_share) == (0, 0.0)
        assert not any("time:0.9" in line for line in report.warnings)

    def test_a_split_by_time_has_none(self):
        report = check(split())
        assert (report.future_targets, report.split) == (0, "time:0.4, last targets")
        assert report.parts["test_targets"] == 3 and report.cold_test_targets == 3

    def test_without_times_it_is_not_known(self):
        rows = [(user, item) for user in "uvw" for item in "abca"]
        report = check(split("leave-one-out", frame=pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")))
        assert (report.future_targets, report.future_share) == (None, None)
        assert "not known without times" in report.as_text()
