"""Aggregation of finished runs: means, ratios, intervals, break-even, files."""

from __future__ import annotations

import csv
import importlib.util
import json

import numpy as np
import pytest

from foster.evaluation.metrics import ndcg_of_ranks
from foster.report.plots import plot_results
from foster.report.results import break_even, markdown, paired_bootstrap, remarks, summarise, write_results

ABOUT = {
    "data": "toy",
    "users": 4,
    "items": 9,
    "interactions": 20,
    "split": "leave-one-out",
    "parts": {"test_users": 4, "test_targets": 4},
    "seeds": [0, 1],
}
RANKS = {
    ("full", 0): [1, 1, 2, 30],
    ("full", 1): [1, 2, 2, 30],
    ("random", 0): [3, 40, 2, 30],
    ("random", 1): [9, 40, 20, 30],
    ("foster", 0): [1, 3, 2, 30],
    ("foster", 1): [2, 2, 2, 30],
}


def records_of(budgets=(20,)):
    out = []
    for (name, seed), ranks in RANKS.items():
        for budget in budgets if name != "full" else (None,):
            out.append(
                {
                    "name": name,
                    "method": name,
                    "budget": budget,
                    "seed": seed,
                    "metrics": {
                        "ndcg@10": float(ndcg_of_ranks(np.array(ranks)).mean()),
                        "recall@10": float((np.array(ranks) <= 10).mean()),
                    },
                    "needs_teacher": name == "foster",
                    "train_seconds": 100.0 + seed if name == "full" else 10.0,
                    **({} if name == "full" else {"make_seconds": 45.0, "bytes": 1000, "recipe": "soft"}),
                }
            )
    return out


def ranks(record):
    return np.array(RANKS[record["name"], record["seed"]], dtype=float)


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


def test_what_the_table_says():
    found = {  # users whose item is first, of 400
        "popularity": range(250),
        "random": range(100),
        "other-hundred": range(150, 250),
        "between": range(150),
        "other-half": range(200, 400),
        "other-half+checkpoint": range(200, 400),
        "full": range(200),
    }

    def ranks(record):
        return np.where(np.isin(np.arange(400), found[record["name"]]), 1.0, 30.0)

    def table(*names):
        records = []
        for name in names:
            made = {} if name in ("popularity", "full") else {"make_seconds": 1.0, "interactions": 100}
            values = ndcg_of_ranks(ranks({"name": name}))
            records.append(
                {"name": name, "method": name, "budget": 20 if made else None, "seed": 0, "needs_teacher": False}
                | {"metrics": {"ndcg@10": values.mean(), "recall@10": values.mean()}, "train_seconds": 1.0, **made}
            )
        return summarise(records, ranks)

    popular, full, random = remarks(table(*found))
    assert "Popularity" in popular
    assert full.endswith("tell: other-half.") and random.endswith("tell: other-hundred.")
    assert all(f"\n- {remark}\n" in markdown(table(*found), ABOUT) for remark in (popular, full, random))
    assert remarks(table("random", "between", "full")) == []


def test_a_distillation_that_kept_its_start_is_named():
    found = [{**record, "interactions": 9} for record in records_of()]
    for record in found:
        if record["name"] == "foster":
            record["kept_step"] = 100 * record["seed"]
    said = remarks(summarise(found, ranks))
    assert said[-1].endswith("better: foster in 1 of 2 runs.")
    assert "starting point" not in " ".join(remarks(summarise([{**r, "kept_step": 100} for r in found], ranks)))


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


def test_the_file_has_single_blank_lines_with_and_without_remarks():
    rows = summarise([{**record, "interactions": 9} for record in records_of()], ranks)
    texts = [markdown(rows, ABOUT), markdown({"full": rows["full"]}, ABOUT)]
    assert [bool(remarks(rows)), bool(remarks({"full": rows["full"]}))] == [True, False]
    assert all("\n\n\n" not in text and text.endswith(".\n") for text in texts)


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


def test_files(tmp_path):
    records = records_of()
    rows = summarise(records, ranks)
    write_results(tmp_path, rows, ABOUT, records)
    assert json.loads((tmp_path / "results.json").read_text())["rows"].keys() == rows.keys()
    with (tmp_path / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(records) and {line["seed"] for line in lines} == {"0", "1"}
    assert float(lines[0]["ndcg@10"]) == records[0]["metrics"]["ndcg@10"]
    table = (tmp_path / "results.md").read_text()
    row = next(line for line in table.splitlines() if line.startswith("| foster"))
    assert f"{rows['foster']['ndcg@10']:.4f} ± {rows['foster']['ndcg@10_sd']:.4f}" in row
    assert f"{rows['foster']['break_even']:.1f}" in row


@pytest.mark.parametrize("budgets", [(20,), (20, 60)])
def test_plots_show_every_row(tmp_path, budgets, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure").Figure
    shown = []
    monkeypatch.setattr(figure, "savefig", lambda self, path, **rest: (shown.append(self), path.write_bytes(b"")))
    rows = summarise(records_of(budgets), ranks)
    assert plot_results(tmp_path / "toy.png", rows, "toy") == tmp_path / "toy.png"
    first, second = shown[0].axes
    for axes, metric in ((first, "ndcg@10"), (second, "recall@10")):
        if len(budgets) > 1:
            drawn = {container.get_label(): list(container[0].get_ydata()) for container in axes.containers}
            expected = {name: [rows[f"{name}-{budget}"][metric] for budget in budgets] for name in ("random", "foster")}
            assert drawn == expected
        else:
            names = [label.get_text() for label in axes.get_yticklabels()]
            drawn = dict(zip(names, axes.containers[0][0].get_xdata(), strict=True))
            assert drawn == {name: row[metric] for name, row in rows.items()}


def test_without_matplotlib_there_is_no_plot(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert plot_results(tmp_path / "toy.png", summarise(records_of(), ranks), "toy") is None
    assert not list(tmp_path.iterdir())
