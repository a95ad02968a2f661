import numpy as np
import polars as pl
import pytest

from foster.data import faults
from foster.data.faults import Fault, OddTimes, SharedWords, Times

TITLES = [
    "Red Apple", "The Green Lamp", "A Book of Hours", "Salt & Pepper Mill", "Café Noir", "Größe 42: Schuh", "手机壳",
    "AMANHÃ” (LP)", "Love < Hate > Love", "AT&T; phone", "N/A-100 battery", "Nanny McPhee", "Annual Report 2019",
    "Nothing, Nobody", "IRMÃ — a film", "a<b", "Null-modem cable", "naan bread", "Señor Ãngel",
]  # fmt: skip


def texts(*values):
    return {"title": pl.Series("title", values, dtype=pl.String)}


CLEAN = texts(*TITLES[:-1], None)


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "NULL", "\\N", "N/A", "<NA>", "undefined", "[]", "{}"])
def test_a_word_for_nothing_is_found_once(word):
    assert faults.words_for_nothing(texts("Red Apple", f" {word} ", None)) == [Fault("title", 1, f" {word} ")]


@pytest.mark.parametrize("word", ["unknown", "Unknown", "-", "no title", "?"])
def test_a_word_that_may_be_a_name_is_one_for_nothing_where_it_recurs(word):
    assert faults.words_for_nothing(texts("Red Apple", word)) == []
    assert faults.words_for_nothing(texts(word, "Red Apple", word.upper())) == [Fault("title", 2, word)]


def test_words_for_nothing_are_told_apart_and_found_in_lists():
    found = faults.words_for_nothing(
        {
            "title": pl.Series(["nan", "None", "none", "Nan's Kitchen"]),
            "category": pl.Series(["Books, nan, Tea", "NaN, Tea", "Tea, None at all", "Tea, None"]),
        }
    )
    assert found == [Fault("title", 2, "None"), Fault("title", 1, "nan"), Fault("category", 3, "Books, nan, Tea")]


def test_ids_for_nothing_count_their_interactions():
    found = faults.ids_for_nothing("user_id", pl.Series(["u1", "nan", "\\N", "nancy"]), np.array([5, 7, 9, 11]))
    assert found == [Fault("user_id", 7, "nan"), Fault("user_id", 9, "\\N")]


@pytest.mark.parametrize(
    "text", ["Salt &amp; Pepper", "a&#39;b", "line<br>line", "<b>New</b> Lamp", "x<br />", "caf&eacute;"]
)
def test_markup_is_found(text):
    assert faults.markup(texts("Red Apple", text)) == [Fault("title", 1, text)]


@pytest.mark.parametrize("read_as", ["latin-1", "cp1252"])
@pytest.mark.parametrize("text", ["Café", "Größe", "Señor", "It’s", "€ 5", "Acme™", "кофе", "手机壳套", "10 °C"])
def test_mojibake_is_found(text, read_as):
    broken = text.encode().decode(read_as, errors="replace")
    assert faults.mojibake(texts("Red Apple", broken)) == [Fault("title", 1, broken)]


def test_a_fault_in_a_long_text_is_shown_with_what_is_around_it():
    fault = faults.markup(texts("a" * 100 + "<br>" + "b" * 100))[0]
    assert fault.example == "a" * 30 + "<br>" + "b" * 30


def test_sound_texts_have_no_faults():
    assert faults.words_for_nothing(CLEAN) == []
    assert faults.markup(CLEAN) == []
    assert faults.mojibake(CLEAN) == []
    assert faults.shared_words(CLEAN) == []


def test_years_in_brackets_are_found_where_most_texts_end_with_one():
    films = [f"{title} ({1980 + n})" for n, title in enumerate(TITLES)]
    assert faults.shared_words(texts(*films)) == [SharedWords("title", "end", "(YEAR)", 1.0, "Red Apple (1980)")]
    assert faults.shared_words(texts(*films[:9], *TITLES[9:])) == []


def test_words_that_most_texts_begin_or_end_with_are_found_as_long_as_they_are():
    shop = [f"{title} | Amazon.com" for title in TITLES[:15]] + TITLES[15:]
    share = 15 / len(TITLES)
    assert faults.shared_words(texts(*shop)) == [SharedWords("title", "end", "| Amazon.com", share, shop[0])]
    bought = [f"Buy now: {title}" for title in TITLES]
    assert faults.shared_words(texts(*bought)) == [SharedWords("title", "start", "Buy now:", 1.0, bought[0])]


def test_a_value_that_a_column_shares_is_found_and_a_choice_of_two_is_none():
    column = pl.Series(["Grocery"] * 19 + ["Toys", None])
    assert faults.shared_words({"category": column}) == [SharedWords("category", "all", "Grocery", 0.95, "Grocery")]
    assert faults.shared_words({"brand": pl.Series(["national brand"] * 7 + ["private brand"] * 3)}) == []


SECONDS = np.array([1_400_000_000, 1_500_000_000, 1_600_000_000, 1_700_000_000])
NOW = 1_750_000_000


def test_milliseconds_among_seconds_are_found():
    found = faults.look_at_times(np.append(SECONDS, 1_450_000_000_123), NOW)
    assert found == Times("s", "2014-05-13", "2023-11-14", [OddTimes("ms", 1, 1_450_000_000_123)], False)


@pytest.mark.parametrize(("unit", "size"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_a_single_unit_is_sound(unit, size):
    assert faults.look_at_times(SECONDS * size, NOW) == Times(unit, "2014-05-13", "2023-11-14", [], False)


def test_times_before_1990_and_in_the_future_are_found_among_others():
    found = faults.look_at_times(np.append(SECONDS, [0, -1, 3_000_000_000]), NOW)
    assert (found.first, found.last) == ("2014-05-13", "2023-11-14")
    assert found.odd == [OddTimes("early", 2, 0), OddTimes("future", 1, 3_000_000_000)]


@pytest.mark.parametrize(
    "steps", [np.arange(100), np.arange(16_000, 17_000), np.array([20180917, 20190102]), np.arange(5) / 2]
)
def test_steps_days_and_dates_as_numbers_are_left_alone(steps):
    assert faults.look_at_times(steps, NOW) == Times("", "", "", [], False)


def test_equal_times_are_found():
    assert faults.look_at_times(np.full(5, 1_400_000_000), NOW).equal
    assert faults.look_at_times(np.zeros(5), NOW).equal
