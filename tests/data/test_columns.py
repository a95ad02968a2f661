"""Which columns are taken for users, items, times and texts; what is doubtful is an error that lists the choices."""

import datetime as dt

import polars as pl
import pytest

from foster.data.dataset import Dataset
from foster.errors import InputError

N = 120
BEGIN = 1_600_000_000
WHEN = [dt.datetime.fromtimestamp(BEGIN + 7_777 * n, dt.UTC) for n in range(N)][::-1]  # the newest first
LOG = pl.DataFrame({"user_id": [f"u{n % 6}" for n in range(N)], "item_id": [f"i{n % 17:02}" for n in range(N)]})
ITEMS = pl.DataFrame({"item_id": [f"i{n:02}" for n in range(17)], "title": [f"thing {n}" for n in range(17)]})
RIGHT = Dataset.prepare(LOG.with_columns(timestamp=pl.Series(WHEN)), ITEMS, k_core=0)


def prepare(items=ITEMS, log=LOG, columns=None, **rest):
    return Dataset.prepare(log.with_columns(**(columns or {})), items, k_core=0, **rest)


def ordered_rightly(data):
    return sequences(data) == sequences(RIGHT)


def sequences(data):
    return {user: [data.item_ids[item] for item in data.sequence(n)] for n, user in enumerate(data.user_ids)}


def refused(*words, **rest):
    with pytest.raises(InputError) as error:
        prepare(**rest)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def text(form):
    return pl.Series([format(when, form) for when in WHEN])


SECONDS = pl.Series([int(when.timestamp()) for when in WHEN])


class TestTime:
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("time_ms", SECONDS * 1000),
            ("unixReviewTime", SECONDS),
            ("event_ts", SECONDS.cast(pl.Float64)),
            ("t_dat", text("%Y-%m-%d %H:%M:%S")),
            ("InvoiceDate", text("%m/%d/%y %H:%M")),
            ("created_at", text("%a %b %d %H:%M:%S +0000 %Y")),
            ("purchased", text("%Y-%m-%dT%H:%M:%SZ")),
            ("x", pl.Series(WHEN)),
            ("date_added", text("%d.%m.%Y %H:%M:%S")),
            ("when_was_it", text("%b %d, %Y %I:%M:%S %p")),
            ("ts", SECONDS.cast(pl.String)),
            ("added_at", SECONDS / 86_400 + 25_569),
            ("played_at", SECONDS),
            ("watch_date", text("%Y-%m-%dT%H:%M:%SZ")),
            ("time_since_epoch", SECONDS * 1000),
            ("purchased", text("%d/%m/%Y, %H:%M:%S")),
            ("purchased", text("%m/%d/%Y, %I:%M:%S\u202f%p")),
            ("bought", text("%b %d %Y %I:%M%p")),
            ("bought", text("%Y%m%dT%H%M%SZ")),
            ("created", text("%a %b %d %H:%M:%S UTC %Y")),
            ("datetime", text("%Y%m%d%H%M%S").cast(pl.Int64)),
        ],
    )
    def test_names_types_and_values_show_it(self, name, values):
        data = prepare(columns={name: values})
        assert ordered_rightly(data)
        assert data.info.reading.time == (name,)

    def test_the_finest_of_several_is_taken(self):
        data = prepare(
            columns={"date": text("%Y-%m-%d"), "time_ms": SECONDS * 1000, "month": text("%m").cast(pl.Int64)}
        )
        assert ordered_rightly(data)
        assert data.info.reading.time == ("time_ms",)

    @pytest.mark.parametrize("other", ["date", "read_at"])
    def test_one_that_misses_values_does_not_count_beside_a_whole_one_that_is_as_fine(self, other):
        damaged = SECONDS.set(pl.Series(range(N)) == 5, None)
        data = prepare(columns={other: damaged, "timestamp": SECONDS})
        assert ordered_rightly(data) and data.info.reading.time == ("timestamp",)

    def test_two_that_contradict_each_other_are_listed(self):
        refused("created_at and updated_at", "--time-column",
                columns={"created_at": SECONDS, "updated_at": SECONDS.reverse()})  # fmt: skip

    @pytest.mark.parametrize(
        "columns",
        [
            {"date": text("%Y-%m-%d"), "time": text("%H:%M:%S")},
            {"date": text("%Y-%m-%d"), "time": text("%H:%M:%SZ")},
            {"date": text("%Y-%m-%d"), "time": text("T%H:%M:%S,000")},
            {"date": text("%Y-%m-%d"), "time": text("%I:%M:%S p.m.").str.replace("p.m.", "") + text("%p")},
            {"date": text("%Y-%m-%d"), "time": (SECONDS % 86_400 * 1_000_000).cast(pl.Duration("us"))},
            {"InvoiceDate": text("%Y-%m-%d 00:00:00"), "InvoiceTime": text("%H:%M:%S")},
            {"date": pl.Series(WHEN).dt.truncate("1d"), "time": text("%H.%M.%S")},
            {"day": SECONDS // 86_400 * 86_400_000, "hms": text("%H:%M:%S")},
            {"date": text("%Y%m%d").cast(pl.Int64), "time": text("%H%M%S").cast(pl.Int64)},
            {"DAY": (SECONDS - BEGIN) // 86_400 + 100, "TRANS_TIME": text("%H%M%S").cast(pl.Int64)},
            {
                "year": text("%Y").cast(pl.Int64),
                "month": text("%m").cast(pl.Int64),
                "day": text("%d").cast(pl.Int64),
                "hour": text("%H").cast(pl.Int64),
                "minute": text("%M").cast(pl.Int64),
                "second": text("%S"),
            },
        ],
    )
    def test_a_day_and_a_time_of_day_count_together(self, columns):
        if "DAY" in columns:  # days begin at midnight
            columns["DAY"] = SECONDS // 86_400 - 18_000
        data = prepare(columns=columns)
        assert ordered_rightly(data)
        assert data.info.reading.time == tuple(columns)

    def test_several_columns_can_be_named(self):
        data = prepare(columns={"a": text("%Y-%m-%d"), "b": text("%H:%M:%S"), "c": text("%H:%M")}, time_column="a,b")
        assert ordered_rightly(data)

    @pytest.mark.parametrize(
        ("columns", "words"),
        [
            ({"time": text("%H%M").cast(pl.Int64)}, ["time (a time of day)"]),
            ({"hour": text("%H").cast(pl.Int64)}, ["hour (a part of a time)"]),
            ({"number": SECONDS}, ["number (values like times)"]),
            ({"released": pl.Series([f"2020-01-{n % 17 + 1:02}" for n in range(N)])}, ["released: one value an item"]),
            ({"birth_date": pl.Series([f"1990-01-{n % 6 + 1:02}" for n in range(N)])}, ["birth_date: one value"]),
            ({"date": text("%Y-%m-%d"), "time": text("%H uhr %M")}, ["time (no time of a known form"]),
            ({"date": text("%Y-%m-%d"), "event": SECONDS}, ["event (values like times)"]),
            ({"date": text("%Y-%m-%d"), "minute": text("%M").cast(pl.Int64)}, ["date, minute"]),
            ({"order_date": text("%Y-%m-%d"), "delivery_time": text("%H:%M")}, ["order_date, delivery_time"]),
            ({"date": text("%Y-%m-%d %I:%M"), "half": text("%p")}, ["half (no time of a known form"]),
            ({"date": text("%Y-%m-%d"), "at": SECONDS % 86_400}, ["at (values like times)"]),
            ({"bought": SECONDS / 86_400 + 25_569}, ["bought (values like times)"]),
            ({"дата": text("%Y%m%d%H%M%S").cast(pl.Int64)}, ["дата (values like times)"]),
            ({"Bestelldatum": text("%d.%m.%Y %H:%M").set(pl.Series(range(N)) == 70, "31.02.2020")},
             ["'Bestelldatum' holds '31.02.2020'", "in row 71"]),
            ({"zeit": SECONDS.cast(pl.String).set(pl.Series([False, True] + [False] * (N - 2)), "n/a")},
             ["'zeit' holds 'n/a'", "in row 2"]),
            ({"timestamp": pl.Series([1_600_000_000] * N)}, ["'timestamp' holds the same time in all rows"]),
            ({"bought": text("%d%b%Y:%H:%M:%S")}, ["bought (values like times)"]),
            ({"bought": text("%Y-%m-%d %H:%M:%S EST")}, ["bought (values like times)"]),
            ({"bought": text("%Y%m%d%H%M%S").cast(pl.Int64)}, ["bought (values like times)"]),
            ({"date": text("%d%m%Y").cast(pl.Int64)}, ["date (values like times)"]),
            ({"order_number": pl.Series(range(N))}, ["order_number (values like times)"]),
            ({"times_purchased": pl.Series(range(N))}, ["times_purchased (values like times)"]),
            ({"context": pl.Series([{"timestamp": n} for n in range(N)])}, ["context (values like times)"]),
            ({"events": pl.Series([[{"at": n}] for n in range(N)])}, ["events (values like times)"]),
            ({"timestamp": pl.Series([None] * N, dtype=pl.Int64)}, ["'timestamp' is missing in row 1"]),
            ({"date": text("%Y-%m-%d"), "timestamp": SECONDS.set(pl.Series([True] + [False] * (N - 1)), None)},
             ["'timestamp' is missing in row 1"]),
            ({"date": text("%y/%m/%d").str.replace(r"^\d\d/\d\d/\d\d", "10/09/11")}, ["--time-format", "%y/%m/%d"]),
            ({"date": text("%d/%m/%Y").str.replace(r"^\d\d", "05")}, ["day or the month first", "--time-format"]),
            ({"time": pl.Series(["soon"] * N)}, ["'time' holds 'soon'", "row 1", "--time-format"]),
            ({"time": SECONDS.cast(pl.Float32)}, ["32-bit floats"]),
            ({"time": pl.Series(["1.6E+09"] * N)}, ["rounded numbers"]),
        ],
    )  # fmt: skip
    def test_what_is_doubtful_is_an_error(self, columns, words):
        refused(*words, columns=columns)

    def test_times_of_items_and_users_are_no_times_of_events(self):
        columns = {
            "released": pl.Series([f"2020-01-{n % 17 + 1:02}" for n in range(N)]),
            "birth_date": pl.Series([f"1990-01-{n % 6 + 1:02}" for n in range(N)]),
            "event_date": pl.Series(WHEN),
        }
        data = prepare(columns=columns)
        assert ordered_rightly(data) and data.info.reading.time == ("event_date",)

    def test_lengths_of_time_are_no_times(self):
        data = prepare(columns={"play_time_ms": SECONDS, "duration": SECONDS, "timestamp": pl.Series(WHEN)})
        assert data.info.reading.time == ("timestamp",)

    def test_without_anything_like_a_time_or_on_demand_the_rows_are_in_order(self):
        newest_last = prepare(log=LOG.reverse())
        assert ordered_rightly(newest_last)
        assert newest_last.info.time == "input order"
        assert ordered_rightly(prepare(log=LOG.reverse(), columns={"number": SECONDS}, input_order=True))

    def test_a_format_of_ones_own(self):
        data = prepare(columns={"when": text("%d|%m|%Y %Hh%Mm%S")}, time_format="%d|%m|%Y %Hh%Mm%S")
        assert ordered_rightly(data)
        refused("row 1", "'%d|%m|%Y'", columns={"when": text("%Y")}, time_format="%d|%m|%Y")
        refused("'%d|%m': says no day of a year", columns={"when": text("%d|%m")}, time_format="%d|%m")
        refused("'%H:%M': says no day of a year", columns={"when": text("%H:%M")}, time_format="%H:%M")
        refused(
            "--time-format", "--time-column", columns={"a_date": text("%Y"), "b_date": text("%Y")}, time_format="%d"
        )

    @pytest.mark.parametrize(
        ("rest", "words"),
        [
            ({"time_column": "user_id"}, ["'user_id' is the column of the users or items, too"]),
            ({"time_column": "when,when"}, ["names 'when' twice"]),
            ({"time_column": "when", "input_order": True}, ["--input-order", "--time-column"]),
            ({"user_column": "item_id"}, ["'item_id' is named as the user and as the item"]),
            ({"text": ["title", "title"]}, ["--text: names 'title' twice"]),
            ({"text": "title,titel"}, ["no column 'titel' (did you mean 'title'?) for --text"]),
        ],
    )
    def test_a_column_of_two_roles_or_named_twice(self, rest, words):
        refused(*words, columns={"when": SECONDS}, **rest)


class TestText:
    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (("title", "brand", "category"), "a b c"),
            (("track_name", "artist_name", "genre"), "a b c"),
            (("prod_name", "maker", "department"), "a b c"),
            (("book_title", "authors", "tags"), "a b c"),
            (("app_name", "developer", "genres"), "a b c"),
        ],
    )
    def test_names_show_it(self, names, expected):
        items = ITEMS.select("item_id", **dict(zip(names, map(pl.lit, "abc"), strict=True)))
        assert prepare(items).texts[0].replace(",", "") == expected
        assert prepare(items).info.reading.text == names

    def test_all_columns_that_are_missing_are_in_one_error(self):
        log = LOG.join(ITEMS.rename({"title": "ware"}), on="item_id").rename({"user_id": "kunde", "item_id": "artikel"})
        for given, none, fix in (
            ({}, "user, item or text", "name them with --user-column, --item-column and --text"),
            ({"user_column": "kunde"}, "item or text", "name them with --item-column and --text"),
            ({"user_column": "kunde", "text": "ware"}, "item", "name it with --item-column"),
        ):
            with pytest.raises(InputError, match=f": no {none} column found among kunde, artikel, ware; {fix}$"):
                Dataset.prepare(log, **given)

    def test_two_that_could_be_the_title_are_listed(self):
        items = ITEMS.select("item_id", album_name=pl.lit("a"), track_name=pl.lit("b"), genre=pl.lit("c"))
        refused("album_name, track_name", "--text", "genre (such as 'c')", items=items)

    def test_a_kind_without_a_title_beside_other_words_is_an_error(self):
        items = ITEMS.select("item_id", genre=pl.lit("c"), blurb=pl.lit("a long story"))
        refused("no column is known as the title", "blurb (such as 'a long story')", items=items)

    def test_a_kind_alone_is_taken(self):
        items = ITEMS.select("item_id", category_code=pl.lit("x"), category=pl.lit("c"), price=pl.lit(3))
        assert prepare(items.drop("category_code")).texts[0] == "c"


def test_what_was_understood_is_said():
    data = prepare(
        ITEMS.with_columns(price=pl.lit(1)), columns={"timestamp": pl.Series(WHEN), "device": pl.lit("phone")}
    )
    lines = "\n".join(data.understood())
    for words in (
        "120 rows", "user     user_id", "item     item_id", "time     timestamp (2020-09-13 12:26:40 to 2020-09-24",
        "not read device", "17 rows", "text     title", "not read price", "6 users, 17 items, 120 interactions",
        "first      user u0, 20 items",
    ):  # fmt: skip
        assert words in lines
    assert "  2020-09-13 23:14:45  i12  thing 12" in lines and "2020-09-24 05:31:03  i00  thing 0" in lines
    assert repr(data) == "Dataset(dataset: 6 users, 17 items, 120 interactions, leave-one-out)"
    assert data.first_history()["first"][0] == {"time": 1_600_038_885, "item_id": "i12", "text": "thing 12"}


def test_newest_rows_first_with_days_alone_are_remarked():
    remarks = prepare(columns={"date": text("%Y-%m-%d")}).info.reading.remarks
    assert len(remarks) == 1 and "the rows are newest first, and 108 share their time" in remarks[0]
    assert prepare(log=LOG.reverse(), columns={"date": text("%Y-%m-%d").reverse()}).info.reading.remarks == ()


@pytest.mark.parametrize("name", ["*", "^item.*$"])
def test_a_name_that_stands_for_many_columns_is_refused(name):
    refused(f"column '{name}'", "rename it", columns={name: pl.Series(WHEN)})
    refused(f"column '{name}'", "rename it", items=ITEMS.rename({"title": name}), columns={"time": pl.Series(WHEN)})
