"""FOSTER: subset sampling, first-order value gap with trajectory-anchored resets, and a regulariser."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from foster.artefacts import new_folder, read_config
from foster.data.dataset import Dataset
from foster.distillation.objective import (
    EPSILON,
    cooccurrence_regulariser,
    entropy,
    regulariser,
    scores_on_subset,
    similarity_weights,
    synthetic_loss,
    value_gap,
)
from foster.distillation.options import DistillOptions
from foster.distillation.synthetic import SyntheticSequences
from foster.engine import Engine, deterministic
from foster.errors import InputError
from foster.models import ModelOptions, TextRecommender
from foster.models.item_tower import FrozenFeatures
from foster.training.condensed import METRICS_NAME, Condensed, CondensedSource, draw_window
from foster.training.loop import LogSource, fit, validator
from foster.training.losses import sample_items, soft_cross_entropy
from foster.training.options import STUDENT, TrainOptions
from foster.training.trajectory import Trajectory

SUBSET = 512
STORED_ITEMS = 16  # items kept of each step


@deterministic()
def distill(
    data: Dataset,
    teacher: str | Path,
    options: DistillOptions | None = None,
    *,
    seed: int = 0,
    engine: Engine | None = None,
    encoder: str | None = None,
    progress: bool = True,
) -> tuple[Condensed, list[dict[str, Any]]]:
    """Condense a log into M synthetic sequences.

    Sequences start as real histories. What is kept is the state whose student does best on validation users, the
    starting point included, so that distillation cannot end below soft labels on real histories, as validation sees it.

    Args:
        data: the log.
        teacher: a folder that ``pretrain`` wrote: the best model and the trajectory of the same log.
        options: see ``DistillOptions``.
        seed: of everything that is drawn.
        engine: device and processes.
        encoder: another place of the teacher's encoder.
        progress: show a bar on stderr, if that is a terminal.

    Returns:
        The sequences, and one dict a logged step: gap, losses, entropy, gradient norm, resets, student scores.

    Raises:
        InputError: a subset beyond the catalogue, more sequences than users, or a teacher of other data.
    """
    options, engine = options or DistillOptions(), engine or Engine()
    best = TextRecommender.from_pretrained(teacher, encoder=encoder, device=engine.device)
    _check(data, best, options, teacher)
    run = _Run(data, best, Trajectory(teacher), options, seed, engine)
    log: list[dict[str, Any]] = []
    kept = run.export()
    kept_score = run.student_score(kept)
    log.append({"step": 0, "student_ndcg@10": kept_score})
    disable = None if progress else True
    for step in tqdm(range(1, options.steps + 1), desc="distilling", file=sys.stderr, disable=disable, mininterval=1):
        record = run.step(step)
        if step % options.select_every == 0 or step == options.steps:
            sequences = run.export()
            record["student_ndcg@10"] = score = run.student_score(sequences)
            if score > kept_score:
                kept, kept_score = sequences, score
        if step % 10 == 0 or "student_ndcg@10" in record or "reset" in record:
            log.append({"step": step, **record})
    return kept, log


def save_distilled(distilled: Condensed, log: list[dict[str, Any]], out: str | Path, overwrite: bool = False) -> Path:
    """Write the artefact, with the log of the distillation beside it as ``metrics.jsonl``."""
    with new_folder(out, overwrite) as folder:
        distilled.write_to(folder)
        lines = "".join(f"{json.dumps(record)}\n" for record in log)
        (folder / METRICS_NAME).write_text(lines, encoding="utf-8")
    return Path(out)


def _check(data: Dataset, best: TextRecommender, options: DistillOptions, teacher: str | Path) -> None:
    if options.subset is not None and options.subset > data.n_items:
        raise InputError(
            f"--subset {options.subset}: the catalogue has {data.n_items} items; give at most that, or leave it out"
        )
    if options.sequences > data.n_users:
        raise InputError(f"--sequences {options.sequences}: the log has {data.n_users} users; give at most that")
    if options.length > best.options.max_length:
        raise InputError(
            f"--length {options.length}: the teacher reads {best.options.max_length} items; give at most that"
        )
    trained_on = read_config(teacher, "teacher").get("data_fingerprint")
    if trained_on != data.info.fingerprint:
        raise InputError(
            f"{teacher}: was trained on other data than {data.info.name}; run 'foster pretrain' on this data"
        )


class _Run:
    """State of one distillation: S, the outer and the inner model, their optimisers, the random streams."""

    def __init__(
        self,
        data: Dataset,
        best: TextRecommender,
        trajectory: Trajectory,
        options: DistillOptions,
        seed: int,
        engine: Engine,
    ) -> None:
        self.data, self.best, self.trajectory, self.options = data, best, trajectory, options
        self.seed, self.engine = seed, engine
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        # Next-step targets are the steps themselves: a window has no labels of its own, and the whole says it all.
        self.windows = label_windows(options.length, options.window if options.targets == "soft" else 0)
        self.subset = min(options.subset or SUBSET, best.n_items)
        self.features = best.public_features(best.encoder)
        real = TrainOptions(batch_size=options.batch_size)
        self.source = LogSource(data, real, best.options.max_length, seed, engine)
        items = self._real_histories().to(engine.device)
        keys = self.features if options.keys == "text" else best.item_table()
        self.synthetic = SyntheticSequences(keys, items, options.temperature).to(engine.device)
        self.optimiser = torch.optim.Adam(self.synthetic.parameters(), lr=options.lr)
        self.outer, self.inner = copy.deepcopy(best), copy.deepcopy(best)
        self.reset()
        self.validate = validator(data, STUDENT.eval_users, engine)

    def _real_histories(self) -> Tensor:
        """Draw long real histories to start from, ``[M, L]``; shorter ones are filled from other users'."""
        length = self.options.length
        histories = self.data.histories("train")
        long = [row for row, history in enumerate(histories) if len(history) >= length]
        rows: list[np.ndarray] = []
        if len(long) >= self.options.sequences:
            for row in self.rng.choice(long, self.options.sequences, replace=False):
                rows.append(histories[row][-length:])
        else:
            order = np.argsort([-len(history) for history in histories], kind="stable")
            pieces = np.concatenate([histories[row] for row in order[: 20 * self.options.sequences]])
            for row in range(self.options.sequences):
                start = row * length % max(len(pieces) - length, 1)
                rows.append(np.resize(pieces[start : start + length], length))
        return torch.from_numpy(np.stack(rows).astype(np.int64))

    def reset(self) -> int:
        """Set both models to one random checkpoint of the trajectory and clear their optimisers."""
        which = int(self.rng.integers(len(self.trajectory)))
        state = self.trajectory.state(which)
        for model in (self.outer, self.inner):
            model.load_trained_state(state)
            model.eval()  # dropout off: the gap is a difference, and noise in either term would drown it
        lr = self.options.model_lr
        self.outer_optimiser = torch.optim.AdamW(self.outer.trained_parameters(), lr=lr)
        self.inner_optimiser = torch.optim.AdamW(self.inner.trained_parameters(), lr=lr)
        return self.trajectory.step(which)

    def step(self, step: int) -> dict[str, Any]:
        """Update the inner model, the outer model, then S; return what is logged."""
        options = self.options
        record: dict[str, Any] = {}
        if options.reset_every and step > 1 and (step - 1) % options.reset_every == 0:
            record["reset"] = self.reset()
        subset = sample_items(self.best.n_items, self.subset, self.generator).to(self.engine.device)
        window = slice(*self.windows[draw_window(len(self.windows), self.generator)])
        with torch.no_grad():
            p = self.synthetic(subset)[:, window]
            labels = self._labels(p, subset)
        for _ in range(options.inner_steps):
            inner_loss = synthetic_loss(scores_on_subset(self.inner, p, self.inner.tower(subset)), p, labels)
            _descend(self.inner_optimiser, inner_loss)
        real_loss = self.source.loss(self.outer, self.subset)
        outer_loss, weight = real_loss, options.gap_weight
        if labels is None:
            # Soft labels come from the outer model itself: its loss on them has no gradient.
            own = synthetic_loss(scores_on_subset(self.outer, p, self.outer.tower(subset)), p, labels)
            if options.gap_rule == "bome":
                weight = min(barrier_weight(real_loss, own, self.outer.trained_parameters()), options.gap_weight)
            outer_loss = real_loss + weight * own
        _descend(self.outer_optimiser, outer_loss)
        record |= {"gap_weight": weight, **self._update_sequences(subset, window, weight)}
        record |= {"real_loss": real_loss.item(), "inner_loss": inner_loss.item()}
        return record

    def _labels(self, p: Tensor, subset: Tensor) -> Tensor | None:
        if self.options.targets == "next":
            return None
        return torch.softmax(scores_on_subset(self.outer, p, self.outer.tower(subset)), -1)

    def _update_sequences(self, subset: Tensor, window: slice, weight: float) -> dict[str, float]:
        options = self.options
        with torch.no_grad():
            outer_vectors, inner_vectors = self.outer.tower(subset), self.inner.tower(subset)
        p = self.synthetic(subset)[:, window]
        outer = scores_on_subset(self.outer, p, outer_vectors)
        labels = torch.softmax(outer.detach(), -1) if options.targets == "soft" else None
        if options.gap == "value":
            gap = value_gap(outer, scores_on_subset(self.inner, p, inner_vectors), p, labels)
        else:
            gap = synthetic_loss(outer, p, labels)
        loss = weight * gap
        if labels is not None and options.plausibility:
            loss = loss + options.plausibility * soft_cross_entropy(outer[:, :-1], p[:, 1:])
        if options.regulariser_weight:
            loss = loss + options.regulariser_weight * self._regulariser(p, labels, subset)
        # Only S: the models' parameters are constants of this step and gather no gradient.
        (gradient,) = torch.autograd.grad(loss, [self.synthetic.latents])
        self.synthetic.latents.grad = gradient
        self.engine.average_gradients([self.synthetic.latents])
        self.optimiser.step()
        record = {
            "gap": gap.item(),
            "gradient_norm": gradient.norm().item(),
            "input_entropy": entropy(p).item(),
        }
        if labels is not None:
            record["label_entropy"] = entropy(labels).item()
        return record

    def _regulariser(self, p: Tensor, labels: Tensor | None, subset: Tensor) -> Tensor:
        weights = similarity_weights(self.features[subset])
        if self.options.regulariser == "cooccurrence":
            return cooccurrence_regulariser(p, weights)
        follows = p[:, 1:] if labels is None else labels[:, :-1]
        return regulariser(p[:, :-1].flatten(0, 1), follows.flatten(0, 1), weights)

    @torch.no_grad()
    def export(self) -> Condensed:
        """Return the sequences as they are now, labelled by the best teacher."""
        items, weights = self.synthetic.top(STORED_ITEMS)
        codes = basis = None
        windows: tuple[tuple[int, int], ...] = ()
        derived = "the sequences, which start as real histories"
        if self.options.targets == "soft":
            table = self.best.item_table()
            basis = linear_map(self.best, self.features, table)
            mixed = torch.einsum("mlkd,mlk->mld", table[items], weights)
            unit = torch.eye(basis.shape[0], device=mixed.device)
            windows = self.windows
            codes = torch.cat(
                [self.best.scores(self.best.backbone(mixed[:, start:end]), unit) for start, end in windows], dim=1
            )
            derived += "; soft labels: the teacher's states and the map of its adapter (codes, basis)"
        if self.options.keys == "learned":
            derived += "; latents were moved among the teacher's item vectors (keys learned)"
        recipe = STUDENT.model_copy(update={"steps": self.options.student_steps})
        info = {
            "data_fingerprint": self.data.info.fingerprint,
            "options": self.options.model_dump(),
            "seed": self.seed,
            "from_real_data": derived,
            "licence": self.data.info.terms,
        }
        return Condensed(
            kind="distilled",
            method="foster",
            items=items.cpu(),
            weights=weights.cpu(),
            codes=None if codes is None else codes.cpu(),
            basis=None if basis is None else basis.cpu(),
            catalogue=self.best.catalogue,
            encoder=self.best.encoder,
            # Soft labels leave little to over-fit: on validation students do best without dropout.
            model=self.best.options.model_copy(update={"dropout": 0.0}) if codes is not None else self.best.options,
            windows=windows,
            recipe=recipe,
            info=info,
        )

    def student_score(self, sequences: Condensed) -> float:
        """Train a short student on exported sequences and return its validation NDCG@10."""
        recipe = STUDENT.model_copy(update={"steps": max(self.options.student_steps // 2, 1)})
        student = fresh_copy(self.best, self.seed, sequences.model)
        source = CondensedSource(sequences, student, self.seed)
        fit(student, source, recipe, seed=self.seed, engine=self.engine)
        return self.validate(student)


def label_windows(length: int, window: int) -> tuple[tuple[int, int], ...]:
    """Return the whole sequence and, unless ``window`` is 0, windows of that many steps that overlap by half."""
    if window == 0 or window >= length:
        return ((0, length),)
    starts = range(0, length - window + 1, max(window // 2, 1))
    return ((0, length), *((start, start + window) for start in starts))


def fresh_copy(model: TextRecommender, seed: int, options: ModelOptions) -> TextRecommender:
    """Return a model of the same items with random weights and, where it is trained, the public language model."""
    features = model.tower.features
    if not isinstance(features, FrozenFeatures):
        return TextRecommender.build(model.catalogue, model.encoder, options, seed=seed, device=model.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = TextRecommender(model.catalogue, model.encoder, options, features, model.whitening)
    return new.to(model.device)


def barrier_weight(real: Tensor, gap: Tensor, parameters: list[nn.Parameter], eta: float = 0.5) -> float:
    """Return BOME's lambda: ``max((eta |dq|^2 - <df, dq>) / |dq|^2, 0)`` with gradients in the outer parameters.

    The smallest weight with which a step still lowers the gap q at the rate eta, whatever the real loss f wants. First
    order: both gradients are plain numbers. The block of S is left out, since its scale is another.

    Args:
        real: f, with a graph that is kept.
        gap: q, with a graph that is kept.
        parameters: of the outer model.
        eta: rate of the barrier.
    """
    gradients = [torch.autograd.grad(x, parameters, retain_graph=True, allow_unused=True) for x in (real, gap)]
    pairs = [(f, q) for f, q in zip(*gradients, strict=True) if f is not None and q is not None]
    inner = sum((f * q).sum().item() for f, q in pairs)
    square = sum((q * q).sum().item() for _, q in pairs)
    return max((eta * square - inner) / (square + EPSILON), 0.0)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def linear_map(model: TextRecommender, features: Tensor, table: Tensor) -> Tensor:
    """Return B ``[d, width]`` such that item vectors are ``features @ B.T`` plus a constant.

    With a frozen encoder that is the adapter, and exact; with a tuned one it is the least-squares fit.
    """
    if isinstance(model.tower.features, FrozenFeatures):
        return model.tower.adapter.weight.detach()
    # Double precision and the driver for rank-deficient systems: the default one is not reproducible on these.
    x = torch.cat([features, torch.ones(len(features), 1, device=features.device)], 1).double().cpu()
    solution = torch.linalg.lstsq(x, table.double().cpu(), driver="gelsd").solution
    return solution[:-1].T.to(table)
