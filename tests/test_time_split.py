"""A split by time does not leak: whatever happens after the cut, what is made before it has the same bytes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from foster.condensed.sequences import Condensed
from foster.coresets.gradients import SampleGradients, last_block
from foster.coresets.select import METHODS, select
from foster.data.dataset import Dataset
from foster.distillation.distill import distill
from foster.distillation.options import OPTIONS, DistillOptions
from foster.engine import Engine
from foster.errors import InputError
from foster.evaluation.evaluate import evaluate, evaluate_popularity
from foster.evaluation.ranks import rank_targets
from foster.manifest import seal
from foster.models import recommender
from foster.models.item_tower import FrozenFeatures
from foster.models.options import ModelOptions
from foster.models.recommender import TextRecommender
from foster.runs import pretrain, train
from foster.text.options import EncoderOptions
from foster.training.loop import LogSource, validation_users
from foster.training.options import TeacherOptions, TrainOptions

COLOURS = ("red", "green", "blue", "dark", "light")
THINGS = ("dog", "cat", "boat", "song", "tea", "game")
OTHER_WORDS = "winter summer ocean desert puzzle sword castle forest"
KNOWN = 30  # items before the cut
CUT = 79
SHORT = {
    "sequences": 5, "length": 6, "steps": 2, "select_every": 1, "student_steps": 4, "batch_size": 16, "inner_steps": 2,
    "unroll": 1, "experts": 1, "expert_steps": 8, "checkpoint_every": 2, "ahead": 2, "subset": 12,
}  # fmt: skip
TRAIN = TrainOptions(steps=12, eval_every=4, candidates=16)


def log_of(future: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return a log of 100 times and its items; ``future`` decides what comes after the cut and texts of later items.

    The item table begins with a later item, and has the others among the rest.
    """
    later = 6 * future
    past, rng = np.random.default_rng(0), np.random.default_rng(future)
    rows = [(f"u{past.integers(40)}", int(past.integers(KNOWN)), time) for time in range(CUT + 1) for _ in range(6)]
    late = [
        (f"u{rng.integers(50)}", int(rng.integers(KNOWN + later)), time)
        for time in range(CUT + 1, 100)
        for _ in range(6)
    ]
    words = OTHER_WORDS.split()
    texts = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    texts += [" ".join(rng.choice(words, 1 + future)) + f" {number}" for number in range(later)]
    order = np.concatenate([[KNOWN], np.random.default_rng(1).permutation(KNOWN), np.arange(KNOWN + 1, KNOWN + later)])
    items = pl.DataFrame({"item_id": [f"i{item}" for item in order], "title": [texts[item] for item in order]})
    log = pl.DataFrame([(user, f"i{item}", time) for user, item, time in rows + late], orient="row",
                       schema=["user_id", "item_id", "timestamp"])  # fmt: skip
    return log, items


def data_of(future: int, split: str = "time:0.8", targets: str = "successive", **rest) -> Dataset:
    data = Dataset.prepare(*log_of(future), k_core=0, split=split, targets=targets, name="log", **rest)
    # Runs are compared byte by byte, and the fingerprint of all of the data is among what they write.
    return replace(data, info=data.info.model_copy(update={"fingerprint": "0" * 64}))


@pytest.fixture(autouse=True)
def no_cache(monkeypatch, tmp_path):
    """Encode anew: what another log left in the cache would hide that batches of texts differ."""
    monkeypatch.setenv("FOSTER_CACHE", str(tmp_path / "cache"))


def model_options(**changes) -> ModelOptions:
    return ModelOptions(dim=8, layers=1, heads=1, max_length=8, **changes)


class Made:
    """A teacher of one log, and what is made with it."""

    def __init__(self, data, root, encoder, model):
        self.data, self.root = data, root
        self.encoder, self.model = EncoderOptions(encoder=str(encoder)), model
        _, self.fit = pretrain(
            data,
            root / "teacher",
            encoder=self.encoder,
            model=model,
            train=TRAIN,
            teacher=TeacherOptions(checkpoints=4),
        )

    def weights(self) -> dict[str, bytes]:
        """All that training gave: weights, whitening, trajectory, and the vectors of the known items."""
        folder = self.root / "teacher"
        files = [folder / "model.safetensors", *sorted((folder / "trajectory").iterdir())]
        table = load_file(folder / "items.safetensors")["vectors"][: self.data.n_known("train")]
        return {path.name: path.read_bytes() for path in files} | {"items": table.numpy().tobytes()}

    def condensed(self, sequences: Condensed, name: str) -> dict[str, bytes]:
        """The bytes of sequences and of a student that was trained on them with validation."""
        sequences.save(self.root / name)
        recipe = TrainOptions(steps=6, eval_every=2, candidates=16)
        student, fit = train(Condensed.read(self.root / name), validation=self.data, train=recipe)
        student.save_pretrained(self.root / f"{name}-student")
        files = (self.root / name / "sequences.safetensors", self.root / f"{name}-student" / "model.safetensors")
        return {path.parent.name: path.read_bytes() for path in files} | {"fit": repr(fit.history).encode()}


def both(tmp_path, encoder, monkeypatch, split="time:0.8", model=None, **rest) -> list[Made]:
    out = []
    for future in (1, 2):
        monkeypatch.setenv("FOSTER_CACHE", str(tmp_path / f"cache{future}"))
        data = data_of(future, split, **rest)
        out.append(Made(data, tmp_path / str(future), encoder, model or model_options()))
    assert [made.data.info.cut_times[-1] for made in out] == [CUT, CUT]
    assert out[0].data.sequence_items.tolist() != out[1].data.sequence_items.tolist()
    assert out[0].data.n_known("train") == KNOWN < out[0].data.n_items < out[1].data.n_items
    return out


@pytest.mark.parametrize("split", ["time:0.8", "time:0.6:0.8"])
@pytest.mark.parametrize("popularity", [False, True])
@pytest.mark.parametrize("changes", [{}, {"adapter": "moe"}, {"ids": True}])
def test_the_teacher_knows_nothing_after_the_cut(tmp_path, tiny_encoder, monkeypatch, split, popularity, changes):
    one, other = both(tmp_path, tiny_encoder, monkeypatch, split, model_options(**changes), popularity=popularity)
    assert one.weights() == other.weights()
    assert one.fit.history == other.fit.history  # validations, by which the weights were chosen


@pytest.mark.parametrize(("adapter", "ids"), [("linear", False), ("moe", False), ("moe", True)])
def test_what_condenses_the_log_knows_nothing_after_the_cut(tmp_path, tiny_encoder, monkeypatch, adapter, ids):
    """Every method of selection and distillation, and students that choose their weights by validation."""
    model = model_options(adapter=adapter, ids=ids)
    made = both(tmp_path, tiny_encoder, monkeypatch, "time:0.6:0.8", model, popularity=True)
    found: list[dict[str, dict[str, bytes]]] = []
    for one in made:
        monkeypatch.setenv("FOSTER_CACHE", str(one.root / "cache"))
        rest = {"encoder": one.encoder, "model": one.model}
        sequences = {}
        for method in METHODS:
            sequences[method] = select(method, one.data, 5, teacher_path=one.root / "teacher", **rest)
        for method, options in OPTIONS.items():
            keys = {"keys": "learned" if adapter == "moe" else "text"}
            given = {name: value for name, value in (SHORT | keys).items() if name in options.model_fields}
            sequences[method], _ = distill(one.data, one.root / "teacher", options(**given), progress=False)
        found.append({method: one.condensed(kept, method) for method, kept in sequences.items()})
        teacher = TextRecommender.from_pretrained(one.root / "teacher")
        gradients = SampleGradients(teacher, last_block(teacher).project, one.data.training_histories(), 0)
        found[-1]["gradients"] = {"norms": gradients.norms().tobytes()}
        assert all(int(kept.items.max()) < KNOWN for kept in sequences.values())
    assert [method for method in found[0] if found[0][method] != found[1][method]] == []


def test_students_of_another_width_and_a_tuned_teacher(tmp_path, tiny_encoder, monkeypatch):
    """The paths on which item vectors of all the catalogue are looked at: turned maps, stored keys."""
    frozen = both(tmp_path / "frozen", tiny_encoder, monkeypatch)
    tuned = both(tmp_path / "tuned", tiny_encoder, monkeypatch, model=model_options(finetune="top:1"))
    assert tuned[0].weights() == tuned[1].weights()
    short = DistillOptions(sequences=5, length=6, steps=2, select_every=1, student_steps=4, batch_size=16, subset=12)
    for pair in (frozen, tuned):
        found, items = [], []
        for one in pair:
            monkeypatch.setenv("FOSTER_CACHE", str(one.root / "cache"))
            items.append(distill(one.data, one.root / "teacher", short, progress=False)[0].items)
            sequences = select("soft-label", one.data, 5, teacher_path=one.root / "teacher")
            recipe = TrainOptions(steps=4, eval_every=2, candidates=16)
            other = model_options().model_copy(update={"dim": 4})
            found.append(train(sequences, model=other, train=recipe, validation=one.data)[0].trained_state())
        assert items[0].equal(items[1])
        for name in found[0]:
            assert found[0][name].equal(found[1][name]), name


def test_another_past_is_another_teacher(tmp_path, tiny_encoder, monkeypatch):
    """The comparison of bytes can fail."""
    data = data_of(1)
    changed = data.sequence_items.copy()
    changed[data.held_out("validation").positions] = 0
    pair = [
        Made(given, tmp_path / name, tiny_encoder, model_options())
        for name, given in (("one", data), ("other", replace(data, sequence_items=changed)))
    ]
    assert pair[0].fit.history != pair[1].fit.history


@pytest.mark.parametrize("targets", ["last", "random", "successive"])
def test_later_items_are_ranked_in_the_test_only(tmp_path, tiny_encoder, targets):
    data = data_of(1, "time:0.6:0.8", targets)
    model = TextRecommender.build(data.catalogue, EncoderOptions(encoder=str(tiny_encoder)), model_options()).eval()
    test, validation = (evaluate(model, data, split) for split in ("test", "validation"))
    assert (test.n_items, validation.n_items) == (data.n_items, data.n_known("validation"))
    held_out = data.held_out("test")
    assert test.users.tolist() == held_out.users.tolist() and len(test.ranks) == len(held_out)
    for row in range(len(held_out)):
        user, position = held_out.users[row], held_out.positions[row]
        history = [data.item_ids[item] for item in data.sequence_items[data.offsets[user] : position]]
        target = data.item_ids[data.sequence_items[position]]
        assert (test.user_ids[row], test.item_ids[row]) == (data.user_ids[user], target)
        if target in history:
            continue  # a list leaves out what the user had
        listed = [item for item, _ in model.recommend([history], data.n_items)[0]]
        assert test.ranks[row] == pytest.approx(1 + listed.index(target), abs=0.5)
    assert (test.cold == (data.item_counts()[data.targets("test")] == 0)).all() and test.cold.any()
    said = test.as_dict()
    assert (said["users"], said["targets"]) == (held_out.n_users, len(held_out))
    assert said["data_split"] == f"time:0.6:0.8, {targets} targets"
    assert said["warm"]["targets"] + said["cold"]["targets"] == len(held_out)
    test.save_ranks(str(tmp_path / "ranks.parquet"))
    assert pl.read_parquet(tmp_path / "ranks.parquet").columns == ["user_id", "item_id", "rank", "cold"]


def test_later_texts_are_encoded_apart(tmp_path, tiny_encoder, monkeypatch):
    """The last bits of a vector depend on which texts are encoded together."""
    data, calls = data_of(1), []

    def watched(texts, *given, original=recommender.embed_texts, **rest):
        calls.append(list(texts))
        return original(texts, *given, **rest)

    monkeypatch.setattr(recommender, "embed_texts", watched)
    model = TextRecommender.build(data.catalogue, EncoderOptions(encoder=str(tiny_encoder)), model_options())
    again = TextRecommender.from_pretrained(model.save_pretrained(tmp_path / "model"))
    assert again.tower.features.vectors.equal(model.tower.features.vectors)
    assert calls == 2 * [data.texts[:KNOWN], data.texts[KNOWN:]]
    monkeypatch.setattr(recommender.TunableEncoder, "set_catalogue", lambda self, texts: calls.append(("first", texts)))
    monkeypatch.setattr(recommender.TunableEncoder, "extend", lambda self, texts: calls.append(("then", texts)))
    TextRecommender.build(data.catalogue, model.encoder, model_options(finetune="top:1"))
    assert calls[-2:] == [("first", data.texts[:KNOWN]), ("then", data.texts[KNOWN:])]


def test_a_model_may_have_its_items_in_another_order(tiny_encoder):
    data = data_of(1)
    encoder = EncoderOptions(encoder=str(tiny_encoder))
    model = TextRecommender.build(data.catalogue, encoder, model_options()).eval()
    order = np.random.default_rng(0).permutation(data.n_items)
    number = np.argsort(order)
    whole = replace(
        data, items=data.items[order], texts=[data.texts[item] for item in order],
        sequence_items=number[data.sequence_items].astype(np.int32),
        info=data.info.model_copy(update={"cut_times": ()}),
    )  # fmt: skip
    assert model.catalogue.ids != whole.item_ids
    shuffled = TextRecommender.build(whole.catalogue, encoder, model_options())
    shuffled.load_trained_state(model.trained_state())
    shuffled.whitening.load_state_dict(model.whitening.state_dict())
    shuffled.tower.features = FrozenFeatures.of(model.tower.features.vectors[order])
    for split in ("validation", "test"):
        np.testing.assert_array_equal(evaluate(shuffled.eval(), data, split).ranks, evaluate(model, data, split).ranks)


def test_popularity_is_that_of_the_training_part():
    data = data_of(1, targets="last")
    found, held_out = evaluate_popularity(data), data.held_out("test")
    counts = data.item_counts()
    assert counts[KNOWN:].sum() == 0
    ranks = rank_targets(
        lambda rows: torch.from_numpy(counts).float().repeat(rows.stop - rows.start, 1),
        data.targets("test"), data.histories("test"), data.n_items,
    )  # fmt: skip
    assert found.ranks.tolist() == ranks.tolist() and len(held_out) == len(ranks)
    assert evaluate_popularity(data, "validation").n_items == KNOWN
    # An unseen target ties with what is there by the cut and as unseen, not with what comes later.
    rows = [("u", "c", 4), ("u", "b", 5), ("v", "a", 1), ("v", "a", 2), ("v", "a", 3)]
    rows += [("u", item, 9) for item in "xyz"]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").with_columns(title="item_id")
    small = Dataset.prepare(log, k_core=0, split="time:0.6")
    validation = evaluate_popularity(small, "validation")
    assert dict(zip(validation.user_ids, validation.ranks.tolist(), strict=True)) == {"u": 2.0, "v": 1.0}
    assert validation.cold.tolist() == [True, False] and validation.n_items == 3


def test_sampled_items_are_known_ones(tiny_encoder, monkeypatch):
    """Also where as many are asked for as there are items in all."""
    data = data_of(1)
    model = TextRecommender.build(data.catalogue, EncoderOptions(encoder=str(tiny_encoder)), model_options())
    seen: list[int] = []
    forward = model.tower.forward
    monkeypatch.setattr(model.tower, "forward", lambda index: seen.extend(index.tolist()) or forward(index))
    source = LogSource(data, TRAIN, 8, 0, Engine("cpu"))
    for candidates in (5, KNOWN, data.n_items, 1000):
        for _ in range(20):
            source.loss(model, candidates)
    assert set(seen) == set(range(KNOWN))


def test_validation_users_have_a_validation_target():
    data = data_of(1)
    tried = set(data.held_out("validation").users.tolist())
    assert tried < set(range(data.n_users))  # some come only after the cut
    assert set(validation_users(data, 10_000).tolist()) == tried
    assert set(validation_users(data, 7).tolist()) < tried


def test_folders_keep_which_items_are_known(tmp_path, tiny_encoder):
    data = data_of(1)
    made = Made(data, tmp_path, tiny_encoder, model_options())
    sequences = select("random", data, 5, teacher_path=tmp_path / "teacher")
    made.condensed(sequences, "random")
    for name in ("teacher", "random", "random-student"):
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["known_items"] == KNOWN
        assert "time:0.8, successive targets" in (tmp_path / name / "README.md").read_text()
        said = config["info"] if name == "random" else config
        assert said["data_split"] == "time:0.8, successive targets" and "came after" in said["from_real_data"]
    assert Condensed.read(tmp_path / "random").catalogue == data.catalogue
    again = TextRecommender.from_pretrained(tmp_path / "teacher")
    assert again.catalogue == data.catalogue and again.n_known == KNOWN
    again.add_items(["a new thing"])
    assert again.n_known == KNOWN
    config["known_items"] = 1000
    (tmp_path / "random-student" / "config.json").write_text(json.dumps(config))
    seal(tmp_path / "random-student")
    with pytest.raises(InputError, match="field 'known_items' is wrong"):
        TextRecommender.from_pretrained(tmp_path / "random-student")
