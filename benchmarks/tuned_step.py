"""Seconds and peak memory of a training step that tunes a language model, now and as it was before.

    python benchmarks/tuned_step.py DATA [--finetune top:2] [--steps 3] [--candidates 256] [--threads 1]

A step is the loss of 64 histories and some sampled items with its gradients and the optimiser's step. `before` is the
way of commit 8908ec4: all texts of a step in one batch, padded to the longest. Each row runs in a process of its own,
since peak memory never falls; the steps of a row see the same histories.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from foster.data.dataset import Dataset
from foster.engine import Engine
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.text.tuning import TunableEncoder
from foster.training.loop import LogSource
from foster.training.options import TrainOptions

ROWS: dict[str, dict[str, object]] = {
    "before": {},
    "now": {},
    "now, --lm-chunk 64": {"lm_chunk": 64},
    "now, --lm-dtype bfloat16": {"lm_dtype": "bfloat16"},
    "now, both": {"lm_chunk": 64, "lm_dtype": "bfloat16"},
}


def one_batch(self: TunableEncoder, index: Tensor) -> Tensor:
    """Encode all texts of a step together, as commit 8908ec4 did without ``--lm-chunk``."""
    return self._encode(index)


def measure(folder: str, finetune: str, row: str, steps: int, candidates: int) -> dict[str, object]:
    """Make some steps; return their median processor seconds and by how many MiB the peak of the process grew."""
    data = Dataset.read(folder)
    options = ModelOptions(finetune=finetune, dropout=0.0).model_copy(update=ROWS[row])
    model = TextRecommender.build(data.catalogue, None, options, seed=0)
    if row == "before":
        TunableEncoder.forward = one_batch  # type: ignore[method-assign]
    source = LogSource(data, TrainOptions(batch_size=64), options.max_length, 0, Engine("cpu"))
    optimiser = torch.optim.AdamW(model.parameter_groups(1e-3), fused=True)
    state, before, seconds, loss = source.state(), _peak(), [], torch.zeros(())
    for _ in range(steps):
        source.load_state(state)
        start = time.process_time()
        loss = source.loss(model.train(), candidates)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        seconds.append(time.process_time() - start)
    return {"row": row, "seconds": min(seconds), "mib": _peak() - before, "loss": loss.item()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure all rows and print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--finetune", default="top:2")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--row", choices=ROWS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.row:
        given = (arguments.data, arguments.finetune, arguments.row, arguments.steps, arguments.candidates)
        print(json.dumps(measure(*given)))
        return
    print("| step | seconds | times | peak above the model, MiB | loss |\n|---|---|---|---|---|")
    first = None
    for row in ROWS:
        command = [sys.executable, str(Path(__file__)), *sys.argv[1:], "--row", row]
        made = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        first = first or made["seconds"]
        times, cells = first / made["seconds"], f"{made['mib']:,.0f} | {made['loss']:.4f}"
        print(f"| {row} | {made['seconds']:.2f} | {times:.1f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
