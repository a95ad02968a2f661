"""A folder is made again from what it says of its making, and compared file by file."""

import json

import pytest
from safetensors.torch import load_file, save_file

from foster import DistillOptions, EncoderOptions, ModelOptions, TeacherOptions, TrainOptions
from foster.artefacts import new_folder, stated_input
from foster.condensed.sequences import Condensed
from foster.coresets.select import select
from foster.data.dataset import Dataset
from foster.distillation import compact
from foster.distillation.distill import distill, write_distilled
from foster.engine import Engine
from foster.errors import InputError
from foster.manifest import MANIFEST_NAME, read_manifest, seal
from foster.reproduction import reproduce as module
from foster.reproduction.reproduce import reproduce
from foster.runs import pretrain, train, training_record
from synthetic_log import synthetic_log, write_csv

MODEL = ModelOptions(dim=8, heads=1, layers=1, max_length=8)
TRAIN = TrainOptions(steps=20, eval_every=10)
DISTILL = DistillOptions(sequences=3, length=6, steps=4, select_every=2, student_steps=5)


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_encoder):
    """One folder of each kind, of one seed."""
    return make(tmp_path_factory.mktemp("made"), tiny_encoder, 0)


@pytest.fixture(scope="module")
def made_of_another_seed(tmp_path_factory, tiny_encoder):
    """The same of another seed."""
    return make(tmp_path_factory.mktemp("made"), tiny_encoder, 1)


def make(place, tiny_encoder, seed):
    """Make one folder of each kind, by the library."""
    engine = Engine("cpu")
    encoder = EncoderOptions(encoder=str(tiny_encoder))
    log = write_csv(place / "log.csv", synthetic_log(seed=seed))
    data = Dataset.prepare(log, k_core=2)
    data.save(place / "data")
    data = Dataset.read(place / "data")
    pretrain(
        data,
        place / "teacher",
        encoder=encoder,
        model=MODEL,
        train=TRAIN,
        teacher=TeacherOptions(checkpoints=4, half=False),
        seed=seed,
        engine=engine,
    )
    sequences, records = distill(data, place / "teacher", DISTILL, seed=seed, engine=engine, progress=False)
    with new_folder(place / "distilled", about=engine.about) as folder:
        write_distilled(sequences, records, folder)
    select("soft-label", data, 3, teacher_path=place / "teacher", seed=seed, engine=engine).save(place / "labelled")
    select("random", data, 3, seed=seed, encoder=encoder, model=MODEL, engine=engine).save(place / "random")
    jobs = {
        "model": (Condensed.read(place / "distilled"), data),
        "unjudged": (Condensed.read(place / "random"), None),
        "full": (data, None),
    }
    for name, (source, validation) in jobs.items():
        recipe = TrainOptions(steps=15, eval_every=5)
        model, fit = train(
            source, encoder=encoder, model=MODEL, train=recipe, validation=validation, seed=seed, engine=engine
        )
        model.save_pretrained(place / name, extra=training_record(recipe, seed, fit))
    return place


def inputs_of(made, name):
    """Return where that lies from which a folder was made."""
    data, teacher, log = made / "data", made / "teacher", str(made / "log.csv")
    return {
        "data": {"source_paths": (log,)},
        "teacher": {"data_path": data},
        "distilled": {"data_path": data, "teacher_path": teacher},
        "labelled": {"data_path": data, "teacher_path": teacher},
        "random": {"data_path": data},
        "model": {"data_path": data, "source_paths": (str(made / "distilled"),)},
        "unjudged": {"source_paths": (str(made / "random"),)},
        "full": {"data_path": data},
    }[name]


@pytest.mark.parametrize("fixture", ["made", "made_of_another_seed"])
@pytest.mark.parametrize("name", ["data", "teacher", "distilled", "labelled", "random", "model", "unjudged", "full"])
def test_every_kind_of_folder_comes_out_equal_to_the_byte(request, fixture, name):
    made = request.getfixturevalue(fixture)
    found = reproduce(made / name, **inputs_of(made, name), engine=Engine("cpu"))
    assert found.equal and not found.differences and not found.changed, found.as_text()
    assert found.files >= 3 and f"all {found.files} files beside manifest.json are equal to the byte" in found.as_text()
    assert json.loads(json.dumps(found.as_dict()))["equal"] is True


def test_sources_that_lie_elsewhere_give_the_same_data_set(made, tmp_path):
    moved = tmp_path / "another" / "log.csv"
    moved.parent.mkdir()
    moved.write_bytes((made / "log.csv").read_bytes())
    assert reproduce(made / "data", source_paths=(str(moved),), engine=Engine("cpu")).equal


def test_what_differs_is_said_with_file_tensor_and_size(made, tmp_path, monkeypatch):
    copy = copied(made / "teacher", tmp_path / "teacher")
    weights = load_file(copy / "model.safetensors")
    name = min(weights)
    weights[name].view(-1)[0] += 0.25
    save_file(weights, copy / "model.safetensors")
    about = dict(read_manifest(made / "teacher").about)
    about["versions"] = {**about["versions"], "polars": "0.1"}
    seal(copy, {**about, "threads": 99})
    found = reproduce(copy, data_path=made / "data", engine=Engine("cpu"))
    assert not found.equal and [one.file for one in found.differences] == ["model.safetensors"]
    assert found.differences[0].largest == pytest.approx(0.25, abs=1e-6)
    assert f"'{name}' in 1 of" in found.differences[0].what
    assert set(found.changed) == {"polars", "threads"} and found.changed["threads"][0] == 99
    assert "threads: " in found.as_text() and "1 of " in found.as_text()


def test_another_teacher_is_named_before_the_work(made, tmp_path):
    stated = {"kind": "teacher", "sha256": "0" * 64}
    copy = copied(made / "distilled", tmp_path / "distilled")
    seal(copy, {**read_manifest(made / "distilled").about, "inputs": [stated]})
    said = []
    found = reproduce(
        copy, data_path=made / "data", teacher_path=made / "teacher", engine=Engine("cpu"), say=said.append
    )
    assert found.equal and said == found.inputs and "teacher: its files differ" in said[0]
    seal(copy, {**read_manifest(made / "distilled").about, "inputs": [stated_input(made / "teacher")]})
    assert reproduce(copy, data_path=made / "data", teacher_path=made / "teacher", engine=Engine("cpu")).inputs == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [60_000, 10_000, 4_000])  # of a labeller, of labels, and of written histories
def test_a_budget_in_bytes_finds_the_number_of_sequences_again(made, tmp_path, monkeypatch, size):
    for recipe in ("LINEAR", "EXPERTS"):
        monkeypatch.setattr(compact, recipe, TrainOptions(steps=8, eval_every=4))
    data, engine = Dataset.read(made / "data"), Engine("cpu")
    options = DistillOptions(bytes=size, length=6, student_steps=5)
    sequences, records = distill(data, made / "teacher", options, engine=engine, progress=False)
    with new_folder(tmp_path / "out") as folder:
        write_distilled(sequences, records, folder)
    found = reproduce(tmp_path / "out", data_path=made / "data", teacher_path=made / "teacher", engine=engine)
    assert found.equal, found.as_text()
    assert "does not state" not in found.as_text()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("data", {"source_paths": ()}, r"--source is missing: log.csv, from which .*data was made"),
        ("data", {"teacher_path": "x"}, "--teacher: .*data was made without it; leave it out"),
        ("teacher", {"data_path": None}, "--data is missing: the data set, from which .*teacher was made"),
        ("teacher", {"source_paths": ("x",)}, "--source: .* was made without it"),
        ("distilled", {"teacher_path": None}, "--teacher is missing: the teacher"),
        ("labelled", {"teacher_path": None}, "--teacher is missing: the teacher"),
        ("model", {"data_path": None}, "--data is missing"),
        ("unjudged", {"data_path": "x"}, "--data: .*unjudged was made without it"),
        ("full", {"data_path": None}, "--data is missing"),
    ],
)
def test_inputs_that_are_missing_or_not_needed_are_named(made, name, change, message):
    with pytest.raises(InputError, match=message) as caught:
        reproduce(made / name, **{**inputs_of(made, name), **change}, engine=Engine("cpu"))
    assert "\n" not in str(caught.value)


def test_other_data_are_refused(made, tmp_path):
    Dataset.prepare(write_csv(tmp_path / "log.csv", synthetic_log(seed=7)), k_core=2).save(tmp_path / "data")
    with pytest.raises(InputError, match=r"is of other data than .*teacher"):
        reproduce(made / "teacher", data_path=tmp_path / "data", engine=Engine("cpu"))


def test_folders_that_do_not_say_how_they_were_made_are_refused(made, tmp_path):
    Dataset.read(made / "data").save(tmp_path / "data")
    with pytest.raises(InputError, match=r"does not say how it was made: .*make it anew with 'foster prepare'"):
        reproduce(tmp_path / "data", source_paths=(str(made / "log.csv"),), engine=Engine("cpu"))
    copy = copied(made / "teacher", tmp_path / "teacher")
    seal(copy)  # as an earlier version did
    with pytest.raises(InputError, match="make it anew with 'foster pretrain'"):
        reproduce(copy, data_path=made / "data", engine=Engine("cpu"))


@pytest.mark.parametrize(
    "about",
    [{"versions": 3}, {"inputs": ["x"]}, {"inputs": [{"kind": "teacher"}]}, {"arguments": [1]}, {"threads": "many"}],
)
def test_a_manifest_of_nonsense_is_one_line(made, tmp_path, about):
    copy = copied(made / "data", tmp_path / "data")
    seal(copy, {**read_manifest(made / "data").about, **about})
    with pytest.raises(InputError, match=MANIFEST_NAME) as caught:
        reproduce(copy, source_paths=(str(made / "log.csv"),), engine=Engine("cpu"))
    assert "\n" not in str(caught.value)


def test_nothing_is_left_behind(made, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(module, "compare", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        reproduce(made / "data", source_paths=(str(made / "log.csv"),), engine=Engine("cpu"))
    assert list(tmp_path.iterdir()) == []


def copied(folder, out):
    """Copy the files of a folder, its manifest aside."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name != MANIFEST_NAME:
            place = out / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    return out


def test_what_another_seed_gives_differs(made, made_of_another_seed):
    """So that an equal folder says something."""
    for name in ("teacher", "distilled", "random", "model"):
        folders = made / name, made_of_another_seed / name
        assert module.compare(*map(read_manifest, folders)), name
