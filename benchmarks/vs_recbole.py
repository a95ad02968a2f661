"""Our SASRec against RecBole's on ml-100k: the same split, shape and protocol, items as ids instead of texts.

    python benchmarks/vs_recbole.py prepare ML100K OUT
    python benchmarks/vs_recbole.py windows OUT [--seeds 3]
    python benchmarks/vs_recbole.py prefixes OUT [--seeds 3]
    RECBOLE_PYTHON benchmarks/vs_recbole.py recbole OUT [--seeds 3]
    python benchmarks/vs_recbole.py table OUT

ML100K is the folder `dataset_example/ml-100k` of the recbole wheel, RECBOLE_PYTHON the Python of an environment of its
own with torch and recbole 1.2. `windows` is our training as it is; `prefixes` is our model on the samples that RecBole
trains on, which tells the model from the sampling. Each run is a JSON file in OUT; only missing ones are made.
RecBole's learning rate and dropout are those of its runs `grid*`, of seed 0, that are best on validation.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from foster.data.dataset import Dataset
    from foster.models.recommender import TextRecommender

# foster and recbole are imported where they are used: neither environment has both.

SOURCE = "ml-100k"
NAME = "log"  # under its own name RecBole would read its own copy
LENGTH, DIM, LAYERS, HEADS = 20, 64, 2, 2  # the feed-forward width is 4 DIM on both sides
BATCH = 256  # prefixes a step
RECIPES = {  # chosen on validation with seed 0
    "windows": {"steps": 2000, "lr": 3e-3, "batch_size": 128, "eval_every": 100, "patience": 10},
    "prefixes": {"steps": 4000, "lr": 3e-3, "batch_size": BATCH, "eval_every": 200, "patience": 6},
}
DROPOUT = 0.2  # ours
RECBOLE = {"train_batch_size": BATCH, "stopping_step": 3}  # three epochs without a better validation
RECBOLE_GRID = [
    {"learning_rate": lr, "hidden_dropout_prob": dropout, "attn_dropout_prob": dropout}
    for lr in (1e-3, 3e-3)
    for dropout in (0.2, 0.5)  # 1e-3 and 0.5 are its defaults
]
TARGETS_NAME = "recbole_targets.json"


def prepare(ml100k: Path, out: Path) -> None:
    """Write the data set for us, and from it the log for RecBole.

    RecBole holds times in float32 and orders what is then tied in its own way. Its times are the places in our
    sequences instead: both sides have the same order, and with it the same held-out items.
    """
    import polars as pl

    from foster.data.dataset import Dataset

    data = Dataset.prepare([ml100k / f"{SOURCE}.inter", ml100k / f"{SOURCE}.item"], k_core=0)
    data.save(out / "data")
    rows = [
        (user_id, data.item_ids[item], place)
        for user, user_id in enumerate(data.user_ids)
        for place, item in enumerate(data.sequence(user))
    ]
    log = pl.DataFrame(rows, schema=["user_id:token", "item_id:token", "timestamp:float"], orient="row")
    (out / NAME).mkdir()
    log.write_csv(out / NAME / f"{NAME}.inter", separator="\t")


class PrefixSource:
    """Each place of a history is a sample: the last LENGTH items before it, with a loss on its item only."""

    def __init__(self, data: Dataset, seed: int) -> None:
        from foster.data.batches import EndlessBatches

        self.samples = [
            history[max(0, place - LENGTH) : place + 1]
            for history in data.training_histories()
            for place in range(1, len(history))
        ]
        lengths = np.array([len(sample) for sample in self.samples])
        self.batches = EndlessBatches(lengths, BATCH, np.random.default_rng(seed))

    def loss(self, model: TextRecommender, candidates: int) -> torch.Tensor:
        """Return the mean cross-entropy over all items, which `candidates` has to be."""
        from foster.data.batches import pad

        samples = [self.samples[row] for row in next(self.batches)]
        items = pad([sample[:-1] for sample in samples], LENGTH)
        targets = torch.tensor([int(sample[-1]) for sample in samples])
        table = model.tower(torch.arange(candidates))
        states = model.backbone(table[items.clamp(min=0)])
        last = states[torch.arange(len(items)), (items >= 0).sum(1) - 1]
        return torch.nn.functional.cross_entropy(model.scores(last, table), targets)


def run_ours(name: str, out: Path, seed: int) -> dict[str, float]:
    """Train ours on windows or on prefixes; return its test metrics and CPU seconds."""
    from foster.data.dataset import Dataset
    from foster.engine import Engine
    from foster.evaluation.evaluate import evaluate
    from foster.models.item_tower import FrozenFeatures, Whitening
    from foster.models.options import ModelOptions
    from foster.models.recommender import TextRecommender
    from foster.text.options import EncoderOptions
    from foster.training.loop import LogSource, fit
    from foster.training.options import TrainOptions

    data, engine = Dataset.read(out / "data"), Engine("cpu")
    shape = ModelOptions(adapter="linear", dim=DIM, layers=LAYERS, heads=HEADS, max_length=LENGTH, dropout=DROPOUT)
    recipe = TrainOptions(candidates=data.n_items, **RECIPES[name])
    one_hot = torch.eye(data.n_items)  # as features they make the adapter's weights a table of item embeddings
    torch.manual_seed(seed)
    model = TextRecommender(
        data.catalogue, EncoderOptions(), shape, FrozenFeatures.of(one_hot), Whitening(torch.zeros(1), one_hot)
    )
    windows = name == "windows"
    source = LogSource(data, recipe, LENGTH, seed, engine) if windows else PrefixSource(data, seed)

    def validate(model: TextRecommender) -> float:
        return evaluate(model, data, "validation", mask_history=False).metrics["ndcg@10"]

    start = time.process_time()
    result = fit(model, source, recipe, seed=seed, validate=validate, engine=engine)
    seconds = time.process_time() - start
    test = evaluate(model, data, "test", mask_history=False).metrics
    return {**test, "validation": result.best_ndcg or 0.0, "best_step": result.best_step, "seconds": seconds}


def run_recbole(name: str, out: Path, seed: int) -> dict[str, float]:
    """Train RecBole's with the recipe that is best on validation with seed 0."""
    grid = [
        made_once(out / f"grid{number}.json", lambda recipe=recipe: {**train_recbole(out, 0, recipe), **recipe})
        for number, recipe in enumerate(RECBOLE_GRID)
    ]
    best = max(range(len(grid)), key=lambda number: grid[number]["validation"])
    return grid[best] if seed == 0 else train_recbole(out, seed, RECBOLE_GRID[best])


def train_recbole(out: Path, seed: int, recipe: dict[str, float]) -> dict[str, float]:
    """Train RecBole's and return its test metrics and CPU seconds; also write which items it is tested on."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.sequential_recommender import SASRec
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    # RecBole's checkpoints hold its configuration, which torch reads no longer by default.
    torch.load = functools.partial(torch.load, weights_only=False)
    os.chdir(out)  # it writes logs where it runs
    config = Config(
        model="SASRec",
        dataset=NAME,
        config_dict={
            "data_path": ".",
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "MAX_ITEM_LIST_LENGTH": LENGTH,
            "hidden_size": DIM,
            "n_layers": LAYERS,
            "n_heads": HEADS,
            "inner_size": 4 * DIM,
            "train_neg_sample_args": None,  # the softmax runs over all items
            "metrics": ["Recall", "NDCG"],
            "valid_metric": "NDCG@10",
            "metric_decimal_place": 8,
            "use_gpu": False,
            "show_progress": False,
            "seed": seed,
            **RECBOLE,
            **recipe,
        },
    )
    init_seed(seed, reproducibility=True)
    dataset = create_dataset(config)
    train, validation, test = data_preparation(config, dataset)
    held_out = test._dataset.inter_feat
    users, items = (dataset.id2token(name, held_out[name]).tolist() for name in ("user_id", "item_id"))
    (out / TARGETS_NAME).write_text(json.dumps(dict(zip(users, items, strict=True))))
    model = SASRec(config, train._dataset)
    # The same function, 1.6 times as fast on one core.
    model.calculate_loss = torch.compile(model.calculate_loss)
    trainer = Trainer(config, model)
    start = time.process_time()
    best, _ = trainer.fit(train, validation)
    seconds = time.process_time() - start
    return {**trainer.evaluate(test), "validation": best, "seconds": seconds}


def made_once(path: Path, make: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return the result in a file, which is made if it is missing."""
    if not path.exists():
        path.write_text(json.dumps(make(), indent=1))
        print(path.stem, path.read_text(), flush=True)
    result: dict[str, float] = json.loads(path.read_text())
    return result


def make_runs(name: str, out: Path, seeds: int) -> None:
    """Make the runs of one side that OUT lacks."""
    for seed in range(seeds):
        made_once(out / f"{name}{seed}.json", lambda seed=seed: RUNS[name](name, out, seed))


def print_table(out: Path) -> None:
    """Print means and deviations as Markdown, after a check that both sides were tested on the same items."""
    from foster.data.dataset import Dataset

    data = Dataset.read(out / "data")
    held_out = [data.item_ids[item] for item in data.targets("test")]
    if json.loads((out / TARGETS_NAME).read_text()) != dict(zip(data.user_ids, held_out, strict=True)):
        raise SystemExit(f"{out}: RecBole was tested on other items")
    print("| | Recall@10 | NDCG@10 | validation NDCG@10 | CPU s |\n|---|---|---|---|---|")
    for name in RUNS:
        runs = [json.loads(path.read_text()) for path in sorted(out.glob(f"{name}[0-9]*.json"))]
        cells = []
        for metric in ("recall@10", "ndcg@10", "validation"):
            values = [run[metric] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.4f} ± {spread:.4f}")
        print(f"| {name} | " + " | ".join(cells) + f" | {statistics.mean(run['seconds'] for run in runs):.0f} |")


RUNS = {"windows": run_ours, "prefixes": run_ours, "recbole": run_recbole}


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare").add_argument("ml100k", type=Path)
    for name in RUNS:
        commands.add_parser(name).add_argument("--seeds", type=int, default=3)
    commands.add_parser("table")
    for command in commands.choices.values():
        command.add_argument("out", type=lambda path: Path(path).resolve())
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        prepare(arguments.ml100k, arguments.out)
    elif arguments.command == "table":
        print_table(arguments.out)
    else:
        make_runs(arguments.command, arguments.out, arguments.seeds)


if __name__ == "__main__":
    main()
