"""Training on the full log and on condensed sequences."""

from foster.training.condensed import Condensed, CondensedSource
from foster.training.loop import Fit, LogSource, fit, validator
from foster.training.options import STUDENT, TrainOptions
from foster.training.runs import TeacherOptions, load_teacher, pretrain, teacher_options, train, training_record

__all__ = [
    "STUDENT", "Condensed", "CondensedSource", "Fit", "LogSource", "TeacherOptions", "TrainOptions", "fit",
    "load_teacher", "pretrain", "teacher_options", "train", "training_record", "validator",
]  # fmt: skip
