"""Models of public texts that learn to do what a teacher with a tuned language model does."""

from __future__ import annotations

import pytest
import torch

from foster import (
    Dataset,
    DistillOptions,
    EncoderOptions,
    ModelOptions,
    TextRecommender,
    TrainOptions,
    distill,
    pretrain,
    select,
    train,
)
from foster.condensed.folder import written_bytes
from foster.data.batches import pad
from foster.engine import Engine
from foster.errors import InputError
from foster.estimation.jobs import estimate_distill
from foster.models.item_tower import FrozenFeatures
from foster.training import imitation
from foster.training.imitation import begun, public_teacher
from synthetic_log import synthetic_log, write_csv

SHAPE = {"dim": 8, "layers": 1, "heads": 1, "max_length": 8, "dropout": 0.0}
ENGINE = Engine("cpu")


@pytest.fixture
def data(tmp_path):
    return Dataset.prepare([str(write_csv(tmp_path / "log.csv", synthetic_log()))])


@pytest.fixture
def teacher(data, tiny_encoder):
    """Return a function that makes a teacher whose language model is another one than the public."""

    def made(finetune: str) -> TextRecommender:
        encoder, options = EncoderOptions(encoder=str(tiny_encoder), words=0), ModelOptions(finetune=finetune, **SHAPE)
        model, _ = train(data, encoder=encoder, model=options, train=TrainOptions(steps=30, lr=0.02), engine=ENGINE)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for name, weights in model.named_parameters():
                if weights.requires_grad and "features" in name:
                    weights += 0.1 * torch.randn(weights.shape, generator=generator)
        return model.eval()

    return made


@torch.no_grad()
def divergence(model, teacher, data):
    """Return how far a model's next items are from a teacher's, over the last states of all histories, in nats."""
    batch = pad(data.training_histories(), 8)[:, :7].clamp(min=0)
    found = []
    for one in (teacher, model.eval()):
        table = one.item_table()
        found.append(one.scores(one.backbone(table[batch])[:, 4], table).log_softmax(-1))
    return float(torch.nn.functional.kl_div(found[1], found[0], reduction="batchmean", log_target=True))


@pytest.mark.parametrize("finetune", ["frozen", "lora:2"])
def test_a_teacher_whose_items_follow_from_public_texts_and_updates_is_its_own(teacher, data, finetune):
    best = teacher(finetune)
    assert public_teacher(best, data, engine=ENGINE) is best


@pytest.mark.parametrize("finetune", ["top:1", "all"])
def test_a_model_of_public_texts_learns_what_a_tuned_teacher_does(teacher, data, finetune, monkeypatch):
    monkeypatch.setattr(imitation, "PUBLIC", TrainOptions(steps=200, lr=5e-3))
    best = teacher(finetune)
    before = {name: weights.clone() for name, weights in best.trained_state().items()}
    start, _ = begun(best, data, 0)
    model = public_teacher(best, data, engine=ENGINE)
    assert isinstance(model.tower.features, FrozenFeatures) and model.tower.item_map() is not None
    assert divergence(model, best, data) < 0.7 * divergence(start, best, data)
    assert all(torch.equal(before[name], weights) for name, weights in best.trained_state().items())
    again = public_teacher(best, data, engine=ENGINE).trained_state()
    assert all(torch.equal(again[name], weights) for name, weights in model.trained_state().items())


def test_no_folder_of_a_tuned_teacher_grows_with_the_catalogue(data, tiny_encoder, tmp_path):
    encoder, shape = EncoderOptions(encoder=str(tiny_encoder), words=0), ModelOptions(finetune="top:1", **SHAPE)
    pretrain(
        data, tmp_path / "teacher", encoder=encoder, model=shape, train=TrainOptions(steps=20, eval_every=10),
        engine=ENGINE,
    )  # fmt: skip
    options = DistillOptions(sequences=4, length=6, student_steps=8)
    distilled, _ = distill(data, tmp_path / "teacher", options, engine=ENGINE, progress=False)
    coreset = select("soft-label", data, 4, teacher_path=tmp_path / "teacher", engine=ENGINE)
    for sequences in (distilled, coreset):
        assert sequences.adapter is not None and sequences.updates is None
        shapes = [tuple(part.shape) for part in (sequences.items, sequences.codes, *sequences.adapter.values())]
        assert not any(data.n_items in shape for shape in shapes)
        assert written_bytes(sequences) < 30_000
    assert "a model of public texts" in distilled.info["from_real_data"]
    # Its students tune a language model, as the teacher does, when they have learned the rest.
    assert distilled.model.finetune == "top:1"
    student, fit = train(distilled, engine=ENGINE)
    assert fit.steps == 8 and len(student.recommend([["i0", "i1"]], 3)[0]) == 3
    estimate = estimate_distill(data, tmp_path / "teacher", tmp_path / "out", options, engine=ENGINE)
    assert any("public texts" in name for name in estimate.parts)


@pytest.mark.parametrize("finetune", ["top:1", "lora:2"])
def test_few_bytes_of_a_tuned_teacher_are_those_of_a_model_of_public_texts(data, tiny_encoder, tmp_path, finetune):
    encoder, shape = EncoderOptions(encoder=str(tiny_encoder), words=0), ModelOptions(finetune=finetune, **SHAPE)
    recipe = TrainOptions(steps=20, eval_every=10)
    pretrain(data, tmp_path / "teacher", encoder=encoder, model=shape, train=recipe, engine=ENGINE)
    options = DistillOptions(bytes=8000, student_steps=8)
    distilled, _ = distill(data, tmp_path / "teacher", options, engine=ENGINE, progress=False)
    assert written_bytes(distilled) <= 8000 and distilled.adapter is not None and distilled.updates is None
    assert distilled.model.finetune == "frozen"
    assert any("public" in name for name in estimate_distill(data, tmp_path / "teacher", "out", options).parts)
    with pytest.raises(InputError, match="--bytes"):  # before anything is trained
        distill(data, tmp_path / "teacher", DistillOptions(bytes=10), engine=ENGINE, progress=False)


def test_sequences_without_labels_train_no_model_of_public_texts(data, tiny_encoder, tmp_path, monkeypatch):
    encoder, shape = EncoderOptions(encoder=str(tiny_encoder), words=0), ModelOptions(finetune="top:1", **SHAPE)
    recipe = TrainOptions(steps=4, eval_every=2)
    pretrain(data, tmp_path / "teacher", encoder=encoder, model=shape, train=recipe, engine=ENGINE)
    monkeypatch.setattr(imitation, "fit", lambda *rest, **more: pytest.fail("it is not needed"))
    options = DistillOptions(sequences=4, length=6, targets="next", steps=1, student_steps=4)
    assert distill(data, tmp_path / "teacher", options, engine=ENGINE, progress=False)[0].codes is None
