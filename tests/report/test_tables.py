"""The table of a benchmark, and what it says."""

from __future__ import annotations

import numpy as np

from bench_records import ABOUT, ranks, records_of
from foster.bench.summary import summarise
from foster.evaluation.metrics import ndcg_of_ranks
from foster.report.tables import markdown, remarks


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


def test_the_file_has_single_blank_lines_with_and_without_remarks():
    rows = summarise([{**record, "interactions": 9} for record in records_of()], ranks)
    texts = [markdown(rows, ABOUT), markdown({"full": rows["full"]}, ABOUT)]
    assert [bool(remarks(rows)), bool(remarks({"full": rows["full"]}))] == [True, False]
    assert all("\n\n\n" not in text and text.endswith(".\n") for text in texts)
