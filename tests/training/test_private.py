"""Differential privacy of users: gradients, clipping, noise, budget, and that distilling is post-processing."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from command_line import exit_status
from foster.artefacts import read_metrics
from foster.audit.audit import audit
from foster.audit.options import AuditOptions
from foster.condensed.folder import stored_bytes
from foster.condensed.sequences import Condensed
from foster.data.batches import pad
from foster.data.dataset import Dataset
from foster.distillation.distill import distill
from foster.distillation.options import DistillOptions
from foster.engine import Engine
from foster.errors import InputError
from foster.models.options import ModelOptions
from foster.models.privacy import Privacy
from foster.models.recommender import NOT_STATED, TextRecommender
from foster.runs import pretrain, train
from foster.text.options import EncoderOptions
from foster.training.loop import fit
from foster.training.losses import next_item_loss, sample_items
from foster.training.options import PrivacyOptions, TeacherOptions, TrainOptions
from foster.training.private import (
    ORDERS,
    PrivateLog,
    check_private,
    clipped_sum,
    plan,
    private_recipe,
    private_shape,
    user_gradients,
)
from small_models import small_recommender
from synthetic_log import synthetic_log

HISTORIES = [np.array([3, 5, 7, 1]), np.array([2, 9]), np.array([30, 31, 32]), np.array([4, 4, 4, 8, 9])]
SPENT = Privacy(
    epsilon=8.0, delta=1e-3, noise_multiplier=0.5, clip=0.1, sampling_rate=0.5, steps=6, expected_users=30,
    accountant="none: a test",
)  # fmt: skip
CPU = Engine("cpu")


def sampled(n: int) -> torch.Tensor:
    return sample_items(40, n, torch.Generator().manual_seed(1))


def flat(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def logs() -> list[Dataset]:
    """Return two logs of the same items, of other users."""
    out = []
    for seed, users in ((0, 60), (1, 45)):
        rows = pl.DataFrame(synthetic_log(users, seed))
        items = pl.DataFrame(synthetic_log(600)).select("item_id", "title").unique().sort("item_id")
        assert rows["item_id"].n_unique() == items.height  # or preparing would leave some out
        out.append(Dataset.prepare(rows.drop("title"), items, k_core=0, name=f"log {seed}"))
    assert out[0].item_ids == out[1].item_ids and out[0].info.fingerprint != out[1].info.fingerprint
    return out


def private_teacher(data: Dataset, out, encoder, monkeypatch, **more):
    monkeypatch.setattr("foster.runs.plan", lambda *_: SPENT)  # opacus is an extra
    return pretrain(
        data,
        out,
        encoder=EncoderOptions(encoder=str(encoder)),
        model=ModelOptions(dim=8, layers=1, heads=1, max_length=8),
        train=TrainOptions(steps=6, candidates=16),
        teacher=TeacherOptions(checkpoints=3),
        privacy=PrivacyOptions(epsilon=8.0, delta=1e-3),
        engine=CPU,
        **more,
    )


@pytest.mark.parametrize("backbone", ["sasrec", "hstu", "ligr", "mean"])
@pytest.mark.parametrize("n", [12, 40], ids=["sampled", "all items"])
def test_gradients_of_users_are_those_of_each_alone(backbone, n):
    model = small_recommender(backbone=backbone)
    found = user_gradients(model, pad(HISTORIES, 10), sampled(n))
    for user, history in enumerate(HISTORIES):
        model.zero_grad()
        next_item_loss(model, pad([history], 10), n, torch.Generator().manual_seed(1)).backward()
        for name, weight in model.named_parameters():
            alone = torch.zeros_like(weight) if weight.grad is None else weight.grad
            torch.testing.assert_close(found[name][user], alone, atol=1e-6, rtol=1e-4)


def test_without_noise_and_clipping_a_step_is_the_ordinary_one():
    ordinary, private = small_recommender(), small_recommender()
    data = logs()[0]
    log = PrivateLog(
        data, 2, sampling_rate=1.0, expected_users=len(data.training_histories()), clip=1e9, noise_multiplier=0.0,
        seed=0, rng=np.random.default_rng(0),
    )  # fmt: skip
    batches = log._windows(log.histories)
    log._windows = lambda _: batches  # of one length, so that the mean over users is that over steps

    class Ordinary:
        generator = torch.Generator().manual_seed(0)

        def loss(self, model, candidates):
            return next_item_loss(model, pad(batches, 3), candidates, self.generator)

    recipe = TrainOptions(steps=1, candidates=12, precision="float32")
    for model, source in ((ordinary, Ordinary()), (private, log)):
        fit(model, source, recipe)
    for name, weight in private.named_parameters():
        torch.testing.assert_close(weight, dict(ordinary.named_parameters())[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("history", [[3, 5], [7] * 10, list(range(10)), [39, 0] * 5])
def test_a_user_moves_the_sum_by_the_clip_at_most(history):
    model, clip = small_recommender(), 0.01
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(30)  # gradients beyond reason
    others, sample = pad(HISTORIES, 10), sampled(12)
    without = flat(clipped_sum(model, others, sample, clip))
    with_user = flat(clipped_sum(model, pad([*HISTORIES, np.array(history)], 10), sample, clip))
    assert 0.5 * clip < (with_user - without).norm() < 1.001 * clip


def test_a_gradient_that_is_not_finite_counts_as_none(monkeypatch):
    model, sample = small_recommender(), sampled(12)
    known = user_gradients(model, pad(HISTORIES, 10), sample)
    spoiled = {name: torch.cat([part, torch.full_like(part[:1], torch.nan)]) for name, part in known.items()}
    expected = clipped_sum(model, pad(HISTORIES, 10), sample, 0.1)
    monkeypatch.setattr("foster.training.private.user_gradients", lambda *_: spoiled)
    found = clipped_sum(model, pad([*HISTORIES, HISTORIES[-1]], 10), sample, 0.1)
    torch.testing.assert_close(flat(found), flat(expected))


def test_noise_has_the_size_that_the_plan_says():
    log = PrivateLog(
        logs()[0], 8, sampling_rate=0.5, expected_users=10, clip=0.2, noise_multiplier=3.0, seed=0,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    found = log.noised({"weight": torch.ones(100_000)})["weight"]
    assert found.mean().item() == pytest.approx(0.1, abs=1e-3) and found.std().item() == pytest.approx(0.06, rel=0.02)


def test_users_are_drawn_independently():
    data = logs()[0]
    log = PrivateLog(
        data, 8, sampling_rate=0.3, expected_users=18, clip=0.1, noise_multiplier=0.0, seed=0,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    sizes: list[int] = []
    log._windows = lambda histories: sizes.append(len(histories)) or histories[:0]
    for _ in range(400):
        log.loss(small_recommender(), 12)
    users = len(log.histories)
    assert np.mean(sizes) == pytest.approx(0.3 * users, rel=0.05)
    assert np.var(sizes) == pytest.approx(0.3 * 0.7 * users, rel=0.25)  # batches of one size would have none


def test_epsilon_of_one_step_with_all_users_is_that_of_the_gaussian_mechanism():
    pytest.importorskip("opacus")
    recipe = private_recipe(TrainOptions(steps=1, batch_size=10**6))
    found = plan(PrivacyOptions(epsilon=2.0, delta=1e-5), recipe, 1000, np.random.default_rng(0))
    assert found.sampling_rate == 1 and 1.9 < found.epsilon <= 2.0
    sigma, delta = found.noise_multiplier, 1e-5
    exact = min(a / (2 * sigma**2) - (math.log(delta) + math.log(a)) / (a - 1) + math.log((a - 1) / a) for a in ORDERS)
    assert found.epsilon == pytest.approx(exact + 0.02, abs=1e-6)  # a hundredth is for the number of users


def test_the_number_of_users_is_noised():
    pytest.importorskip("opacus")
    recipe, options = private_recipe(TrainOptions(steps=1, batch_size=10)), PrivacyOptions(epsilon=4.0, delta=1e-5)
    rates = {plan(options, recipe, 1000, np.random.default_rng(seed)).sampling_rate for seed in range(3)}
    assert len(rates) == 3 and all(rate == pytest.approx(0.01, rel=0.3) for rate in rates)


def test_what_cannot_be_private_is_refused():
    data = logs()[0]
    shapes = [
        {"ids": True}, {"dropout": 0.1}, {"adapter": "moe"}, {"finetune": "all"}, {"backbone": "gru4rec"}
    ]  # fmt: skip
    for shape in shapes:
        with pytest.raises(InputError, match="--epsilon"):
            private_shape(ModelOptions(**shape))
    for recipe in ({"patience": 2}, {"precision": "bfloat16"}):
        with pytest.raises(InputError, match="--epsilon"):
            private_recipe(TrainOptions(**recipe))
    assert private_shape(None).adapter == "linear" and private_recipe(TrainOptions()).patience == 0
    with pytest.raises(InputError, match="split by time"):
        check_private(data.with_split("time:0.8"), 1)
    with pytest.raises(InputError, match="popularity"):
        check_private(replace(data, info=data.info.model_copy(update={"popularity": True})), 1)
    session = data.info.reading.model_copy(update={"user": "session_id"})
    with pytest.raises(InputError, match="session_id"):
        check_private(replace(data, info=data.info.model_copy(update={"reading": session})), 1)
    with pytest.raises(InputError, match="one process"):
        check_private(data, 2)
    with pytest.raises(InputError, match=r"--delta 0\.5"):
        plan(PrivacyOptions(epsilon=1.0, delta=0.5), private_recipe(None), 60, np.random.default_rng(0))


def test_a_budget_that_is_none_is_refused_in_one_line(tmp_path, tiny_encoder, monkeypatch, capsys):
    logs()[0].save(tmp_path / "data")
    asked = ("pretrain", tmp_path / "data", "--out", tmp_path / "teacher", "--device", "cpu")
    for wrong, said in {
        ("--epsilon", "0"): "epsilon", ("--epsilon", "-1"): "epsilon", ("--epsilon", "nan"): "epsilon",
        ("--epsilon", "8", "--delta", "1"): "delta", ("--delta", "1e-5"): "--epsilon",
        ("--epsilon", "8", "--delta", "0.9"): "--delta 0.9", ("--epsilon", "8", "--eval-users", "9"): "--eval-users: ",
        ("--epsilon", "8", "--dry-run"): "--dry-run", ("--epsilon", "8", "--ids"): "--ids",
    }.items():  # fmt: skip
        assert exit_status(monkeypatch, *asked, *wrong) == 2
        error = capsys.readouterr().err.strip()
        assert said in error and "\n" not in error, (wrong, error)
    assert not (tmp_path / "teacher").exists()


def test_a_missing_accountant_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opacus.accountants", None)
    with pytest.raises(InputError, match=r"foster\[private\]"):
        plan(PrivacyOptions(epsilon=1.0, delta=1e-5), private_recipe(None), 60, np.random.default_rng(0))


def test_a_private_teacher_says_so_and_tells_nothing_else_of_the_log(tmp_path, tiny_encoder, monkeypatch):
    data = logs()[0]
    _, result = private_teacher(data, tmp_path / "teacher", tiny_encoder, monkeypatch)
    assert result.history == [] and result.best_ndcg is None and result.best_step == 6
    assert read_metrics(tmp_path / "teacher") == [{"steps": 6}]
    written = {path.name: path.read_bytes() for path in (tmp_path / "teacher").iterdir() if path.is_file()}
    for name, content in written.items():
        assert data.info.fingerprint.encode() not in content, name
    config = json.loads(written["config.json"])
    assert Privacy.of(config["privacy"], "config") == SPENT and config["data_fingerprint"] == NOT_STATED
    assert "epsilon 8 at delta 0.001" in written["README.md"].decode()
    assert "inputs" not in json.loads(written["manifest.json"])
    model = TextRecommender.from_pretrained(tmp_path / "teacher")
    assert model.privacy == SPENT
    assert model.train().privacy is None  # of weights that move on nothing is known


def test_noise_is_another_each_time_and_one_of_a_known_source_is_not(tmp_path, tiny_encoder, monkeypatch):
    data, made = logs()[0], []
    for name in "ab":
        made.append(private_teacher(data, tmp_path / name, tiny_encoder, monkeypatch)[0].trained_state())
    assert any(not torch.equal(made[0][name], made[1][name]) for name in made[0])
    for _ in range(2):
        model = small_recommender()
        fit(model, PrivateLog.of(data, 8, SPENT, 0, np.random.default_rng(5)), TrainOptions(steps=2, candidates=12))
        made.append(model.trained_state())
    assert all(torch.equal(made[2][name], made[3][name]) for name in made[2])


def distilled_of_both(tmp_path, monkeypatch, capsys, *more: str) -> Condensed:
    """Distil a private teacher beside its own log, and beside another: all files are equal; return the sequences."""
    for name in ("one", "other"):
        asked = ("distill", tmp_path / name, "--teacher", tmp_path / "teacher", "--out", tmp_path / f"{name}-20")
        small = ("--length", "6", "--device", "cpu", "--quiet", "--overwrite")
        assert exit_status(monkeypatch, *asked, *small, *more) == 0, capsys.readouterr().err
    files = sorted(path.name for path in (tmp_path / "one-20").iterdir())
    assert "sequences.safetensors" in files and "manifest.json" in files
    for name in files:
        assert (tmp_path / "one-20" / name).read_bytes() == (tmp_path / "other-20" / name).read_bytes(), name
    return Condensed.read(tmp_path / "one-20")


def test_sequences_alone_of_a_private_teacher_do_not_depend_on_the_log(tmp_path, tiny_encoder, monkeypatch, capsys):
    one, other = logs()
    private_teacher(one, tmp_path / "teacher", tiny_encoder, monkeypatch)
    one.save(tmp_path / "one"), other.save(tmp_path / "other")
    found = distilled_of_both(tmp_path, monkeypatch, capsys, "--targets", "next", "--bytes", "4000")
    assert stored_bytes(tmp_path / "one-20") <= 4000 and len(found) > 20
    assert found.codes is None and found.valid.all()  # lengths of the log would differ
    assert Privacy.of(found.info["privacy"], "info") == SPENT
    assert "follow a log that the teacher drew" in found.info["from_real_data"]
    assert exit_status(
        monkeypatch, "reproduce", tmp_path / "one-20", "--data", tmp_path / "other", "--teacher", tmp_path / "teacher",
        "--device", "cpu",
    ) == 0, capsys.readouterr().err  # fmt: skip
    few = distilled_of_both(
        tmp_path, monkeypatch, capsys, "--targets", "next", "--start", "generated", "--sequences", "3"
    )
    assert len(few) == 3
    student, _ = train(few, train=TrainOptions(steps=2, candidates=12), engine=CPU)
    assert student.privacy == SPENT
    # However large the budget is, there are no more of them than users, of whom a noised number is known, or 1000.
    most = distilled_of_both(tmp_path, monkeypatch, capsys, "--targets", "next", "--bytes", str(10**12))
    assert SPENT.users == 60 and len(most) == 1000


def test_a_folder_of_a_private_teacher_does_not_depend_on_the_log(tmp_path, tiny_encoder, monkeypatch, capsys):
    one, other = logs()
    private_teacher(one, tmp_path / "teacher", tiny_encoder, monkeypatch)
    one.save(tmp_path / "one"), other.save(tmp_path / "other")
    distilled_of_both(tmp_path, monkeypatch, capsys, "--sequences", "3")
    found = Condensed.read(tmp_path / "one-20")
    assert Privacy.of(found.info["privacy"], "info") == SPENT
    assert "teacher drew" in found.info["from_real_data"] and "real histories" not in found.info["from_real_data"]
    assert "not anonymous" not in (tmp_path / "one-20" / "README.md").read_text()
    for name in ("teacher", "one-20"):
        capsys.readouterr()
        assert exit_status(monkeypatch, "inspect", tmp_path / name) == 0
        assert "epsilon 8 at delta 0.001" in capsys.readouterr().out
    student, _ = train(found, train=TrainOptions(steps=2, patience=0), engine=CPU)
    assert student.privacy == SPENT
    asked = ("train", tmp_path / "one-20", "--out", tmp_path / "student", "--steps", "2", "--device", "cpu")
    assert exit_status(monkeypatch, *asked) == 0
    assert ", epsilon 8 at delta 0.001" in capsys.readouterr().out
    judged, _ = train(found, train=TrainOptions(steps=2, patience=0), validation=one, engine=CPU)
    assert judged.privacy is None and "no privacy" in judged.origin["from_real_data"]
    for wrong in (
        ["--targets", "next"], ["--steps", "5"], ["--anonymity", "2"], ["--method", "dm"], ["--dry-run"],
        ["--bytes", "90000"],
    ):  # fmt: skip
        again = ("distill", tmp_path / "one", "--teacher", tmp_path / "teacher", "--out", tmp_path / "wrong")
        assert exit_status(monkeypatch, *again, *wrong, "--device", "cpu") == 2
        assert wrong[0] in capsys.readouterr().err
    assert exit_status(
        monkeypatch, "reproduce", tmp_path / "one-20", "--data", tmp_path / "other", "--teacher", tmp_path / "teacher",
        "--device", "cpu",
    ) == 0, capsys.readouterr().err  # fmt: skip
    assert exit_status(monkeypatch, "reproduce", tmp_path / "teacher", "--data", tmp_path / "one") == 2
    assert "--epsilon" in capsys.readouterr().err


def test_shadows_of_a_private_teacher_have_its_budget(tmp_path, tiny_encoder, monkeypatch):
    data = logs()[0]
    private_teacher(data, tmp_path / "teacher", tiny_encoder, monkeypatch)
    sequences, _ = distill(data, tmp_path / "teacher", DistillOptions(sequences=3, length=6), engine=CPU)
    budgets = []
    monkeypatch.setattr("foster.runs.plan", lambda budget, *_: budgets.append(budget) or SPENT)
    options = AuditOptions(shadows=3, shadow_steps=2, shadow_student_steps=2)
    with pytest.raises(InputError, match="--teacher"):
        audit(sequences, data, options=options, engine=CPU)
    found = audit(sequences, data, teacher_path=tmp_path / "teacher", options=options, engine=CPU)
    assert budgets == [PrivacyOptions(epsilon=8.0, delta=1e-3)] * 3
    assert {"teacher", "sequences", "labels", "student"} <= found.membership.keys()
    assert found.tables["draws"] == "how often items are in the log that the teacher generated"
