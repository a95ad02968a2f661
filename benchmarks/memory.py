"""Peak memory and time of a distillation step, for a catalogue as it is and repeated ten times.

    python benchmarks/memory.py DATA TEACHER

Each size runs in a process of its own, since peak memory never falls. `tables` are the bytes that have to grow with the
catalogue: text features, item keys (both float32), and nothing else. The log and the trajectory stay the same.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from foster.data.catalogue import Catalogue
from foster.data.dataset import Dataset
from foster.distillation.foster import Foster
from foster.distillation.options import DistillOptions
from foster.distillation.setting import Setting
from foster.engine import Engine
from foster.models.item_tower import FrozenFeatures
from foster.models.recommender import TextRecommender
from foster.training.trajectory import Trajectory

STEPS = 30


def measure(data_folder: str, teacher: str, times: int) -> dict[str, float]:
    """Run some steps with the catalogue repeated `times` times; return MiB and seconds."""
    data, engine = Dataset.read(data_folder), Engine("cpu")
    one = TextRecommender.from_pretrained(teacher)
    vectors = one.public_features(one.encoder)
    copies = [f"{item_id}#{n}" if n else item_id for n in range(times) for item_id in one.catalogue.ids]
    model = TextRecommender(
        Catalogue(copies, one.catalogue.texts * times),
        one.encoder,
        one.options,
        FrozenFeatures.of(vectors.repeat(times, 1)),
        one.whitening,
    )
    model.load_trained_state(one.trained_state())
    options = DistillOptions()
    run = Foster(Setting(data, model, Trajectory(teacher), options, 0, engine), options)
    run.step(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = []
    for step in range(2, STEPS + 2):
        start = time.perf_counter()
        run.step(step)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tables = 2 * model.n_items * vectors.shape[1] * 4 / 2**20
    return {
        "items": model.n_items,
        "tables_mib": tables,
        "peak_mib": peak,
        "peak_after_first_step_mib": before,
        "step_seconds": statistics.median(seconds),
    }


def main() -> None:
    """Measure both sizes and print them."""
    if len(sys.argv) == 4:
        print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
        return
    rows = []
    for times in (1, 10):
        command = [sys.executable, str(Path(__file__)), *sys.argv[1:], str(times)]
        rows.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(rows[-1], flush=True)
    grown = rows[1]["peak_mib"] - rows[0]["peak_mib"]
    print(f"peak grows by {grown:.0f} MiB; tables by {rows[1]['tables_mib'] - rows[0]['tables_mib']:.0f} MiB")
    print(f"step time ratio {rows[1]['step_seconds'] / rows[0]['step_seconds']:.2f}")


if __name__ == "__main__":
    main()
