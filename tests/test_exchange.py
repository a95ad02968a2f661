"""A folder takes the place of another, and at every moment one of the two is there."""

import errno
import io
import multiprocessing
import os
import subprocess
import sys
import threading

import pytest

from foster import exchange
from foster.artefacts import artefact_kind, check_free, marked, new_folder, write_json
from foster.errors import InputError
from foster.exchange import SWAP_NAME, Holder, clear_leftovers, settle, work_folder
from foster.manifest import read_whole, verify

HOW = pytest.mark.parametrize("how", ["exchange", "file by file"])


def write(out, text, overwrite=True):
    """Make a folder whose two files say the same."""
    with new_folder(out, overwrite) as folder:
        write_json(folder / "config.json", marked("model") | {"seed": len(text)})
        (folder / "README.md").write_text(text)
        (folder / "model.safetensors").write_text(text)
    return out


def read(out):
    """Read what ``write`` wrote."""

    def parts():
        verify(out)
        return {(out / name).read_text() for name in ("README.md", "model.safetensors")}

    (text,) = read_whole(out, parts)
    return text


def as_mount(monkeypatch, out):
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) == str(out))


def cannot(one, other):
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


@pytest.mark.parametrize("how", ["exchange", "mount", "current", "cannot exchange", "another device"])
def test_a_folder_is_replaced_in_every_way(tmp_path, monkeypatch, how):
    out = write(tmp_path / "out", "old")
    (out / "metrics.jsonl").unlink(missing_ok=True)
    number, mode = out.stat().st_ino, 0o750
    out.chmod(mode)
    if how == "mount":
        as_mount(monkeypatch, out)
    elif how == "current":
        monkeypatch.chdir(out)
    elif how == "cannot exchange":
        monkeypatch.setattr(exchange, "_exchange", cannot)
    elif how == "another device":
        monkeypatch.setattr(exchange, "_exchange", cannot)
        rename = os.rename

        def other_device(source, target, *rest, **more):
            if str(target).endswith("/new") and ".foster-swap" not in str(source):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            return rename(source, target, *rest, **more)

        monkeypatch.setattr(os, "rename", other_device)
    write(out, "new")
    assert read(out) == "new" and out.stat().st_mode & 0o777 == mode
    assert (out.stat().st_ino == number) == (how != "exchange")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def killed(out, number, how):
    """Replace ``out`` in a process that ends at its file operation of that number."""
    count = 0

    def dying(plain):
        def call(*args, **rest):
            nonlocal count
            count += 1
            if count == number:
                os._exit(9)
            return plain(*args, **rest)

        return call

    if how != "exchange":
        os.path.ismount = lambda path: str(path) == str(out)
    for name in ("mkdir", "rename", "replace", "rmdir", "unlink", "chmod", "open"):
        setattr(os, name, dying(getattr(os, name)))
    io.open = dying(io.open)
    exchange._exchange = dying(exchange._exchange)
    write(out, "new")
    os._exit(0)


@HOW
def test_a_kill_at_any_file_operation_leaves_the_old_or_the_new(tmp_path, how):
    """In the middle of it, too, a reader gets one of the two, and the next run clears up."""
    states = []
    context = multiprocessing.get_context("fork")
    for number in range(1, 200):
        place = tmp_path / str(number)
        place.mkdir()
        out = write(place / "out", "old")
        child = context.Process(target=killed, args=(out, number, how))
        child.start()
        child.join()
        states.append(read(out))
        check_free(out, overwrite=True)
        assert [path.name for path in place.iterdir()] == ["out"]
        assert read(out) == states[-1]
        assert not [path for path in out.iterdir() if path.name.startswith(".")]
        if child.exitcode == 0:
            break
        assert child.exitcode == 9
    assert number > 10 and states[0] == "old" and states[-1] == "new"
    assert states == sorted(states, reverse=True)  # old until it is new


@HOW
def test_readers_beside_a_writer_never_see_a_mixture(tmp_path, monkeypatch, how):
    out = write(tmp_path / "out", "text 0")
    if how != "exchange":
        as_mount(monkeypatch, out)
    done, seen, errors = threading.Event(), set(), []

    def reads():
        while not done.is_set():
            try:
                seen.add(read(out))
            except Exception as error:
                errors.append(error)

    readers = [threading.Thread(target=reads) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 40):
        write(out, f"text {number}")
    done.set()
    for reader in readers:
        reader.join()
    assert not errors and len(seen) > 1


def test_of_two_writers_one_wins_and_the_other_keeps_its_result(tmp_path):
    out = tmp_path / "out"
    places = [check_free(out) for _ in range(3)]
    with places[0].fill() as first:
        with pytest.raises(InputError, match="what was made is kept in") as caught, places[1].fill() as second:
            (second / "two").touch()
            (out).mkdir()
            (out / "mine").touch()
        assert str(caught.value).endswith("out-2") and (tmp_path / "out-2" / "two").exists()
        (out / "mine").unlink()
        (first / "one").touch()
        with pytest.raises(InputError, match=rf"out: process {os.getpid()} on .* since \d{{4}}-.* is writing it; wait"):
            check_free(out)
    assert (out / "one").exists()
    with pytest.raises(InputError, match=r"what was made is kept in .*out-3"), places[2].fill() as third:
        (third / "three").touch()


def test_leftovers_of_killed_runs_are_removed_and_those_of_others_are_not(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    for inside in (True, False):
        code = "import os, sys; from pathlib import Path; from foster.exchange import work_folder\n"
        code += "with work_folder(Path(sys.argv[1]), bool(int(sys.argv[2]))) as work:\n"
        code += "    (work / 'half').touch(); os._exit(9)"
        subprocess.run([sys.executable, "-c", code, str(out), str(int(inside))], check=False)
        (folder,) = (out if inside else tmp_path).glob("*.foster-*")
        assert (folder / "half").exists() and "since" in str(Holder.of(folder))
        monkeypatch.setattr(Holder, "here", classmethod(lambda cls: cls("20260101T000000", "another", "00000000", 1)))
        assert check_free(out).content == () and folder.exists()  # another machine may still write it
        monkeypatch.undo()
        assert check_free(out).content == () and not folder.exists()
    with work_folder(out, False) as work:
        assert clear_leftovers(out).pid == os.getpid() and work.exists()
    assert clear_leftovers(out) is None and not work.exists()
    mine = tmp_path / ".out.foster-mine"
    mine.mkdir()
    assert clear_leftovers(out) is None and mine.exists()


def test_what_cannot_be_settled_is_said(tmp_path, monkeypatch):
    out = write(tmp_path / "out", "old")
    (out / SWAP_NAME).mkdir()
    monkeypatch.setattr(exchange, "fcntl", None)
    with pytest.raises(InputError, match="out: is half replaced, since a run was killed"):
        artefact_kind(out)
    monkeypatch.undo()
    settle(out)
    assert artefact_kind(out) == "model"


def test_a_result_goes_into_an_empty_mount(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    as_mount(monkeypatch, out)
    with new_folder(out) as folder:
        assert folder.parent == out  # elsewhere it might not fit, or not be writable
        (folder / "x").touch()
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "x"]
