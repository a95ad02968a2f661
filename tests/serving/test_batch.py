"""Lists for many users: what single lists say, read from every kind of source, written whole or not at all."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from foster.data.dataset import Dataset
from foster.errors import InputError
from foster.serving import batch
from foster.serving.batch import SCHEMA, judged_recall, recommend_users, write_recommendations
from foster.serving.users import Users, item_choice, read_ids
from small_models import small_recommender

ROWS = [(f"u{u}", str((3 * u + 5 * t) % 40), t) for u in range(30) for t in reversed(range(3 + u % 7))]
LOG = pl.DataFrame(ROWS, ["user_id", "item_id", "timestamp"], orient="row")
HISTORIES = {f"u{u}": [str((3 * u + 5 * t) % 40) for t in range(3 + u % 7)] for u in range(30)}


def written(model, users, path, k=5, **asked) -> pl.DataFrame:
    rows = write_recommendations(recommend_users(model, users, k, **asked), path)
    found = pl.read_parquet(path)
    assert found.schema == SCHEMA and found.height == rows
    return found


@pytest.mark.parametrize("source", ["csv", "data", "jsonl", "parquet"])
def test_lists_are_those_of_single_users_from_every_source(tmp_path, monkeypatch, source):
    monkeypatch.setattr(batch, "USERS", 7)
    model, path = small_recommender(), tmp_path / f"users.{source}"
    if source == "csv":
        LOG.write_csv(path)
    elif source == "data":
        items = pl.DataFrame({"item_id": [str(i) for i in range(40)], "title": [f"item {i}" for i in range(40)]})
        Dataset.prepare(LOG, items, k_core=0).save(path)
    else:
        frame = pl.DataFrame({"user_id": list(HISTORIES), "history": list(HISTORIES.values())})
        frame.write_parquet(path) if source == "parquet" else frame.write_ndjson(path)
    users = Users.of(path, model.catalogue)
    assert dict(zip(users.ids, users.histories, strict=True)).keys() == HISTORIES.keys() and not users.remarks("log")
    found = written(model, users, tmp_path / "recs.parquet")
    wanted = model.recommend(list(HISTORIES.values()), 5)
    for (user, own), one in zip(found.group_by("user_id", maintain_order=True), wanted, strict=True):
        assert own["rank"].to_list() == [1, 2, 3, 4, 5] and user[0] in HISTORIES
        assert own["item_id"].to_list() == [item for item, _ in one]
        np.testing.assert_allclose(own["score"], [score for _, score in one], rtol=1e-5)
    kept = written(model, users, tmp_path / "with.parquet", k=40, exclude_history=False)
    assert kept.height == 40 * 30 and kept.group_by("user_id").len()["len"].unique().to_list() == [40]
    short = written(model, users, tmp_path / "short.parquet", k=40)
    assert short.height == 40 * 30 - sum(len(set(h)) for h in HISTORIES.values())


def test_what_the_catalogue_lacks_is_left_out_and_said(tmp_path):
    log = pl.concat([LOG, pl.DataFrame([("new", "x", 1), ("u0", "y", 9)], LOG.columns, orient="row")])
    log.write_csv(tmp_path / "log.csv")
    model = small_recommender()
    users = Users.of(tmp_path / "log.csv", model.catalogue)
    assert len(users) == 30 and (users.left_out, users.unknown_items, users.left_users) == (2, 2, 1)
    first, second = users.remarks("log.csv")
    assert "2 interactions with 2 items" in first and "'x' first" in first and "1 user has no other items" in second
    some = users.only(["u3", "u1", "u3"], "ids")
    assert some.ids.to_list() == ["u3", "u1"] and [*some.histories[0]] == [int(i) for i in HISTORIES["u3"]]
    with pytest.raises(InputError, match="ids: user 'new' has no history that the model knows"):
        users.only(["u1", "new"], "ids")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "user_id,item_id\nu,zz\n", "no item of it is in the model's catalogue, such as 'zz'"),
        ("a.csv", "user_id,price\nu,3\n", "no item column found"),
        ("a.jsonl", '{"user_id": "u", "history": "3"}\n', "holds no lists of item ids"),
        ("a.jsonl", '{"user_id": "u", "history": []}\n', "'history' is empty in row 1"),
        ("a.jsonl", '{"user_id": "u", "history": ["1"]}\n{"user_id": "u", "history": ["2"]}\n', "two histories"),
        ("a.txt", "u\n", "a.txt"),
        ("missing.csv", None, "missing.csv"),
    ],
)
def test_sources_that_hold_no_users(tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        Users.of(tmp_path / name, small_recommender().catalogue)


def test_a_model_is_no_source_of_users(tmp_path):
    model = small_recommender()
    folder = model.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="holds a model and no log"):
        Users.of(folder, model.catalogue)


def test_ids_from_files(tmp_path):
    catalogue = small_recommender().catalogue
    (tmp_path / "ids.txt").write_text("\ufeff3\n\n 5 \n3\nnone\n", encoding="utf-8")
    (tmp_path / "ids.csv").write_text("item_id,price\n7,1\n8,2\n")
    (tmp_path / "other.txt").write_text("a\nb\n")
    assert read_ids(tmp_path / "ids.txt", "--exclude", "item") == ["3", "5", "none"]
    chosen = item_choice(["1", str(tmp_path / "ids.txt"), str(tmp_path / "ids.csv")], "--exclude", catalogue)
    assert chosen == (["1", "3", "5", "7", "8"], ["none"])
    for given, said in (("999", "neither an item id"), (str(tmp_path / "other.txt"), "none of its 2 ids")):
        with pytest.raises(InputError, match=said):
            item_choice([given], "--exclude", catalogue)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    model = small_recommender()
    users = Users.of(_csv(tmp_path), model.catalogue)
    path = tmp_path / "recs.parquet"

    def failing():
        yield next(recommend_users(model, users, 5))
        raise InputError("scores are not finite")

    with pytest.raises(InputError, match="scores are not finite"):
        write_recommendations(failing(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]
    written(model, users, path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        write_recommendations(recommend_users(model, users, 5), path)
    with pytest.raises(InputError, match="scores are not finite"):
        write_recommendations(failing(), path, overwrite=True)
    assert path.read_bytes() == before
    write_recommendations(recommend_users(model, users, 5), path, overwrite=True)
    assert path.read_bytes() == before
    LOG.write_parquet(path)
    for fault in (path, tmp_path, tmp_path / "none" / "recs.parquet"):
        with pytest.raises(InputError, match=r"holds no recommendations|cannot be written"):
            write_recommendations(recommend_users(model, users, 5), fault, overwrite=True)


def test_usearch_finds_what_comparing_all_finds(tmp_path):
    pytest.importorskip("usearch")
    from foster.serving.usearch_index import UsearchIndex

    model = small_recommender(2_000)
    users = Users.of(_csv(tmp_path), model.catalogue)
    exact = model.index(exclude=["3", "7"], candidates=[str(n) for n in range(0, 2_000, 2)] + ["3", "7"])
    index = UsearchIndex(exact)
    assert len(index) == len(exact) == 1_000
    assert judged_recall(model, users, 10, index, exact) > 0.9
    near = written(model, users, tmp_path / "near.parquet", index=index)
    far = written(model, users, tmp_path / "far.parquet", index=exact)
    assert (near["item_id"] == far["item_id"]).mean() > 0.9
    np.testing.assert_allclose(*(f["score"][0] for f in (near, far)), rtol=1e-4)
    taken = {(u, i) for u, h in HISTORIES.items() for i in h}
    assert not taken & set(near.select("user_id", "item_id").iter_rows())
    # A history that leaves fewer than k items is answered by comparing all.
    few = UsearchIndex(model.index(candidates=["0", "5", "1000"]))
    one = written(model, users, tmp_path / "few.parquet", k=3, index=few)
    other = written(model, users, tmp_path / "few2.parquet", k=3, index=model.index(candidates=["0", "5", "1000"]))
    assert one.drop("score").equals(other.drop("score")) and one.height < 3 * len(users)
    np.testing.assert_allclose(one["score"], other["score"], rtol=1e-4, atol=1e-6)
    single = (model.recommend([["5"]], 2, **asked)[0] for asked in ({"index": few}, {"candidates": ["0", "5", "1000"]}))
    assert len({tuple(item for item, _ in found) for found in single}) == 1


def _csv(folder):
    LOG.write_csv(folder / "log.csv")
    return folder / "log.csv"


def test_json_lines_of_histories_are_plain_json(tmp_path):
    path = tmp_path / "users.jsonl"
    path.write_text(json.dumps({"user_id": "ü", "history": ["3", 'a, "b"']}) + "\n", encoding="utf-8")
    users = Users.of(path, small_recommender().catalogue)
    assert users.ids.to_list() == ["ü"] and users.unknown_first == 'a, "b"'
