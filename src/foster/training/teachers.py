"""Teachers: the folders of full models, and models that start from one."""

from __future__ import annotations

from pathlib import Path

import torch

from foster.artefacts import CONFIG_NAME, config_field, read_config
from foster.data.dataset import Dataset
from foster.engine import Engine
from foster.errors import InputError
from foster.evaluation.evaluate import is_of
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender, stored_shape
from foster.options import flag_of
from foster.text.options import EncoderOptions

SAME = 0.02  # relative; of vectors that are computed again, on another machine, say, or by a model in half precision
NOT_OF_WEIGHTS = frozenset(("dropout", "finetune", "lm_lr_ratio", "lm_dtype", "lm_chunk"))


def load_teacher(
    teacher_path: str | Path, data: Dataset, *, encoder_path: str | None = None, device: str | torch.device = "cpu"
) -> TextRecommender:
    """Load the best model of a teacher folder, and see to it that it knows this log.

    Args:
        teacher_path: a folder that ``pretrain`` wrote.
        data: the log.
        encoder_path: another place of the teacher's encoder.
        device: where the model goes.

    Raises:
        InputError: no teacher, a damaged one, or one of other data.
    """
    config = read_config(teacher_path, "teacher")
    if config.get("privacy") is not None:
        teacher = TextRecommender.from_pretrained(teacher_path, encoder_path=encoder_path, device=device)
        if (teacher.catalogue.ids, teacher.catalogue.texts) != (data.item_ids, data.texts):
            raise InputError(
                f"{teacher_path}: has other items than {data.info.name}; run 'foster pretrain' on this data"
            )
        return teacher
    if config.get("data_fingerprint") != data.info.fingerprint:
        raise InputError(
            f"{teacher_path}: was trained on other data than {data.info.name}; run 'foster pretrain' on this data"
        )
    return TextRecommender.from_pretrained(teacher_path, encoder_path=encoder_path, device=device)


def check_teacher(teacher: TextRecommender, data: Dataset, engine: Engine) -> None:
    """See that a teacher knows a log, and is where the work will be.

    Raises:
        InputError: it does not, or is not.
    """
    known = is_of(teacher.origin.get("data_fingerprint"), data)
    if known is False or (known is None and teacher.catalogue.ids != data.item_ids):
        raise InputError(f"the teacher was trained on other data than {data.info.name}; train one on these")
    if teacher.device.type != engine.device.type:
        raise InputError(
            f"the teacher is on {teacher.device} and the work would be on {engine.device}; move it by "
            f"teacher.to('{engine.device}'), or give engine=Engine('{teacher.device}')"
        )


def teacher_options(teacher_path: str | Path) -> tuple[EncoderOptions, ModelOptions]:
    """Return the encoder and the shape of a teacher, the defaults of what is made with it.

    Raises:
        InputError: no teacher, or a damaged one.
    """
    config, where = read_config(teacher_path, "teacher"), str(Path(teacher_path) / CONFIG_NAME)
    encoder, model = (config_field(config, name, where) for name in ("encoder", "model"))
    return EncoderOptions.stored(encoder, where), stored_shape(model, where)


def validation_of(teacher_path: str | Path, users: int) -> float | None:
    """Return the validation NDCG@10 of a teacher as its folder states it; None where it was of other users.

    Args:
        teacher_path: a folder that ``pretrain`` wrote.
        users: how many were drawn for validation.
    """
    config = read_config(teacher_path, "teacher")
    training, fit = config.get("training") or {}, config.get("fit") or {}
    return fit.get("best_ndcg") if training.get("eval_users") == users else None


def started_from(
    teacher_path: str | Path,
    data: Dataset,
    *,
    encoder: EncoderOptions | None = None,
    model: ModelOptions | None = None,
    device: str | torch.device = "cpu",
) -> TextRecommender:
    """Build a model that has the weights of a teacher, and tunes the language model that is frozen there.

    Args:
        teacher_path: a folder that ``pretrain`` wrote.
        data: the log of both.
        encoder: text encoder; what is not set is the teacher's. Another place is one where that encoder lies now.
        model: shape; what is not set is the teacher's.
        device: where the model goes.

    Raises:
        InputError: as ``load_teacher``; the teacher's weights do not fit that encoder or shape, or that is frozen.
    """
    own_encoder, own_model = teacher_options(teacher_path)
    encoder, model = (encoder or own_encoder).over(own_encoder), (model or own_model).over(own_model)
    if model.finetune == "frozen":
        raise InputError(
            "--start-from: is for tuning a language model, and this one would be frozen; add --finetune top:1, lora:8 "
            "or all"
        )
    if own_model.finetune not in ("frozen", model.finetune):
        raise InputError(
            f"--finetune {model.finetune}: {teacher_path} was tuned by {own_model.finetune}; leave it out, or "
            "start from a teacher with a frozen language model"
        )
    for wanted, own, free in ((model, own_model, NOT_OF_WEIGHTS), (encoder, own_encoder, {"encoder"})):
        for name, value in wanted.model_dump(exclude=set(free)).items():
            if value != (known := getattr(own, name)):
                flag = flag_of(name) + ("" if value is True else f" {value}")
                raise InputError(f"{flag}: {teacher_path} has {known}; leave it out, or start from another teacher")
    moved = None if encoder == own_encoder else encoder.encoder
    teacher = load_teacher(teacher_path, data, encoder_path=moved, device=device)
    stored, now = teacher.item_table(), teacher.tower.table()
    if (now - stored).norm() > SAME * stored.norm():
        raise InputError(
            f"{teacher_path}: under {encoder.encoder} its items have other vectors than it stores, so that this is not "
            "the encoder that it was trained with; give the place of that by --encoder"
        )
    recommender = TextRecommender.build(data.catalogue, encoder, model, device=device)
    recommender.load_trained_state(recommender.trained_state() | teacher.trained_state())
    return recommender
