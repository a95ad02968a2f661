"""A sequence model in a bit a weight, stored in the place of the labels that it makes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from foster.audit.audit import derived
from foster.audit.signals import label_scores, model_scores
from foster.condensed import labeller, sources
from foster.condensed.contexts import by_window
from foster.condensed.folder import TENSORS_NAME, stored_bytes, written_bytes
from foster.condensed.labeller import with_codes, with_own_contexts
from foster.condensed.labels import label_keys
from foster.condensed.sequences import Condensed
from foster.condensed.sources import SoftLabels, student_source
from foster.data.dataset import Dataset
from foster.distillation.budget import Form, as_stored
from foster.distillation.compact import compact_teacher
from foster.distillation.distill import distill, settings_within
from foster.distillation.foster import Foster
from foster.distillation.options import DistillOptions
from foster.distillation.setting import Setting
from foster.engine import Engine
from foster.errors import InputError
from foster.inspection.inspect import Look, look_at
from foster.inspection.labels import keys_of
from foster.manifest import seal
from foster.models.moe import EXPERTS, rank_of
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.runs import pretrain, train
from foster.training.options import TeacherOptions, TrainOptions
from foster.training.teachers import load_teacher
from foster.training.trajectory import Trajectory

RANKED = [f"adapter.{name}" for name in ("down", "down.scales", "up", "up.scales", "shift")]
SMALL = {"length": 6, "window": 3, "steps": 0, "student_steps": 4, "batch_size": 16, "subset": 12}


@pytest.fixture(scope="module")
def begun(setting):
    data, folder = setting
    options = DistillOptions(**SMALL, bytes=60_000)
    begun = Setting(data, load_teacher(folder, data), Trajectory(folder), options, 0, Engine("cpu"))
    (found,) = settings_within(begun, options)
    return found


@pytest.fixture(scope="module")
def made(begun):
    return Foster(begun, begun.options).export()


def test_a_labeller_takes_the_place_of_the_labels(made, begun, tmp_path):
    assert made.codes is None and made.labelled
    assert begun.form == Form(2, 2, 1, labeller=True)
    assert made.windows == ((0, 3), (3, 6))
    assert made.model.max_length == 3 and made.model.dropout == 0 and not made.recipe.mixup
    assert "sequence model and map of items of a model that does what the teacher does" in made.info["from_real_data"]
    made.rounded().save(tmp_path / "out")
    assert stored_bytes(tmp_path / "out") <= 60_000
    again = Condensed.read(tmp_path / "out")
    assert again.labeller.keys() == made.labeller.keys()
    for name, weights in made.rounded().labeller.items():
        assert torch.equal(again.labeller[name], weights), name


@pytest.mark.parametrize(("adapter", "size"), [("moe", 60_000), ("linear", 12_000)])
def test_a_labeller_scores_items_as_its_model_does(setting, adapter, size, tmp_path):
    # What is stored is what was trained: rounding again changes nothing.
    data, folder = setting
    if adapter == "linear":
        pretrain(
            data,
            folder := tmp_path / "teacher",
            encoder=TextRecommender.from_pretrained(setting[1]).encoder,
            model=ModelOptions(dim=8, layers=1, heads=1, max_length=8, adapter="linear"),
            train=TrainOptions(steps=12, lr=0.05),
            teacher=TeacherOptions(checkpoints=2),
        )
    options = DistillOptions(**SMALL, bytes=size)
    begun = Setting(data, load_teacher(folder, data), Trajectory(folder), options, 0, Engine("cpu"))
    (found,) = settings_within(begun, options)
    made, model = Foster(found, found.options).export(), found.best
    assert ("offset" in made.labeller) == (adapter == "linear")
    codes = with_codes(made.rounded(), label_keys(made, model)).codes
    table = model.item_table()
    for start, end in made.windows:
        scores = model.scores(model.backbone(table[made.items[:, start:end, 0]]), table)
        found = codes[:, start:end] @ label_keys(made.rounded(), model).T
        # Scores are known up to a constant of each label.
        found, scores = (x - x.mean(-1, keepdim=True) for x in (found, scores))
        assert scores.std() > 0.01
        torch.testing.assert_close(found, scores, rtol=2e-3, atol=2e-3)


def test_weights_of_layers_have_two_values_a_row(setting):
    data, teacher = setting
    made = compact_teacher(TextRecommender.from_pretrained(teacher), data, Form(2, 2, 1, labeller=True))
    assert made.model.options.dropout == 0  # rounding is noise enough
    state = made.state(len(made) - 1)
    block = "backbone.blocks.0."
    for name in (block + "qkv.weight", block + "feed.0.weight", block + "project.weight"):
        for row in state[name]:
            assert len(row.abs().unique()) == 1
    assert len(state["backbone.positions.weight"]) == 8  # of which three are stored
    assert all(len(row.unique()) <= 15 for row in state["backbone.positions.weight"])
    made.model.load_trained_state(state)


def test_students_learn_from_what_a_labeller_says(made, setting):
    data, _ = setting
    model, fit = train(made.rounded(), train=TrainOptions(steps=60, eval_every=20), validation=data)
    assert fit.history[-1]["loss"] < fit.history[0]["loss"]
    source = student_source(made.rounded(), model, 0)
    keys = label_keys(made.rounded(), model)
    labelled = with_codes(with_own_contexts(made.rounded(), keys, 0), keys)
    assert labelled.labeller is None
    other = SoftLabels(labelled, model, 0, fixed=True)
    # A step reads as many positions as if those were all that are stored.
    assert source._draw_contexts()[1].shape[:2] == (sources.OF_LABELLER // sources.SHARE // 3, 3)
    other.positions = source.positions
    other.generator.set_state(source.generator.get_state())
    assert source.loss(model, 8).item() == other.loss(model, 8).item()


def test_a_labeller_writes_contexts_of_its_own(made, monkeypatch):
    monkeypatch.setattr(labeller, "OWN_STEPS", 598)
    keys = keys_of(made, made.encoder, "cpu")
    more = with_own_contexts(made, keys, 0)
    assert len(more) - len(made) == 100  # of two windows of three steps
    assert torch.equal(more.items[: len(made)], made.items) and torch.equal(more.weights[: len(made)], made.weights)
    written = more.items[len(made) :, :, 0].reshape(-1, 3)
    assert all(len(row.unique()) == 3 for row in written)
    assert set(written[:, 0].tolist()) <= set(made.items.unique().tolist())
    again, other = (with_own_contexts(made, keys, seed).items for seed in (0, 1))
    assert torch.equal(again, more.items) and not torch.equal(other, more.items)
    assert with_own_contexts(replace(made, labeller=None), keys, 0).items is made.items


def test_what_a_labeller_writes_it_expects(made, monkeypatch):
    monkeypatch.setattr(labeller, "OWN_STEPS", 60_000)
    monkeypatch.setattr(labeller, "TEMPERATURE", 0.3)
    keys = keys_of(made, made.encoder, "cpu")
    more = with_own_contexts(made, keys, 0)
    written = more.items[len(made) :, :, 0].reshape(-1, 3)
    codes = by_window(with_codes(more, keys).codes, more.windows)
    first = written[:, 0].mode().values
    after = codes[0][len(made) :][more.items[len(made) :, 0, 0] == first][0, 0]
    scores = keys @ after / 0.3
    scores[first] = -torch.inf
    found = written[written[:, 0] == first][:, 1].bincount(minlength=len(keys))
    n, expected = found.sum(), torch.softmax(scores, 0)
    assert n > 300 and expected.max() > 2 / len(keys)
    assert ((found - n * expected).abs() <= 5 * (n * expected * (1 - expected)).sqrt() + 1).all()


def test_of_many_items_a_labeller_chooses_from_those_stored_and_some_others(made, monkeypatch):
    monkeypatch.setattr(labeller, "WRITABLE", 12)
    keys = keys_of(made, made.encoder, "cpu")
    few = replace(made, items=made.items[:2], weights=made.weights[:2])
    seen = with_own_contexts(few, keys, 0).items.unique()
    assert 12 <= len(seen) <= 12 + len(few.items.unique())
    assert set(few.items.unique().tolist()) < set(seen.tolist())
    later = replace(few, items=few.items.clamp(max=9), catalogue=replace(few.catalogue, known=10))
    assert int(with_own_contexts(later, keys, 0).items.max()) == 9


def test_labels_are_stored_where_the_bytes_hold_enough_of_them_or_no_labeller(setting, monkeypatch):
    few = distill(*setting, DistillOptions(**SMALL, bytes=4_000, targets="soft"), progress=False)[0]
    assert few.codes is not None and few.labeller is None
    monkeypatch.setattr("foster.distillation.budget.ENOUGH_LABELS", 12)
    enough = distill(*setting, DistillOptions(**SMALL, bytes=60_000), progress=False)[0]
    assert enough.codes is not None and enough.labeller is None


def test_there_are_no_more_sequences_than_labels_pay_for(setting, monkeypatch):
    monkeypatch.setattr("foster.distillation.budget.MOST_LABELS", 60)
    few = distill(*setting, DistillOptions(**SMALL, bytes=60_000), progress=False)[0]
    assert few.labeller is not None and len(few) == 10
    asked = distill(*setting, DistillOptions(**SMALL, bytes=60_000, sequences=3), progress=False)[0]
    assert asked.labeller is not None and len(asked) == 3


def test_the_teacher_writes_what_is_labelled_unless_others_are_asked_for(setting):
    made = distill(*setting, DistillOptions(**SMALL, bytes=60_000), progress=False)[0]
    assert made.info["options"]["start"] == "generated" and "the teacher drew" in made.info["from_real_data"]
    asked = distill(*setting, DistillOptions(**SMALL, bytes=60_000, start="pieces"), progress=False)[0]
    assert asked.labeller is not None and "start as real histories" in asked.info["from_real_data"]


def test_as_many_sequences_as_fit(setting, monkeypatch, tmp_path):
    monkeypatch.setattr("foster.distillation.budget.MOST_LABELS", 10**9)
    monkeypatch.setattr("foster.distillation.budget.LABELLER_SHARE", 1.0)
    least = stored_bytes(
        distill(*setting, DistillOptions(**SMALL, bytes=60_000, sequences=1), progress=False)[0].save(tmp_path / "one")
    )
    for more in (600, 2000):
        made = distill(*setting, DistillOptions(**SMALL, bytes=least + more), progress=False)[0]
        assert made.labeller is not None
        assert least + more - 200 < stored_bytes(made.save(tmp_path / f"{more}")) <= least + more


@pytest.mark.parametrize("backbone", ["hstu", "ligr", "gru4rec"])
def test_backbones_that_label(setting, backbone, tmp_path):
    data, _ = setting
    shape = ModelOptions(dim=16, layers=1, heads=2, backbone=backbone, max_length=6)
    encoder = TextRecommender.from_pretrained(setting[1]).encoder
    pretrain(
        data,
        tmp_path / "teacher",
        encoder=encoder,
        model=shape,
        train=TrainOptions(steps=4),
        teacher=TeacherOptions(checkpoints=2),
    )
    made = distill(data, tmp_path / "teacher", DistillOptions(**SMALL, bytes=60_000), progress=False)[0]
    assert (made.labeller is None) == (backbone == "gru4rec")
    # Where fewer labels would fit a small one takes the place of what is not learned well in a bit a weight.
    few = distill(data, tmp_path / "teacher", DistillOptions(**SMALL, bytes=22_000), progress=False)[0]
    assert few.labeller_model.backbone == ("hstu" if backbone == "gru4rec" else backbone)
    assert made.model.backbone == few.model.backbone == backbone
    made.save(tmp_path / "out")
    read = Condensed.read(tmp_path / "out")
    assert read.labelled and read.model == made.model and read.labeller_model == made.labeller_model
    train(read, train=TrainOptions(steps=2))


@pytest.fixture(scope="module")
def small(setting):
    """What is distilled where a small model labels, with experts of half of the rank."""
    (data, folder), form = setting, Form(1, 2, 1, labeller=True, small=True, rank=8)
    teacher, options = load_teacher(folder, data), as_stored(DistillOptions(**SMALL, sequences=5), form)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foster.distillation.compact.SMALL", TrainOptions(steps=300, lr=3e-3))
        compact = compact_teacher(teacher, data, form)
    return Setting(data, compact.model, compact, options, 0, Engine("cpu"), form=form, original=teacher)


@pytest.mark.parametrize(("size", "rank"), [(20_000, 16), (15_000, 8)])
def test_in_fewer_bytes_the_smallest_model_labels_and_experts_have_a_lower_rank(setting, monkeypatch, size, rank):
    monkeypatch.setattr("foster.distillation.budget.LABELLERS", ())  # as of a teacher whose own would be learned badly
    data, folder = setting
    options = DistillOptions(**SMALL, bytes=size)
    begun = Setting(data, load_teacher(folder, data), Trajectory(folder), options, 0, Engine("cpu"))
    (found,) = settings_within(begun, options, trained=False)
    assert found.form == Form(1, 2, 1, labeller=True, small=True, rank=rank)
    made = Foster(found, found.options).export().rounded()
    assert rank_of(made.adapter) == rank and written_bytes(made) <= size


def test_a_small_labeller_is_stored_with_experts_of_a_lower_rank(small, tmp_path):
    made = Foster(small, small.options).export()
    assert (made.labeller_model.backbone, made.labeller_model.layers) == ("hstu", 1)
    assert (made.model.backbone, made.model.layers) == (small.original.options.backbone, small.original.options.layers)
    assert rank_of(made.adapter) == 8
    made.rounded().save(tmp_path / "out")
    stored = load_file(tmp_path / "out" / TENSORS_NAME)
    assert len(stored["adapter.up"]) == len(stored["adapter.down"]) == len(stored["adapter.shift"]) == 8 * EXPERTS
    again = Condensed.read(tmp_path / "out")
    assert again.model == made.model and again.labeller_model == made.labeller_model
    for name, weights in (made.rounded().adapter | made.rounded().labeller).items():
        assert torch.equal((again.adapter | again.labeller)[name], weights), name
    # What is stored scores items as the model that was trained does.
    table, model = small.best.item_table(), small.best
    codes = with_codes(again, label_keys(again, model)).codes
    start, end = again.windows[0]
    scores = model.scores(model.backbone(table[again.items[:, start:end, 0]]), table)
    found = codes[:, start:end] @ label_keys(again, model).T
    found, scores = (x - x.mean(-1, keepdim=True) for x in (found, scores))
    assert scores.std() > 0.01
    torch.testing.assert_close(found, scores, rtol=5e-3, atol=5e-3)
    facts = dict(look_at(tmp_path / "out", Look()).summary().facts)
    assert facts["map of items"] == "experts of rank 8, 1 bit a weight" and "(hstu, 1 layer)" in facts["soft labels"]
    student, fit = train(again, train=TrainOptions(steps=60, eval_every=20), validation=small.data)
    assert student.options.backbone == "sasrec" and fit.history[-1]["loss"] < fit.history[0]["loss"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, t: c.pop("labeller"), "'rest' of the labeller are not those of sasrec"),
        (lambda c, t: c["labeller"].update(layers=2), "of the labeller are not those of hstu"),
        (lambda c, t: c["labeller"].update(layers=0), "field 'labeller.layers' is wrong"),
        (lambda c, t: c["labeller"].update(backbone="gru4rec"), "field 'labeller.backbone' is wrong"),
        (lambda c, t: c["labeller"].update(heads=2), "field 'labeller.heads' is unknown"),
        (
            lambda c, t: [t.pop(name) for name in list(t) if name.startswith("labeller.")],
            "the labeller that config.json states is missing",
        ),
        (
            lambda c, t: t.update({"adapter.shift": t["adapter.shift"][1:].clone()}),
            "the parts of experts are not of one rank",
        ),
        (
            lambda c, t: [t.update({name: t[name][:60].clone()}) for name in RANKED],
            "the parts of experts are not of one rank",
        ),
        (
            lambda c, t: [t.update({name: torch.cat([t[name]] * 3)}) for name in RANKED],
            "the parts of experts are not of one rank",
        ),
        (lambda c, t: t.update({"adapter.shift": t["adapter.shift"][0].clone()}), "the parts of experts have no rank"),
    ],
)
def test_a_damaged_small_labeller_is_refused(small, tmp_path, change, message):
    Foster(small, small.options).export().rounded().save(tmp_path / "bad")
    config, tensors = (
        json.loads((tmp_path / "bad" / "config.json").read_text()),
        load_file(tmp_path / "bad" / TENSORS_NAME),
    )
    change(config, tensors)
    (tmp_path / "bad" / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "bad" / TENSORS_NAME)
    seal(tmp_path / "bad")
    with pytest.raises(InputError) as error:
        Condensed.read(tmp_path / "bad")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("labeller.scale"), "'scale' of the labeller is missing"),
        (lambda t: t.pop("labeller.scales"), "'scales' of the labeller is missing"),
        (lambda t: t.update({"labeller.x": t["labeller.rest"].clone()}), "'x' of the labeller is unknown"),
        (lambda t: t["labeller.scale"].neg_(), "'scale' of the labeller is no scale"),
        (lambda t: t["labeller.scales"].neg_(), "'scales' of the labeller are no scales"),
        (
            lambda t: t.update({"labeller.rest": t["labeller.rest"][1:].clone()}),
            "'rest' of the labeller are not those of sasrec",
        ),
        (
            lambda t: t.update({"labeller.matrices": t["labeller.matrices"].repeat(2)}),
            "'matrices' of the labeller are not",
        ),
        (lambda t: t["labeller.places"].fill_(255), "'places' of the labeller are not those"),
        (
            lambda t: t.update({"labeller.rest": t["labeller.rest"][None]}),
            "'rest' of the labeller are no row of numbers",
        ),
        (
            lambda t: t.update({"labeller.scale": t["labeller.scale"].half()}),
            "'labeller.scale' are of type F16 instead of F32",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if name.startswith("adapter.")],
            "a labeller is beside labels, or lacks the 'adapter'",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if name.startswith("labeller.")],
            "field 'windows' is wrong",
        ),
    ],
)
def test_a_damaged_labeller_is_refused(made, tmp_path, change, message):
    made.rounded().save(tmp_path / "bad")
    tensors = load_file(tmp_path / "bad" / TENSORS_NAME)
    change(tensors)
    save_file(tensors, tmp_path / "bad" / TENSORS_NAME)
    seal(tmp_path / "bad")
    with pytest.raises(InputError) as error:
        Condensed.read(tmp_path / "bad")
    assert message in str(error.value)


@pytest.mark.parametrize("windows", [[[0, 6]], [[0, 6], [0, 3]], [[0, 3], [3, 5]], [[0, 3], [4, 7]], []])
def test_windows_that_no_labeller_reads_are_refused(made, tmp_path, windows):
    change_config(made, tmp_path, windows=windows)
    with pytest.raises(InputError, match="field 'windows' is wrong"):
        Condensed.read(tmp_path)


def test_sequences_of_items_that_training_does_not_know_are_refused(made, tmp_path):
    most = int(made.items.max())
    change_config(made, tmp_path, known_items=most + 1)
    assert Condensed.read(tmp_path).catalogue.n_known == most + 1
    change_config(made, tmp_path, known_items=most)
    with pytest.raises(InputError, match=r"'items' do not fit field 'known_items' of config\.json"):
        Condensed.read(tmp_path)


def change_config(made, folder, **fields):
    made.rounded().save(folder, overwrite=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))
    seal(folder)


def test_a_sequence_is_as_many_whole_windows_as_its_length_holds(setting):
    made = distill(*setting, DistillOptions(**SMALL | {"length": 8}, bytes=60_000), progress=False)[0]
    assert made.labeller is not None and made.items.shape[1] == 6 and made.windows == ((0, 3), (3, 6))
    assert made.info["options"]["length"] == 6


def test_there_may_be_more_sequences_than_users_where_none_is_of_a_user(setting):
    users = setting[0].n_users
    asked = DistillOptions(**SMALL, bytes=60_000, sequences=users + 1)
    assert len(distill(*setting, asked, progress=False)[0]) == users + 1
    long = DistillOptions(**SMALL, bytes=60_000, start="long")
    assert len(made := distill(*setting, long, progress=False)[0]) == users == made.info["options"]["sequences"]
    for options in (
        long.model_copy(update={"sequences": users + 1}),
        DistillOptions(**SMALL, sequences=users + 1),
        DistillOptions(**SMALL, sequences=users + 1, bytes=24_000_000),
    ):
        with pytest.raises(InputError, match="--sequences 51: the log has 50 users to train on; give at most that"):
            distill(*setting, options, progress=False)


def test_a_catalogue_of_fewer_items_than_a_window(setting, tmp_path):
    data = setting[0]
    few = data.item_ids[:4]
    rows = [(f"u{u}", few[(u + t * (1 + u % 2)) % 4], t) for u in range(30) for t in range(6)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    texts = pl.DataFrame({"item_id": few, "title": data.texts[:4]})
    small = Dataset.prepare(log, texts, k_core=0)
    encoder = TextRecommender.from_pretrained(setting[1]).encoder
    shape = ModelOptions(dim=8, layers=1, heads=1, max_length=8)
    pretrain(small, tmp_path / "teacher", encoder=encoder, model=shape, train=TrainOptions(steps=4))
    for more in (
        {"window": 6, "bytes": 60_000},
        {"window": 6, "start": "generated", "sequences": 3},
        {"bytes": 60_000, "targets": "written"},
    ):
        options = DistillOptions(length=8, student_steps=4, subset=0, **more)
        made = distill(small, tmp_path / "teacher", options, progress=False)[0]
        made.rounded().save(tmp_path / "out", overwrite=True)
        train(Condensed.read(tmp_path / "out"), train=TrainOptions(steps=2))


def test_moving_sequences_that_a_labeller_labels(setting):
    options = DistillOptions(**SMALL | {"steps": 4, "select_every": 2}, bytes=60_000)
    made, log = distill(*setting, options, progress=False)
    assert made.labeller is not None and {"gap", "student_ndcg@10"} <= log[-1].keys()


def test_labels_that_a_labeller_makes_can_be_looked_at(made, tmp_path):
    keys = keys_of(made, made.encoder, "cpu")
    assert with_codes(made, keys).codes.shape == (len(made), 6, 8)
    assert with_codes(replace(made, labeller=None), keys).codes is None
    made.rounded().save(tmp_path / "out")
    found = look_at(tmp_path / "out", Look())
    facts = dict(found.summary().facts)
    assert facts["soft labels"] == (
        "a sequence model (sasrec, 1 layer) in a bit a weight makes them, for 2 windows of 3 steps"
    )
    assert "with 6 soft labels each" in found.summary().sentence
    assert "What the labels say" in [section.title for section in found.sections()]


def test_an_audit_asks_what_makes_the_labels(made, begun):
    model = begun.best
    histories = begun.data.training_histories().latest(made.model.max_length + 1)
    found = label_scores(made.rounded(), model, histories)
    assert found.std() > 0.1
    # The model that was stored is the one that was trained.
    np.testing.assert_allclose(found, model_scores(model, histories), rtol=0.02, atol=0.02)
    assert "sequence model" in derived(made)["labeller"]
