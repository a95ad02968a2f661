"""The distillation loop: resets, what it may touch, and what it keeps."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from foster import runs
from foster.artefacts import KEPT_STEP, check_free
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.distillation import setting as distillation_setting
from foster.distillation.distill import clearly_better, distill
from foster.distillation.foster import Foster, barrier_weight
from foster.distillation.options import DistillOptions
from foster.distillation.setting import Setting
from foster.engine import Engine
from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.runs import pretrain, train
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions
from foster.training.trajectory import Trajectory
from foster.unfinished import unfinished
from tiny_encoder import build_tiny_encoder

OPTIONS = DistillOptions(
    sequences=3, length=6, steps=4, select_every=2, student_steps=4, batch_size=16, subset=12, reset_every=2
)


@pytest.fixture(scope="module", params=[{}])
def setting(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("foster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOSTER_CACHE", str(folder / "cache"))
        rng = np.random.default_rng(0)
        rows = [(f"u{u}", f"i{(u + 3 * t) % 30}", t) for u in range(50) for t in range(int(rng.integers(6, 12)))]
        log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
        colours, things = ["red", "green", "blue", "dark", "light"], ["dog", "cat", "boat", "song", "tea", "game"]
        texts = [f"{colour} {thing}" for colour in colours for thing in things]
        items = pl.DataFrame({"item_id": [f"i{i}" for i in range(30)], "title": texts})
        data = Dataset.prepare(log, items, k_core=0)
        encoder = EncoderOptions(encoder=str(build_tiny_encoder(folder / "encoder")))
        pretrain(
            data,
            folder / "teacher",
            encoder=encoder,
            model=ModelOptions(
                **{"dim": 8, "layers": 1, "heads": 1, "max_length": 8, "adapter": "linear"} | request.param
            ),
            train=TrainOptions(steps=12, batch_size=16, eval_every=6, warmup=2),
            teacher=TeacherOptions(checkpoints=4, half=False),
            engine=Engine("cpu"),
        )
        yield data, folder / "teacher"


def run_of(setting, **changes) -> Foster:
    data, teacher = setting
    best, options = TextRecommender.from_pretrained(teacher), OPTIONS.model_copy(update=changes)
    return Foster(Setting(data, best, Trajectory(teacher), options, 0, Engine("cpu")), options)


def test_reset_restores_a_checkpoint_and_clears_the_optimisers(setting):
    run = run_of(setting)
    for step in (1, 2):
        run.step(step)
    assert run.inner_optimiser.state
    where = run.reset()
    states = [
        run.setting.trajectory.state(i)
        for i in range(len(run.setting.trajectory))
        if run.setting.trajectory.step(i) == where
    ]
    for model in (run.outer, run.inner):
        for name, value in model.trained_state().items():
            assert torch.equal(value, states[0][name])
    assert not run.inner_optimiser.state
    assert not run.outer_optimiser.state


def test_resets_to_the_first_checkpoints_only(setting):
    run, trajectory = run_of(setting, checkpoints=2), Trajectory(setting[1])
    assert {run.reset() for _ in range(30)} == {trajectory.step(0), trajectory.step(1)}


def test_resets_come_every_r_steps(setting):
    run = run_of(setting)
    assert ["reset" in run.step(step) for step in range(1, 6)] == [False, False, True, False, True]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"targets": "next"},
        {"gap": "joint"},
        {"targets": "next", "gap": "joint"},
        {"keys": "learned"},
        {"regulariser": "cooccurrence"},
        {"plausibility": 1.0},
        {"targets": "next", "gap_rule": "bome", "gap_weight": 10.0},
    ],
    ids=str,
)
def test_a_step_moves_what_it_should_and_nothing_else(setting, changes):
    run = run_of(setting, **changes)
    frozen = [run.setting.features.clone(), run.synthetic.keys.clone(), *run.setting.best.trained_state().values()]
    latents, outer, inner = run.synthetic.latents.clone(), run.outer.trained_state(), run.inner.trained_state()
    run.step(1)
    run.step(2)
    for before, after in zip(
        frozen, [run.setting.features, run.synthetic.keys, *run.setting.best.trained_state().values()], strict=True
    ):
        assert torch.equal(before, after)
    assert not torch.equal(latents, run.synthetic.latents)
    for before, model in ((outer, run.outer), (inner, run.inner)):
        assert any(not torch.equal(value, before[name]) for name, value in model.trained_state().items())


def test_soft_labels_move_with_the_sequences_that_they_are_labels_of(setting):
    # The gap that is logged and stored has labels of its own at every S: its gradient has to be theirs, too.
    # So few items are all unlike one another: at a low temperature each step is one of them, and nothing moves.
    run = run_of(setting, subset=0, regulariser_weight=0.0, window=0, length=6, reset_every=0, temperature=0.2)
    for step in (1, 2, 3):
        run.step(step)
    subset, rows = torch.arange(30), slice(None)

    def gap_at(latents):
        with torch.no_grad():
            run.synthetic.latents.copy_(latents)
        return run._update_sequences(subset, rows, 1.0)["gap"]

    start = run.synthetic.latents.detach().clone()
    run.optimiser.step = lambda: None
    gap_at(start)
    gradient = run.synthetic.latents.grad.clone()
    size = 1e-2 / gradient.norm()
    expected = float(2 * size * (gradient**2).sum())
    assert gap_at(start + size * gradient) - gap_at(start - size * gradient) == pytest.approx(expected, rel=0.1)


def test_soft_labels_survive_storage(setting, tmp_path):
    run = run_of(setting, window=4)
    exported = run.export().rounded()
    assert exported.windows == ((0, 6), (0, 4), (1, 5), (2, 6))
    table = run.setting.best.item_table()
    drawn = exported.draws.split([end - start for start, end in exported.windows], dim=1)
    best = run.setting.best
    parts = [
        best.backbone(table[exported.items[:, start:end].gather(-1, part[..., None])[..., 0]])
        for (start, end), part in zip(exported.windows, drawn, strict=True)
    ]
    expected = best.scores(torch.cat(parts, 1), table).softmax(-1)
    exact = best.scores(torch.cat(parts, 1), torch.eye(8))
    made = (exact @ exported.adapter["weight"] @ run.setting.features.T).softmax(-1)
    torch.testing.assert_close(made, expected, atol=1e-3, rtol=1e-2)
    # Four bits a number: at most half a step of 1/7 of the largest number of a label.
    steps = exact.abs().amax(-1, keepdim=True) / 7
    assert ((exported.codes - exact).abs() <= 0.51 * steps).all()
    # A student of the object and one of the folder learn from the same numbers.
    exported.save(tmp_path / "distilled")
    read = Condensed.read(tmp_path / "distilled")
    for name in ("items", "weights", "codes", "draws"):
        assert torch.equal(getattr(read, name), getattr(exported, name)), name
    assert torch.equal(read.adapter["weight"], exported.adapter["weight"])


def test_exports_differ_by_the_steps_alone(setting):
    run = run_of(setting, window=4, lr=1e-6)  # a step so small that the stored items stay
    first, second = run.export(), run.export()
    assert torch.equal(first.draws, second.draws) and torch.equal(first.codes, second.codes)
    run.step(1)
    assert torch.equal(run.export().draws, first.draws)


@pytest.mark.parametrize(("scores", "best"), [([0.3, 0.2, 0.1], 0), ([0.1, 0.3, 0.2], 2), ([0.1, 0.2, 0.2], 2)])
def test_the_sequences_of_the_best_student_are_kept(setting, monkeypatch, scores, best):
    data, teacher = setting
    coming, seen = iter(scores), []

    def scripted(run, sequences, progress=None):
        seen.append(sequences.weights)
        return np.full(50, next(coming))

    monkeypatch.setattr(Setting, "student_ndcg", scripted)
    kept, log = distill(data, teacher, OPTIONS.model_copy(update={"lr": 0.5}), engine=Engine("cpu"), progress=False)
    steps = [record["step"] for record in log if "student_ndcg@10" in record]
    assert steps == [0, 2, 4]
    assert torch.equal(kept.weights, seen[steps.index(best)])
    assert kept.info[KEPT_STEP] == best
    assert not torch.equal(seen[0], seen[1])
    assert any("reset" in record for record in log)


def test_a_state_is_kept_if_it_gains_more_than_the_error_of_the_difference():
    old = np.zeros(100)
    assert not clearly_better(old, old)
    assert clearly_better(old + 0.01, old)
    one_user = np.eye(100)[0]  # mean 0.01, standard error 0.00995
    assert clearly_better(one_user, old)
    assert not clearly_better(one_user - 0.001, old)
    assert not clearly_better(old, one_user)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subset": 31}, "--subset 31"),
        ({"sequences": 51}, "--sequences 51"),
        ({"length": 9}, "--length 9"),
        ({"checkpoints": 5}, "--checkpoints 5: the teacher recorded 4"),
    ],
)
def test_sizes_that_do_not_fit(setting, changes, message):
    data, teacher = setting
    with pytest.raises(InputError, match=message):
        distill(data, teacher, OPTIONS.model_copy(update=changes), engine=Engine("cpu"))


def test_bome_weight_makes_the_step_lower_the_gap_at_the_asked_rate():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    real, gap = -(x * torch.tensor([3.0, 1.0])).sum(), (x * torch.tensor([1.0, 0.5])).sum()
    weight = barrier_weight(real, gap, [x], eta=0.5)
    f, q = torch.tensor([-3.0, -1.0]), torch.tensor([1.0, 0.5])
    assert ((f + weight * q) @ q).item() == pytest.approx(0.5 * (q @ q).item(), rel=1e-5)
    assert barrier_weight(gap, gap, [x], eta=0.5) == 0.0


@pytest.mark.parametrize("setting", [{"finetune": "top:1"}, {"finetune": "all"}], indirect=True)
def test_a_tuned_language_model_is_distilled_and_its_student_starts_from_the_public_one(setting):
    data, teacher = setting
    best = TextRecommender.from_pretrained(teacher)
    public = TextRecommender.build(best.catalogue, best.encoder, best.options, seed=3).trained_state()
    fresh = best.fresh(3).trained_state()
    assert fresh.keys() == public.keys()
    assert all(torch.equal(fresh[name], public[name]) for name in public)
    tuned = [name for name in public if name.startswith("tower.features")]
    assert any(not torch.equal(best.trained_state()[name], public[name]) for name in tuned)
    distilled, _ = distill(data, teacher, OPTIONS, engine=Engine("cpu"), progress=False)
    student, _ = train(distilled, engine=Engine("cpu"))
    assert any(not torch.equal(student.trained_state()[name], public[name]) for name in tuned)


def test_a_student_with_a_tuned_language_model_samples_no_more_than_a_step_does(setting, monkeypatch):
    sampled = []
    for module in (runs, distillation_setting):

        def watched(model, source, options, original=module.fit, **rest):
            sampled.append((model.options.finetune, options.candidates))
            return original(model, source, options, **rest)

        monkeypatch.setattr(module, "fit", watched)
    data, teacher = setting
    distilled, _ = distill(data, teacher, OPTIONS, engine=Engine("cpu"), progress=False)
    train(distilled, engine=Engine("cpu"))
    train(distilled, model=distilled.model.model_copy(update={"finetune": "top:1"}), engine=Engine("cpu"))
    # The last student learns with a frozen language model first.
    assert sampled == [("frozen", 2048)] * (len(sampled) - 1) + [("top:1", 512)] and len(sampled) == 6


@pytest.mark.parametrize("setting", [{"adapter": "moe"}], indirect=True)
def test_a_teacher_with_experts_is_distilled(setting):
    data, teacher = setting
    distilled, _ = distill(data, teacher, OPTIONS, engine=Engine("cpu"), progress=False)
    assert "up" in distilled.adapter
    student, _ = train(distilled, engine=Engine("cpu"))
    assert student.options.adapter == "moe"
    linear, _ = train(distilled, model=distilled.model.model_copy(update={"adapter": "linear"}), engine=Engine("cpu"))
    for model in (student, linear):
        assert all(value.isfinite().all() for value in model.trained_state().values())


@pytest.mark.parametrize(("asked", "size"), [(None, 30), (0, 30), (12, 12)])
def test_a_step_sees_a_sample_or_all_items(setting, asked, size):
    run = run_of(setting, subset=asked)
    assert run.setting.subset_size == size
    drawn = run.setting.subset()
    assert len(drawn.unique()) == len(drawn) == size


def test_a_subset_of_one_item_is_refused():
    with pytest.raises(InputError, match="option 'subset': must be at least 2, or 0 for the whole catalogue"):
        DistillOptions.parse({"subset": 1})


def test_the_state_is_copied_once_at_each_judgement(setting, tmp_path, monkeypatch):
    data, teacher = setting
    original, copied = Foster.state, []
    monkeypatch.setattr(Foster, "state", lambda self: copied.append(1) or original(self))
    with unfinished(check_free(tmp_path / "out"), {}, Engine("cpu")) as part:
        distill(data, teacher, OPTIONS, engine=Engine("cpu"), part=part)
    assert len(copied) == 1 + OPTIONS.steps // OPTIONS.select_every  # that of the start, too
