"""What students learn from condensed sequences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from condensed_labels import soft_labelled
from foster.condensed.contexts import label_windows
from foster.condensed.labels import (
    SAMPLED_RATE,
    TUNED_RATE,
    TUNED_STEPS,
    WARM,
    label_keys,
    labels_fit,
    start_from_labels,
    student_recipe,
    with_soft_labels,
)
from foster.condensed.score_matching import ProbabilityMatching, ScoreMatching
from foster.condensed.sequences import Condensed
from foster.condensed.sources import MANY, HardLabels, SoftLabels, student_source
from foster.data.batches import pad
from foster.distillation.baselines.matching import next_step_loss
from foster.distillation.objective import scores_on_subset, synthetic_loss
from foster.errors import InputError
from foster.manifest import seal
from foster.training.losses import next_item_loss, soft_cross_entropy
from small_models import HISTORIES, full_loss, small_recommender


def test_real_histories_as_condensed_data_have_the_loss_of_the_log():
    """One training command serves coresets and logs, so the losses must agree."""
    model = small_recommender()
    coreset = Condensed.of_histories(
        HISTORIES, 10, "random", model.catalogue, encoder=model.encoder, model=model.options
    )
    loss = student_source(coreset, model, 0, start=False).loss(model, 40)
    torch.testing.assert_close(loss, full_loss(model))


@pytest.mark.parametrize("candidates", [7, 20, 39, 40])
def test_a_sampled_coreset_has_the_loss_of_the_log_on_the_same_sample(candidates):
    model = small_recommender()
    coreset = Condensed.of_histories(
        HISTORIES, 10, "random", model.catalogue, encoder=model.encoder, model=model.options
    )
    loss = student_source(coreset, model, 0, start=False).loss(model, candidates)
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(loss, next_item_loss(model, pad(HISTORIES, 10), candidates, generator))


def test_soft_steps_have_the_cross_entropy_of_their_distributions():
    model = small_recommender()
    p = torch.rand(3, 6, 40, generator=torch.Generator().manual_seed(5)).pow(8)
    weights, items = (p / p.sum(-1, keepdim=True)).topk(9)
    weights = weights / weights.sum(-1, keepdim=True)
    condensed = Condensed(
        "distilled", "dm", items, weights, None, None, model.catalogue, encoder=model.encoder, model=model.options
    )
    dense = torch.zeros(3, 6, 40).scatter_(-1, items, weights)
    table = model.tower(torch.arange(40))
    exact = soft_cross_entropy(model.scores(model.backbone(dense @ table), table)[:, :-1], dense[:, 1:])
    source = student_source(condensed, model, 0, start=False)
    # What is left out, targets below 1e-4, is all the difference.
    torch.testing.assert_close(source.loss(model, 40), exact, atol=2e-3, rtol=0)
    # exp(loss) is linear in the partition of a single position only; here it is near enough.
    sampled = np.mean([source.loss(model, 25).item() for _ in range(300)])
    assert sampled == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize("adapter", ["linear", "moe"])
def test_a_distiller_scores_what_a_student_of_hard_labels_does(adapter):
    model = small_recommender(adapter=adapter)
    if adapter == "moe":
        for weights in (model.tower.adapter.up, model.tower.adapter.gate):  # experts that differ
            torch.nn.init.normal_(weights)
    weights = torch.randn(3, 6, 40, generator=torch.Generator().manual_seed(8)).mul(2).softmax(-1)
    items = torch.arange(40).expand(3, 6, 40)
    condensed = Condensed(
        "distilled", "foster", items, weights, None, None, model.catalogue, encoder=model.encoder, model=model.options
    )
    every = torch.arange(40)
    own = next_step_loss(model, weights, every)
    torch.testing.assert_close(student_source(condensed, model, 0).loss(model, 40), own, atol=2e-3, rtol=0)
    of_vectors = synthetic_loss(scores_on_subset(model, weights, model.tower(every)), weights, None)
    assert (abs(of_vectors - own) > 1e-2) == (adapter == "moe")


def test_the_shortcut_of_linear_adapters_changes_no_loss(monkeypatch):
    model = small_recommender()
    torch.nn.init.normal_(model.tower.adapter.bias)
    items = torch.randint(40, (3, 6, 4), generator=torch.Generator().manual_seed(6))
    weights = torch.softmax(torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(7)), -1)
    condensed = Condensed(
        "distilled", "dm", items, weights, None, None, model.catalogue, encoder=model.encoder, model=model.options
    )
    short = student_source(condensed, model, 0, start=False).loss(model, 25)
    monkeypatch.setattr("foster.models.item_tower.ItemTower.linear", None)
    torch.testing.assert_close(student_source(condensed, model, 0, start=False).loss(model, 25), short)


def centred_error(scores, targets):
    """Return half the mean squared difference of scores ``[..., V]``, each row centred."""
    difference = scores - targets
    return (difference - difference.mean(-1, keepdim=True)).square().mean() / 2


def test_a_student_sees_whole_sequences_and_short_windows_with_labels_of_their_own():
    model = small_recommender()
    labelled, teacher = soft_labelled(model)
    table, own = teacher.item_table(), model.item_table()

    def expected(items):
        targets = teacher.scores(teacher.backbone(table[items]), table)
        return centred_error(model.scores(model.backbone(own[items]), own), targets).item()

    items = labelled.items[..., 0]
    # A step takes one context of so few: an eighth of 32 positions is less than a window of five.
    whole = np.array([expected(items[row : row + 1]) for row in range(4)])
    windows = np.array([expected(items[row : row + 1, start : start + 5]) for row in range(4) for start in range(4)])
    source = student_source(labelled, model, 0, start=False)
    losses = np.array([source.loss(model, 40).item() for _ in range(800)])
    long = np.isclose(losses[:, None], whole, rtol=1e-5)
    short = np.isclose(losses[:, None], windows, rtol=1e-5)
    assert (long.any(1) ^ short.any(1)).all()
    assert long.mean(0) == pytest.approx(0.2 / 4, abs=0.03)
    assert short.mean(0) == pytest.approx(0.8 / 16, abs=0.03)


def test_a_step_with_soft_labels_sees_an_eighth_of_the_positions():
    model = small_recommender()
    labelled, _ = soft_labelled(model, sequences=40)
    source = student_source(labelled, model, 0, start=False)
    seen = []
    model.backbone.register_forward_hook(lambda _, inputs, states: seen.append(states.shape[:2]))
    for _ in range(50):
        source.loss(model, 40)
    assert set(seen) == {(5, 8), (8, 5)}


def test_windows_behind_the_end_of_a_history_teach_nothing_and_are_not_drawn():
    model = small_recommender()
    labelled, _ = soft_labelled(model, sequences=40)
    labelled.weights[1:, 2:] = 0  # all but the first are histories of two items
    source = student_source(labelled, model, 0, start=False)
    rows = []
    draw = source._draw_contexts
    source._draw_contexts = lambda: rows.append(draw()) or rows[-1]
    assert all(torch.isfinite(source.loss(model, 40)) for _ in range(100))
    assert all(source.valid[steps].reshape(-1, codes.shape[1]).any(1).all() for steps, codes, _ in rows)
    assert {len(codes) for _, codes, _ in rows} == {1, 2}  # an eighth of 86 positions, of 8 or 5 a context


def test_a_student_that_reads_less_sees_the_first_steps_of_each_context():
    model = small_recommender()
    labelled, _ = soft_labelled(model)
    short = model.fresh(1, model.options.model_copy(update={"max_length": 3}))
    source = student_source(labelled, short, 0, start=False)
    for _ in range(30):
        steps, codes, _ = source._draw_contexts()
        assert codes.shape[1] == 3 and source.valid[steps].shape == codes.shape[:2]
        assert torch.isfinite(source.loss(short, 40))
    hard = student_source(replace(labelled, codes=None, adapter=None, windows=()), short, 0, start=False)
    assert hard.following.shape[0] == 4 * 3
    hard.loss(short, 40).backward()
    # A history that is as long as what the model reads ends at its last place.
    assert (short.backbone.positions.weight.grad.norm(dim=1) > 0).all()


def test_histories_longer_than_a_student_reads_have_the_loss_of_the_log():
    model = small_recommender()
    coreset = Condensed.of_histories(
        [np.array([3, 5, 7, 1, 8])], 10, "random", model.catalogue, encoder=model.encoder, model=model.options
    )
    short = model.fresh(1, model.options.model_copy(update={"max_length": 3}))
    loss = student_source(coreset, short, 0, start=False).loss(short, 40)
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(loss, next_item_loss(short, pad([np.array([3, 5, 7, 1])], 10), 40, generator))


def test_drawn_contexts_hold_one_item_of_each_step():
    model = small_recommender()
    labelled, teacher = soft_labelled(model, k=3, generator=torch.Generator().manual_seed(0))
    table, own = teacher.item_table(), model.item_table()
    assert labelled.draws.shape == labelled.codes.shape[:2]
    losses, first = [], 0
    for start, end in labelled.windows:
        part = labelled.draws[:, first : first + end - start]
        items = labelled.items[:, start:end].gather(-1, part[..., None])[..., 0]
        assert not torch.equal(items, labelled.items[:, start:end, 0])
        targets = teacher.scores(teacher.backbone(table[items]), table)
        keys = model.tower.features.vectors @ labelled.adapter["weight"].T
        made = labelled.codes[:, first : first + end - start] @ keys.T
        torch.testing.assert_close(made.softmax(-1), targets.softmax(-1), atol=1e-5, rtol=1e-3)
        scores = model.scores(model.backbone(own[items]), own)
        losses += [centred_error(*pair).item() for pair in zip(scores, targets, strict=True)]
        first += end - start
    source = student_source(labelled, model, 0, start=False)
    seen = np.array([source.loss(model, 40).item() for _ in range(300)])
    which = np.isclose(seen[:, None], losses, rtol=1e-5)
    assert which.any(1).all()
    assert 0.1 < which[:, :4].any(1).mean() < 0.3


def test_a_student_starts_with_the_experts_that_labels_are_stored_with(tmp_path):
    model = small_recommender()
    labelled, teacher = soft_labelled(model, adapter="moe")
    assert "adapter" in labelled.info["from_real_data"]
    table, whole = teacher.item_table(), labelled.items[..., 0]
    torch.testing.assert_close(label_keys(labelled, model), table)
    targets = teacher.scores(teacher.backbone(table[whole]), table)
    torch.testing.assert_close(labelled.codes[:, :8] @ table.T, targets)
    for adapter, starts in (("moe", True), ("linear", False)):
        student = model.fresh(0, model.options.model_copy(update={"adapter": adapter})).eval()
        before = student.item_table()
        assert start_from_labels(labelled, student) == starts
        if starts:
            torch.testing.assert_close(student.item_table(), table)
        else:
            assert torch.equal(student.item_table(), before)
        assert torch.isfinite(student_source(labelled, student, 0, start=False).loss(student, 40))
    folder = labelled.save(tmp_path / "folder")
    again = Condensed.read(folder)
    assert again.adapter.keys() == labelled.adapter.keys()
    torch.testing.assert_close(label_keys(again, model), table, atol=1e-2, rtol=1e-2)
    tensors = load_file(folder / "sequences.safetensors")
    save_file({n: t for n, t in tensors.items() if n != "adapter.up"}, folder / "sequences.safetensors")
    seal(folder)
    with pytest.raises(
        InputError, match="an adapter has other weights than base, down, gate, noise, shift; the folder is"
    ):
        Condensed.read(folder)


@pytest.mark.parametrize("adapter", ["moe", "linear"])
def test_a_student_of_another_width_starts_with_items_that_are_alike(adapter):
    model = small_recommender()
    labelled, _ = soft_labelled(model, adapter=adapter)
    table = label_keys(labelled, model)
    for width in (4, 12):
        student = model.fresh(0, model.options.model_copy(update={"adapter": adapter, "dim": width})).eval()
        assert start_from_labels(labelled, student) == (adapter == "moe")
        own, expected = student.item_table(), table @ table.T
        if width == 12:
            torch.testing.assert_close(own @ own.T, expected, atol=1e-4, rtol=1e-4)
        # The best that so few directions can do, of centred vectors.
        own, centred = own - own.mean(0), table - table.mean(0)
        values = torch.linalg.svdvals(centred)
        left = (centred @ centred.T - own @ own.T).square().sum()
        torch.testing.assert_close(left, values[width:].pow(4).sum(), atol=1e-3, rtol=1e-3)
        source = SoftLabels(labelled, student, 0, fixed=adapter == "moe")
        assert torch.isfinite(source.loss(student, 7))


@pytest.mark.parametrize("generator", [None, torch.Generator().manual_seed(0)])
def test_items_that_stay_as_they_are_are_scored_over_the_whole_catalogue_and_gather_no_gradient(generator):
    model = small_recommender()
    labelled, teacher = soft_labelled(model, k=1 if generator is None else 3, generator=generator, adapter="moe")
    student = model.fresh(0, model.options.model_copy(update={"adapter": "moe"}))
    source = student_source(labelled, student, 0)
    table = teacher.item_table()
    expected, first = [], 0
    for start, end in labelled.windows:
        items = labelled.items[:, start:end, 0]
        if generator is not None:
            part = labelled.draws[:, first : first + end - start]
            items = labelled.items[:, start:end].gather(-1, part[..., None])[..., 0]
        targets = labelled.codes[:, first : first + end - start] @ table.T
        scores = student.scores(student.backbone(table[items]), table)
        expected += [centred_error(*pair).item() for pair in zip(scores, targets, strict=True)]
        first += end - start
    student.train()  # gates are noisy in training; these items are not
    losses = [source.loss(student, 7) for _ in range(100)]
    assert np.isclose(np.array([loss.item() for loss in losses])[:, None], expected, rtol=1e-4).any(1).all()
    losses[0].backward()
    assert all(weights.grad is None for weights in student.tower.parameters())
    assert all(weights.grad is not None for weights in student.backbone.parameters())


class TunedStandIn:
    """Features that do not follow from public ones, as those of a tuned language model do not."""

    def __init__(self, vectors):
        self.vectors, self.width = vectors, vectors.shape[1]

    def __len__(self):
        return len(self.vectors)

    def __call__(self, index):
        return self.vectors[index]


def test_a_teacher_whose_items_no_map_of_public_texts_gives_cannot_label():
    with pytest.raises(ValueError, match="label with its public_teacher"):
        soft_labelled(small_recommender(), features=TunedStandIn(torch.randn(40, 12)))


def test_scores_are_matched_over_the_whole_catalogue_without_being_computed():
    model = small_recommender()
    torch.nn.init.normal_(model.tower.adapter.bias)  # a constant for all items, which must not count
    teacher = model.fresh(5, model.options.model_copy(update={"dim": 2 * model.options.dim}))
    g = torch.Generator().manual_seed(0)
    states = torch.randn(6, model.options.dim, generator=g, requires_grad=True)
    labels = torch.randn(6, teacher.options.dim, generator=g)
    everything = torch.arange(40)
    keys = teacher.tower(everything).detach()
    matching = ScoreMatching(model.tower, keys)
    exact = centred_error(states @ model.tower(everything).T, labels @ keys.T)
    wanted = torch.autograd.grad(exact, [states, model.tower.adapter.weight])
    loss = matching(states, labels, model.tower)
    torch.testing.assert_close(loss, exact)
    got = torch.autograd.grad(loss, [states, model.tower.adapter.weight])
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_scores_of_an_adapter_of_experts_are_matched_on_the_sample():
    plain = small_recommender()
    model = plain.fresh(0, plain.options.model_copy(update={"adapter": "moe"})).eval()
    g = torch.Generator().manual_seed(0)
    states, labels = torch.randn(6, model.options.dim, generator=g), torch.randn(6, 12, generator=g)
    keys, sample = torch.randn(40, 12, generator=g), torch.tensor([1, 2, 5, 8, 30])
    loss = ScoreMatching(model.tower, keys)(states, labels, model.tower, sample, model.tower(sample))
    vectors = model.tower(sample)
    contexts = centred_error(states @ vectors.T, labels @ keys[sample].T)
    # The items are contexts too, and their scores of one another are matched.
    vectors, keys = vectors - vectors.mean(0), keys[sample] - keys[sample].mean(0)
    items = centred_error(vectors @ vectors.T, keys @ keys.T) / keys.square().sum(1).mean()
    torch.testing.assert_close(loss, contexts + items)


def test_items_of_a_turned_and_wider_space_match():
    plain = small_recommender()
    model = plain.fresh(0, plain.options.model_copy(update={"adapter": "moe"})).eval()
    sample, none = torch.arange(40), torch.zeros(1, model.options.dim)
    turn = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(0))).Q[: model.options.dim]
    keys = model.tower(sample).detach() @ turn
    loss = ScoreMatching(model.tower, keys)(none, torch.zeros(1, 20), model.tower, sample, model.tower(sample))
    torch.testing.assert_close(loss, torch.zeros(()), atol=1e-4, rtol=0)


def test_students_on_another_encoder_learn_the_probabilities_of_the_labels(monkeypatch):
    """No map of their features scores all items as the labels do: what counts are the probable ones."""
    model = small_recommender()
    labelled, teacher = soft_labelled(model)
    assert labels_fit(labelled, model)
    # As if the student's features were of another encoder than these.
    monkeypatch.setattr("foster.condensed.sources.label_keys", lambda *_: teacher.item_table())
    monkeypatch.setattr("foster.condensed.labels._refer_to", lambda *_: False)
    source = student_source(labelled, model, 0, start=False)
    assert isinstance(source.matching, ProbabilityMatching)
    own, keys, whole = model.item_table(), teacher.item_table(), labelled.items[..., 0]
    targets = (labelled.codes[:, :8] @ keys.T).softmax(-1)
    scores = model.scores(model.backbone(own[whole]), own)
    expected = [soft_cross_entropy(*pair).item() for pair in zip(scores, targets, strict=True)]
    seen = np.array([source.loss(model, 40).item() for _ in range(200)])
    assert np.isclose(expected, seen[:, None], rtol=1e-4).any(0).all()
    assert torch.isfinite(source.loss(model, 7))  # of a sample


@pytest.mark.parametrize(
    ("of_teacher", "of_student", "loss"),
    [
        ("linear", "linear", ScoreMatching),
        ("linear", "moe", ScoreMatching),
        ("moe", "moe", ScoreMatching),
        ("moe", "linear", ProbabilityMatching),
    ],
)
def test_a_linear_student_of_experts_learns_probabilities(of_teacher, of_student, loss):
    """A linear map cannot give all the scores that experts do; experts can learn those of a linear map."""
    plain = small_recommender()
    labelled, _ = soft_labelled(plain, adapter=of_teacher)
    student = plain.fresh(1, plain.options.model_copy(update={"adapter": of_student}))
    source = student_source(labelled, student, 0)
    assert isinstance(source.matching, loss)
    assert torch.isfinite(source.loss(student, 7))


@pytest.mark.parametrize("of_teacher", ["linear", "moe"])
@pytest.mark.parametrize("of_student", ["linear", "moe"])
def test_students_whose_loss_takes_a_sample_of_items_take_small_steps(of_teacher, of_student):
    plain = small_recommender()
    labelled, _ = soft_labelled(plain, adapter=of_teacher)
    student = plain.fresh(1, plain.options.model_copy(update={"adapter": of_student}))
    recipe = student_recipe(labelled, student.encoder, student.options)
    if student_source(labelled, student, 0).matching.samples:
        assert (recipe.lr, recipe.warmup) == (SAMPLED_RATE, labelled.recipe.steps // WARM)
    else:
        assert recipe == labelled.recipe
    tuned = student.options.model_copy(update={"finetune": "top:1"})
    last = student_recipe(labelled, student.encoder, tuned)
    assert (last.steps, last.lr) == (TUNED_STEPS, TUNED_RATE) and last.warmup < TUNED_STEPS
    slow = labelled.recipe.model_copy(update={"lr": 1e-4, "warmup": 999})
    assert student_recipe(labelled, student.encoder, student.options, slow) == slow
    hard = replace(labelled, codes=None, adapter=None, windows=())
    assert student_recipe(hard, student.encoder, student.options) == hard.recipe


def test_draws_follow_the_counts_of_items():
    model = small_recommender()
    counts = torch.zeros(40, dtype=torch.int64)
    counts[7] = 10**6
    items = torch.stack([torch.full((4, 8), 7), torch.randint(8, 40, (4, 8))], -1)
    plain = Condensed(
        "coreset", "soft-label", items, torch.full((4, 8, 2), 0.5), None, None, model.catalogue,
        encoder=model.encoder, model=model.options, info={"from_real_data": "histories"},
    )  # fmt: skip
    drawn = with_soft_labels(plain, model, label_windows(8, 5), torch.Generator().manual_seed(0), counts).draws
    assert (drawn == 0).all()
    evenly = with_soft_labels(plain, model, label_windows(8, 5), torch.Generator().manual_seed(0)).draws
    assert 0.3 < evenly.float().mean() < 0.7


def test_a_student_starts_with_the_item_map_of_its_labels():
    model = small_recommender()
    labelled, teacher = soft_labelled(model)
    start_from_labels(labelled, model)
    assert torch.equal(model.tower.adapter.weight, teacher.tower.adapter.weight)


def test_mixup_mixes_contexts_and_their_labels_alike():
    model = small_recommender()
    labelled, _ = soft_labelled(model)
    source = student_source(labelled, model, 0, mixup=True)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 4, 3, generator=generator)
    valid = torch.rand(6, 4, generator=generator) < 0.7
    mixed, labels, both = source._mixed(inputs, 2 * inputs, valid)
    torch.testing.assert_close(labels, 2 * mixed)
    assert not torch.allclose(mixed, inputs)
    for row, values in enumerate(mixed):
        # On the line between its own context and another one's, with one share for all steps.
        shares = [(values - other) / (inputs[row] - other) for other in inputs if not torch.equal(other, inputs[row])]
        assert any(share.std() < 1e-4 and 0 <= share.mean() <= 1 for share in shares) or torch.equal(
            values, inputs[row]
        )
    assert (both <= valid).all()
    assert source.loss(model, 40).isfinite()


def test_many_real_histories_are_learned_from_in_batches():
    model, rng = small_recommender(), np.random.default_rng(0)
    histories = [rng.integers(0, 40, rng.integers(2, 6)) for _ in range(MANY + 50)]
    coreset = Condensed.of_histories(
        histories, 8, "random", model.catalogue, encoder=model.encoder, model=model.options
    )
    source = student_source(coreset, model, 0)
    batch = source.items
    assert [row[row >= 0].tolist() for row in batch[:3]] == [history.tolist() for history in histories[:3]]
    few = student_source(replace(coreset, items=coreset.items[:MANY], weights=coreset.weights[:MANY]), model, 0)
    assert isinstance(few, HardLabels)
    all_of_few = next_item_loss(model.eval(), batch[:MANY], 40, torch.Generator())
    torch.testing.assert_close(few.loss(model, 40), all_of_few, rtol=1e-4, atol=1e-5)
    state = source.state()
    first = source.loss(model, 40)
    source.load_state(state)
    torch.testing.assert_close(source.loss(model, 40), first, rtol=0, atol=0)
    # Of like length each, and all of them once a pass.
    source.load_state(state)
    taken = [next(source.batches), next(source.batches)]
    assert sorted(np.concatenate(taken)) == list(range(MANY + 50))
    assert min(source.lengths[taken[0]].max(), source.lengths[taken[1]].max()) < max(source.lengths)
