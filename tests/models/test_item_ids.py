"""Vectors that items have of their own beside their texts."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from foster.condensed.contexts import label_windows
from foster.condensed.labels import label_keys, labels_fit, start_from_labels, with_soft_labels
from foster.condensed.sequences import Condensed
from foster.condensed.sources import student_source
from foster.data.batches import pad
from foster.errors import InputError
from foster.manifest import seal
from foster.models.item_tower import IDS, IDS_DROPOUT, ItemTower
from foster.models.recommender import OF_IDS, TextRecommender
from foster.training.losses import next_item_loss
from foster.training.trajectory import Recorder, Trajectory, without_ids
from small_models import small_recommender

ADAPTERS = ["linear", "moe"]


def with_own(adapter: str = "moe", seen: int = 30) -> TextRecommender:
    """Return a model of 40 items of which the first ``seen`` have vectors of their own."""
    model = small_recommender(adapter=adapter, ids=True)
    with torch.no_grad():
        model.tower.ids.normal_(generator=torch.Generator().manual_seed(3))
    model.tower.mark(torch.arange(seen))
    return model


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_item_is_its_text_and_what_it_has_of_its_own(adapter):
    model = with_own(adapter)
    texts = model.without_ids()
    own = model.item_table() - texts.item_table()
    torch.testing.assert_close(own[:30], model.tower.ids.detach()[:30])
    assert not own[30:].any()  # these occurred in nothing that was trained on
    assert texts.tower.ids is None and not texts.options.ids


def test_items_get_their_own_when_they_occur_as_inputs_or_targets():
    model = small_recommender(ids=True)
    next_item_loss(model, pad([np.array([3, 5, 7])], 10), 40, torch.Generator()).backward()
    assert model.tower.seen.nonzero().flatten().tolist() == [3, 5, 7]
    assert sorted(model.tower.ids.grad.any(1).nonzero().flatten().tolist()) == [3, 5, 7]  # not the negatives


def test_in_training_an_item_is_without_its_own_now_and_then():
    model = with_own()
    texts = model.without_ids().item_table()
    model.tower.train()
    model.tower.adapter.eval()
    torch.manual_seed(0)
    index = torch.zeros(2000, dtype=torch.int64)
    alone = (model.tower(index) == texts[0]).all(1)
    assert alone.float().mean().item() == pytest.approx(IDS_DROPOUT, abs=0.03)


def test_new_items_are_what_their_text_says_also_when_they_are_loaded(tmp_path, tiny_encoder):
    from foster.data.catalogue import Catalogue
    from foster.models.options import ModelOptions
    from foster.text.options import EncoderOptions

    catalogue = Catalogue(["a", "b", "c"], ["red tea", "green tea", "black coffee"])
    options = ModelOptions(dim=8, layers=1, heads=2, ids=True)
    model = TextRecommender.build(catalogue, EncoderOptions(encoder=str(tiny_encoder)), options).eval()
    model.tower.mark(torch.tensor([0, 1]))
    model.add_items(["red tea"], ["new"])
    torch.testing.assert_close(model.item_table()[3], model.without_ids().item_table()[0])
    (before,) = model.recommend([["a", "new"]], k=2)
    model.save_pretrained(tmp_path / "model")
    loaded = TextRecommender.from_pretrained(tmp_path / "model")
    (after,) = loaded.recommend([["a", "new"]], k=2)
    assert dict(after) == pytest.approx(dict(before), rel=1e-5)
    assert loaded.tower.seen.tolist() == [True, True, False, False]
    torch.testing.assert_close(loaded.tower.table(), model.item_table(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("dim", [8, 12])
def test_a_map_with_items_own_is_taken_over_at_any_width(adapter, dim):
    model = with_own(adapter)
    options = model.options.model_copy(update={"dim": dim})
    student = model.fresh(1, options).eval()
    assert student.tower.load_item_map(model.tower.item_map())
    assert student.tower.seen.sum() == 30
    wanted, found = model.item_table(), student.item_table()
    wanted, found = wanted - wanted.mean(0), found - found.mean(0)
    torch.testing.assert_close(found @ found.T, wanted @ wanted.T, atol=1e-3, rtol=1e-3)


def test_a_student_of_texts_cannot_take_over_items_own():
    assert not small_recommender(adapter="moe").tower.load_item_map(with_own().tower.item_map())


def test_a_student_with_ids_takes_over_a_map_of_texts_and_has_nothing_of_its_own():
    student = with_own()
    assert student.tower.load_item_map(small_recommender(seed=1, adapter="moe").tower.item_map())
    assert not student.tower.seen.any()


def labelled(teacher: TextRecommender) -> Condensed:
    """Return two sequences with the teacher's soft labels."""
    histories = [np.arange(10), np.arange(20, 30)]
    sequences = Condensed.of_histories(
        histories, 10, "test", teacher.catalogue, encoder=teacher.encoder, model=teacher.options,
        info={"from_real_data": "two histories"},
    )  # fmt: skip
    return with_soft_labels(sequences, teacher, label_windows(10, 4))


def test_soft_labels_of_such_a_teacher_hold_what_items_have_of_their_own(tmp_path):
    teacher = with_own()
    sequences = labelled(teacher).rounded()
    assert "what items have of their own" in sequences.info["from_real_data"]
    torch.testing.assert_close(label_keys(sequences, teacher), teacher.item_table(), atol=1e-2, rtol=1e-2)
    student = teacher.fresh(1)
    assert start_from_labels(sequences, student) and labels_fit(sequences, student)
    torch.testing.assert_close(student.eval().item_table(), teacher.item_table(), atol=1e-2, rtol=1e-2)
    sequences.save(tmp_path / "distilled")
    assert torch.equal(Condensed.read(tmp_path / "distilled").adapter[IDS], sequences.adapter[IDS])


@pytest.mark.parametrize("of_student", ADAPTERS)
def test_a_student_of_texts_learns_the_labels_probabilities(of_student):
    sequences = labelled(with_own())
    student = small_recommender(seed=2, adapter=of_student)
    assert not start_from_labels(sequences, student) and not labels_fit(sequences, student)
    assert student_source(sequences, student, 0, start=False).loss(student, 40).isfinite()


def test_items_of_hard_sequences_get_their_own():
    student = small_recommender(ids=True)
    sequences = Condensed.of_histories(
        [np.array([1, 2, 3]), np.array([9, 8])], 10, "test", student.catalogue, encoder=student.encoder,
        model=student.options,
    )  # fmt: skip
    source = student_source(sequences, student, 0, start=False)
    assert student.tower.seen.nonzero().flatten().tolist() == [1, 2, 3, 8, 9]
    source.loss(student, 40).backward()
    assert student.tower.ids.grad[[1, 2, 3, 8, 9]].any(1).all()


def test_the_trajectory_holds_them_unless_it_is_read_without(tmp_path):
    model = with_own()
    Recorder(tmp_path, [0])(0, model)
    model.write_to(tmp_path)
    seal(tmp_path)
    state = Trajectory(tmp_path).state(0)
    other = small_recommender(seed=5, adapter="moe", ids=True)
    other.load_trained_state(state)
    torch.testing.assert_close(other.item_table(), model.item_table(), atol=1e-2, rtol=1e-2)
    model.without_ids().load_trained_state(without_ids(Trajectory(tmp_path)).state(0))


def test_held_vectors_are_loaded_and_have_no_gradients():
    model = with_own()
    state = with_own(seen=10).trained_state()
    model.hold_ids()
    model.load_trained_state(state)
    assert model.tower.seen.sum() == 10
    next_item_loss(model, pad([np.array([3, 5, 7])], 10), 40, torch.Generator()).backward()
    assert model.tower.ids.grad is None and model.backbone.positions.weight.grad is not None


def test_items_known_to_training_only_have_room_for_their_own():
    model = small_recommender(ids=True)
    tower = ItemTower(model.tower.features, model.options, known=25)
    tower.mark(torch.arange(40))
    assert tower.ids.shape == (25, 8) and tower.seen.all()
    assert torch.equal(tower.eval()(torch.arange(25, 40)), tower.adapter(model.tower.features(torch.arange(25, 40))))


def test_vectors_of_items_own_have_their_shape_and_belong_together(tmp_path):
    folder = small_recommender(ids=True).save_pretrained(tmp_path / "model")
    path = folder / "model.safetensors"
    whole = load_file(path)
    own, seen = (whole[name] for name in OF_IDS)
    for one, other in ((own, seen[0].clone()), (own[0, 0].clone(), seen), (own[:5].clone(), seen[:6].clone())):
        save_file({**whole, **dict(zip(OF_IDS, (one, other), strict=True))}, path)
        seal(folder)
        with pytest.raises(InputError, match=r"model\.safetensors: tensor"):
            TextRecommender.from_pretrained(folder)
