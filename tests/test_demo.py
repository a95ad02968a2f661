"""What the demo prints; the demo itself takes minutes and is run by ``make demo``."""

import json

from foster.demo import DemoResult

ROWS = {
    name: {"ndcg@10": 0.01 * n, "recall@10": 0.02 * n, "seconds": float(n), "bytes": 1000 * n}
    for n, name in enumerate(("popularity", "random", "foster", "full"), 1)
}
ABOUT = {"users": 5, "items": 7, "interactions": 9, "distill_seconds": 1.0, "total_seconds": 2.0, "seed": 0}


def test_json_is_keyed_by_method():
    content = json.loads(json.dumps(DemoResult(ROWS, ABOUT).as_dict()))
    for method in ("random", "foster", "full", "popularity"):
        assert set(content[method]) == {"ndcg@10", "recall@10", "seconds", "bytes"}
    assert content["foster"]["ndcg@10"] == 0.03


def test_table_has_a_line_a_method():
    lines = DemoResult(ROWS, ABOUT).table().splitlines()
    assert lines[3].split() == ["foster", "0.0300", "0.0600", "3.0", "3,000"]
    assert "5 users, 7 items, full ranking, history masked" in lines[-1]
