"""Estimates: what is extrapolated from what, on a clock that counts the work, and what is refused."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from foster.artefacts import folder_bytes
from foster.data.dataset import Dataset
from foster.distillation.distill import distill, write_distilled
from foster.distillation.options import DistillOptions
from foster.engine import Engine
from foster.errors import InputError
from foster.estimation import estimate, steps
from foster.estimation.jobs import estimate_distill, estimate_pretrain
from foster.estimation.steps import recipe_parts, seconds_a_step, training_parts
from foster.models.options import ModelOptions
from foster.runs import pretrain
from foster.text.options import EncoderOptions
from foster.training import loop
from foster.training.loop import LogSource
from foster.training.options import TrainOptions
from small_models import small_recommender

ENGINE = Engine("cpu")
DISTILL = DistillOptions(sequences=3, length=6, steps=2, select_every=2, student_steps=4, batch_size=16)


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    """Stop the clock of estimates; a test moves it by the work that is done."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


@pytest.fixture(scope="module")
def log() -> Dataset:
    """A log of 900 users, most of them with short histories and some with long ones."""
    lengths = np.random.default_rng(0).geometric(0.15, 900) + 3
    rows = [(f"u{u}", str((3 * u + 5 * t) % 60), t) for u, length in enumerate(lengths) for t in range(length)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    titles = [f"{colour} {thing} {n}" for colour in ("red", "blue") for thing in ("dog", "tea") for n in range(15)]
    items = pl.DataFrame({"item_id": [str(i) for i in range(60)], "title": titles})
    return Dataset.prepare(frame, items, k_core=0)


def test_a_training_takes_its_steps_and_validations_whatever_lengths_the_tried_batches_have(log, clock, monkeypatch):
    original, cells = loop.next_item_loss, []

    def timed_by_cells(model, items, *rest):
        cells.append(items.numel())
        clock.now += items.numel() / 1000
        return original(model, items, *rest)

    monkeypatch.setattr(loop, "next_item_loss", timed_by_cells)

    def validator(*arguments):
        def validate(model):
            clock.now += 7
            return 0.0

        return validate

    monkeypatch.setattr(steps, "validator", validator)
    options = TrainOptions(steps=5000, batch_size=16, eval_every=100, patience=4)
    parts = training_parts(log, small_recommender(60), options, 0, ENGINE)
    source = LogSource(log, options, 10, 0, ENGINE)
    cells.clear()
    for _ in range(2 * 57):  # two passes
        source.loss(small_recommender(60), 40)
    step, (trained, validated) = np.mean(cells) / 1000, [part for name, part in parts.items() if name != "histories"]
    assert trained == pytest.approx((5000 * step, 500 * step), rel=0.05)
    assert validated == pytest.approx((50 * 7, 5 * 7))


def test_first_steps_do_not_count_and_there_is_an_end(clock):
    class Slow:
        made = 0

        def loss(self, model, candidates):
            self.made += 1
            clock.now += 60.0 if self.made <= 2 else 0.25
            return next(iter(model.parameters())).square().mean()

    source = Slow()
    assert seconds_a_step(small_recommender(), source, TrainOptions(steps=99), 0, ENGINE, budget=5.0) == pytest.approx(
        0.25
    )
    assert source.made < 30
    source = Slow()
    assert seconds_a_step(small_recommender(), source, TrainOptions(steps=1), 0, ENGINE) == pytest.approx(60)


def test_a_recipe_that_cannot_stop_early_takes_all_its_steps():
    for patience, least in ((9, 1000), (4, 500), (0, 1000)):
        options = TrainOptions(steps=1000, eval_every=100, patience=patience)
        steps, validations = recipe_parts(options, 0.5, 3.0).values()
        assert steps == (500, least / 2) and validations == (30, least / 100 * 3)


def test_folders_have_the_estimated_size_and_a_dry_run_leaves_nothing(log, tmp_path, tiny_encoder):
    kind = {
        "encoder": EncoderOptions(encoder=str(tiny_encoder)),
        "model": ModelOptions(dim=64, layers=2, heads=2, max_length=10, adapter="linear"),
        "train": TrainOptions(steps=4, batch_size=32, eval_every=2),
    }
    found = estimate_pretrain(log, tmp_path / "teacher", **kind, engine=ENGINE)
    assert not list(tmp_path.iterdir())
    pretrain(log, tmp_path / "teacher", **kind, engine=ENGINE)
    assert found.disk_bytes == pytest.approx(folder_bytes(tmp_path / "teacher"), rel=0.1)
    assert 0 < found.least_seconds <= found.seconds == pytest.approx(sum(found.parts.values()))

    found = estimate_distill(log, tmp_path / "teacher", tmp_path / "distilled", DISTILL, engine=ENGINE)
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]
    distilled, records = distill(log, tmp_path / "teacher", DISTILL, engine=ENGINE)
    (tmp_path / "distilled").mkdir()
    write_distilled(distilled, records, tmp_path / "distilled")
    assert found.disk_bytes == pytest.approx(folder_bytes(tmp_path / "distilled"), rel=0.1)
    assert any("2 students" in name for name in found.parts)


@pytest.mark.parametrize(
    ("least", "said"),
    [
        (60.0, "2 min if all steps are made, or 60 s where validation stops all training as early as it can, on a"),
        (115.0, "2 min, on a machine as busy as now"),
        (118.0, "2 min, on a machine as busy as now"),
    ],
)
def test_a_time_is_said_once_where_both_read_the_same(least, said):
    found = estimate.Estimate(118.0, least, 1, 1, 1, 1, {})
    assert found.as_text().startswith(f"time       {said}")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_memory_of_a_batch_is_told_from_small_ones(log, monkeypatch, precision):
    asked = []
    monkeypatch.setattr(steps, "refuse_memory", lambda needed, free: asked.append(needed))
    model = small_recommender(60, adapter="moe")
    options = TrainOptions(batch_size=600, precision=precision)
    source = LogSource(log, options, 10, 0, ENGINE)
    steps.check_batch(log, model, options, source, 0, ENGINE)
    longest = np.argsort(source.lengths, kind="stable")[-600:]
    kept = steps._kept_bytes(model, LogSource(log, options, 10, 0, ENGINE, longest), options, 0)
    weights = 16 * sum(x.numel() for x in model.parameters())
    assert kept > 10 * weights
    assert asked[0] == pytest.approx(kept + weights, rel=0.1)


def test_what_does_not_fit_is_refused_before_it_is_tried(log, tmp_path, tiny_encoder, monkeypatch):
    encoder, made = EncoderOptions(encoder=str(tiny_encoder)), []
    monkeypatch.setattr(steps, "seconds_a_step", lambda *rest, **more: made.append(1) or 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(steps, "free_memory", lambda: 200_000)
        with pytest.raises(InputError, match=r"memory will not do: about .* are needed and 200 kB are free; lower"):
            estimate_pretrain(log, tmp_path, encoder=encoder, engine=ENGINE)
    assert not made
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda place: SimpleNamespace(free=3000))
    with pytest.raises(InputError, match=r"a/b: takes about .*, but 3.0 kB are free there"):
        estimate_pretrain(log, tmp_path / "a" / "b", encoder=encoder, engine=ENGINE)


@pytest.mark.parametrize("error", [RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), MemoryError()])
def test_memory_that_ends_in_the_trial_is_one_line(tmp_path, error):
    with pytest.raises(InputError, match="memory will not do: "), estimate.limits_of(ENGINE, tmp_path):
        raise error
    with pytest.raises(RuntimeError, match="another"), estimate.limits_of(ENGINE, tmp_path):
        raise RuntimeError("another")


def test_texts_that_are_not_in_the_cache_are_not_all_encoded(log, tmp_path, tiny_encoder, clock, monkeypatch):
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path))
    monkeypatch.setattr(steps, "TEXTS", 10)
    original, encoded = steps.TextEncoder.encode, []

    def encode(self, texts, *rest, **more):
        encoded.extend(texts)
        clock.now += len(texts) / 4
        return original(self, texts, *rest, **more)

    monkeypatch.setattr(steps.TextEncoder, "encode", encode)
    encoder, options = EncoderOptions(encoder=str(tiny_encoder)), ModelOptions(dim=8, heads=1)
    model, seconds = steps.untrained(log.catalogue, encoder, options, 0, ENGINE)
    assert 10 <= len(encoded) <= 12
    assert seconds == pytest.approx(len(set(log.catalogue.texts)) / 4)
    assert model.item_table().shape == (60, 8) and torch.isfinite(model.item_table()).all()
