"""Runs that are cut off go on where they were, and end as if nothing had been."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch

from foster import unfinished as states
from foster.artefacts import artefact_kind, check_free
from foster.condensed.sequences import Condensed
from foster.data.dataset import Dataset
from foster.distillation.distill import distill, write_distilled
from foster.distillation.options import OPTIONS, CondenseOptions
from foster.engine import Engine
from foster.errors import Diverged, InputError
from foster.json_text import of_json
from foster.models.options import ModelOptions
from foster.runs import pretrain, train, training_record
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions
from foster.unfinished import STATE_NAME, Unfinished, unfinished
from full_disk import little_room
from synthetic_log import synthetic_log, write_csv

SMALL = ModelOptions(dim=8, layers=1, heads=2, max_length=8)
RECIPE = TrainOptions(steps=40, eval_every=10, batch_size=16, candidates=20, warmup=5)
CPU = Engine("cpu")


class Killed(BaseException):
    """Ends a run as a signal would, but for what runs in ``finally``."""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Dataset:
    return Dataset.prepare([str(write_csv(tmp_path_factory.mktemp("log") / "log.csv", synthetic_log()))], k_core=0)


@pytest.fixture(scope="module")
def teacher(data, tiny_encoder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "teacher"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOSTER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        of_teacher = SMALL.model_copy(update={"ids": True})
        encoder, recipe = EncoderOptions(encoder=str(tiny_encoder)), TeacherOptions(checkpoints=4)
        pretrain(data, out, encoder=encoder, model=of_teacher, train=RECIPE, teacher=recipe, engine=CPU)
    return out


@contextlib.contextmanager
def killed(at: int, monkeypatch, after: bool) -> Iterator[list[str]]:
    """End whatever runs in the block before or after its save number ``at`` (from 1); yield the saves."""
    saves, plain = [], Unfinished.save

    def save(self: Unfinished, step: str, **parts: object) -> None:
        saves.append(step)
        if len(saves) == at and not after:
            # As a kill in the middle of it would: files are there that no state names, one of them safetensors' own.
            assert self.folder is not None
            (self.folder / ".tmpmQ6pm7").write_bytes(b"half a fi")
            plain_put = self._put
            self._put = dying  # type: ignore[method-assign]
            try:
                plain(self, step, **parts)
            finally:
                self._put = plain_put  # type: ignore[method-assign]
        plain(self, step, **parts)
        if len(saves) == at and after:
            raise Killed

    def dying(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "save", save)
        yield saves


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, without times and what depends on these."""
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    del files["manifest.json"]
    if "metrics.jsonl" in files:
        lines = [json.loads(line) for line in files["metrics.jsonl"].splitlines()]
        files["metrics.jsonl"] = json.dumps(
            [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
        ).encode()
    return files


def goes_on(run: Callable[[Path, list[str]], None], tmp_path: Path, monkeypatch) -> int:
    """Cut a run off at each of its saves in turn, and see that it ends as an undisturbed one; return how many."""
    whole = tmp_path / "whole"
    with killed(0, monkeypatch, True) as saves:
        run(whole, [])
    number = len(saves)
    for after, kills in ((True, {1, number}), (False, {1, 2})):
        for at in kills:
            out, said = tmp_path / f"{after}-{at}", []
            with killed(at, monkeypatch, after), pytest.raises(Killed):
                run(out, said)
            assert not out.exists()
            saved = (out.with_name(f"{out.name}.part") / STATE_NAME).is_file()
            assert saved == (after or at > 1)
            with killed(0, monkeypatch, True) as rest:
                run(out, said)
            assert rest == saves[at if after else at - 1 :]  # nothing is made twice
            assert [line.split(": ")[1].split(",")[0] for line in said] == [
                f"goes on after {saves[at - 1 if after else at - 2]}"
            ] * saved
            assert content(out) == content(whole)
            assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []
            shutil.rmtree(out)
    return number


@pytest.mark.parametrize(
    "options",
    [{"dropout": 0.2, "ids": True}, {"backbone": "gru4rec", "adapter": "linear"}, {"backbone": "hstu", "dropout": 0.2}],
)
def test_a_teacher(options, data, tiny_encoder, tmp_path, monkeypatch):
    model, encoder = SMALL.model_copy(update=options), EncoderOptions(encoder=str(tiny_encoder))

    def run(out: Path, said: list[str]) -> None:
        kinds = {"encoder": encoder, "model": model, "train": RECIPE, "teacher": TeacherOptions(checkpoints=6)}
        pretrain(data, out, **kinds, engine=CPU, say=said.append)

    assert goes_on(run, tmp_path, monkeypatch) == 3


def distilled(data: Dataset, teacher: Path, options: CondenseOptions) -> Callable[[Path, list[str]], None]:
    def run(out: Path, said: list[str]) -> None:
        place = check_free(out)
        with unfinished(place, {"options": options.model_dump()}, CPU, say=said.append) as part:
            sequences, log = distill(data, teacher, options, engine=CPU, part=part)
            with place.fill() as folder:
                write_distilled(sequences, log, folder)

    return run


METHODS = {
    "foster": {"subset": 12, "reset_every": 2},
    "foster next": {"subset": 12, "targets": "next", "gap_rule": "bome"},
    "dm": {"subset": 12},
    "dc": {"subset": 12, "reset_every": 3},
    "mtt": {"subset": 12, "expert_steps": 6, "checkpoint_every": 2, "ahead": 1, "inner_steps": 2},
    "farzi": {"inner_steps": 3, "inner_batch": 3, "width": 6},
    "td3": {"inner_steps": 4, "unroll": 3, "inner_batch": 3, "rank": 2, "reset_every": 3},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_distillation(method, data, teacher, tmp_path, monkeypatch):
    sizes = {"sequences": 4, "length": 8, "batch_size": 15, "student_steps": 4, "steps": 5, "select_every": 2}
    options = OPTIONS[method.split()[0]](**sizes, **METHODS[method])
    assert goes_on(distilled(data, teacher, options), tmp_path, monkeypatch) == 3


@pytest.mark.parametrize("size", [9000, 60_000])  # of labels, and of what makes them
def test_a_distillation_within_bytes(size, data, teacher, tmp_path, monkeypatch):
    compact = TrainOptions(steps=30, eval_every=10, batch_size=16)
    for recipe in ("LINEAR", "EXPERTS"):
        monkeypatch.setattr(f"foster.distillation.compact.{recipe}", compact)
    options = OPTIONS["foster"](bytes=size, length=8, subset=12, steps=3, select_every=2, student_steps=4)
    assert goes_on(distilled(data, teacher, options), tmp_path, monkeypatch) == 5


def test_a_distillation_of_written_histories(data, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("foster.distillation.compact.LINEAR", TrainOptions(steps=30, eval_every=10, batch_size=16))
    options = OPTIONS["foster"](bytes=3500, length=8)
    assert goes_on(distilled(data, teacher, options), tmp_path, monkeypatch) == 3


@pytest.mark.parametrize("labels", ["soft", "next"])
def test_a_student(labels, data, teacher, tmp_path, monkeypatch):
    sizes = {"sequences": 4, "length": 8, "student_steps": 4, "steps": 0, "targets": labels}
    sequences = distill(data, teacher, OPTIONS["foster"](**sizes), engine=CPU)[0]

    def run(out: Path, said: list[str]) -> None:
        place, recipe = check_free(out), RECIPE.model_copy(update={"steps": 25, "mixup": labels == "soft"})
        with unfinished(place, {"seed": 0}, CPU, say=said.append) as part:
            model, fit = train(sequences, train=recipe, validation=data, engine=CPU, part=part)
            with place.fill() as folder:
                model.write_to(folder, training_record(recipe, 0, fit))

    assert isinstance(sequences, Condensed)
    assert goes_on(run, tmp_path, monkeypatch) == 2


def interrupted(out: Path, command: dict[str, object]) -> None:
    with pytest.raises(Killed), unfinished(check_free(out), command, CPU) as part:
        part.save("step 5", fit={"weights": torch.ones(3)}, best=None)
        raise Killed


def refused(out: Path, message: str, command: Mapping[str, object] = {}) -> None:
    with pytest.raises(InputError, match=message), unfinished(check_free(out), command, CPU):
        pass


def test_who_looks_at_the_state_is_told_to_end_the_run(tmp_path):
    interrupted(out := tmp_path / "out", {"verb": "train"})
    with pytest.raises(InputError, match=r"out\.part: is the state of a run that was cut off; give the same command"):
        artefact_kind(Path(f"{out}.part"))


def test_a_run_that_is_stopped_says_what_is_kept(tmp_path):
    said: list[str] = []
    for state, expected in (
        (None, f"{tmp_path / 'out'}: no state was kept so far; the same command begins anew"),
        ("step 3", f"{tmp_path / 'out'}.part: keeps the state of step 3; the same command goes on from there"),
    ):
        with (
            pytest.raises(KeyboardInterrupt),
            unfinished(check_free(tmp_path / "out"), {"verb": "x"}, CPU, say=said.append) as part,
        ):
            if state is not None:
                part.save(state, fit={"weights": torch.ones(2)})
            raise KeyboardInterrupt
        assert said.pop() == expected and not said


def test_another_command_is_an_error_that_names_what_differs(tmp_path):
    out, command = tmp_path / "out", {"verb": "train", "train": {"lr": 0.1, "steps": 5}}
    interrupted(out, command)
    other = {"verb": "train", "train": {"lr": 0.2, "steps": 5}}
    message = r"out\.part: is of an unfinished run with lr 0\.1, and this one has 0\.2; give the same to go on, --over"
    with pytest.raises(InputError, match=message), unfinished(check_free(out), other, CPU):
        pass
    message = r'with options given: null, and this one has \["lr"\]'
    with pytest.raises(InputError, match=message), unfinished(check_free(out), command | {"given": ["lr"]}, CPU):
        pass
    with unfinished(check_free(out), command, CPU) as part:
        assert part.take("fit")["weights"].tolist() == [1, 1, 1]
        assert part.take("fit") is None and part.saved == "step 5"
    assert list(tmp_path.iterdir()) == []
    interrupted(out, command)
    said = []
    with unfinished(check_free(out), other, CPU, overwrite=True, say=said.append) as part:
        assert part.take("fit") is None and part.saved is None
    assert said == [f"{out}.part: was of another command; this run begins anew"]
    assert list(tmp_path.iterdir()) == []


def test_another_number_of_threads_or_processor_is_another_run(tmp_path, monkeypatch):
    out, command = tmp_path / "out", {"seed": 0}
    interrupted(out, command)
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    refused(out, f"threads {threads}, and .* {threads + 1}; give the same .OMP_NUM_THREADS={threads}. to go", command)
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ALTIVEC")
    refused(out, 'hardware "[A-Z0-9]+", and this one has "ALTIVEC"; give the same to go on', command)
    monkeypatch.undo()
    with unfinished(check_free(out), command, CPU) as part:
        assert part.take("fit") is not None


def test_a_run_that_diverged_keeps_its_last_good_state_and_stands_in_nobodys_way(tmp_path):
    out, said = tmp_path / "out", []
    message = rf"the loss .*\. The last good state, of step 5, is kept in {out}\.part$"
    with pytest.raises(Diverged, match=message), unfinished(check_free(out), {"lr": 9.0}, CPU) as part:
        part.save("step 5", fit={"step": 5})
        raise Diverged("the loss is not finite at step 7; lower --lr")
    with unfinished(check_free(out), {"lr": 0.1}, CPU, say=said.append) as part:
        assert part.take("fit") is None
    assert "was of a run that failed (the loss is not finite at step 7; lower --lr); this run begins anew" in said[0]
    with pytest.raises(Diverged, match=r"lower --lr$"), unfinished(check_free(out), {"lr": 9.0}, CPU):
        raise Diverged("the loss is not finite at step 1; lower --lr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "no json", "no fields", "a number"])
def test_a_damaged_state_is_said_and_not_used(damage, tmp_path):
    out, said = tmp_path / "out", []
    interrupted(out, {"seed": 0})
    part_folder = tmp_path / "out.part"
    (file,) = part_folder.glob("*.safetensors")
    state = part_folder / STATE_NAME
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    change = {
        "cut": lambda: file.write_bytes(file.read_bytes()[:-1]),
        "flipped": lambda: file.write_bytes(raw),
        "gone": file.unlink,
        "no json": lambda: (part_folder / STATE_NAME).write_text("{"),
        "a number": lambda: state.write_text(state.read_text().replace("step 5", "step 6")),
        "no fields": lambda: (part_folder / STATE_NAME).write_text('{"kind": "unfinished"}'),
    }
    change[damage]()
    with unfinished(check_free(out), {"seed": 0}, CPU, say=said.append) as part:
        assert part.take("fit") is None
    assert len(said) == 1 and "out.part: is damaged (" in said[0] and said[0].endswith("the run begins anew")


def test_a_folder_of_that_name_that_is_not_ours_is_left_alone(tmp_path):
    out, mine = tmp_path / "out", tmp_path / "out.part" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    refused(out, r"out\.part: holds thesis.txt, which foster did not write; move it")
    assert mine.read_text() == "mine"
    shutil.rmtree(mine.parent)
    (tmp_path / "out.part").write_text("mine")
    refused(out, r"out\.part: is there, and foster did not write it; move it")


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_kill_while_the_state_is_removed_leaves_a_folder_that_is_known(at, tmp_path, monkeypatch):
    out, removed, unlink = tmp_path / "out", [], os.unlink

    def dying(path, **rest):
        if len(removed) == at:
            raise Killed
        removed.append(Path(path).name)
        unlink(path, **rest)

    with contextlib.suppress(Killed), unfinished(check_free(out), {}, CPU) as part:
        part.save("step 5", fit={"step": 5}, best={"step": 5})
        monkeypatch.setattr(os, "unlink", dying)
    monkeypatch.undo()
    assert removed[0] == STATE_NAME and removed.index("holder.txt") == 3 if at == 4 else "holder.txt" not in removed
    with unfinished(check_free(out), {"lr": 0.1}, CPU) as part:
        assert part.take("fit") is None
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_share_a_state(tmp_path):
    with unfinished(check_free(tmp_path / "out"), {}, CPU):
        refused(tmp_path / "out", r"out\.part: process \d+ on .* is at work on it; wait for its end")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_saved_does_not_end_a_run(tmp_path, monkeypatch):
    out, said = tmp_path / "out", []

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with unfinished(check_free(out), {}, CPU, say=said.append) as part:
        part.save("step 1", fit={"weights": torch.ones(2)})
        monkeypatch.setattr(Unfinished, "_put", full)
        part.save("step 2", fit={"weights": torch.ones(2)})
        part.save("step 3", fit={"weights": torch.ones(2)})
        assert sorted(path.name for path in part.folder.iterdir()) == ["fit-1.safetensors", "holder.txt", STATE_NAME]
        assert part.saved == "step 1"
    assert len(said) == 1 and "No space left on device" in said[0]


def test_a_mounted_folder_has_its_state_inside(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    plain = states.os.path.ismount
    monkeypatch.setattr(states.os.path, "ismount", lambda path: str(path) == str(out) or plain(path))
    interrupted(out, {})
    assert [path.name for path in out.iterdir()] == [".foster-part"]
    place = check_free(out)
    with unfinished(place, {}, CPU) as part, place.fill() as folder:
        assert part.take("fit") is not None
        (folder / "README.md").write_text("whole")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "manifest.json"]


def test_states_come_back_as_they_were(tmp_path):
    table = torch.arange(12.0).view(3, 4)
    state = {"numbers": {0: {"x": table[1], "n": 2**127}, "none": None}, "list": [1.5, "a", (True, torch.tensor(3))]}
    with pytest.raises(Killed), unfinished(check_free(tmp_path / "out"), {}, CPU) as part:
        part.save("step 1", fit=state)
        raise Killed
    of_json((tmp_path / "out.part" / STATE_NAME).read_text())
    with unfinished(check_free(tmp_path / "out"), {}, CPU) as part:
        found = part.take("fit")
    assert found["numbers"][0]["n"] == 2**127 and found["numbers"]["none"] is None
    assert found["numbers"][0]["x"].tolist() == [4, 5, 6, 7] and found["list"][2][1].item() == 3
    assert found["list"][:2] == [1.5, "a"] and found["list"][2][0] is True


def test_a_run_goes_on_where_its_state_finds_no_room(tmp_path):
    """What was saved last stays, for a run that is cut off."""
    place, said = check_free(tmp_path / "out"), []
    with unfinished(place, {}, CPU, say=said.append) as part:
        part.save("step 1", weights=torch.zeros(4))
        with little_room(1000):
            part.save("step 2", weights=torch.zeros(1000))
        assert part.saved == "step 1"
        part.save("step 3", weights=torch.zeros(4))
        files = {path.name for path in part.folder.iterdir()}
    assert len(said) == 1 and "cannot write there (File too large); a run that is cut off loses more" in said[0]
    assert files == {"holder.txt", "state.json", "weights-1.safetensors"}
