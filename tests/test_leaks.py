"""Leave-one-out does not leak: whatever the test targets are, what is made before the test has the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from foster.audit.audit import audit
from foster.audit.options import AuditOptions
from foster.condensed.sequences import Condensed
from foster.coresets.select import METHODS, select
from foster.data.dataset import Dataset
from foster.distillation.distill import distill
from foster.distillation.options import OPTIONS, DistillOptions
from foster.evaluation.evaluate import evaluate
from foster.models.options import ModelOptions
from foster.runs import pretrain, train
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions
from synthetic_log import synthetic_log

MODEL = ModelOptions(dim=8, layers=1, heads=1, max_length=8)
TRAIN = TrainOptions(steps=6, eval_every=2, candidates=16)
SHORT = {
    "sequences": 5, "length": 6, "steps": 2, "select_every": 1, "student_steps": 4, "batch_size": 16, "inner_steps": 2,
    "unroll": 1, "experts": 1, "expert_steps": 8, "expert_lr": 0.05, "checkpoint_every": 2, "ahead": 2,
    "subset": 12,
}  # fmt: skip
FORMS = {
    "foster": {}, "foster of walks": {"anonymity": 2}, "foster of next items": {"targets": "next"},
    "foster that generates": {"targets": "next", "start": "generated", "steps": 0},
    **{method: {} for method in OPTIONS if method != "foster"},
}  # fmt: skip


def logs(poisoned: str) -> list[Dataset]:
    """Return a log, and one in which the ``poisoned`` targets are other items."""
    out = []
    for poison in (False, True):
        rows = pl.DataFrame(synthetic_log())
        items = rows.select("item_id", "title").unique(maintain_order=True)
        place = (pl.len().over("user_id") - 1 - pl.col("timestamp")) == {"test": 0, "validation": 1}[poisoned]
        other = pl.col("item_id").replace_strict(items["item_id"], items["item_id"].reverse())
        log = rows.select(
            "user_id", pl.when(place & poison).then(other).otherwise("item_id").alias("item_id"), "timestamp"
        )
        data = Dataset.prepare(log, items, k_core=0, popularity=True, name="log")
        # Bytes are compared, and the fingerprint of all of the data is among what is written.
        out.append(replace(data, info=data.info.model_copy(update={"fingerprint": "0" * 64})))
    one, two = out
    assert one.item_ids == two.item_ids and one.targets(poisoned).tolist() != two.targets(poisoned).tolist()
    assert [len(x) for x in one.histories("train")] == [len(x) for x in two.histories("train")]
    return out


def everything(data: Dataset, root: Path, encoder: Path) -> dict[str, bytes]:
    """Return the bytes of all that a log gives before the test, by name."""
    found: dict[str, bytes] = {}
    asked = {"encoder": EncoderOptions(encoder=str(encoder)), "model": MODEL}
    teacher = root / "teacher"
    pretrain(data, teacher, **asked, train=TRAIN, teacher=TeacherOptions(checkpoints=4))
    files = [teacher / "model.safetensors", teacher / "items.safetensors", *sorted((teacher / "trajectory").iterdir())]
    found |= {f"teacher {path.name}": path.read_bytes() for path in files}
    made = {method: select(method, data, 5, teacher_path=teacher, **asked) for method in METHODS}
    for name, changes in FORMS.items():
        options = OPTIONS[name.split()[0]]
        given = {key: value for key, value in SHORT.items() if key in options.model_fields}
        made[name], log = distill(data, teacher, options(**given | changes), progress=False)
        found[f"{name} log"] = repr(log).encode()
    for name, sequences in made.items():
        folder = sequences.save(root / name)
        found |= {f"{name} {path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
        student, fit = train(Condensed.read(folder), train=TRAIN, validation=data)
        student.save_pretrained(root / f"{name} student")
        found[f"{name} student"] = (root / f"{name} student" / "model.safetensors").read_bytes()
        found[f"{name} fit"] = repr(fit.history).encode()
    full, fit = train(data, **asked, train=TRAIN)
    found["full"] = repr([fit.history, {name: t.tolist() for name, t in full.trained_state().items()}]).encode()
    found["audit"] = repr(audit(made["foster"], data, options=AuditOptions(shadows=0)).as_dict()).encode()
    found["validation"] = evaluate(full, data, "validation").ranks.tobytes()
    found["test"] = evaluate(full, data, "test").ranks.tobytes()
    return found


def differences(poisoned, tmp_path, encoder, monkeypatch) -> set[str]:
    found = []
    for number, data in enumerate(logs(poisoned)):
        monkeypatch.setenv("FOSTER_CACHE", str(tmp_path / f"cache{number}"))
        found.append(everything(data, tmp_path / str(number), encoder))
    assert found[0].keys() == found[1].keys()
    return {name for name in found[0] if found[0][name] != found[1][name]}


@pytest.mark.slow
def test_poisoned_test_targets_change_nothing_but_the_test(tmp_path, tiny_encoder, monkeypatch):
    assert differences("test", tmp_path, tiny_encoder, monkeypatch) == {"test"}


def test_another_validation_is_another_training(tmp_path, tiny_encoder):
    """The comparison of bytes can fail: what is looked for is there where it is allowed."""
    asked = {"encoder": EncoderOptions(encoder=str(tiny_encoder)), "model": MODEL, "train": TRAIN}
    one, two = (train(data, **asked)[1] for data in logs("validation"))
    assert one.history != two.history


@pytest.mark.slow
def test_shuffled_item_ids_do_not_beat_random(tmp_path, tiny_encoder):
    """Where ids stand for other items at every event, students of sequences know nothing of the real test."""
    data = logs("test")[0]
    asked = {"encoder": EncoderOptions(encoder=str(tiny_encoder)), "model": MODEL}
    longer = TrainOptions(steps=150, eval_every=50, candidates=40, lr=1e-2)
    gains, real = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        shuffled = replace(data, sequence_items=rng.permutation(data.sequence_items))
        for log, found in ((shuffled, gains), (data, real)):
            teacher = tmp_path / f"{seed}-{len(found)}-{log is data}"
            pretrain(log, teacher, **asked, train=longer, seed=seed)
            sequences, _ = distill(
                log, teacher, DistillOptions(sequences=5, length=8, window=4, student_steps=60), seed=seed,
                progress=False,
            )  # fmt: skip
            student, _ = train(sequences, seed=seed)
            ranks = evaluate(student, data).ranks
            # A target among n items that are not masked has the mean reciprocal rank of a guess, H(n) / n.
            known = np.array([len(set(history.tolist())) for history in data.histories("test")])
            guess = [(1 / np.arange(1, data.n_items - n + 1)).mean() for n in known]
            found.append((1 / ranks).mean() - np.mean(guess))
    noise = np.std(1 / ranks) / np.sqrt(len(ranks))
    assert np.mean(gains) < 3 * noise / np.sqrt(3)
    assert np.mean(real) > 3 * noise / np.sqrt(3)  # the comparison can fail
