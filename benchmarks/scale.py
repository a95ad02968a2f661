"""Time and memory of what could grow with the catalogue, for many items that need no encoder, beside another commit.

    python benchmarks/scale.py step whitening ranking validation recommend add --out scale.json
    git worktree add ../before COMMIT
    python benchmarks/scale.py recommend add --against ../before/src --out scale.json

Items are random vectors of width 384. Each measurement runs in a process of its own, since peak memory never falls;
with --against the two commits take turns. One line a measurement goes to the terminal, and all of it to --out.

- step: a step of FOSTER among 10,000 items and among --items, in turns in one process; their ratio, and the growth of
  peak memory while steps are made.
- whitening: peak memory and seconds of `Whitening.fit`.
- ranking: `evaluate` of --users users, loading included; peak memory, users a second.
- validation: the third call of a validator of 20 users, as training makes many.
- recommend: loading, the first recommendation, the median of 30, and of 30 with a new text.
- add: new items one by one; seconds of the first and of the last tenth.

Times are wall time and, as `cpu`, the process's own, which tells more on a machine that others use, too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provenance import processor

if TYPE_CHECKING:
    from foster.data.dataset import Dataset
    from foster.distillation.foster import Foster
    from foster.models.recommender import TextRecommender

HERE = Path(__file__).resolve().parents[1] / "src"
WIDTH = 384
FEW = 10_000  # items of the catalogue that --items is compared with
STEPS = 20
LENGTH = 10  # of histories


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Return wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def medians(times: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each kind of seconds."""
    return {kind: statistics.median(x[kind] for x in times) for kind in times[0]}


def peak_mib() -> float:
    """Return the most resident memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def model_of(n_items: int, seed: int, adapter: str) -> TextRecommender:
    """Return a model over random items."""
    import torch

    from foster.data.catalogue import Catalogue
    from foster.models.item_tower import FrozenFeatures, Whitening
    from foster.models.options import ModelOptions
    from foster.models.recommender import TextRecommender
    from foster.text.options import EncoderOptions

    generator = torch.Generator().manual_seed(seed)
    try:
        import numpy as np

        from foster.storage import LARGE_BYTES, large_table

        # As a model is built that has this many items.
        half = n_items * WIDTH * 4 > LARGE_BYTES
        features = large_table(n_items, WIDTH, np.float16 if half else np.float32)
    except ImportError:  # an earlier commit: features are in memory and in single precision
        features = torch.empty(n_items, WIDTH)
    for part in features.split(2**15):
        part[:] = torch.randn(part.shape, generator=generator)
    torch.manual_seed(seed)
    return TextRecommender(
        Catalogue([f"item{n}" for n in range(n_items)], [f"the text of item {n}" for n in range(n_items)]),
        EncoderOptions(),
        ModelOptions(adapter=adapter),
        FrozenFeatures.of(features),
        Whitening(torch.zeros(WIDTH), torch.eye(WIDTH)),
    ).eval()


def data_of(model: TextRecommender, users: int, seed: int) -> Dataset:
    """Return a log of random histories over a model's items."""
    from dataclasses import replace

    import numpy as np
    import polars as pl

    from foster.data.dataset import Dataset

    rows = [(f"u{u}", f"i{u}{t}", t) for u in range(2) for t in range(4)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    small = Dataset.prepare(log, log.select("item_id", pl.col("item_id").alias("title")), k_core=0)
    n, rng = users * LENGTH, np.random.default_rng(seed)
    return replace(
        small,
        user_ids=[f"u{u}" for u in range(users)],
        items=pl.DataFrame({"item_id": model.catalogue.ids, "title": model.catalogue.texts}),
        texts=model.catalogue.texts,
        sequence_items=rng.integers(0, len(model.catalogue), n).astype(np.int32),
        offsets=np.arange(0, n + 1, LENGTH),
        timestamps=np.tile(np.arange(LENGTH), users),
    )


class _OneCheckpoint:
    """A trajectory that is only the start."""

    def __init__(self, model: TextRecommender) -> None:
        self._state = model.trained_state()

    def __len__(self) -> int:
        return 1

    def step(self, which: int) -> int:
        """Return the step of the checkpoint."""
        return which

    def state(self, which: int) -> dict[str, Any]:
        """Return its weights."""
        return self._state


def _distillation(n_items: int, seed: int) -> Foster:
    from foster.distillation.foster import Foster
    from foster.distillation.options import DistillOptions
    from foster.distillation.setting import Setting
    from foster.engine import Engine

    model = model_of(n_items, seed, "moe")
    options = DistillOptions()
    setting = Setting(data_of(model, 2_000, seed), model, _OneCheckpoint(model), options, seed, Engine("cpu"))
    return Foster(setting, options)


def step(items: int, seed: int) -> dict[str, Any]:
    """Measure steps of FOSTER among few and among many items."""
    runs = {FEW: _distillation(FEW, seed)}
    start = timed(lambda: runs.update({items: _distillation(items, seed)}))
    times: dict[int, list[dict[str, float]]] = {FEW: [], items: []}
    for number in range(1, STEPS + 4):
        if number == 4:  # the first three warm up
            times, before = {FEW: [], items: []}, peak_mib()
        for n, run in runs.items():
            times[n].append(timed(lambda run=run, number=number: run.step(number)))  # type: ignore[misc]
    few, many = medians(times[FEW]), medians(times[items])
    return {
        "step_few": few,
        "step": many,
        "ratio_wall": many["seconds"] / few["seconds"],
        "ratio_cpu": many["cpu"] / few["cpu"],
        "start": start,
        "peak_mib": peak_mib(),
        "peak_grows_by_mib": peak_mib() - before,
    }


def whitening(items: int, seed: int) -> dict[str, Any]:
    """Measure ``Whitening.fit``."""
    import torch

    from foster.models.item_tower import Whitening

    vectors = torch.empty(items, WIDTH)
    for part in vectors.split(2**15):
        part[:] = torch.randn(part.shape, generator=torch.Generator().manual_seed(seed))
    Whitening.fit(vectors[:1000])  # loads what it needs
    before, size = peak_mib(), vectors.nbytes / 2**20
    took = timed(lambda: Whitening.fit(vectors))
    return {**took, "vectors_mib": size, "peak_in_vectors": (size + peak_mib() - before) / size}


def _loaded(folder: str) -> TextRecommender:
    from foster.models.recommender import TextRecommender

    return TextRecommender.from_pretrained(folder)


def ranking(folder: str, items: int, users: int, seed: int) -> dict[str, Any]:
    """Measure the evaluation of many users."""
    from foster.evaluation.evaluate import evaluate

    model = _loaded(folder)
    data = data_of(model, users, seed)
    took = timed(lambda: evaluate(model, data))
    return {**took, "users": users, "users_a_second": users / took["seconds"], "peak_mib": peak_mib()}


def validation(folder: str, items: int, users: int, seed: int) -> dict[str, Any]:
    """Measure a validation of few users, as it is made again and again."""
    from foster.engine import Engine
    from foster.training.loop import validator

    model = _loaded(folder)
    check = validator(data_of(model, 2_000, seed), 20, Engine("cpu"))
    first, *_, last = [timed(lambda: check(model)) for _ in range(3)]
    return {"first": first, "last": last}


def _random_texts() -> None:
    """Let texts have random features, as no encoder is here."""
    import torch

    from foster.models.recommender import TextRecommender

    TextRecommender._text_features = lambda self, texts: torch.randn(len(texts), WIDTH)  # type: ignore[method-assign]


def recommend(folder: str, items: int, users: int, seed: int) -> dict[str, Any]:
    """Measure recommendations for one user at a time."""
    import random

    _random_texts()
    rng = random.Random(seed)
    models: list[TextRecommender] = []
    load = timed(lambda: models.append(_loaded(folder)))
    histories = [[f"item{rng.randrange(items)}" for _ in range(LENGTH)] for _ in range(61)]
    first, *rest = [timed(lambda h=h: models[0].recommend([h], 10)) for h in histories[:31]]  # type: ignore[misc]
    text = [timed(lambda h=h: models[0].recommend([[*h, "a new text"]], 10)) for h in histories[31:]]  # type: ignore[misc]
    least = min(x["seconds"] for x in rest)
    return {"load": load, "first": first, "median": medians(rest), "least_seconds": least, "with_text": medians(text)}


def add(folder: str, count: int) -> dict[str, Any]:
    """Measure new items that come one by one."""
    _random_texts()
    model, times = _loaded(folder), []
    for number in range(count):
        times.append(timed(lambda number=number: model.add_items([f"new item {number}"])))  # type: ignore[misc]
    tenth = max(count // 10, 2)
    return {
        "added": count,
        "first_tenth": medians(times[1:tenth]),
        "last_tenth": medians(times[-tenth:]),
        "total": {kind: sum(x[kind] for x in times) for kind in times[0]},
    }


OF_FEATURES: dict[str, Callable[..., dict[str, Any]]] = {"step": step, "whitening": whitening}
OF_FOLDERS: dict[str, Callable[..., dict[str, Any]]] = {
    "ranking": ranking,
    "validation": validation,
    "recommend": recommend,
}


def measure(what: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one measurement in this process."""
    folder = options.worker
    if what == "make":
        model_of(options.items, options.seed, "linear").save_pretrained(folder)
        return {}
    if what in OF_FEATURES:
        return OF_FEATURES[what](options.items, options.seed)
    if what == "add":
        return add(folder, options.added)
    return OF_FOLDERS[what](folder, options.items, options.users, options.seed)


def machine() -> dict[str, Any]:
    """Return versions and what runs this."""
    from importlib.metadata import version

    return {
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "numpy", "polars")},
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }


def main() -> None:
    """Measure what is asked for, of each commit in turn, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=[*OF_FEATURES, *OF_FOLDERS, "add", "make"])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000, help="users that are ranked")
    parser.add_argument("--added", type=int, default=1_000, help="new items that come")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--against", type=Path, help="src folder of another commit")
    parser.add_argument("--out", type=Path, default=Path("scale.json"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        (what,) = options.what
        print(json.dumps(measure(what, options)))
        return
    sources = {"this": HERE} | ({"against": options.against.resolve()} if options.against else {})
    results: dict[str, Any] = {}
    about = {**machine(), "items": options.items, "seed": options.seed, "load_before": os.getloadavg()}
    with tempfile.TemporaryDirectory() as scratch:
        for what in options.what:
            for name, source in sources.items():
                folder = Path(scratch) / name
                if what not in OF_FEATURES and not folder.exists():
                    _run("make", source, folder, options)
                row = results.setdefault(what, {})[name] = _run(what, source, folder, options)
                print(what, name, json.dumps(row), flush=True)
                options.out.write_text(json.dumps({"about": about, "results": results}, indent=1), encoding="utf-8")


def _run(what: str, source: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    numbers = [x for name in ("items", "users", "added", "seed") for x in (f"--{name}", str(getattr(options, name)))]
    command = [sys.executable, str(Path(__file__).resolve()), what, *numbers, "--worker", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"{what} of {source} failed:\n{done.stderr}")
    out: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return out


if __name__ == "__main__":
    main()
