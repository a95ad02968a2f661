"""The audit as a whole, on a small log."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from foster.audit.audit import audit, derived
from foster.audit.folder import read_audit
from foster.audit.membership import random_halves
from foster.audit.options import AuditOptions
from foster.audit.pieces import visible_sequences
from foster.audit.shadows import RUNS, Recipe, askable, of_users, shadow_of, surfaces
from foster.audit.signals import label_scores, model_scores
from foster.condensed.folder import written_bytes
from foster.coresets.select import select
from foster.data.dataset import Dataset
from foster.data.histories import Histories
from foster.data.sampling import shared_walks
from foster.distillation import compact
from foster.distillation.distill import distill, start_of
from foster.distillation.options import DistillOptions
from foster.engine import Engine
from foster.errors import InputError
from foster.manifest import verify
from foster.models.options import ModelOptions
from foster.runs import pretrain
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions
from small_models import small_recommender
from synthetic_log import synthetic_log

MODEL = ModelOptions(dim=8, layers=1, heads=1, max_length=10)
FEW = AuditOptions(shadows=3, shadow_steps=4, shadow_student_steps=4)
OPTIONS = DistillOptions(sequences=3, length=8, window=4, student_steps=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_encoder):
    """A log, the folder of a teacher, and sequences."""
    patched = pytest.MonkeyPatch()
    patched.setenv("FOSTER_CACHE", str(tmp_path_factory.mktemp("cache")))
    data = Dataset.prepare(pl.DataFrame(synthetic_log()), k_core=0)
    teacher = tmp_path_factory.mktemp("made") / "teacher"
    encoder = EncoderOptions(encoder=str(tiny_encoder))
    recipe = TrainOptions(steps=6, eval_every=3, candidates=16)
    pretrain(data, teacher, encoder=encoder, model=MODEL, train=recipe, teacher=TeacherOptions(checkpoints=2))
    sequences = start_of(data, teacher, OPTIONS, engine=Engine("cpu")).rounded()
    patched.undo()
    return data, teacher, sequences


def test_pieces_of_real_histories_are_found(made):
    data, _, sequences = made
    found = audit(sequences, data, options=AuditOptions(shadows=0))
    rows = {row["n"]: row for row in found.pieces["sequences"]["runs"]}
    assert found.pieces["sequences"]["longest_run"] >= 4  # a window
    assert rows[4]["found"] > found.pieces["popularity"]["runs"][2]["found"]
    assert found.membership is None and "--shadows 0" in found.paragraph()
    assert "not anonymous" in found.paragraph() and "random histories" not in found.paragraph()
    assert "users have a run of 2 to 16 items in them that no other user has" in found.paragraph()


def test_sequences_start_as_walks_where_that_is_asked_for(made):
    data, teacher, sequences = made
    walks = start_of(data, teacher, OPTIONS.model_copy(update={"anonymity": 3}), engine=Engine("cpu")).rounded()
    wanted = shared_walks(data.histories("train"), 3, 8, 4, 3, np.random.default_rng(0))
    assert np.stack(visible_sequences(walks)).tolist() == wanted.tolist()
    assert "at least 3 users" in walks.info["from_real_data"] and walks.info["options"]["anonymity"] == 3
    assert "real histories" in sequences.info["from_real_data"]
    assert "anonymity" not in sequences.info["options"]  # folders stay to the byte what they were
    with pytest.raises(InputError, match="--anonymity 61: no item has 61 users to train on; give less"):
        start_of(data, teacher, OPTIONS.model_copy(update={"anonymity": 61}), engine=Engine("cpu"))
    with pytest.raises(InputError, match="leave start out"):
        DistillOptions.parse({"anonymity": 3, "start": "long"})


def test_a_folder_of_all_that_was_found(made, tmp_path):
    data, teacher, sequences = made
    said: list[str] = []
    found = audit(sequences, data, teacher_path=teacher, options=FEW, engine=Engine("cpu"), say=said.append)
    assert len(said) == 3
    names = {"sequences", "labels", "student", "teacher", "coreset sequences", "coreset student"}
    assert found.membership is not None and found.membership.keys() == names
    copied = found.held_out
    assert copied is not None
    four = next(line for line in copied if line["n"] == 4)
    assert four["members"] > four["others"]
    assert found.membership["coreset sequences"]["auc"] > 0.5
    out = found.save(tmp_path / "report")
    verify(out)
    stored = json.loads((out / "results.json").read_text())
    assert stored["membership"].keys() == names and stored["about"]["shadows"] == 3
    card = (out / "README.md").read_text()
    assert found.paragraph() in card and all(f"| {name} |" in card for name in names)
    assert "%" in card and re.search(r"\d%", card) is None  # one form in all of it
    attacked, beside = found.paragraph().split("As many random histories, for comparison, have: sequences ")
    assert "student" in beside and "teacher" in attacked and "coreset" not in attacked + beside
    assert found.save(tmp_path / "report", overwrite=True) == out
    assert read_audit(out) == found
    stored["pieces"]["sequences"]["runs"][0]["found"] = 0.25
    (out / "results.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"results\.json: is not the file"):
        read_audit(out)


def test_coresets_are_audited_too(made):
    data, teacher, _ = made
    coreset = select("soft-label", data, 3, teacher_path=teacher)
    recipe = Recipe.of(coreset, FEW, None, data, 0, Engine("cpu"))
    members = random_halves(len(askable(data)), 1, 0)[0]
    with shadow_of(data, members, recipe, 0) as shadow:
        found = surfaces(shadow)
        own = visible_sequences(shadow.condensed(None))
    assert (found[RUNS][~members] < found[RUNS].max()).all() and len(own) == 3
    assert "labels" in found
    assert derived(coreset)["items, weights"] == "histories of users"


@pytest.mark.parametrize("size", [60_000, 80_000])  # of a labeller, and of more labels than shadows have users
def test_shadows_of_few_bytes_have_the_same_form(made, monkeypatch, size):
    data, teacher, _ = made
    for recipe in ("LINEAR", "EXPERTS"):
        monkeypatch.setattr(compact, recipe, TrainOptions(steps=4, eval_every=2, candidates=16))
    options = DistillOptions(length=8, bytes=size, student_steps=4)
    sequences = distill(data, teacher, options, engine=Engine("cpu"), progress=False)[0]
    recipe = Recipe.of(sequences, FEW, (MODEL, TrainOptions(eval_every=2, candidates=16)), data, 0, Engine("cpu"))
    members = random_halves(len(askable(data)), 1, 0)[0]
    with shadow_of(data, members, recipe, 0) as shadow:
        own = shadow.condensed(recipe.options)
        found = surfaces(shadow)
    assert (sequences.labeller is None, own.labeller is None) == (size > 60_000, size > 60_000)
    assert written_bytes(own) <= size and "labels" in found


def test_shadows_of_few_bytes_read_what_was_distilled(made, monkeypatch):
    """Students of short windows read no more than these; without a named teacher the shadows' one must."""
    data, teacher, _ = made
    for recipe in ("LINEAR", "EXPERTS"):
        monkeypatch.setattr(compact, recipe, TrainOptions(steps=4, eval_every=2, candidates=16))
    options = DistillOptions(length=8, window=4, bytes=60_000, student_steps=4)
    sequences = distill(data, teacher, options, engine=Engine("cpu"), progress=False)[0]
    assert sequences.model.max_length == 4
    recipe = Recipe.of(sequences, FEW, None, data, 0, Engine("cpu"))
    assert recipe.model.max_length == 8
    members = random_halves(len(askable(data)), 1, 0)[0]
    with shadow_of(data, members, recipe, 0) as shadow:
        assert shadow.condensed(recipe.options).model.max_length == 4


def test_shadows_of_written_histories_are_made_like_them(made, monkeypatch):
    data, teacher, _ = made
    for recipe in ("LINEAR", "EXPERTS"):
        monkeypatch.setattr(compact, recipe, TrainOptions(steps=4, eval_every=2, candidates=16))
    sequences = distill(
        data, teacher, DistillOptions(length=8, bytes=3500, targets="written"), engine=Engine("cpu"), progress=False
    )[0]
    parts = derived(sequences)
    assert "the teacher's map of items" in parts["adapter"] and "codes" not in parts
    recipe = Recipe.of(sequences, FEW, (MODEL, TrainOptions(eval_every=2, candidates=16)), data, 0, Engine("cpu"))
    members = random_halves(len(askable(data)), 1, 0)[0]
    with shadow_of(data, members, recipe, 0) as shadow:
        own = shadow.condensed(recipe.options)
        found = surfaces(shadow)
    assert own.adapter is not None and own.codes is None and own.adapter_bits == sequences.adapter_bits
    assert written_bytes(own) <= 3500 and "labels" not in found and "student" in found


def test_a_shadow_is_of_its_members_alone(made):
    """Whatever the others did, nothing that a shadow gives changes."""
    data, _, sequences = made
    recipe = Recipe.of(sequences, FEW, (MODEL, TrainOptions(eval_every=2, candidates=16)), data, 0, Engine("cpu"))
    members = random_halves(len(askable(data)), 1, 0)[0]
    others = np.isin(np.repeat(np.arange(data.n_users), np.diff(data.offsets)), askable(data)[~members])
    poisoned = replace(data, sequence_items=np.where(others, 0, data.sequence_items).astype(np.int32))
    assert poisoned.sequence_items.tolist() != data.sequence_items.tolist()
    states = []
    for log in (data, poisoned):
        with shadow_of(log, members, recipe, 0) as shadow:
            condensed = shadow.condensed(OPTIONS)
            states.append(shadow.teacher.trained_state() | {"items": condensed.items, "codes": condensed.codes})
    for name, tensor in states[0].items():
        assert tensor.equal(states[1][name]), name


def test_the_log_of_some_users(made):
    data = made[0]
    part = of_users(data, np.array([3, 7, 20]))
    assert part.user_ids == [data.user_ids[user] for user in (3, 7, 20)]
    for place, user in enumerate((3, 7, 20)):
        assert part.sequence(place).tolist() == data.sequence(user).tolist()
    assert part.item_ids == data.item_ids and part.info.fingerprint != data.info.fingerprint
    with pytest.raises(InputError, match="split by time"):
        of_users(data.with_split("time:0.8"), np.array([0]))


def test_what_cannot_be_audited_is_said(made, tmp_path):
    data, _teacher, sequences = made
    with pytest.raises(InputError, match="other items"):
        audit(sequences, Dataset.prepare(pl.DataFrame(synthetic_log()).filter(pl.col("item_id") != "i3"), k_core=0))
    with pytest.raises(InputError, match="other data"):
        audit(sequences, of_users(data, np.arange(30)))
    with pytest.raises(InputError, match="--shadows 2: give 3 or more"):
        audit(sequences, data, options=AuditOptions(shadows=2))
    unsaid = replace(sequences, info={name: value for name, value in sequences.info.items() if name != "options"})
    with pytest.raises(InputError, match="give --shadows 0"):
        audit(unsaid, data)
    foreign = replace(sequences, kind="coreset", method="mine")
    with pytest.raises(InputError, match="'mine' is no method"):
        audit(foreign, data)


def test_scores_of_models_are_mean_log_odds():
    model = small_recommender()
    histories = [np.array([3, 5, 7, 1]), np.array([2, 9]), np.arange(12)]
    found = model_scores(model, Histories.of(histories))
    table = model.item_table()
    for history, score in zip(histories, found, strict=True):
        kept = history[-11:]
        states = model.backbone(table[torch.from_numpy(kept[:-1])][None])[0]
        p = torch.softmax(model.scores(states, table), -1)[torch.arange(len(kept) - 1), torch.from_numpy(kept[1:])]
        assert score == pytest.approx(float(torch.logit(p).mean().detach()), abs=1e-4)


def test_labels_expect_what_their_contexts_lead_to(made):
    """Labels that are the vector of some item, times much, expect that item after their contexts' last one."""
    data, teacher, sequences = made
    from foster.condensed.labels import label_keys
    from foster.training.teachers import load_teacher

    model = load_teacher(teacher, data)
    keys = label_keys(sequences, model)
    assert sequences.codes is not None
    wanted = int((keys @ keys.T).argmax(1).mode().values)  # an item that scores best against itself
    wanted = int((keys[wanted] @ keys.T).argmax())
    loud = replace(sequences, codes=(50 * keys[wanted] / keys[wanted].norm() ** 2).expand_as(sequences.codes).clone())
    other = (wanted + 1) % len(keys)
    found = label_scores(loud, model, Histories.of([np.array([0, wanted]), np.array([0, other])]))
    assert found is not None and found[0] > found[1]
    assert (
        label_scores(
            replace(sequences, codes=None, adapter=None, draws=None, windows=()), model, Histories.of([np.arange(2)])
        )
        is None
    )
