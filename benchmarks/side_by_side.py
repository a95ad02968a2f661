"""The full model beside RecTools' SASRecModel and UniSRecModel: the same split, histories, masking and ranking.

    python -m venv rectools_env
    rectools_env/bin/pip install torch==2.13.0 "rectools[torch]==0.19.0"
    python benchmarks/side_by_side.py games/ --text title,category --rectools rectools_env/bin/python \
        --out results/games [--seeds 0,1] [--rows "popularity;FOSTER text"] \
        [--row "FOSTER text and ids" ours both '{"ids": true}']

RecTools 0.19 asks for numpy 1 and pytorch-lightning 2.5, so it has an environment of its own. It is given our training
sequences, histories and text vectors (`rectools_worker.py`), and gives back a vector for each history and item; all
models are ranked by `rank_targets`: the whole catalogue, the history masked, ties split. Everybody reads the last 50
items of a history and chooses the epoch by NDCG@10 on the same validation users; nobody sees a test target.

A row is a model with one set of options or several; of several the one with the best validation NDCG@10 of the first
seed is taken, and only that one is trained with further seeds. `--row NAME MODEL READS JSON` adds a row or replaces
that of the same name: MODEL is ours, ours-ids (our sequence model on a table of item vectors), sasrec or unisrec, READS
what it reads (text, ids or both), JSON an object of options or a list of them; ours are the flags of `foster pretrain`.
Each run is a JSON file in `--out` and is not made again (after a change of FOSTER delete `ours-*`); the table is
printed from all that are there. With `--rows` only those are run and shown. Seconds are CPU seconds until training
stopped, validations included, encoding of texts not.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from provenance import commit
from torch import Tensor

from foster.bench.summary import paired_bootstrap
from foster.data.dataset import Dataset
from foster.data.defaults import LEAVE_ONE_OUT
from foster.data.grocery import grocery
from foster.data.histories import Histories
from foster.data.split import TargetSplit
from foster.engine import Engine
from foster.evaluation.evaluate import evaluate, evaluate_popularity
from foster.evaluation.metrics import metrics_of, ndcg_of_ranks
from foster.evaluation.ranks import rank_targets
from foster.models.item_tower import FrozenFeatures, Whitening
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.report.tables import spread
from foster.runs import train
from foster.text.cache import embed_texts
from foster.text.options import EncoderOptions
from foster.training.loop import Fit, LogSource, validation_users, validator
from foster.training.loop import fit as fit_model
from foster.training.options import TrainOptions
from foster.version import __version__

ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("rectools_worker.py")
UNKNOWN = -1e30  # score of an item that a model has no vector for: below all others
PACKAGES = ("torch", "numpy", "transformers", "polars")

Options = dict[str, Any]
Ranks = dict[TargetSplit, np.ndarray]


@dataclass(frozen=True)
class Row:
    """A line of the table: a model with one set of options, or several to choose from."""

    name: str
    model: str
    reads: str
    grid: tuple[Options, ...] = ({},)


SASREC = {"n_factors": 128, "dropout_rate": 0.5}
UNISREC = {"lr": 3e-4}
ROWS = (
    Row("popularity", "popularity", "nothing"),
    Row("FOSTER text", "ours", "text"),
    Row("FOSTER text, no words", "ours", "text", ({"words": 0, "steps": 5000},)),
    Row("FOSTER text and ids", "ours", "both", ({"ids": True}, {"ids": True, "dropout": 0.2})),
    Row("FOSTER ids", "ours-ids", "ids", ({"dropout": 0.2}, {"dropout": 0.4})),
    Row("SASRecModel, defaults", "sasrec", "ids"),
    Row(
        "SASRecModel, tuned",
        "sasrec",
        "ids",
        (
            SASREC,
            SASREC | {"dropout_rate": 0.3},
            SASREC | {"n_factors": 256},
            SASREC | {"loss": "sampled_softmax", "n_negatives": 256},
        ),
    ),
    Row("UniSRecModel, defaults", "unisrec", "text"),
    Row(
        "UniSRecModel, tuned",
        "unisrec",
        "text",
        (UNISREC, {"lr": 1e-3}, UNISREC | {"dropout": 0.3}, UNISREC | {"adaptor_type": "bn"}),
    ),
)


def split_options(options: Options) -> tuple[ModelOptions, TrainOptions]:
    """Return the options of a model and of its training among the flags of `foster pretrain`."""
    of_training = {name: value for name, value in options.items() if name in TrainOptions.model_fields}
    of_model = {name: value for name, value in options.items() if name not in of_training}
    return ModelOptions.parse(of_model, "--row"), TrainOptions.parse(of_training, "--row")


def write_exchange(data: Dataset, users: np.ndarray, folder: Path) -> None:
    """Write what RecTools may see, if it is not there: all but the test targets, in our item numbers and our order."""
    whole = folder / "fingerprint"
    if whole.exists() and whole.read_text() == data.info.fingerprint:
        return
    folder.mkdir(exist_ok=True)
    sequences = {
        "train": data.histories("train"),
        "validation": data.histories("validation", users),
        "test": data.histories("test"),
    }
    for name, histories in sequences.items():
        np.savez(folder / f"{name}.npz", items=np.concatenate(histories), lengths=[len(items) for items in histories])
    np.save(folder / "validation_targets.npy", data.targets("validation", users))
    np.save(folder / "vectors.npy", embed_texts(data.texts).numpy())
    whole.write_text(data.info.fingerprint)  # last: it says that the rest is there


class Comparison:
    """The runs of one log in one folder.

    Args:
        data: the log, split leave-one-out.
        out: where runs are kept.
        given: the command line.
    """

    def __init__(self, data: Dataset, out: Path, given: argparse.Namespace) -> None:
        self.data, self.out, self.given = data, out, given
        self.users = validation_users(data, TrainOptions().eval_users)
        self.histories: dict[TargetSplit, Histories] = {
            "validation": data.histories("validation", self.users),
            "test": data.histories("test"),
        }
        self.targets = {split: data.targets(split, self._users(split)) for split in self.histories}
        self.engine = Engine("cpu")

    def _users(self, split: TargetSplit) -> np.ndarray | None:
        return self.users if split == "validation" else None

    def place(self, model: str, options: Options, seed: int) -> Path:
        """Return the file of a run."""
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]
        return self.out / f"{model}-{digest}-{seed}.json"

    def read(self, model: str, options: Options, seed: int) -> dict[str, Any] | None:
        """Return a run if it was made."""
        path = self.place(model, options, seed)
        if not path.exists():
            return None
        run: dict[str, Any] = json.loads(path.read_text())
        if run["data"]["fingerprint"] != self.data.info.fingerprint:
            raise SystemExit(f"{path}: is of other data; give another --out")
        return run

    def made(self, model: str, options: Options, seed: int) -> dict[str, Any]:
        """Return a run, which is made if it is missing."""
        run = self.read(model, options, seed)
        if run is None:
            path = self.place(model, options, seed)
            print(f"{path.stem}: {json.dumps(options)}", file=sys.stderr, flush=True)
            begun = time.perf_counter()
            kinds = {"ours": self._ours, "ours-ids": self._ours_with_ids_alone, "popularity": self._popularity}
            ranks, about = kinds.get(model, self._rectools)(model, options, seed)
            run = {
                "model": model,
                "options": options,
                "seed": seed,
                **{split: metrics_of(ranks[split]) for split in ranks},
                **about,
                "wall_seconds": time.perf_counter() - begun,
                "foster": {"version": __version__, "commit": commit(ROOT)},
                "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
                "machine": {
                    "platform": platform.platform(),
                    "cores": os.cpu_count(),
                    "threads": torch.get_num_threads(),
                },
                "data": self.data.info.model_dump(mode="json", include={"name", "users", "items", "fingerprint"}),
            }
            np.save(path.with_suffix(".npy"), ranks["test"].astype(np.float32))
            part = path.with_suffix(".part")
            part.write_text(json.dumps(run, indent=1))
            part.rename(path)
        return run

    def _popularity(self, model: str, options: Options, seed: int) -> tuple[Ranks, dict[str, Any]]:
        ranks = {s: evaluate_popularity(self.data, s, users=self._users(s)).ranks for s in self.histories}
        return ranks, {"seconds": 0.0}

    def _ours(self, model: str, options: Options, seed: int) -> tuple[Ranks, dict[str, Any]]:
        embed_texts(self.data.texts)  # from now on they come from the cache
        of_encoder = {name: value for name, value in options.items() if name in EncoderOptions.model_fields}
        shape, recipe = split_options({name: value for name, value in options.items() if name not in of_encoder})
        encoder = EncoderOptions.parse(of_encoder, "--row")
        start = time.process_time()
        trained, fit = train(self.data, encoder=encoder, model=shape, train=recipe, seed=seed, engine=self.engine)
        return self._ranked(trained, fit, time.process_time() - start)

    def _ours_with_ids_alone(self, model: str, options: Options, seed: int) -> tuple[Ranks, dict[str, Any]]:
        shape, recipe = split_options(options)
        shape = shape.model_copy(update={"ids": True, "adapter": "linear"})
        nothing = FrozenFeatures.of(torch.zeros(self.data.n_items, 1))
        torch.manual_seed(seed)
        trained = TextRecommender(
            self.data.catalogue, EncoderOptions(words=0), shape, nothing, Whitening(torch.zeros(1), torch.eye(1))
        )
        start = time.process_time()
        source = LogSource(self.data, recipe, shape.max_length, seed, self.engine)
        check = validator(self.data, recipe.eval_users, self.engine)
        # Without its vector an item would be nothing at all, since it has no text here.
        with mock.patch("foster.models.item_tower.IDS_DROPOUT", 0.0):
            fit = fit_model(trained, source, recipe, seed=seed, validate=check, engine=self.engine)
        return self._ranked(trained, fit, time.process_time() - start)

    def _ranked(self, trained: TextRecommender, fit: Fit, seconds: float) -> tuple[Ranks, dict[str, Any]]:
        ranks = {
            split: evaluate(trained, self.data, split, users=self._users(split), engine=self.engine).ranks
            for split in self.histories
        }
        about = {
            "best": {"step": fit.best_step, "ndcg@10": fit.best_ndcg},
            "history": fit.history,
            "seconds": seconds,
            "parameters": sum(parameter.numel() for parameter in trained.trained_parameters()),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        return ranks, about

    def _rectools(self, model: str, options: Options, seed: int) -> tuple[Ranks, dict[str, Any]]:
        if self.given.rectools is None:
            raise SystemExit(
                "give --rectools, the Python of an environment with rectools, or --rows without its models"
            )
        exchange = self.out / "exchange"
        write_exchange(self.data, self.users, exchange)
        folder = self.place(model, options, seed).with_suffix("")
        folder.mkdir(exist_ok=True)
        spec = {
            "model": model,
            "options": options,
            "seed": seed,
            **{name: getattr(self.given, name) for name in ("epochs", "patience", "precision")},
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        with (folder / "log.txt").open("w") as log:
            command = [self.given.rectools, str(WORKER), str(exchange), str(folder)]
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
        if code:
            raise SystemExit(f"{folder / 'log.txt'}: the run failed\n{(folder / 'log.txt').read_text()[-2000:]}")
        with np.load(folder / "states.npz") as file:
            given = {name: torch.from_numpy(file[name]) for name in file.files}
        (folder / "states.npz").unlink()
        unknown = ~given["known"]
        ranks: Ranks = {}
        for split, histories in self.histories.items():

            def score(rows: slice, states: Tensor = given[split]) -> Tensor:
                return (states[rows] @ given["items"].T).masked_fill_(unknown, UNKNOWN)

            ranks[split] = rank_targets(score, self.targets[split], histories, self.data.n_items)
        done = json.loads((folder / "done.json").read_text())
        ndcg = metrics_of(ranks["validation"])["ndcg@10"]
        if abs(ndcg - done["best_ndcg"]) > 1e-4:
            raise SystemExit(f"{folder}: states of another epoch than the chosen one ({ndcg}, {done['best_ndcg']})")
        about = {
            "best": {"epoch": done.pop("best_epoch"), "ndcg@10": done.pop("best_ndcg")},
            "unknown_items": int(unknown.sum()),
            **{name: spec[name] for name in ("epochs", "patience", "precision")},
            "rectools": done.pop("versions"),
            **done,
        }
        return ranks, about

    def best(self, row: Row, seed: int) -> Options | None:
        """Return the options of a row with the best validation among the runs that there are."""
        found = [(options, self.read(row.model, options, seed)) for options in row.grid]
        scored = [(run["validation"]["ndcg@10"], options) for options, run in found if run is not None]
        return max(scored, key=lambda pair: pair[0])[1] if scored else None

    def make(self, row: Row, seeds: Sequence[int]) -> None:
        """Make the runs of a row that are missing: all options with the first seed, the best with the others."""
        for options in row.grid:
            self.made(row.model, options, seeds[0])
        best = self.best(row, seeds[0])
        for seed in seeds[1:]:
            self.made(row.model, best or {}, seed)

    def table(self, rows: Sequence[Row], seeds: Sequence[int]) -> str:
        """Return the rows that have runs, as Markdown."""
        lines = [
            "| | reads | validation NDCG@10 | NDCG@10 | Recall@10 | minus the first of ours | CPU s | runs |",
            "|---|---|---|---|---|---|---|---|",
        ]
        reference: dict[int, np.ndarray] = {}
        for row in rows:
            options = self.best(row, seeds[0])
            if options is None:
                continue
            runs = {seed: run for seed in seeds if (run := self.read(row.model, options, seed)) is not None}
            gains = {
                seed: ndcg_of_ranks(np.load(self.place(row.model, options, seed).with_suffix(".npy"))) for seed in runs
            }
            reference = reference or (gains if row.model == "ours" else {})
            tried = [self.read(row.model, options, seeds[0]) for options in row.grid]
            count = f"{sum(run is not None for run in tried)} of {len(row.grid)} options"
            cells = [row.name, row.reads]
            for split, metric in (("validation", "ndcg@10"), ("test", "ndcg@10"), ("test", "recall@10")):
                values = [run[split][metric] for run in runs.values()]
                cells.append(spread(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None))
            cells.append(_difference(gains, reference))
            cells.append(f"{statistics.mean(run['seconds'] for run in runs.values()):.0f}")
            cells.append(f"{len(runs)}" if len(row.grid) == 1 else f"{len(runs)}, best of {count}")
            lines.append("| " + " | ".join(cells) + " |")
        data = self.data
        lines.append("")
        lines.append(
            f"{data.info.name}: {data.n_users:,} users, {data.n_items:,} items, {data.n_interactions:,} interactions; "
            f"{data.info.split_name}. Test: all users, full ranking, history masked, ties split; validation: "
            f"{len(self.users):,} users. Differences: 95 % paired bootstrap over users, in thousandths of NDCG@10."
        )
        return "\n".join(lines)


def _difference(gains: Mapping[int, np.ndarray], reference: Mapping[int, np.ndarray]) -> str:
    """Return the interval of the difference to the reference over the seeds that both have."""
    both = [seed for seed in gains if seed in reference and gains[seed] is not reference[seed]]
    if not both:
        return ""
    low, high = paired_bootstrap(np.mean([gains[seed] - reference[seed] for seed in both], axis=0))
    return f"{1000 * low:+.1f} to {1000 * high:+.1f}"


def rows_of(added: Sequence[Sequence[str]], chosen: str | None) -> list[Row]:
    """Return the rows to run and show.

    Args:
        added: name, model, what it reads, and JSON of each `--row`.
        chosen: the names of `--rows`, comma-separated; None for all.
    """
    rows = {row.name: row for row in ROWS}
    for name, model, reads, text in added:
        grid = json.loads(text)
        if model not in ("ours", "ours-ids", "sasrec", "unisrec") or reads not in ("text", "ids", "both"):
            raise SystemExit(f"--row {name}: MODEL is ours, ours-ids, sasrec or unisrec, READS text, ids or both")
        rows[name] = Row(name, model, reads, tuple(grid) if isinstance(grid, list) else (grid,))
    names = list(rows) if chosen is None else [part.strip() for part in chosen.split(";")]
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise SystemExit(f"--rows: there is no row {unknown[0]!r}; there are {'; '.join(rows)}")
    return [rows[name] for name in names]


def main() -> None:
    """Make the missing runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder with a log and item texts, or 'grocery'")
    parser.add_argument("--text", type=lambda text: text.split(","), help="text columns, as of foster prepare")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rectools", help="the Python of an environment with rectools 0.19")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0])
    parser.add_argument("--rows", help="names of rows, separated by ';' (default: all)")
    parser.add_argument("--row", nargs=4, action="append", default=[], metavar=("NAME", "MODEL", "READS", "JSON"))
    parser.add_argument("--table", action="store_true", help="train nothing, print what is there")
    peers = parser.add_argument_group("RecTools")
    peers.add_argument("--epochs", type=int, default=500, help="at most so many")
    peers.add_argument("--patience", type=int, default=1000, help="steps without a better validation")
    peers.add_argument("--precision", default="bf16-mixed", help="of its trainer: bf16-mixed or 32-true")
    given = parser.parse_args()
    rows = rows_of(given.row, given.rows)
    data = grocery() if given.data == "grocery" else Dataset.prepare(given.data, text=given.text)
    if data.info.split != LEAVE_ONE_OUT:
        raise SystemExit(f"{given.data}: is split {data.info.split_name}; this comparison is for leave-one-out")
    given.out.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(data, given.out, given)
    if not given.table:
        for row in rows:
            comparison.make(row, given.seeds)
    print(comparison.table(rows, given.seeds))


if __name__ == "__main__":
    main()
