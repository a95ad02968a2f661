"""Train one model of RecTools 0.19 for `side_by_side.py`, in an environment that has rectools and not foster.

    RECTOOLS_PYTHON benchmarks/rectools_worker.py EXCHANGE RUN

EXCHANGE is the folder that `side_by_side.py` writes: training sequences, histories, validation targets and text
vectors, never a test target. RUN holds `spec.json` (model, options, seed, most epochs, patience in steps, precision);
the worker adds `states.npz` (a vector for each validation and test history, a vector for each item, and which items the
model knows) and `done.json` (the validations, seconds, versions). A score is the inner product of a state and an item
vector.

The models, their losses and their optimisers are RecTools' own. Three things are done beside them, none of which
changes a model: the loss is computed at the places that have a target, not at the padding too, which RecTools computes
and then leaves out; matrix products are in bfloat16 where the spec says so; and a callback chooses the epoch. The
worker checks that the loss is RecTools' own, and that states and item vectors give the scores that RecTools recommends
by, and stops if they do not.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.fast_transformers import UniSRecLightning, UniSRecModel
from rectools.models import SASRecModel
from rectools.models.nn.transformers.lightning import TransformerLightningModule
from torch import Tensor

# The two files of foster that need numpy and torch only: epochs are chosen by the same ranks as ours.
sys.path.append(str(Path(__file__).resolve().parents[1] / "src"))
from foster.evaluation.metrics import metrics_of
from foster.evaluation.ranks import rank_targets

LENGTH = 50  # the most recent items that a model reads unless its options say otherwise, as ours
PATIENCE = 5  # epochs without better ones, at least
BLOCK = 512  # histories whose states are computed at once
CHECKED = 200  # test users whose recommendations are compared with RecTools' own
UNKNOWN = -1e30  # score of an item that a model has no vector for: below all others
VERSIONS = ("rectools", "torch", "pytorch-lightning", "numpy", "pandas")

Sequences = list[np.ndarray]
Encode = Callable[[Sequences], Tensor]


def read_sequences(path: Path) -> Sequences:
    """Return the item sequences of a file of the exchange folder."""
    with np.load(path) as file:
        return np.split(file["items"].astype(np.int64), np.cumsum(file["lengths"])[:-1])


def scores(states: Tensor, items: Tensor, known: Tensor) -> Tensor:
    """Return scores ``[n, V]`` in our item numbers."""
    return (states @ items.T).masked_fill_(~known, UNKNOWN)


class ChooseEpoch(Callback):
    """Validates after each epoch, keeps the best weights, and stops after so many steps without better ones.

    In steps, since an epoch has 19 of them on one log and 400 on another; but never before PATIENCE epochs.
    """

    def __init__(self, validate: Callable[[LightningModule], float], patience: int) -> None:
        self.validate, self.patience = validate, patience
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch, self.best_ndcg = 0, -1.0
        self.start = time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate, outside of the training's precision."""
        trained = time.process_time() - self.start
        pl_module.eval()
        with torch.no_grad():
            ndcg = self.validate(pl_module)
        pl_module.train()
        epoch, loss = trainer.current_epoch + 1, float(trainer.callback_metrics.get("train_loss", float("nan")))
        seconds = time.process_time() - self.start
        self.history.append({"epoch": epoch, "loss": loss, "ndcg@10": ndcg, "seconds": seconds})
        print(f"epoch {epoch}: loss {loss:.4f}, ndcg@10 {ndcg:.4f}, {trained:.0f} s", flush=True)
        if ndcg > self.best_ndcg:
            self.best_epoch, self.best_ndcg = epoch, ndcg
            self.best = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        elif epoch - self.best_epoch >= max(PATIENCE, math.ceil(self.patience / trainer.num_training_batches)):
            trainer.should_stop = True


def padded(histories: Sequences, internal: np.ndarray, length: int) -> Tensor:
    """Return the last known items of each history, left-padded with 0 to a length, in a model's own item numbers."""
    out = np.zeros((len(histories), length), dtype=np.int64)
    for row, history in enumerate(histories):
        items = internal[history]
        items = items[items > 0][-length:]
        out[row, length - len(items) :] = items
    return torch.from_numpy(out)


def encoded(histories: Sequences, internal: np.ndarray, length: int, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a state for each history, ``[n, width]``."""
    blocks = [histories[start : start + BLOCK] for start in range(0, len(histories), BLOCK)]
    return torch.cat([encode(padded(block, internal, length)) for block in blocks])


class SASRecAtTargets(TransformerLightningModule):
    """RecTools' training of SASRec, with the logits of places that have a target only."""

    def loss_of(self, batch: dict[str, Tensor]) -> Tensor:
        """Return RecTools' loss of a batch."""
        net, real = self.torch_model, batch["y"] != 0
        items = net.item_model.get_all_embeddings()
        states = net.encode_sessions(batch, items)[real][None]
        y, weights = batch["y"][real][None], batch["yw"][real][None]
        if "negatives" not in batch:
            logits = net.similarity_module(states, items, None) / self.logits_t
            # RecTools takes the softmax over the middle axis, which is four times as slow.
            return torch.nn.functional.cross_entropy(logits[0], y[0])
        candidates = torch.cat([y.unsqueeze(-1), batch["negatives"][real][None]], dim=-1)
        return self.loss_calculator(net.similarity_module(states, items, candidates) / self.logits_t, y, weights)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return and log the loss."""
        loss = self.loss_of(batch)
        self.log(self.train_loss_name, loss, on_step=False, on_epoch=True)
        return loss


class SASRec:
    """RecTools' SASRecModel, which reads item ids."""

    def __init__(self, training: Sequences, vectors: np.ndarray, options: dict[str, Any]) -> None:
        self.n_items = len(vectors)
        # Places in our sequences stand for times, so that both sides have the same order.
        self.data = self._dataset(training)
        shape = {"session_max_len": LENGTH, "verbose": 0, **options}
        self.model = SASRecModel(lightning_module_type=SASRecAtTargets, **shape)
        self.grad_clip = None  # as in RecTools' own trainer

    @staticmethod
    def _dataset(sequences: Sequences) -> Dataset:
        lengths = [len(sequence) for sequence in sequences]
        places = np.concatenate([np.arange(length) for length in lengths])
        columns = {
            Columns.User: np.repeat(np.arange(len(sequences)), lengths),
            Columns.Item: np.concatenate(sequences),
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(places, unit="s"),
        }
        return Dataset.construct(pd.DataFrame(columns))

    def fit(self, trainer: Trainer) -> Trainer:
        """Train, and return the trainer that did it."""
        self.model._trainer = trainer  # as RecTools documents for a trainer of one's own
        self.model.fit(self.data)
        return self.model.fit_trainer

    @staticmethod
    def _internal(module: LightningModule, n_items: int) -> np.ndarray:
        """Return the model's number of each of our items, ``[V]``; 0 where it occurs in no training sequence."""
        external = module.data_preparator.item_id_map.get_external_sorted_by_internal()
        out = np.zeros(n_items, dtype=np.int64)
        out[external[1:].astype(np.int64)] = np.arange(1, len(external))
        return out

    def parts(self, module: LightningModule) -> tuple[Encode, Tensor, Tensor]:
        """Return what gives states, the item vectors ``[V, width]``, and which of these are known."""
        internal, net = self._internal(module, self.n_items), module.torch_model
        table = net.item_model.get_all_embeddings()

        def encode(histories: Sequences) -> Tensor:
            length = self.model.session_max_len
            return encoded(histories, internal, length, lambda x: net.encode_sessions({"x": x}, table)[:, -1])

        return encode, table[torch.from_numpy(internal)], torch.from_numpy(internal > 0)

    def check(self, module: LightningModule, histories: Sequences) -> None:
        """Stop if the loss or the best ten scores are not those of RecTools itself."""
        batch = next(iter(self.model.data_preparator.get_dataloader_train()))
        theirs = module.loss_calculator(module.get_batch_logits(batch), batch["y"], batch["yw"])
        agree("losses", module.loss_of(batch), theirs)
        encode, items, known = self.parts(module)
        mine = scores(encode(histories), items, known)
        for row, history in enumerate(histories):
            mine[row, history] = UNKNOWN
        found = self.model.recommend(np.arange(len(histories)), self._dataset(histories), k=10, filter_viewed=True)
        theirs = torch.tensor(found[Columns.Score].to_numpy(np.float32)).view(len(histories), 10)
        agree("scores", mine.topk(10).values, theirs)
        chosen = torch.tensor(found[Columns.Item].to_numpy(np.int64)).view(len(histories), 10)
        agree("items", mine.gather(1, chosen), theirs)


class UniSRecAtTargets(UniSRecLightning):
    """RecTools' training of UniSRec, with the logits of places that have a target only."""

    def _calc_loss(self, hidden: Tensor, batch: dict[str, Tensor]) -> Tensor:
        real = batch["y"] != 0
        chosen = {name: batch[name][real][None] for name in ("y", "negatives") if name in batch}
        return super()._calc_loss(hidden[real][None], chosen)


class _UniSRec(UniSRecModel):
    """UniSRecModel with a trainer and a lightning module of ours."""

    trainer: Trainer

    def _make_trainer(self, max_epochs: int, val_dl: Any = None) -> Trainer:
        return self.trainer

    def _make_lightning(self, net: Any, param_groups: Any, max_epochs: int, train_dl: Any) -> UniSRecLightning:
        theirs = super()._make_lightning(net, param_groups, max_epochs, train_dl)
        theirs.__class__ = UniSRecAtTargets
        return theirs


class UniSRec:
    """RecTools' UniSRecModel, which reads text vectors.

    The net scores whatever text vector it is given. So the items that no training sequence holds, which RecTools'
    own recommendation leaves out, are read and ranked by their vectors here, as in ours.
    """

    def __init__(self, training: Sequences, vectors: np.ndarray, options: dict[str, Any]) -> None:
        self.training = training
        # Row 0 is padding: RecTools' item n + 1 is ours n.
        self.table = torch.from_numpy(np.concatenate([np.zeros_like(vectors[:1]), vectors]))
        self.model = _UniSRec(self.table, **{"session_max_len": LENGTH, **options})
        self.grad_clip = self.model.grad_clip

    def fit(self, trainer: Trainer) -> Trainer:
        """Train, and return the trainer that did it."""
        self.model.trainer, self.model.epochs = trainer, trainer.max_epochs
        lengths = [len(sequence) for sequence in self.training]
        self.model.fit(
            torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)),
            torch.from_numpy(np.concatenate(self.training) + 1),
            torch.from_numpy(np.concatenate([np.arange(length) for length in lengths])),
        )
        return trainer

    def parts(self, module: LightningModule) -> tuple[Encode, Tensor, Tensor]:
        """Return what gives states, the item vectors ``[V, width]``, and which of these are known: all."""
        net, internal = module.net, np.arange(1, len(self.table))
        vectors = net._adapt_score(self.table[1:])

        def states(x: Tensor) -> Tensor:
            return net._encode(net._adapt_input(self.table[x]), x)[:, -1]

        def encode(histories: Sequences) -> Tensor:
            return encoded(histories, internal, self.model.session_max_len, states)

        return encode, vectors, torch.ones(len(vectors), dtype=torch.bool)

    def check(self, module: LightningModule, histories: Sequences) -> None:
        """Stop if the loss or the best ten scores are not those of RecTools itself."""
        external = self.model._unique_items
        internal = np.zeros(len(self.table) - 1, dtype=np.int64)
        internal[external.numpy() - 1] = np.arange(1, len(external) + 1)
        seen = [history[internal[history] > 0] for history in histories]
        length = self.model.session_max_len
        x = padded([sequence for sequence in self.training if len(sequence) > 1][:64], internal, length)
        y = torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)
        batch = {"x": x, "y": torch.where(x > 0, y, 0)}
        if self.model.n_negatives:
            batch["negatives"] = torch.randint(1, len(external), (*y.shape, self.model.n_negatives))
        hidden = module.net(x)
        agree("losses", module._calc_loss(hidden, batch), super(UniSRecAtTargets, module)._calc_loss(hidden, batch))
        encode, items, known = self.parts(module)
        known = torch.from_numpy(internal > 0)
        mine = scores(encode(seen), items, known)
        theirs, chosen = self.model.predict_topk(padded(seen, internal, length), k=10)
        agree("scores", mine.topk(10).values, theirs)
        agree("items", mine.gather(1, chosen - 1), theirs)


def agree(what: str, mine: Tensor, theirs: Tensor) -> None:
    """Stop where the numbers differ by more than rounding."""
    if not torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4):
        raise SystemExit(f"{what} are not those of RecTools: they differ by {(mine - theirs).abs().max():.6f}")


MODELS = {"sasrec": SASRec, "unisrec": UniSRec}


def run(exchange: Path, folder: Path) -> None:
    """Train the model of a spec and write what it gives."""
    spec = json.loads((folder / "spec.json").read_text())
    seed_everything(spec["seed"])
    training = read_sequences(exchange / "train.npz")
    histories = {split: read_sequences(exchange / f"{split}.npz") for split in ("validation", "test")}
    targets = np.load(exchange / "validation_targets.npy")
    peer = MODELS[spec["model"]](training, np.load(exchange / "vectors.npy"), spec["options"])

    def validate(module: LightningModule) -> float:
        encode, items, known = peer.parts(module)
        states = encode(histories["validation"])
        ranks = rank_targets(
            lambda rows: scores(states[rows], items, known), targets, histories["validation"], len(items)
        )
        return metrics_of(ranks)["ndcg@10"]

    trainer = Trainer(
        max_epochs=spec["epochs"],
        precision=spec["precision"],
        callbacks=[ChooseEpoch(validate, spec["patience"])],
        gradient_clip_val=peer.grad_clip,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    begun = time.perf_counter()
    fitted = peer.fit(trainer)
    wall = time.perf_counter() - begun
    chosen = next(callback for callback in fitted.callbacks if isinstance(callback, ChooseEpoch))
    module = fitted.lightning_module
    module.load_state_dict(chosen.best)
    module.eval()
    with torch.no_grad():
        peer.check(module, histories["test"][:CHECKED])
        encode, items, known = peer.parts(module)
        states = {split: encode(histories[split]).numpy() for split in histories}
    np.savez(folder / "states.npz", items=items.numpy(), known=known.numpy(), **states)
    done = {
        "best_epoch": chosen.best_epoch,
        "best_ndcg": chosen.best_ndcg,
        "history": chosen.history,
        "seconds": chosen.history[-1]["seconds"],
        "wall_seconds": wall,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "threads": torch.get_num_threads(),
        "versions": {"python": sys.version.split()[0], **{name: importlib.metadata.version(name) for name in VERSIONS}},
    }
    (folder / "done.json").write_text(json.dumps(done, indent=1))


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
