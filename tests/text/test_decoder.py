"""Decoder-only language models: the last token, the same interface."""

from __future__ import annotations

import pytest
import torch

from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.distillation.distill import distill
from foster.distillation.options import DistillOptions
from foster.evaluation.evaluate import evaluate
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.runs import pretrain, train
from foster.text.encoder import TextEncoder
from foster.text.options import EncoderOptions
from foster.text.tuning import TunableEncoder
from foster.training.options import TeacherOptions, TrainOptions
from synthetic_log import synthetic_log, write_csv
from tiny_encoder import build_tiny

TEXTS = ["red dog", "the old castle in the forest", "a", "sweet apple and sour milk"]
EVERY = torch.arange(len(TEXTS))


@pytest.fixture(scope="module")
def decoder(tiny_decoder):
    return TextEncoder.load(EncoderOptions(encoder=str(tiny_decoder), max_tokens=16))


def test_a_causal_model_is_pooled_by_its_last_token(decoder):
    assert decoder.pooling == "last"
    vectors = decoder.encode(TEXTS)
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([decoder.tokenize([text])[0]])
        with torch.no_grad():
            alone = decoder.model(input_ids=ids).last_hidden_state[0, -1]
        torch.testing.assert_close(vectors[row], alone, atol=1e-5, rtol=1e-4)


def test_another_pooling_can_be_asked_for(tiny_decoder):
    mean = TextEncoder.load(EncoderOptions(encoder=str(tiny_decoder), max_tokens=16, pooling="mean"))
    assert mean.pooling == "mean"


@pytest.mark.parametrize("finetune", ["all", "top:1", "top:2", "lora:2"])
def test_it_can_be_tuned_like_an_encoder(decoder, finetune):
    module = TunableEncoder(decoder, finetune)
    module.set_catalogue(TEXTS)
    vectors = module(EVERY)
    torch.testing.assert_close(vectors, decoder.encode(TEXTS), atol=2e-2, rtol=1e-2)
    vectors.square().sum().backward()
    trained = [value for value in module.parameters() if value.requires_grad]
    assert trained and all(value.grad is not None and value.grad.isfinite().all() for value in trained)


@pytest.fixture(params=["Qwen2", "Qwen3"])
def decoder_folder(request, tiny_decoder, tmp_path):
    if request.param == "Qwen3":
        return tiny_decoder
    import transformers

    heads = {"num_key_value_heads": 1, "bos_token_id": None, "eos_token_id": 3}
    return build_tiny(tmp_path / "qwen2", transformers.Qwen2ForCausalLM, transformers.Qwen2Config, "$A [SEP]", **heads)


def test_teacher_sequences_and_student_with_low_rank_updates(decoder_folder, tmp_path):
    data = Dataset.prepare(write_csv(tmp_path / "log.csv", synthetic_log()), k_core=0)
    model = ModelOptions(dim=8, layers=1, heads=1, max_length=8, finetune="lora:2", lm_dtype="bfloat16", lm_chunk=16)
    encoder = EncoderOptions(encoder=str(decoder_folder), max_tokens=16)
    recipe = TrainOptions(steps=6, eval_every=3, warmup=1)
    teacher, _ = pretrain(
        data, tmp_path / "teacher", encoder=encoder, model=model, train=recipe, teacher=TeacherOptions(checkpoints=3)
    )
    updates = [name for name in teacher.trained_state() if "lora_B" in name]
    assert updates and any(teacher.trained_state()[name].any() for name in updates)
    again = TextRecommender.from_pretrained(tmp_path / "teacher", device=teacher.device)
    assert torch.equal(again.tower.table(), teacher.tower.table())
    options = DistillOptions(sequences=3, length=6, steps=2, select_every=2, subset=20, student_steps=4)
    distilled, _ = distill(data, tmp_path / "teacher", options)
    distilled = Condensed.read(distilled.save(tmp_path / "distilled"))
    assert distilled.updates.keys() == teacher.tower.updates.keys()
    student, _ = train(distilled)
    assert student.options.finetune == "lora:2"
    assert len(evaluate(student, data).ranks) == data.n_users
    # Its items are those of the teacher, rounded; half precision of the matrix products counts more.
    items = teacher.item_table().cpu()
    assert (student.item_table().cpu() - items).norm() < 0.05 * items.norm()
    again = TextRecommender.from_pretrained(student.save_pretrained(tmp_path / "student"), device=student.device)
    history = [data.catalogue.ids[:2]]
    assert again.recommend(history, 3) == student.recommend(history, 3)
    assert again.recommend([["a sweet guitar"]], 3)[0]
