"""benchmarks/damage.py: no damaged folder is used without a word, and none ends in a traceback."""

import runpy
import signal
from pathlib import Path

DAMAGE = Path(__file__).parents[1] / "benchmarks" / "damage.py"


def test_hundreds_of_damaged_folders_are_refused_in_one_line(tmp_path):
    damage = runpy.run_path(str(DAMAGE))
    before = signal.signal(signal.SIGALRM, damage["stop"])
    try:
        counts, failures = damage["run"](360, 7, tmp_path, lambda line: None)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert failures == []
    assert counts["damage: refused"] > 90 and counts["wrong values: refused"] > 90
    assert counts["any change: read"] > 30  # what is not wrong is not refused
