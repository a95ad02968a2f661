import json

import polars as pl
import pytest

from foster.data.check import check
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
    assert any("'brand' is filled for 25%" in warning for warning in report.warnings)
    assert any("no k-core" in warning for warning in report.warnings)


def test_ties_input_order_long_and_shared_texts():
    items = pl.DataFrame({"item": list("abc"), "title": ["long " * 80, "same", "same"]})
    log = pl.DataFrame({"user": ["u"] * 3, "item": list("abc")})
    report = check(Dataset.prepare(log, items, k_core=0))
    assert any("input counts as time" in warning for warning in report.warnings)
    assert any("longer than 80 words" in warning for warning in report.warnings)
    assert any("cannot tell them apart" in problem for problem in report.problems)
    tied = check(dataset([[("a", 1), ("b", 1), ("c", 1)]], items))
    assert any("100% of neighbours share a time" in warning for warning in tied.warnings)


def test_nothing_to_say_about_a_sound_data_set():
    items = pl.DataFrame({"item": [f"i{n}" for n in range(60)], "title": [f"thing number {n}" for n in range(60)]})
    rows = [(f"u{u}", f"i{(u * 7 + t) % 60}", t) for u in range(120) for t in range(8)]
    log = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
    report = check(Dataset.prepare(log, items))
    assert (report.problems, report.warnings) == ([], [])


def test_the_report_is_plain_data(small):
    report = check(small)
    assert json.loads(json.dumps(report.as_dict()))["samples"][0]["user_id"] == report.samples[0].user_id


def test_the_text_for_people_names_counts_samples_and_problems(small):
    text = check(small).as_text()
    assert "2 users, 4 items, 7 interactions" in text
    assert "title 100.0%, brand 25.0%" in text
    assert "user u0, 3 items, the last 3:\n  A thing, blue\n  B\n" in text
    for line in check(small).warnings:
        assert f"warning: {line}" in text
