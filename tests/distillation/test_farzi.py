"""Farzi: its loss against the literal one, its outer gradient against finite differences, and what it may touch."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from foster.data.dataset import Dataset
from foster.distillation.baselines import soft_steps
from foster.distillation.baselines.farzi import Farzi, LowRankSequences, next_step_loss
from foster.distillation.baselines.soft_steps import ByMixtures, BySample, mixture_cross_entropy, most_probable
from foster.distillation.objective import scores_on_subset, synthetic_loss
from foster.distillation.options import FarziOptions
from foster.distillation.setting import Setting
from foster.engine import Engine
from foster.errors import InputError
from foster.models.item_tower import FrozenFeatures
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.text.options import EncoderOptions
from small_models import small_recommender

ITEMS = 30
STEP = 1e-8  # of finite differences; small, since a first Adam step bends sharply where an entry changes its sign
OPTIONS = FarziOptions(
    sequences=3, length=6, batch_size=16, width=4, temperature=0.3, inner_steps=3, inner_batch=2, student_steps=4
)


class Checkpoints:
    """A trajectory in memory: the same shape with other weights at steps 0, 10, ..., in double precision or not."""

    def __init__(self, count: int = 4, adapter: str = "linear", backbone: str = "sasrec") -> None:
        shape = {"adapter": adapter, "backbone": backbone}
        self.states = [small_recommender(ITEMS, seed, **shape).trained_state() for seed in range(count)]

    def __len__(self) -> int:
        return len(self.states)

    def step(self, which: int) -> int:
        return 10 * which

    def state(self, which: int) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.states[which].items()}


def small_log() -> Dataset:
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", str((u + 3 * t) % ITEMS), t) for u in range(50) for t in range(int(rng.integers(6, 12)))]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": [str(i) for i in range(ITEMS)], "title": [f"item {i}" for i in range(ITEMS)]})
    return Dataset.prepare(log, items, k_core=0)


def small_setting(
    options,
    best: TextRecommender | None = None,
    double: bool = False,
    seed: int = 0,
    adapter: str = "linear",
    engine: Engine | None = None,
    backbone: str = "sasrec",
) -> Setting:
    """Return a setting over 30 items; in double precision for finite differences."""
    best = best or small_recommender(ITEMS, seed=9, adapter=adapter, backbone=backbone)
    if double:
        best = best.double()
        best.tower.features = FrozenFeatures.of(best.public_features(best.encoder).double())
    trajectory = Checkpoints(adapter=best.options.adapter, backbone=best.options.backbone)
    return Setting(small_log(), best, trajectory, options, seed, engine or Engine("cpu"))


def assert_gradient_is_slope(make, parameters=lambda run: list(run.synthetic.parameters())):
    """Compare the gradient that the first step leaves with central differences of the ``real_loss`` that it reports.

    Runs of one seed draw the same, so that only the factors differ.
    """
    run = make()
    before = [x.detach().clone() for x in parameters(run)]
    run.step(1)
    gradient = [x.grad.clone() for x in parameters(run)]
    for which in range(len(before)):
        direction = torch.randn(before[which].shape, generator=torch.Generator().manual_seed(which)).double()
        loss = []
        for sign in (1, -1):
            run = make()
            with torch.no_grad():
                parameters(run)[which].add_(sign * STEP * direction)
            loss.append(run.step(1)["real_loss"])
        slope = (gradient[which] * direction).sum().item()
        assert abs(slope) > 1e-6
        assert (loss[0] - loss[1]) / (2 * STEP) == pytest.approx(slope, rel=3e-4)


def assert_only_the_sequences_change(run):
    setting = run.setting
    states = [setting.trajectory.state(which) for which in range(len(setting.trajectory))]
    fixed = [setting.features, *setting.best.parameters(), *(value for state in states for value in state.values())]
    before, moved = [x.detach().clone() for x in fixed], [x.detach().clone() for x in run.synthetic.parameters()]
    records = [run.step(step) for step in (1, 2)]
    states = [setting.trajectory.state(which) for which in range(len(setting.trajectory))]
    fixed = [setting.features, *setting.best.parameters(), *(value for state in states for value in state.values())]
    assert all(torch.equal(x, y) for x, y in zip(before, fixed, strict=True))
    assert all(not torch.equal(x, y) for x, y in zip(moved, run.synthetic.parameters(), strict=True))
    assert all(x.grad is None for x in setting.best.parameters())
    for record in records:
        assert np.isfinite([record["real_loss"], record["gradient_norm"]]).all()
        assert 0 < record["input_entropy"] < np.log(ITEMS)
        assert record["kept_mass"] == pytest.approx(1, abs=1e-5)  # fewer items than are kept


def assert_exports(run, method: str):
    exported = run.export()
    p = run.synthetic().detach()
    dense = torch.zeros_like(p).scatter_(-1, exported.items, exported.weights)
    torch.testing.assert_close(dense, p)
    assert exported.method == method
    assert exported.codes is None
    derived = exported.info["from_real_data"]
    assert "real histories" in derived and "; they were moved to lower the real loss of models that start at" in derived
    assert 0 <= run.setting.student_ndcg(exported).mean() <= 1


def tuned_recommender(tiny_encoder) -> TextRecommender:
    options = ModelOptions(dim=8, layers=1, heads=1, max_length=10, finetune="top:1", adapter="linear")
    return TextRecommender.build(small_log().catalogue, EncoderOptions(encoder=str(tiny_encoder)), options)


def test_the_loss_on_mixtures_is_the_literal_one():
    model = small_recommender().double()
    features = model.public_features(model.encoder).double()
    draws = torch.Generator().manual_seed(0)
    p = torch.softmax(3 * torch.randn(3, 6, len(features), generator=draws, dtype=torch.float64), -1).requires_grad_()
    torch.nn.init.normal_(model.tower.adapter.bias)
    vectors = model.tower.adapter(features)
    expected = synthetic_loss(scores_on_subset(model, p, vectors), p, None)
    found = next_step_loss(model, p @ features, ByMixtures(features))
    weights = model.trained_parameters()
    torch.testing.assert_close(found, expected)
    for x, y in zip(torch.autograd.grad(found, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(x, y)
    states, y = torch.randn(4, 8, generator=draws, dtype=torch.float64), p[0, :4]
    literal = -(y * model.scores(states, vectors).log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(mixture_cross_entropy(model, states, y @ features, features), literal)


def test_by_sample_steps_are_distributions_over_the_sampled_items():
    model = small_recommender(adapter="moe")
    logits, items = torch.randn(3, 6, 40, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 4, 7, 30, 39])
    p, vectors = torch.softmax(logits, -1)[..., items], model.item_table()[items]
    p = p / p.sum(-1, keepdim=True)
    expected = synthetic_loss(scores_on_subset(model, p, vectors), p, None)
    torch.testing.assert_close(next_step_loss(model, logits, BySample(items)), expected)


@pytest.mark.parametrize("adapter", ["linear", "moe"])
def test_the_outer_gradient_is_the_slope_of_the_real_loss(monkeypatch, adapter):
    monkeypatch.setattr(soft_steps, "CANDIDATES", 12)
    assert_gradient_is_slope(lambda: Farzi(small_setting(OPTIONS, double=True, adapter=adapter), OPTIONS))


def test_every_inner_step_samples_items_of_its_own(monkeypatch):
    monkeypatch.setattr(soft_steps, "CANDIDATES", 12)
    setting = small_setting(OPTIONS, adapter="moe")
    samples = [soft_steps.reading(setting).items for _ in range(3)]
    assert all(len(items.unique()) == 12 for items in samples)
    assert len({tuple(items.tolist()) for items in samples}) == 3


def test_sequences_start_peaked_at_real_items():
    setting = small_setting(OPTIONS)
    items = setting.real_histories()
    sequences = LowRankSequences(setting.features, items, width=12, temperature=0.05)
    assert torch.equal(sequences().argmax(-1), items)
    assert torch.equal(LowRankSequences(setting.features, items, 100, 0.05)(), sequences())
    torch.testing.assert_close(sequences().sum(-1), torch.ones(3, 6))


@pytest.mark.parametrize("adapter", ["linear", "moe"])
def test_only_the_sequences_change(adapter):
    assert_only_the_sequences_change(Farzi(small_setting(OPTIONS, adapter=adapter), OPTIONS))


def test_one_seed_gives_one_result():
    first, second = (Farzi(small_setting(OPTIONS), OPTIONS) for _ in range(2))
    assert [first.step(step) for step in (1, 2)] == [second.step(step) for step in (1, 2)]
    assert torch.equal(first.synthetic.latents, second.synthetic.latents)


def test_the_real_loss_falls():
    options = OPTIONS.model_copy(update={"lr": 0.05, "batch_size": 64, "inner_lr": 0.02, "inner_batch": 3})
    setting = small_setting(options)
    setting.trajectory = Checkpoints(1)
    run = Farzi(setting, options)
    losses = [run.step(step)["real_loss"] for step in range(1, 16)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.05


def test_export_keeps_all_that_it_can():
    assert_exports(Farzi(small_setting(OPTIONS), OPTIONS), "farzi")


def test_kept_mass(monkeypatch):
    monkeypatch.setattr(soft_steps, "STORED_ITEMS", 2)
    items, weights, mass = most_probable(torch.tensor([[[0.1, 0.6, 0.3], [0.2, 0.5, 0.3]]]))
    assert items.tolist() == [[[1, 2], [1, 2]]]
    torch.testing.assert_close(weights, torch.tensor([[[2 / 3, 1 / 3], [0.625, 0.375]]]))
    assert mass == pytest.approx(0.85)


def test_a_tuned_language_model_is_refused_with_the_memory_it_would_take(tiny_encoder):
    setting = small_setting(OPTIONS, tuned_recommender(tiny_encoder))
    with pytest.raises(InputError, match=r"farzi: .*30 items, 1 steps.* GiB"):
        Farzi(setting, OPTIONS)
