"""The training loop: divergence, batches of a log, and the caller's random numbers."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from foster.condensed.sequences import Condensed
from foster.condensed.sources import student_source
from foster.data.batches import EndlessBatches, pad
from foster.data.dataset import Dataset
from foster.data.histories import Histories
from foster.engine import Engine
from foster.errors import InputError
from foster.runs import training_record
from foster.training.loop import POWER, Fit, LogSource, fit, on_log, schedule
from foster.training.options import MOST_STEPS, PASSES, TrainOptions
from foster.training.trajectory import FOLDER_NAME, Recorder, checkpoint_steps
from small_models import small_recommender

HISTORIES = [np.array([0, 1, 2, 3]), np.array([4, 5, 6, 7, 8])]


def sequences_of(model) -> Condensed:
    return Condensed.of_histories(
        HISTORIES, 10, "random", model.catalogue, encoder=model.encoder, model=model.options, info={}
    )


class Breaks:
    """Losses of which one is not finite or, for None, has a gradient that is not."""

    def __init__(self, at: int, value: float | None) -> None:
        self.steps, self.at, self.value = 0, at, value

    def loss(self, model, candidates):
        self.steps += 1
        weight = next(iter(model.parameters()))
        if self.steps != self.at:
            return weight.square().mean()
        return (0 * weight).sqrt().sum() if self.value is None else weight.square().mean() * self.value


@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize(
    ("at", "value", "name", "seen"),
    [(5, torch.nan, "the loss", 5), (8, torch.inf, "the loss", 8), (8, None, "tower.adapter.weight", 8)],
)
def test_divergence_is_an_error_at_once_or_at_the_next_validation(validated, at, value, name, seen):
    validations = []
    validate = (lambda model: validations.append(1) or 0.5) if validated else None
    message = f"training diverged: {name} is not finite at step {seen}; lower --lr, which is 0.5"
    with pytest.raises(InputError, match=message):
        options = TrainOptions(steps=20, eval_every=4, lr=0.5, warmup=0)
        fit(small_recommender(), Breaks(at, value), options, validate=validate)
    assert len(validations) == validated  # that of step 4


@pytest.mark.parametrize(("patience", "best_step"), [(0, 12), (2, 3)])
def test_without_patience_the_last_weights_are_taken(patience, best_step):
    recommender, options = small_recommender(), TrainOptions(steps=12, eval_every=3, patience=patience, lr=1e-2)
    seen, values = [], iter([0.4, 0.3, 0.2, 0.1])

    def validate(model):
        seen.append(next(iter(model.parameters())).detach().clone())
        return next(values)

    result = fit(recommender, Breaks(99, 1.0), options, validate=validate)
    assert len(seen) == (4 if patience == 0 else 3)
    assert result.best_step == best_step and result.best_ndcg == (0.1 if patience == 0 else 0.4)
    assert torch.equal(next(iter(recommender.parameters())), seen[-1 if patience == 0 else 0])


class Spikes:
    """Losses that pull weights to one; that of one step is so many times as high."""

    def __init__(self, at: int, times: float) -> None:
        self.steps, self.at, self.times = 0, at, times

    def loss(self, model, candidates):
        self.steps += 1
        loss = (next(iter(model.parameters())) - 1).square().sum()
        return loss * self.times if self.steps == self.at else loss


@pytest.mark.parametrize("validated", [True, False])
def test_a_model_ends_with_the_mean_of_its_weights(validated):
    """As the definition has it: a mean over steps whose weights grow as the power of the step, written as products."""
    model, raw, seen = small_recommender(), [], []

    def weights() -> Tensor:
        return torch.cat([p.detach().flatten() for p in model.trained_parameters()]).double()

    def record(step, model):
        raw.append(weights())

    def validate(model):
        seen.append(weights())
        return 0.5

    options = TrainOptions(steps=12, eval_every=5, warmup=0, patience=0)
    source = student_source(sequences_of(model), model, 0)
    fit(model, source, options, validate=validate if validated else None, record=record)

    def mean(steps: int) -> Tensor:
        kept = [(1 - 1 / step) ** (POWER + 1) for step in range(1, steps + 1)]
        shares = [(1 - kept[at]) * np.prod(kept[at + 1 :]) for at in range(steps)]
        assert sum(shares) == pytest.approx(1) and sum(shares[-3:]) > 0.6
        return sum(share * one for share, one in zip(shares, raw[1:], strict=False))

    torch.testing.assert_close(weights(), mean(12), rtol=1e-5, atol=1e-7)
    assert not torch.allclose(weights(), raw[-1])
    assert len(raw) == 13 and len(seen) == 3 * validated
    for steps, one in zip((5, 10, 12), seen, strict=False):
        torch.testing.assert_close(one, mean(steps), rtol=1e-5, atol=1e-7)


def test_the_rate_is_warmed_up_and_falls_to_zero_by_half_a_cosine():
    options = TrainOptions(steps=8, warmup=4)
    assert schedule(1, options) == 0.25 and schedule(5, options) == pytest.approx(0.5)
    assert schedule(3, options) == pytest.approx(0.75 * (1 + 0.5**0.5) / 2)
    assert 0 < schedule(8, options) < 0.04


def test_validation_changes_nothing_of_what_follows():
    ends = []
    for validate in (None, lambda model: 0.5):
        model, raw = small_recommender(), []
        source = student_source(sequences_of(model), model, 0)
        options = TrainOptions(steps=12, eval_every=5, warmup=0, patience=0)
        fit(model, source, options, validate=validate, record=lambda _, m, raw=raw: raw.append(m.trained_state()))
        ends.append([*raw, model.trained_state()])
    for one, other in zip(*ends, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_one_steep_step_does_not_stop_the_steps_after_it():
    def moved(times: float) -> torch.Tensor:
        model = small_recommender()
        fit(model, Spikes(20, times), TrainOptions(steps=100, warmup=10, lr=1e-3))
        return next(iter(model.parameters())).detach()

    # AdamW divides by the root of the mean square of past gradients, in which a steep step would stay for thousands.
    torch.testing.assert_close(moved(1e6), moved(1.0))


def test_the_last_step_is_looked_at_too():
    with pytest.raises(InputError, match="the loss is not finite at step 6"):
        fit(small_recommender(), Breaks(6, torch.nan), TrainOptions(steps=6, eval_every=250))


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_more_checkpoints_than_steps_are_all_of_them_at_once(steps):
    assert checkpoint_steps(steps, 10**18) == list(range(steps + 1)) == checkpoint_steps(steps, 2 * steps + 5)


def test_checkpoints_that_half_precision_cannot_hold_are_an_error(tmp_path):
    model = small_recommender()
    with torch.no_grad():
        model.tower.adapter.weight.fill_(1e5)
    Recorder(tmp_path, [3], half=False)(3, model)
    (tmp_path / FOLDER_NAME / "step_000003.safetensors").unlink()
    (tmp_path / FOLDER_NAME).rmdir()
    with pytest.raises(InputError, match=r"tower.adapter.weight is not finite in half precision at step 3; lower --lr"):
        Recorder(tmp_path, [3])(3, model)
    assert list((tmp_path / FOLDER_NAME).iterdir()) == []


def test_the_callers_random_numbers_go_on_as_if_nothing_had_been_trained():
    def trained(seed: int) -> torch.Tensor:
        model = small_recommender(dropout=0.5)
        fit(model, student_source(sequences_of(model), model, 0, start=False), TrainOptions(steps=3), seed=seed)
        return nn.utils.parameters_to_vector(model.parameters()).detach()

    first = trained(1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    small = small_recommender()
    torch.manual_seed(5)
    small.fresh(3)
    fit(small, student_source(sequences_of(small), small, 0, start=False), TrainOptions(steps=3))
    assert torch.equal(torch.rand(3), expected)
    # What is drawn inside depends on the seed alone.
    assert torch.equal(trained(1), first) and not torch.equal(trained(2), first)


def test_batches_of_a_log_are_those_of_one_draw_a_history():
    rows = [(f"u{user}", f"i{place % 9}", place) for user in range(40) for place in range(3 + user)]
    log = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row").with_columns(title=pl.col("item_id"))
    data = Dataset.prepare(log, k_core=0)
    source = LogSource(data, TrainOptions(batch_size=7), 5, 3, Engine("cpu"))
    assert isinstance(source.histories, Histories) and source.histories.items is data.sequence_items

    rng = np.random.default_rng([3, 0])
    histories = [data.sequence(user)[:-2] for user in range(data.n_users) if len(data.sequence(user)) > 3]
    batches = EndlessBatches(np.minimum([len(history) for history in histories], 5), 7, rng)
    for _ in range(30):
        windows = []
        for row in next(batches):
            history = histories[row]
            start = int(rng.integers(len(history) - 5)) if len(history) > 6 else 0
            windows.append(history[start : start + 6])
        assert torch.equal(source.batch(), pad(windows, 6))


def log_of(lengths: list[int]) -> Dataset:
    """A log whose users have as many training interactions, and two held out."""
    rows = [(f"u{user}", f"i{place % 9}", place) for user, count in enumerate(lengths) for place in range(count + 2)]
    log = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row").with_columns(title=pl.col("item_id"))
    return Dataset.prepare(log, k_core=0)


@pytest.mark.parametrize(
    ("lengths", "batch", "steps"),
    [
        ([11] * 60, 30, 2 * PASSES),  # two batches go through all users
        ([101] * 60, 30, 4 * PASSES),  # of a hundred targets each a step has fifty
        ([11] * 60, None, 75),  # batches of 32 of 60 users: 40 passes of 1.875
        ([11] * 60, 10**6, 1),
        ([11] * 600, 1, MOST_STEPS),
        ([2] * 12000, 1200, 15 * PASSES),  # half as many users again as are few: ten batches, 60 times
        ([1] * 60, 30, 1),  # nothing to learn from, as the source of batches says
    ],
)
def test_steps_on_a_log_go_through_it_so_many_times(lengths, batch, steps):
    data, options = log_of(lengths), TrainOptions(batch_size=batch)
    assert on_log(options, data) == options.model_copy(update={"steps": steps})
    assert on_log(options, data, 0.1).steps == max(-(-steps // 10), 1)
    given = TrainOptions(steps=7, batch_size=batch)
    assert on_log(given, data, 0.1) is given


def test_a_stored_recipe_says_its_steps():
    recipe = TrainOptions(steps=3).model_dump()
    assert TrainOptions.stored(recipe, "config.json").total_steps == 3
    message = r"^config.json: option 'steps' must be a number \(got None\); make or copy the folder again$"
    with pytest.raises(InputError, match=message):
        TrainOptions.stored(recipe | {"steps": None}, "config.json")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_says_in_which_precision_it_multiplied(precision, tmp_path):
    model = small_recommender(adapter="moe")
    source = student_source(sequences_of(model), model, 0, start=False)
    result = fit(model, source, TrainOptions(steps=3, precision=precision))
    assert result.precision == precision
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    model.save_pretrained(tmp_path / "model", extra=training_record(TrainOptions(), 0, Fit(precision=precision)))
    assert f"trained with matrix products in {precision}" in (tmp_path / "model" / "README.md").read_text()


def test_halved_products_train_nearly_the_same_model():
    tables = []
    for precision in ("float32", "bfloat16"):
        model = small_recommender(adapter="moe")
        fit(
            model,
            student_source(sequences_of(model), model, 0, start=False),
            TrainOptions(steps=30, precision=precision),
        )
        tables.append(model.item_table())
    torch.testing.assert_close(tables[1], tables[0], atol=0.1, rtol=0.1)
    assert not torch.equal(tables[1], tables[0])
