"""Labels of teachers, and students, that tune their language model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from foster.condensed.contexts import label_windows
from foster.condensed.folder import written_bytes
from foster.condensed.labels import (
    label_keys,
    start_from_labels,
    student_recipe,
    tunes_last,
    with_soft_labels,
)
from foster.condensed.packed_map import pack_updates, unpack_updates
from foster.condensed.sequences import Condensed
from foster.condensed.sources import student_source
from foster.data.catalogue import Catalogue
from foster.engine import Engine
from foster.errors import InputError
from foster.manifest import seal
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.runs import train
from foster.text.options import EncoderOptions
from foster.text.tuning import TunableEncoder
from foster.training.options import TrainOptions

COLOURS = ("red", "green", "blue", "small", "large", "old", "new", "fresh")
THINGS = ("dog", "cat", "boat in the dark water", "song", "tea")
SHAPE = {"dim": 8, "layers": 1, "heads": 1, "max_length": 8, "dropout": 0.0}
U = "updates."
TUNED = ["lora:2", "top:1", "all"]


@pytest.fixture
def teacher(tiny_encoder):
    """Return a function that makes a model of a kind; a tuned one is not what the public encoder is any more."""

    def made(finetune: str, items: int = 40, **shape) -> TextRecommender:
        texts = [f"{number} {colour} {thing}" for number in range(9) for thing in THINGS for colour in COLOURS][:items]
        model = TextRecommender.build(
            Catalogue([f"i{number}" for number in range(items)], texts),
            EncoderOptions(encoder=str(tiny_encoder), words=16),
            ModelOptions(**SHAPE | {"finetune": finetune} | shape),
            seed=1,
        )
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for weights in model.trained_parameters():
                weights += 0.05 * torch.randn(weights.shape, generator=generator)
        return model.eval()

    return made


def labelled_by(model: TextRecommender) -> Condensed:
    items = torch.randint(40, (6, 8, 1), generator=torch.Generator().manual_seed(6))
    plain = Condensed(
        "coreset", "soft-label", items, torch.ones(items.shape), None, None, model.catalogue,
        encoder=model.encoder, model=model.options, info={"from_real_data": "histories"},
    )  # fmt: skip
    return with_soft_labels(plain, model, label_windows(8, 5)).rounded()


@pytest.mark.parametrize("adapter", ["moe", "linear"])
def test_low_rank_updates_give_the_items_of_a_tuned_teacher(teacher, tmp_path, adapter):
    best = teacher("lora:2", adapter=adapter)
    labelled = labelled_by(best)
    assert "low-rank updates" in labelled.info["from_real_data"]
    again = Condensed.read(labelled.save(tmp_path / "folder"))
    exact = best.item_table()
    best.tower.features.encoder.load_updates(again.updates)  # in four bits
    table = best.train().eval().item_table()
    assert 0 < (table - exact).norm() < 0.1 * exact.norm()
    frozen = best.fresh(3, best.options.model_copy(update={"finetune": "frozen"}))
    for student in (best.fresh(3), frozen, best.fresh(3, best.options.model_copy(update={"finetune": "top:1"}))):
        keys = label_keys(again, student)
        # But for the bias of a linear map, which is the same for all items.
        torch.testing.assert_close(keys - keys.mean(0), table - table.mean(0), atol=2e-2, rtol=1e-2)
    public = label_keys(labelled_by(teacher("frozen", adapter=adapter)), frozen)
    assert (public - public.mean(0) - table + table.mean(0)).norm() > 0.05 * table.norm()


def test_a_student_with_the_low_rank_updates_of_its_labels_leaves_its_items_as_they_are(teacher):
    best = teacher("lora:2")
    student = best.fresh(3)
    source = student_source(labelled := labelled_by(best), student, 0)
    best.tower.features.encoder.load_updates(labelled.updates)
    torch.testing.assert_close(student.eval().item_table(), best.train().eval().item_table(), atol=2e-2, rtol=1e-2)
    source.loss(student.train(), 7).backward()
    assert all(weights.grad is None for weights in student.tower.parameters())
    assert all(weights.grad is not None for weights in student.backbone.parameters())


@pytest.mark.parametrize("change", [{"finetune": "lora:3"}, {"finetune": "frozen"}, {"finetune": "all"}, {"dim": 4}])
def test_students_of_another_shape_learn_the_items_of_a_tuned_teacher(teacher, change):
    best = teacher("lora:2")
    labelled, student = labelled_by(best), best.fresh(3, best.options.model_copy(update=change)).eval()
    before = student.item_table()
    assert not start_from_labels(labelled, student) and torch.equal(student.item_table(), before)
    student_source(labelled, student, 0).loss(student.train(), 7).backward()
    gradients = [weights.grad for weights in student.trained_parameters() if weights.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert student.tower.adapter.up.grad.any()


@pytest.mark.parametrize("finetune", ["lora:2", "frozen"])  # of whole layers a frozen model does what the teacher does
def test_a_folder_of_labels_does_not_grow_with_the_catalogue(teacher, finetune):
    few, many = (written_bytes(labelled_by(teacher(finetune, items=items))) for items in (40, 360))
    assert abs(many - few) < 16  # digits in config.json


def test_updates_take_four_bits_a_number(teacher, tmp_path):
    folder = labelled_by(teacher("lora:2")).save(tmp_path / "folder")
    tensors, read = load_file(folder / "sequences.safetensors"), Condensed.read(folder)
    parts = {name: part for name, part in tensors.items() if name.startswith(U)}
    numbers = sum(part.numel() for part in read.updates.values())
    assert sum(part.nbytes for name, part in parts.items() if not name.endswith("scales")) == numbers / 2
    assert {tuple(part.shape) for name, part in parts.items() if name.endswith("scales")} == {(2,)}


def test_an_update_of_an_odd_width_stays_in_half_precision():
    generator = torch.Generator().manual_seed(0)
    shapes = {"a.lora_A.weight": (2, 5), "a.lora_B.weight": (6, 2), "b.lora_A.weight": (2, 6)}
    updates = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    stored = pack_updates(updates)
    assert {name: part.dtype for name, part in stored.items() if "scales" not in name} == {
        "a.lora_A.weight": torch.float16, "a.lora_B.weight": torch.uint8, "b.lora_A.weight": torch.uint8
    }  # fmt: skip
    again = unpack_updates(stored)
    for name, part in updates.items():
        assert again[name].shape == part.shape
        assert (again[name] - part).norm() < (1e-3 if part.shape[1] == 5 else 0.2) * part.norm()
    assert unpack_updates(pack_updates(again)).keys() == again.keys()
    assert all(torch.equal(part, again[name]) for name, part in unpack_updates(pack_updates(again)).items())


def packed(updates):
    """Return the name of the first matrix of updates."""
    return min(name for name in updates if name.startswith(U) and not name.endswith("scales"))


def scales(updates):
    """Return the name of its scales."""
    return packed(updates) + ".scales"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda updates: [updates.pop(name(updates)) for name in (scales, packed)],
            "the updates of the language model",
        ),
        (lambda updates: updates.update({f"{U}.0.a.lora_A": torch.ones(3, 5).half()}), "no pairs of matrices"),
        (
            lambda updates: updates.update({packed(updates): updates[packed(updates)][:1].clone()}),
            "does not fit its sc",
        ),
        (lambda updates: updates.update({packed(updates): updates[packed(updates)][0].clone()}), "does not fit its sc"),
        (lambda updates: updates[packed(updates)].fill_(255), "is not of 4 bits"),
        (
            lambda updates: updates.update({packed(updates): updates[packed(updates)].float()}),
            "F32 instead of U8 or F16",
        ),
        (lambda updates: updates.update({scales(updates): updates[scales(updates)].float()}), "F32 instead of F16"),
        (lambda updates: updates.pop(scales(updates)), "does not fit its scales"),
        (lambda updates: updates[scales(updates)].fill_(-1), "does not fit its scales"),
        (lambda updates: updates[scales(updates)].fill_(0), "does not fit its scales"),
        (lambda updates: updates.pop(packed(updates)), "are of no matrix"),
        (lambda updates: updates.update({f"{U}.more.scales": torch.ones(2).half()}), "are of no matrix"),
        (
            lambda updates: updates.update({packed(updates): torch.ones(2, 32).half()}),
            "as an earlier version stored it",
        ),
        (lambda updates: updates[scales(updates)].fill_(torch.inf), "has numbers that are not finite"),
        (lambda updates: [updates.pop(name) for name in list(updates) if "adapter" in name], "soft labels lack"),
    ],
)
def test_damaged_updates_are_refused(teacher, tmp_path, change, message):
    path = labelled_by(teacher("lora:2")).save(tmp_path / "folder") / "sequences.safetensors"
    tensors = load_file(path)
    parts = {name: tensors.pop(name) for name in list(tensors) if name.startswith(("updates.", "adapter."))}
    if "soft labels lack" not in message:
        tensors |= {name: parts.pop(name) for name in list(parts) if name.startswith("adapter.")}
    change(parts)
    save_file(tensors | parts, path)
    seal(tmp_path / "folder")
    with pytest.raises(InputError, match=message):
        Condensed.read(tmp_path / "folder")


def test_updates_of_another_encoder_are_refused(teacher):
    labelled = labelled_by(teacher("lora:2"))
    labelled.updates.update(
        {name.replace("layer.1", "layer.2"): labelled.updates.pop(name) for name in [*labelled.updates]}
    )
    with pytest.raises(InputError, match="low-rank updates are of another language model than the encoder"):
        label_keys(labelled, teacher("frozen"))


@pytest.mark.parametrize("finetune", TUNED)
def test_a_student_that_tunes_starts_with_the_items_of_a_frozen_teacher_and_moves_them(teacher, finetune):
    best = teacher("frozen")
    labelled = labelled_by(best)
    shape = best.options.model_copy(update={"finetune": finetune})
    student = best.fresh(3, shape)
    before = {name: value for name, value in student.trained_state().items() if name.startswith("tower.features")}
    student_source(labelled, student, 0)
    # What enters the upper layers is kept in half precision.
    torch.testing.assert_close(student.eval().item_table(), best.item_table(), atol=3e-2, rtol=3e-2)
    recipe = labelled.recipe.model_copy(update={"steps": 4, "warmup": 1})
    labelled = replace(labelled, recipe=recipe)
    tuned, _ = train(labelled, model=shape, train=recipe, seed=3, engine=Engine("cpu"))
    assert any(not torch.equal(tuned.trained_state()[name], value) for name, value in before.items())
    assert len(tuned.recommend([["i0", "i1"]], 5)[0]) == 5


def test_a_student_of_a_frozen_teacher_tunes_its_language_model_last(teacher):
    best = teacher("frozen")
    labelled = labelled_by(best)
    labelled = replace(labelled, recipe=labelled.recipe.model_copy(update={"steps": 30}))
    shape, engine = best.options.model_copy(update={"finetune": "top:1"}), Engine("cpu")
    half = labelled.recipe.model_copy(update={"steps": 15})
    frozen, first = train(labelled, train=half, seed=3, engine=engine)
    standing = TrainOptions(steps=1, lr=1e-12)
    tuned, fit = train(labelled, model=shape, train=standing, seed=3, engine=engine)
    public = best.fresh(3, shape).trained_state()
    for name, weights in tuned.trained_state().items():
        torch.testing.assert_close(weights, public[name] if "features" in name else frozen.trained_state()[name])
    assert (first.steps, fit.steps) == (15, 1)
    # By itself it has the recipe for that: few steps, by which little changes.
    assert student_recipe(labelled, labelled.encoder, shape).lr < labelled.recipe.lr
    # Weights to start from are taken as they are.
    again, _ = train(labelled, model=shape, train=standing, start=public, seed=3, engine=engine)
    tower = {name: weights for name, weights in again.trained_state().items() if "features" not in name}
    torch.testing.assert_close(tower, {name: public[name] for name in tower})


@pytest.mark.parametrize(
    ("adapter", "change", "last"),
    [
        ("moe", {"finetune": "lora:2"}, False),
        ("linear", {"finetune": "lora:2"}, False),
        ("moe", {"finetune": "frozen"}, False),
        ("moe", {"finetune": "lora:3"}, True),
        ("moe", {"finetune": "top:1"}, True),
        ("moe", {"finetune": "all"}, True),
        ("moe", {"finetune": "lora:2", "dim": 4}, True),
        ("moe", {"finetune": "lora:2", "adapter": "linear"}, True),
    ],
)
def test_a_student_that_takes_over_updates_leaves_them_and_others_tune_last(teacher, adapter, change, last):
    best = teacher("lora:2", adapter=adapter)
    labelled = labelled_by(best)
    labelled = replace(labelled, recipe=labelled.recipe.model_copy(update={"steps": 60}))
    shape = best.options.model_copy(update=change)
    assert tunes_last(labelled, shape) == last
    if shape.finetune != "frozen":
        assert start_from_labels(labelled, best.fresh(3, shape)) != last
    assert student_recipe(labelled, labelled.encoder, shape).total_steps == (25 if last else 60)
    _, fit = train(labelled, model=shape, seed=3, engine=Engine("cpu"))
    assert fit.steps == (25 if last else 60)


@pytest.mark.parametrize("adapter", ["moe", "linear"])
def test_a_student_with_the_updates_of_its_labels_comes_out_the_same_again(teacher, adapter):
    labelled = labelled_by(teacher("lora:2", adapter=adapter))
    recipe = labelled.recipe.model_copy(update={"steps": 5})
    one, other = (train(labelled, train=recipe, seed=3, engine=Engine("cpu"))[0].trained_state() for _ in range(2))
    assert all(torch.equal(weights, other[name]) for name, weights in one.items())


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_a_step_encodes_each_item_once(teacher, labels, monkeypatch):
    model, data = teacher("top:1"), labelled_by(teacher("frozen"))
    if labels == "hard":
        data = Condensed.of_histories(
            [row.numpy() for row in data.items[..., 0]], 8, "random", data.catalogue,
            encoder=model.encoder, model=model.options,
        )  # fmt: skip
    source = student_source(data, model, 0, start=False)
    seen, real = [], TunableEncoder.forward
    monkeypatch.setattr(TunableEncoder, "forward", lambda self, index: seen.append(index) or real(self, index))
    for _ in range(5):
        source.loss(model, 30)
    assert len(seen) == 5 and all(len(index.unique()) == len(index) for index in seen)
