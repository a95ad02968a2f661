import json
from dataclasses import replace

import polars as pl
import pytest

from foster.data.check import SAMPLE_SHOWN, Readability, Sample, check
from foster.data.dataset import Dataset


def dataset(sequences, items, **kwargs):
    """A data set without k-core from lists of (item, time)."""
    rows = [(f"u{user}", item, time) for user, sequence in enumerate(sequences) for item, time in sequence]
    return Dataset.prepare(pl.DataFrame(rows, schema=["user", "item", "time"], orient="row"), items, k_core=0, **kwargs)


@pytest.fixture
def small():
    items = pl.DataFrame(
        {"item": list("abcd"), "title": ["A thing, blue", "B", "B", "D"], "brand": [None, None, None, "X"]}
    )
    return dataset([[("a", 1), ("b", 1), ("a", 2)], [("a", 1), ("b", 2), ("c", 3), ("d", 3)]], items)


def test_counts(small):
    report = check(small)
    assert (report.users, report.items, report.interactions) == (2, 4, 7)
    assert report.density == 7 / 8
    assert (report.sequence_lengths["0%"], report.sequence_lengths["100%"]) == (3, 4)
    assert (report.text_lengths["0%"], report.text_lengths["100%"]) == (1, 4)
    assert report.text_coverage == {"title": 1.0, "brand": 0.25}
    assert report.shared_texts == 2
    assert (report.cold_items, report.cold_test_targets) == (2, 1)
    assert report.time_ties == 2 / 5
    assert report.repeats == pytest.approx(1 / 7)


def test_samples_are_sequences_in_words(small):
    samples = check(small).samples
    assert samples[0].user_id == "u0"
    assert samples[0].texts == ["A thing, blue", "B", "A thing, blue"]


def test_a_long_sample_shows_its_end():
    items = pl.DataFrame({"item": ["a", "b"], "title": ["A", "B"]})
    sample = check(dataset([[("a", t) for t in range(14)] + [("b", 99)]], items)).samples[0]
    assert (sample.length, len(sample.texts), sample.texts[-1]) == (15, 10, "B")


def test_problems_and_warnings_are_said(small):
    report = check(small)
    assert any("4 items: Recall@20" in problem for problem in report.problems)
    assert any("shorter than 5" in problem for problem in report.problems)
    assert any("2 of 4 items share their text" in warning for warning in report.warnings)
    assert any("'brand' is filled for 25.0 %" in warning for warning in report.warnings)
    assert any("no k-core" in warning for warning in report.warnings)


def test_ties_input_order_long_and_shared_texts():
    items = pl.DataFrame({"item": list("abc"), "title": ["long " * 80, "same", "same"]})
    log = pl.DataFrame({"user": ["u"] * 3, "item": list("abc")})
    report = check(Dataset.prepare(log, items, k_core=0))
    assert any("input counts as time" in warning for warning in report.warnings)
    assert any("longer than 80 words" in warning for warning in report.warnings)
    assert any("cannot tell them apart" in problem for problem in report.problems)
    tied = check(dataset([[("a", 1), ("b", 1), ("c", 1)], [("a", 2), ("b", 2), ("c", 2)]], items))
    assert any("100 % of neighbours share a time" in warning for warning in tied.warnings)


def test_nothing_to_say_about_a_sound_data_set():
    report = check(sound(), READING)
    assert (report.problems, report.warnings) == ([], [])
    assert report.times.unit == "s"
    assert (report.words_for_nothing, report.shared_words, report.markup, report.mojibake) == ([], [], [], [])


READING = Readability("some-encoder", 64, 0.001, 0, "", 5, 0, ())
DAY = 86_400


def sound(titles=None, category=None, users=None, times=None):
    """A data set of 60 items and 120 users with nothing to warn of, or with other values instead.

    Args:
        titles: the titles of the first items.
        category: the category of all items.
        users: the ids of the first users.
        times: the times of the first interactions.
    """
    kinds = ("lamp", "chair", "table", "clock", "vase", "carpet")
    places = ("Oslo", "Rome", "Bern", "Kyiv", "Riga", "Lima", "Doha", "Cork", "Pune", "Nice")
    named = [f"{place} {kind}" for place in places for kind in kinds]
    named[: len(titles or ())] = titles or ()
    items = pl.DataFrame({"item": [f"i{n}" for n in range(60)], "title": named})
    if category is not None:
        items = items.with_columns(category=pl.lit(category))
    names = [f"u{n}" for n in range(120)]
    names[: len(users or ())] = users or ()
    rows = [
        (name, f"i{(number * 7 + step) % 60}", 1_400_000_000 + step * DAY)
        for number, name in enumerate(names)
        for step in range(8)
    ]
    for place, time in enumerate(times or ()):
        rows[place] = (*rows[place][:2], time)
    log = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
    return Dataset.prepare(log, items, time_column="time")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"titles": ["nan", "None", "nan"]}, ("'title': 2 items hold a word for nothing", "'nan'", "in the source")),
        ({"users": ["unknown"]}, ("user_id 'unknown' has 8 interactions", "leave these rows out")),
        ({"category": "Home"}, ("'category' is 'Home' for 100 %", "--text")),
        (
            {"titles": [f"{n} dark nights (19{n})" for n in range(50, 99)]},
            ("year in brackets", "'50 dark nights (1950)'"),
        ),
        (
            {"titles": [f"Buy {n} pears" for n in range(40)]},
            ("66.7 % start with 'Buy', as in 'Buy 0 pears'", "take it off"),
        ),
        ({"titles": ["Salt &amp; pepper"]}, ("'title': 1 item holds HTML", "'Salt &amp; pepper'")),
        ({"titles": ["CafÃ©"]}, ("'title': 1 item holds characters of a wrong encoding", "'CafÃ©'", "UTF-8")),
        ({"times": [1_400_000_000_000]}, ("1 time is in milliseconds, such as 1400000000000", "others in seconds")),
        ({"times": [0, 0]}, ("2 times lie before 1990, such as 0",)),
        ({"times": [4_000_000_000]}, ("1 time lies in the future, such as 4000000000",)),
        ({"times": [7] * 960}, ("all times are equal", "--time-column")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_one_fault_is_warned_of(changed, words):
    warnings = check(sound(**changed), READING).warnings
    assert any(all(word in warning for word in words) for warning in warnings), warnings


def test_what_an_encoder_reads_is_in_the_report_and_warned_of():
    reading = Readability("some-encoder", 8, 0.5, 30, "手机壳", 12, 4, ("手机壳 one", "手机壳 two"))
    report = check(sound(), reading)
    assert report.as_dict()["reading"]["unreadable"] == 30
    assert "50.0 % unknown; 30 texts mostly unknown, 12 cut at 8, 4 with the tokens of another text" in report.as_text()
    unknown, same, cut = report.warnings
    assert "30 of 60 texts are for the most part unknown to some-encoder, such as '手机壳'" in unknown
    assert "4 of 60 items" in same and "'手机壳 one' and '手机壳 two'" in same
    assert "12 of 60 texts are cut after 8 tokens" in cut
    spread = check(sound(), Readability("some-encoder", 64, 0.02, 0, "", 0, 0, ())).warnings
    assert spread == [
        "2.0 % of the tokens are unknown to some-encoder; choose an encoder of the texts' language by --encoder"
    ]


def test_two_long_texts_are_shown_where_they_differ():
    one, other = f"{'long ' * 30}title", f"{'long ' * 30}tale"
    warnings = check(sound(), Readability("some-encoder", 8, 0.0, 0, "", 0, 2, (one, other))).warnings
    assert "long title' and '..." in warnings[0] and "long tale'" in warnings[0]


def test_without_a_tokenizer_the_report_says_that_texts_were_not_read():
    assert "tokens                not looked at" in check(sound()).as_text()


def test_what_is_nearly_all_is_not_said_to_be_all():
    report = replace(check(sound()), future_targets=2999, future_share=2999 / 3000, duplicates=1234)
    text = report.as_text()
    assert "2,999 test targets (>99.9 %) have training events after them" in text and "; 1,234 at the same" in text


def test_samples_are_lines_of_a_terminal():
    report = replace(check(sound()), samples=[Sample("u", 1, ["x" * 1000])])
    assert f"\n  {'x' * SAMPLE_SHOWN}...\n" in report.as_text()
    assert report.as_dict()["samples"][0]["texts"] == ["x" * 1000]
    assert check(sound()).as_dict()["reading"] is None


def test_the_report_is_plain_data(small):
    report = check(small)
    assert json.loads(json.dumps(report.as_dict()))["samples"][0]["user_id"] == report.samples[0].user_id


def test_the_text_for_people_names_counts_samples_and_problems(small):
    text = check(small).as_text()
    assert "2 users, 4 items, 7 interactions (density 87.500 %)" in text
    assert "\nwords and signs       0% 1, " in text and "words of item texts" not in text
    assert "title 100 %, brand 25.0 %" in text
    assert "user u0, 3 items, the last 3:\n  A thing, blue\n  B\n" in text
    for line in check(small).warnings:
        assert f"warning: {line}" in text
