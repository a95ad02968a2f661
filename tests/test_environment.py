"""Every verb where the machine is short of something: it ends well, or with one line and status 2."""

import os
import shutil
from pathlib import Path

import pytest

from synthetic_log import synthetic_log, write_csv
from zygote import Zygote

SHAPE = ("--dim", 8, "--heads", 1, "--layers", 1, "--max-length", 8)
SHORT = ("--steps", 2, "--eval-every", 1)
VERBS = (
    "prepare", "check", "pretrain", "distill", "select", "train", "tune", "evaluate", "recommend", "inspect", "doctor",
)  # fmt: skip
HOMES = ("FOSTER_CACHE", "HOME", "XDG_CACHE_HOME")
MAKERS = ("prepare", "pretrain", "distill", "select", "train", "tune")


@pytest.fixture(scope="module")
def foster():
    """Return what runs a verb in a process of its own."""
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny_encoder, foster) -> Path:
    """Return a folder that anybody can read, with a log, a data set, a teacher and sequences."""
    root = tmp_path_factory.mktemp("environment")
    write_csv(root / "log.csv", synthetic_log(20))
    shutil.copytree(tiny_encoder, root / "encoder")
    for verb, name in (("prepare", "data"), ("pretrain", "teacher"), ("distill", "distilled")):
        ended = foster(root, *arguments(root, verb), *(("--out", root / name) if verb in MAKERS else ()))
        assert ended.code == 0, ended.err
    for folder in (root, *root.parents):
        if folder.stat().st_uid == os.getuid() and folder.is_relative_to(tmp_path_factory.getbasetemp().parent):
            folder.chmod(0o755)
    return root


def arguments(root: Path, verb: str) -> list[object]:
    """Return a short call of a verb, but for ``--out``."""
    data, teacher, distilled = root / "data", root / "teacher", root / "distilled"
    return {
        "prepare": ["prepare", root / "log.csv", "--k-core", 0],
        "check": ["check", data, "--encoder", root / "encoder"],
        "pretrain": ["pretrain", data, "--encoder", root / "encoder", *SHAPE, *SHORT, "--checkpoints", 2],
        "distill": [
            "distill", data, "--teacher", teacher, "--sequences", 3, "--length", 6, "--steps", 1, "--student-steps", 2,
        ],
        "select": ["select", "random", data, "--sequences", 3, "--encoder", root / "encoder", *SHAPE],
        "train": ["train", distilled, "--steps", 2],
        "tune": ["tune", distilled, "--validation", data, "--trials", 1, "--steps", 2],
        "evaluate": ["evaluate", teacher, data],
        "recommend": ["recommend", teacher, "--history", "i1", "--history", "a red thing"],
        "inspect": ["inspect", distilled],
        "doctor": ["doctor"],
    }[verb]  # fmt: skip


def fine_or_one_line(ended, *words: str) -> bool:
    """See that a call ended well, or with one line that holds the words; return whether it ended well."""
    assert "Traceback" not in ended.err and "panicked" not in ended.err, ended.err
    assert ended.code in (0, 2), (ended.code, ended.err)
    said = [line for line in ended.err.splitlines() if line.startswith("foster: ")]
    assert len(said) == (ended.code == 2), ended.err
    if said:
        assert ended.err.splitlines()[-1] == said[0]
        assert not words or any(word in said[0] for word in words), said[0]
    return ended.code == 0


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("environment", "words", "fine"),
    [
        ({"stdout": "/dev/full"}, ["No space left"], False),
        ({"stdout": "closed"}, ["closed", "Bad file"], None),
        ({"encoding": "ascii"}, [], True),
        ({"file_size": 700}, ["File too large"], None),
        ({"memory": 2**20}, ["memory"], None),
        ({"memory": 2**25}, ["memory"], None),
        ({"env": {"FOSTER_CACHE": "/dev/null/cache"}}, ["/dev/null/cache"], None),
        ({"env": {"FOSTER_CACHE": "/proc/nowhere/cache"}}, ["/proc/nowhere"], None),
        ({"env": dict.fromkeys(HOMES), "user": 54321}, ["FOSTER_CACHE", "cannot write"], None),
        ({"gone": True}, ["the current folder is gone"], None),
    ],
    ids=[
        "full", "closed", "ascii", "file size", "no memory", "little memory", "no cache", "no folder", "nobody", "gone",
    ],
)  # fmt: skip
def test_what_a_machine_is_short_of_is_one_line(foster, root, tmp_path, verb, environment, words, fine):
    if "user" in environment and os.getuid():
        pytest.skip("only root can be another user")
    if environment.get("gone"):
        environment = {"gone": str(tmp_path / "gone")}
    out = ("--out", tmp_path / "made" / "out") if verb in MAKERS else ()
    tmp_path.chmod(0o755)
    ended = foster(tmp_path, *arguments(root, verb), *out, **environment)
    assert fine_or_one_line(ended, *words) in ((True, False) if fine is None else (fine,))
    if ended.code and environment.get("stdout") is None:
        assert {path.name for path in tmp_path.iterdir()} <= {"out", "err", "made"}
        assert not (tmp_path / "made").exists() or not [p for p in (tmp_path / "made").iterdir() if p.name != "out"]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "doctor"])
@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\nb", "\x1b[2J", "pipe", "pipe/x"])
def test_names_that_cannot_be(foster, root, tmp_path, verb, name):
    os.mkfifo(tmp_path / "pipe")
    path, given = tmp_path / name, arguments(root, verb)
    place = 2 if verb == "select" else 1
    ended = foster(
        tmp_path,
        *given[:place],
        path,
        *given[place + 1 :],
        *(("--out", tmp_path / "made") if verb in MAKERS else ()),
        seconds=300,
    )
    assert not fine_or_one_line(ended)
    assert not (tmp_path / "made").exists()
    if verb in MAKERS:
        ended = foster(tmp_path, *given, "--out", path, seconds=300)
        assert fine_or_one_line(ended) == (name in ("a\nb", "\x1b[2J")), ended.err
    if verb != "check":
        assert not fine_or_one_line(foster(tmp_path, *given, "--config", path, seconds=300))
