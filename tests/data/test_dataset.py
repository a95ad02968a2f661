import gzip
import json
import shutil

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foster.data import dataset as module
from foster.data.dataset import Dataset
from foster.errors import InputError
from foster.manifest import seal

TITLES = {"a": "Apple", "b": "Bread", "c": "Cheese", "d": "Dates", "e": "Eggs"}
ITEMS = pl.DataFrame({"item_id": list(TITLES), "title": list(TITLES.values()), "brand": ["X", None, "Y", " ", "X"]})
LOG = pl.DataFrame(
    [
        ("u2", "c", 30),
        ("u1", "a", 5),
        ("u1", "b", 5),
        ("u2", "a", 10),
        ("u1", "c", 1),
        ("u2", "b", 30),
        ("u1", "d", 9),
        ("u2", "d", 30),
    ],
    schema=["user_id", "item_id", "timestamp"],
    orient="row",
)


def prepare(log=LOG, items=ITEMS, k_core=0, **kwargs):
    return Dataset.prepare(log, items, k_core=k_core, **kwargs)


def ids(data, sequence):
    return "".join(data.item_ids[item] for item in sequence)


def refused(match, *args, **kwargs):
    """Prepare, expect an error of one line, and return it."""
    with pytest.raises(InputError, match=match) as error:
        prepare(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestOrderAndSplit:
    def test_sequences_are_in_time_order_and_ties_in_input_order(self):
        data = prepare()
        assert data.user_ids == ["u2", "u1"]
        assert data.item_ids == ["a", "b", "c", "d"]
        assert [ids(data, data.sequence(user)) for user in (0, 1)] == ["acbd", "cabd"]
        assert data.timestamps.tolist() == [10, 30, 30, 30, 1, 5, 5, 9]

    def test_leave_one_out(self):
        data = prepare()
        assert [ids(data, seen) for seen in data.histories("train")] == ["ac", "ca"]
        assert [ids(data, seen) for seen in data.histories("validation")] == ["ac", "ca"]
        assert [ids(data, seen) for seen in data.histories("test")] == ["acb", "cab"]
        assert ids(data, data.targets("validation")) == "bb"
        assert ids(data, data.targets("test")) == "dd"

    def test_chosen_users(self):
        data = prepare()
        assert [ids(data, seen) for seen in data.histories("test", [1])] == ["cab"]
        assert data.targets("test", np.array([1, 0, 1])).tolist() == [3, 3, 3]

    def test_item_counts_are_those_of_the_training_part(self):
        assert prepare().item_counts().tolist() == [2, 0, 2, 0]

    def test_types_and_sizes(self):
        data = prepare()
        assert (data.n_users, data.n_items, data.n_interactions) == (2, 4, 8)
        assert (data.sequence_items.dtype, data.offsets.dtype, data.targets("test").dtype) == (
            "int32",
            "int64",
            "int64",
        )
        assert data.item_counts().dtype == np.int64

    def test_repeats_are_kept(self):
        log = pl.DataFrame({"user": ["u"] * 4, "item": list("aaab"), "time": [1, 1, 1, 1]})
        data = prepare(log)
        assert ids(data, data.sequence(0)) == "aaab"

    def test_without_times_the_input_order_counts(self):
        data = prepare(LOG.drop("timestamp"))
        assert data.info.time == "input order"
        assert [ids(data, data.sequence(user)) for user in (0, 1)] == ["cabd", "abcd"]

    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40))
    def test_equals_a_plain_sort(self, rows):
        log = pl.DataFrame({"user": [f"u{u}" for u, _, _ in rows], "item": ["abcde"[i] for _, i, _ in rows]})
        log = log.with_columns(time=pl.Series([time for _, _, time in rows]))
        expected = {}
        for user, item, time in sorted(log.iter_rows(), key=lambda row: row[2]):
            expected.setdefault(user, []).append((item, time))
        if min(map(len, expected.values())) < 3:
            with pytest.raises(InputError, match="fewer than 3 interactions"):
                prepare(log)
            return
        data = prepare(log)
        for user, user_id in enumerate(data.user_ids):
            times = data.timestamps[data.offsets[user] : data.offsets[user + 1]]
            assert list(zip(ids(data, data.sequence(user)), times, strict=True)) == expected[user_id]


class TestFilter:
    def test_the_k_core_counts_users_and_items(self):
        rows = [(f"u{u}", item, t) for u in range(5) for t, item in enumerate("abcde")]
        rows += [("u9", "a", 1), ("u9", "b", 2), ("u0", "z", 9)]
        log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
        items = pl.concat(
            [ITEMS, pl.DataFrame({"item_id": ["z", "y", "a"], "title": ["Z", "Y", "again"], "brand": "X"})]
        )
        data = prepare(log, items, k_core=5)
        assert (data.n_users, data.item_ids) == (5, list("abcde"))
        assert data.texts[0] == "Apple, X"
        assert data.info.k_core == 5
        dropped = data.info.dropped
        assert (dropped.k_core_users, dropped.k_core_items, dropped.k_core_interactions) == (1, 1, 3)
        assert (dropped.duplicate_item_rows, dropped.unused_items) == (1, 1)
        assert [line for line in data.understood() if line.startswith("left out")] == [
            "left out   1 user, 1 item, 3 interactions by the 5-core",
            "left out   1 row of items whose id came before",
            "left out   1 item of the item table that nobody interacted with",
        ]

    def test_nothing_left(self):
        assert "5-core" in refused("no interaction is left", k_core=5)

    def test_short_sequences(self):
        rows = [(user, item, t) for user in "uvw" for t, item in enumerate("abc")] + [("x", "a", 0)]
        log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
        message = refused("1 user has fewer than 3 interactions, such as 'x'", log, k_core=0)
        assert message.endswith("set --k-core to 3 or more, which leaves 9 interactions")
        assert prepare(log, k_core=3).n_users == 3

    def test_short_sequences_of_which_none_is_left(self):
        log = pl.concat([LOG, pl.DataFrame({"user_id": ["u3"], "item_id": ["a"], "timestamp": [1]})])
        message = refused("1 user has fewer than 3 interactions, such as 'u3'", log)
        assert message.endswith("more data are needed, since no interaction is left by a 3-core")

    def test_a_negative_k(self):
        refused("--k-core -1: must be 0", k_core=-1)

    def test_items_without_text(self):
        items = ITEMS.with_columns(title=pl.when(pl.col("item_id") != "b").then("title")).filter(
            pl.col("item_id") != "d"
        )
        message = refused("no text for 2 items of the log, first item 'b'", items=items)
        assert "--drop-textless" in message
        data = prepare(pl.concat([LOG, LOG]), items=items, drop_textless=True)
        assert data.item_ids == ["a", "c"]
        assert (data.info.dropped.textless_items, data.info.dropped.textless_interactions) == (2, 8)
        assert data.info.dropped.as_lines(0)[0] == "8 interactions with 2 items that have no text"

    def test_no_item_with_text(self):
        refused(
            "no interaction is left", items=ITEMS.with_columns(title=pl.lit(" "), brand=pl.lit(" ")), drop_textless=True
        )


class TestTexts:
    def test_default(self):
        assert prepare().texts == ["Apple, X", "Bread", "Cheese, Y", "Dates"]

    def test_chosen_columns_in_their_order(self):
        assert prepare(text="brand, title").texts[0] == prepare(text=["brand", "title"]).texts[0] == "X, Apple"

    def test_template(self):
        data = prepare(template="{title} by {brand}")
        assert data.texts[0] == "Apple by X"
        assert data.info.text_fields == ("title", "brand")

    def test_template_beside_columns(self):
        assert prepare(text=["title", "brand"], template="<{title}>").texts[0] == "<Apple>"
        refused("unknown field 'brand'; known fields are title", text=["title"], template="{brand}")

    def test_unknown_columns(self):
        refused(r"no column 'titel' \(did you mean 'title'\?\) for --text", text=["titel"])
        refused(r"unknown field 'titel' \(did you mean 'title'\?\)", template="{titel}")

    def test_the_item_id_is_no_text(self):
        refused("the item id is no text", text=["item_id"])

    def test_nothing_within_the_item_id_is_a_text(self):
        refused("the item id is no text", items=None, text=["item_id.name"])
        refused("the item id is no text", items=None, template="{item_id.name}")

    def test_without_usual_names_the_only_words_count_and_several_are_listed(self):
        items = pl.DataFrame(
            {
                "item_id": list("abcd"),
                "b": list("pqrs"),
                "price": ["1", "2", "3", "4"],
                "shop_id": "x",
                "a": [["k", "l"]] * 4,
            }
        )
        refused(r"no column is known as a text; choose by --text, .* are b \(such as 'p'\), a \(such as", items=items)
        assert prepare(items=items.drop("a")).texts[0] == "p"
        assert prepare(items=items.drop("b")).texts[0] == "k, l"
        refused("no item texts among item_id, price; give the item file", items=items.select("item_id", "price"))

    def test_texts_in_the_log(self):
        log = LOG.join(ITEMS, on="item_id", maintain_order="left")
        data = prepare(log, None)
        assert data.item_ids == ["c", "a", "b", "d"]
        assert data.texts == ["Cheese, Y", "Apple, X", "Bread", "Dates"]
        assert data.info.dropped.duplicate_item_rows == 0

    def test_texts_of_reviews_are_not_those_of_items(self):
        log = LOG.with_columns(title=pl.Series([f"review {n}" for n in range(8)]))
        message = refused("title differ between the rows of item 'c'", log, None)
        assert "give the item file" in message
        assert prepare(log, None, text=["title"]).texts[0] == "review 0"

    def test_no_text_at_all(self):
        refused("no item texts among user_id, item_id, timestamp; give the item file as well", LOG, None)


class TestColumns:
    def test_named_columns(self):
        log = LOG.rename({"user_id": "who", "item_id": "what", "timestamp": "when"})
        named = prepare(log, user_column="who", item_column="what", time_column="when")
        assert named.info.fingerprint == prepare().info.fingerprint
        assert named.info.time == "when"

    @pytest.mark.parametrize("role", ["user", "item", "time"])
    def test_a_named_column_that_is_not_there(self, role):
        refused(
            f"the DataFrame: no column 'x' for --{role}-column; the columns are user_id, ", **{f"{role}_column": "x"}
        )

    def test_a_column_that_cannot_be_guessed(self):
        refused("no user column found among who, item_id, .*--user-column", LOG.rename({"user_id": "who"}))
        refused("no item column found among user_id, what, .*--item-column", LOG.rename({"item_id": "what"}))
        refused("no user or item column found among who, what, .*--user-column and --item-column$", LOG.rename(
            {"user_id": "who", "item_id": "what"}
        ))  # fmt: skip
        refused("no item column found among what, title, .*--item-column", items=ITEMS.rename({"item_id": "what"}))

    @pytest.mark.parametrize("column", ["user_id", "item_id"])
    @pytest.mark.parametrize("value", [None, ""])
    def test_a_missing_id_is_named_with_its_row(self, column, value):
        log = LOG.with_columns(pl.when(pl.int_range(pl.len()) == 4).then(pl.lit(value)).otherwise(column).alias(column))
        refused(f"column '{column}' has no id in row 5", log)

    def test_a_missing_id_in_the_item_table(self):
        refused("column 'item_id' has no id in row 6", items=pl.concat([ITEMS, ITEMS.clear(1)]))

    def test_nan_is_no_id(self):
        refused("has no id in row 2", LOG.with_columns(user_id=pl.Series([1.0, float("nan")] + [2.0] * 6)))

    def test_lists_are_no_ids(self):
        refused("column 'user_id' holds lists or objects", LOG.with_columns(pl.concat_list("user_id")))

    def test_a_bad_time(self):
        refused("column 'timestamp' holds 'x'.* in row 8", LOG.with_columns(timestamp=pl.Series([*"1234567", "x"])))


def write_csv(frame, path):
    frame.write_csv(path)


def write_csv_gz(frame, path):
    path.write_bytes(gzip.compress(frame.write_csv().encode()))


def write_jsonl(frame, path):
    frame.write_ndjson(path)


def write_parquet(frame, path):
    frame.write_parquet(path)


class TestSources:
    @pytest.mark.parametrize(
        ("suffix", "write"),
        [("csv", write_csv), ("csv.gz", write_csv_gz), ("jsonl", write_jsonl), ("parquet", write_parquet)],
    )
    def test_the_fingerprint_is_that_of_the_content(self, tmp_path, suffix, write):
        write(LOG, tmp_path / f"interactions.{suffix}")
        write(ITEMS, tmp_path / f"items.{suffix}")
        data = Dataset.prepare(tmp_path, k_core=0)
        assert data.info.fingerprint == prepare().info.fingerprint
        assert data.info.sources == (f"interactions.{suffix}", f"items.{suffix}")
        assert data.info.name == tmp_path.name

    @pytest.mark.parametrize("make", [pl.DataFrame.to_pandas, pl.DataFrame.to_arrow, pl.DataFrame.lazy])
    def test_frames_of_all_makes(self, make):
        data = prepare(make(LOG), make(ITEMS))
        assert data.info.fingerprint == prepare().info.fingerprint
        assert data.info.sources == ()
        assert isinstance(make(LOG), pd.DataFrame | pa.Table | pl.LazyFrame)

    def test_the_fingerprint_is_stable(self):
        # A change here breaks every data set that users have saved: it needs a reason and a line in the change log.
        assert prepare().info.fingerprint == "9f6035eb7a78e16c8b38745b2b528ea91b4213c89ffafacbb646254377872d11"

    @pytest.mark.parametrize(
        "change",
        [
            {"log": LOG.with_columns(pl.col("timestamp") + 1)},
            {"log": LOG.with_columns(user_id=pl.col("user_id") + "x")},
            {"log": LOG.reverse()},
            {"items": ITEMS.with_columns(title=pl.col("title") + "x")},
            {"template": "{title}"},
            {"popularity": True},
        ],
    )
    def test_every_content_has_its_fingerprint(self, change):
        assert prepare(**change).info.fingerprint != prepare().info.fingerprint

    def test_two_tables_in_any_order(self, tmp_path):
        log, items = tmp_path / "b.csv", tmp_path / "a.parquet"
        LOG.write_csv(log)
        ITEMS.write_parquet(items)
        found = [Dataset.prepare(both, k_core=0) for both in ([log, items], (str(items), str(log)))]
        assert found[0].info == found[1].info
        assert found[0].info.name == "b"
        assert found[0].info.fingerprint == prepare().info.fingerprint

    def test_tables_that_cannot_be_told_apart(self, tmp_path):
        refused("both have a user column; name the item table with --items", [LOG, LOG], None)
        refused("neither has a user column", [ITEMS, ITEMS], None)
        refused("3 tables, but one log and one item table", [LOG, ITEMS, ITEMS], None)
        refused("two item tables given", [LOG, ITEMS], ITEMS)
        refused("no SOURCE given", [], None)
        assert prepare([LOG.rename({"user_id": "x"}), ITEMS], None, user_column="x").n_users == 2

    def test_folders(self, tmp_path):
        refused("holds no interactions", tmp_path, None)
        LOG.write_csv(tmp_path / "interactions.csv")
        LOG.write_parquet(tmp_path / "interactions.parquet")
        refused("holds both interactions.csv and interactions.parquet", tmp_path, None)

    def test_amazon_2018(self, tmp_path):
        reviews, metadata = tmp_path / "Games_5.json.gz", tmp_path / "meta_Games.json.gz"
        lines = [
            {"overall": 5.0, "reviewerID": u, "asin": i, "reviewText": "Fun", "summary": "Good", "unixReviewTime": t}
            for u, i, t in LOG.iter_rows()
        ]
        reviews.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
        meta = [
            {
                "category": ["Games", "PC"],
                "tech1": "",
                "brand": b or "",
                "title": t,
                "price": "$1",
                "asin": i,
                "also_buy": ["z"],
            }
            for i, t, b in ITEMS.iter_rows()
        ]
        metadata.write_bytes(gzip.compress("\n".join(map(json.dumps, meta)).encode()))
        data = Dataset.prepare([reviews, metadata], k_core=0)
        assert data.texts[:2] == ["Apple, X, Games, PC", "Bread, Games, PC"]
        assert data.sequence_items.tolist() == prepare().sequence_items.tolist()

    def test_amazon_2023(self, tmp_path):
        reviews, metadata = tmp_path / "Games.jsonl", tmp_path / "meta_Games.jsonl"
        lines = [
            {"rating": 5.0, "title": "Wow", "asin": f"{i}-red", "parent_asin": i, "user_id": u, "timestamp": t * 1000}
            for u, i, t in LOG.iter_rows()
        ]
        reviews.write_text("\n".join(map(json.dumps, lines)))
        meta = [
            {
                "main_category": "Games",
                "title": t,
                "store": b,
                "categories": ["PC"],
                "details": {"k": 1},
                "parent_asin": i,
            }
            for i, t, b in ITEMS.iter_rows()
        ]
        metadata.write_text("\n".join(map(json.dumps, meta)))
        data = Dataset.prepare([metadata, reviews], k_core=0)
        assert data.texts[:2] == ["Apple, X, PC", "Bread, PC"]
        assert data.timestamps[0] == 10_000

    def test_yelp(self, tmp_path):
        reviews, business = tmp_path / "review.json", tmp_path / "business.json"
        lines = [
            {"review_id": "r", "user_id": u, "business_id": i, "text": "Nice", "date": f"2019-01-{t:02} 10:00:00"}
            for u, i, t in LOG.iter_rows()
        ]
        reviews.write_text("\n".join(map(json.dumps, lines)))
        meta = [
            {"business_id": i, "name": t, "city": "Reno", "attributes": {"WiFi": "no"}, "categories": "Food, Bars"}
            for i, t, _ in ITEMS.iter_rows()
        ]
        business.write_text("\n".join(map(json.dumps, meta)))
        data = Dataset.prepare([reviews, business], k_core=0)
        assert data.texts[0] == "Apple, Food, Bars"
        assert data.sequence_items.tolist() == prepare().sequence_items.tolist()

    def test_recbole(self, tmp_path):
        rows = ["user_id:token\titem_id:token\ttimestamp:float"]
        rows += [f"{u}\t{i}\t{t}.0" for u, i, t in LOG.iter_rows()]
        (tmp_path / "ml.inter").write_text("\n".join(rows))
        rows = ["item_id:token\tmovie_title:token_seq\tclass:token_seq"]
        rows += [f'{i}\tThe "{t}"\tDrama' for i, t, _ in ITEMS.iter_rows()]
        (tmp_path / "ml.item").write_text("\n".join(rows))
        data = Dataset.prepare(tmp_path, k_core=0)
        assert data.texts[0] == 'The "Apple", Drama'
        assert data.timestamps.tolist() == prepare().timestamps.tolist()


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        return prepare(name="tiny", template="{title} {brand}").save(tmp_path / "data")

    def test_round_trip(self, folder):
        before, after = prepare(name="tiny", template="{title} {brand}"), Dataset.read(folder)
        assert after.info == before.info
        assert after.user_ids == before.user_ids
        assert after.texts == before.texts
        assert after.items.equals(before.items)
        for name in ("sequence_items", "offsets", "timestamps"):
            found, expected = getattr(after, name), getattr(before, name)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)

    def test_what_is_written(self, folder):
        assert sorted(path.name for path in folder.iterdir()) == [
            "README.md",
            "dataset.json",
            "interactions.parquet",
            "items.parquet",
            "manifest.json",
        ]
        card = (folder / "README.md").read_text()
        assert "| users, items, interactions | 2, 4, 8 |" in card
        assert json.loads((folder / "dataset.json").read_text())["fingerprint"] in card
        assert pl.read_parquet(folder / "interactions.parquet").columns == ["user_id", "item_id", "timestamp"]

    @pytest.mark.parametrize("fraction", [0, 0.5])
    def test_a_log_in_several_parts_is_the_log(self, tmp_path, monkeypatch, fraction):
        rng = np.random.default_rng(0)
        users = rng.permutation(np.repeat(np.arange(40), rng.integers(3, 30, 40)))
        log = pl.DataFrame({
            "user_id": users.astype(str), "item_id": rng.choice(list(TITLES), len(users)),
            "timestamp": rng.integers(0, 9, len(users)) + fraction,
        })  # fmt: skip
        whole = prepare(log)
        for name, size in {"_STRINGS": 7, "_SORTED": 25, "_ROW_GROUP": 50}.items():
            monkeypatch.setattr(module, name, size)
        parts = prepare(log)
        assert parts.info.fingerprint == whole.info.fingerprint
        numbers = {item: number for number, item in enumerate(parts.item_ids)}
        for user in range(parts.n_users):
            rows = log.filter(pl.col("user_id") == parts.user_ids[user]).sort("timestamp", maintain_order=True)
            assert parts.sequence(user).tolist() == [numbers[item] for item in rows["item_id"]]
        folder = parts.save(tmp_path / "parts")
        assert pa.parquet.ParquetFile(folder / "interactions.parquet").num_row_groups > 1
        assert Dataset.read(folder).info == whole.info

    def test_fractions_of_seconds(self, tmp_path):
        data = prepare(LOG.with_columns(pl.col("timestamp") + 0.5))
        assert Dataset.read(data.save(tmp_path / "x")).timestamps.tolist() == data.timestamps.tolist()

    def test_a_prepared_folder_is_a_source(self, folder):
        again = Dataset.prepare(folder, template="{title} {brand}", k_core=0)
        assert again.info.fingerprint == Dataset.read(folder).info.fingerprint

    def test_an_existing_folder_is_replaced_only_on_demand(self, folder):
        with pytest.raises(InputError, match="--overwrite"):
            prepare().save(folder)
        prepare(name="new").save(folder, overwrite=True)
        assert Dataset.read(folder).info.name == "new"

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("interactions", lambda rows: rows.with_columns(pl.col("timestamp") + 1)),
            ("interactions", lambda rows: rows.reverse()),
            ("interactions", lambda rows: rows.head(7)),
            ("interactions", lambda rows: rows.clear()),
            ("interactions", lambda rows: rows.with_columns(user_id=pl.lit("u1"))),
            ("interactions", lambda rows: rows.with_columns(item_id=pl.lit("unknown"))),
            ("interactions", lambda rows: rows.with_columns(user_id=pl.lit(None, dtype=pl.String))),
            ("interactions", lambda rows: rows.with_columns(pl.col("timestamp").cast(pl.String))),
            ("interactions", lambda rows: rows.with_columns(pl.col("timestamp").cast(pl.Float64))),
            ("items", lambda rows: rows.with_columns(title=pl.col("title").str.to_uppercase())),
            ("items", lambda rows: rows.with_columns(title=pl.lit(1))),
            ("items", lambda rows: rows.with_columns(item_id=pl.lit("a"))),
            ("items", lambda rows: rows.reverse()),
        ],
    )
    def test_a_changed_file_is_noticed(self, folder, name, change):
        path = folder / f"{name}.parquet"
        change(pl.read_parquet(path)).write_parquet(path)
        seal(folder)
        with pytest.raises(InputError, match=r"does not have the fingerprint that dataset\.json states"):
            Dataset.read(folder)

    @pytest.mark.parametrize("changed", [{"users": 3}, {"items": 3}, {"interactions": 3}, {"template": "{colour}"}])
    def test_changed_statements_are_noticed(self, folder, changed):
        info = json.loads((folder / "dataset.json").read_text())
        (folder / "dataset.json").write_text(json.dumps(info | changed))
        seal(folder)
        with pytest.raises(InputError, match="fingerprint"):
            Dataset.read(folder)

    @pytest.mark.parametrize("name", ["dataset.json", "interactions.parquet", "items.parquet"])
    def test_a_missing_file(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(InputError, match=f"{name}: no such file"):
            Dataset.read(folder)

    @pytest.mark.parametrize("name", ["dataset.json", "interactions.parquet", "items.parquet"])
    def test_a_truncated_file(self, folder, name):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(InputError, match=rf"{name}: .*damaged") as error:
            Dataset.read(folder)
        assert "\n" not in str(error.value)

    def test_a_column_that_was_taken_out(self, folder):
        pl.read_parquet(folder / "items.parquet").drop("brand").write_parquet(folder / "items.parquet")
        seal(folder)
        with pytest.raises(InputError, match=r"items\.parquet: .*brand"):
            Dataset.read(folder)

    def test_an_unknown_field(self, folder):
        info = json.loads((folder / "dataset.json").read_text())
        (folder / "dataset.json").write_text(json.dumps(info | {"colour": 1}))
        seal(folder)
        with pytest.raises(InputError, match=r"dataset\.json: field 'colour'"):
            Dataset.read(folder)

    def test_no_folder(self, tmp_path):
        with pytest.raises(InputError, match="no such folder"):
            Dataset.read(tmp_path / "none")

    def test_a_moved_folder_reads_as_well(self, folder, tmp_path):
        moved = shutil.move(folder, tmp_path / "elsewhere")
        assert Dataset.read(moved).info.name == "tiny"
