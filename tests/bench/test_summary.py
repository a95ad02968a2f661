"""Aggregation of finished runs: means, ratios, intervals, break-even."""

from __future__ import annotations

import numpy as np
import pytest

from bench_records import ABOUT, RANKS, ranks, records_of
from foster.bench.summary import break_even, paired_bootstrap, summarise
from foster.evaluation.metrics import ndcg_of_ranks
from foster.report.tables import markdown


def test_means_deviations_and_ratios():
    rows = summarise(records_of(), ranks)
    assert list(rows) == ["full", "random", "foster"]
    values = [ndcg_of_ranks(np.array(RANKS["foster", seed])).mean() for seed in (0, 1)]
    full = [ndcg_of_ranks(np.array(RANKS["full", seed])).mean() for seed in (0, 1)]
    assert rows["foster"]["ndcg@10"] == pytest.approx(np.mean(values))
    assert rows["foster"]["ndcg@10_sd"] == pytest.approx(np.std(values, ddof=1))
    assert rows["foster"]["of_full"] == pytest.approx(np.mean(np.divide(values, full)))
    assert rows["foster"]["recall_of_full"] == pytest.approx(1.0)
    assert rows["foster"]["times_as_fast"] == pytest.approx((100 / 10 + 101 / 10) / 2)
    assert rows["full"]["of_full"] == rows["full"]["recall_of_full"] == rows["full"]["times_as_fast"] == 1.0
    assert rows["full"]["minus_full"] is None and rows["random"]["minus_random"] is None
    low, high = rows["foster"]["minus_random"]
    difference = rows["foster"]["ndcg@10"] - rows["random"]["ndcg@10"]
    assert low < difference < high


def test_a_single_seed_has_no_deviation():
    rows = summarise([record for record in records_of() if record["seed"] == 0], ranks)
    assert rows["foster"]["ndcg@10_sd"] is None
    assert "±" not in markdown(rows, ABOUT).splitlines()[4]


def test_without_ranks_only_the_intervals_are_missing():
    with_ranks, without = summarise(records_of(), ranks), summarise(records_of(), None)
    for name, row in with_ranks.items():
        assert without[name] == {**row, "minus_random": None, "minus_full": None}


def test_several_budgets_have_rows_of_their_own():
    rows = summarise(records_of((20, 60)), ranks)
    assert list(rows) == ["full", "random-20", "random-60", "foster-20", "foster-60"]
    assert rows["foster-60"]["minus_random"] is not None


def test_break_even_counts_the_teacher_where_one_is_needed():
    row, runs = {"make_seconds": 50.0, "train_seconds": 10.0}, {0: {"needs_teacher": False}}
    assert break_even(row, 110.0, 110.0, runs) == 0.5
    assert break_even(row, 110.0, 110.0, {0: {"needs_teacher": True}}) == 1.6
    assert break_even(row, 110.0, 60.0, {0: {"needs_teacher": True}}) == 3.2  # another model, the same teacher
    assert break_even(row, 110.0, 9.0, runs) is None
    assert break_even({**row, "make_seconds": None}, 110.0, 110.0, runs) is None
    assert break_even(row, 110.0, None, runs) is None


def test_other_students_are_compared_with_their_own_kind():
    records = []
    for record in records_of():
        worse = {name: value / 2 for name, value in record["metrics"].items()}
        other = {"student": "gru", "name": f"{record['name']}@gru", "metrics": worse}
        records += [record, {**record, **other}]
    rows = summarise(records, lambda record: ranks({**record, "name": record["name"].split("@")[0]}))
    for name in ("full", "random", "foster"):
        assert rows[f"{name}@gru"]["of_full"] == pytest.approx(rows[name]["of_full"])
        assert rows[f"{name}@gru"]["minus_random"] == rows[name]["minus_random"]
    assert "another kind of model" in markdown(rows, ABOUT)


def test_ablations_are_compared_with_what_they_are_ablations_of():
    rows = summarise(records_of((20, 60)), ranks, "foster")
    for name in ("random-20", "random-60"):
        low, high = rows[name]["minus_reference"]
        assert (low, high) == pytest.approx([-end for end in rows["foster-20"]["minus_random"][::-1]], abs=0.02)
        assert high < 0
    assert rows["foster-20"]["minus_reference"] is None  # with itself
    assert rows["full"]["minus_reference"][1] > 0  # has no budget: with the smallest
    table = markdown(rows, {**ABOUT, "reference": "foster"}).splitlines()
    assert "| minus random | minus full | minus foster |" in table[0]
    assert {line.count("|") for line in table[: 2 + len(rows)]} == {table[0].count("|")}
    against_full = summarise(records_of((20, 60)), ranks, "full")  # has no budget itself
    for name in ("random-20", "random-60", "foster-20"):
        assert against_full[name]["minus_reference"] == against_full[name]["minus_full"] is not None
    assert against_full["full"]["minus_reference"] is None
    plain = summarise(records_of(), ranks)
    assert "minus_reference" not in plain["random"] and "minus foster" not in markdown(plain, ABOUT)


def test_new_items_have_columns_of_their_own():
    records = records_of()
    for record in records:
        record["new_items"] = {"recall@10": record["metrics"]["recall@10"] / 4, "ndcg@10": 0.01 * (1 + record["seed"])}
    records.append({**records[0], "name": "popularity", "method": "popularity"})
    del records[-1]["new_items"]
    rows = summarise(records, lambda record: ranks({"name": "full", "seed": 0}))
    assert rows["foster"]["new_recall@10"] == pytest.approx(rows["foster"]["recall@10"] / 4)
    assert rows["full"]["new_of_full"] == 1.0 and rows["popularity"]["new_of_full"] is None
    assert rows["foster"]["new_ndcg@10"] == pytest.approx(0.015)
    table = markdown(rows, {**ABOUT, "new_items": 2, "new_item_users": 3}).splitlines()
    assert "new items Recall@10 | of full |" in table[0]
    assert {line.count("|") for line in table[:6]} == {table[0].count("|")}
    assert "new items" not in markdown(rows, ABOUT)


def test_bootstrap_interval_has_the_width_of_theory():
    rng = np.random.default_rng(3)
    difference = np.where(rng.random(4000) < 0.2, rng.normal(0.05, 0.3, 4000), 0.0)
    low, high = paired_bootstrap(difference)
    error = difference.std() / np.sqrt(len(difference))
    assert low == pytest.approx(difference.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(difference.mean() + 1.96 * error, abs=0.15 * error)
    assert paired_bootstrap(np.zeros(10)) == (0.0, 0.0)


def test_targets_of_a_user_are_drawn_together():
    """Of k equal targets a user the interval is that of one each, and not narrower."""
    values = np.random.default_rng(0).normal(size=500)
    alone = paired_bootstrap(values)
    users = np.repeat(np.arange(500), 9)
    low, high = paired_bootstrap(np.repeat(values, 9), users=users)
    assert high - low == pytest.approx(alone[1] - alone[0], rel=0.05)
    narrow = paired_bootstrap(np.repeat(values, 9))
    assert narrow[1] - narrow[0] == pytest.approx((high - low) / 3, rel=0.05)
    assert paired_bootstrap(values, users=np.arange(500)) == alone


def test_users_with_more_targets_count_more():
    """Means are over targets, and so is what an interval is about."""
    difference, users = np.array([1.0, 0.0, 0.0, 0.0]), np.array([7, 8, 8, 8])
    many = np.concatenate([users + 10 * n for n in range(400)])
    low, high = paired_bootstrap(np.tile(difference, 400), users=many)
    assert low < 0.25 < high and high - low < 0.1


def test_intervals_are_over_the_users_of_the_targets():
    one, each = (summarise(records_of(), ranks, users=np.array(users)) for users in ([5, 5, 5, 5], [1, 2, 3, 4]))
    low, high = one["foster"]["minus_random"]
    assert low == high == pytest.approx(one["foster"]["ndcg@10"] - one["random"]["ndcg@10"])
    assert each == summarise(records_of(), ranks)
