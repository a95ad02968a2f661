"""Verbs where the machine is short of something: they end well, or with one line and status 2."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from synthetic_log import synthetic_log, write_csv
from zygote import Ended, Zygote

SHAPE = ("--dim", 8, "--heads", 1, "--layers", 1, "--max-length", 8)
SHORT = ("--steps", 2, "--eval-every", 1)
VERBS = (
    "prepare", "pretrain", "distill", "check", "select", "train", "tune", "evaluate", "recommend", "inspect", "doctor",
)  # fmt: skip
MAKERS = ("prepare", "pretrain", "distill", "select", "train", "tune")
HOMELESS = dict.fromkeys(("FOSTER_CACHE", "HOME", "XDG_CACHE_HOME"))
NOBODY = 54321
MEET = {"WORLD_SIZE": "2", "RANK": "0"}


@pytest.fixture(scope="module")
def foster():
    """Return what runs a verb in a process of its own."""
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(scope="module")
def anybodys() -> Iterator[Path]:
    """Return a folder into which anybody may look: pytest's own are closed to others."""
    with TemporaryDirectory(prefix="foster-test-") as name:
        place = Path(name).resolve()
        place.chmod(0o755)
        yield place


@pytest.fixture
def tmp_path(anybodys) -> Path:
    """Return an empty folder there."""
    place = anybodys / f"test-{sum(1 for _ in anybodys.iterdir())}"
    place.mkdir()
    return place


@pytest.fixture(scope="module")
def root(anybodys, tiny_encoder, foster) -> Path:
    """Return a folder that anybody can read, with a log, a data set, a teacher and sequences.

    Every verb is called once, which loads for all calls what it needs.
    """
    root = anybodys / "environment"
    root.mkdir()
    write_csv(root / "log.csv", synthetic_log(20))
    shutil.copytree(tiny_encoder, root / "encoder")
    names = {"prepare": "data", "pretrain": "teacher", "distill": "distilled"}
    for verb in VERBS:
        out = ("--out", root / names.get(verb, f"of-{verb}")) if verb in MAKERS else ()
        ended = foster(root, *arguments(root, verb), *out, learn=True)
        assert ended.code == 0, ended.err
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
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


def line_of(ended: Ended) -> str:
    """Return the one line with which a call ended, "" if it ended well."""
    assert "Traceback" not in ended.err and "panicked" not in ended.err, ended.err
    assert ended.code in (0, 2), (ended.code, ended.err)
    said = [line for line in ended.err.splitlines() if line.startswith("foster: ")]
    assert len(said) == (ended.code == 2), ended.err
    assert not said or ended.err.splitlines()[-1] == said[0]
    return said[0] if said else ""


def out_of(verb: str, place: Path) -> tuple[object, ...]:
    return ("--out", place / "made" / "out") if verb in MAKERS else ()


CASES: dict[str, tuple[dict, str, tuple[str, ...]]] = {
    "disk full": ({"stdout": "/dev/full"}, "standard output", ("prepare", "recommend", "doctor")),
    "no stdout": ({"stdout": "closed"}, "standard output is closed", ("prepare", "doctor")),
    "no stderr": ({"stderr": "closed"}, "", ("recommend", "doctor")),
    "ascii": ({"encoding": "ascii"}, "", ("prepare", "recommend", "inspect")),
    "small files": ({"file_size": 700}, "File too large", ("prepare", "pretrain", "distill", "select", "train")),
    "no memory": ({"memory": 2**20}, "memory is limited", ("prepare", "evaluate", "doctor")),
    "little memory": ({"memory": 2**25}, "memory is limited", ("prepare",)),
    "cache is no folder": ({"env": {"FOSTER_CACHE": "/dev/null/cache"}}, "", ("pretrain",)),
    "no cache": ({"env": {"FOSTER_CACHE": "/proc/nowhere/cache"}}, "", ("recommend",)),
    "cache of others": ({"user": NOBODY, "env": {}}, "FOSTER_CACHE", ("train",)),
    "nobody": ({"env": HOMELESS, "user": NOBODY}, "FOSTER_CACHE", ("pretrain", "train", "recommend", "doctor")),
    "nobody, without vectors of texts": ({"env": HOMELESS, "user": NOBODY}, "", ("prepare", "inspect")),
    # Even of absolute paths: what libraries load later, such as MKL's products, asks where it is.
    "gone": ({"gone": True}, "the current folder is gone", ("prepare", "recommend", "tune")),
    "no threads": ({"env": {"POLARS_MAX_THREADS": "0"}}, "POLARS_MAX_THREADS is '0'; set it", ("train", "doctor")),
    "no count": ({"env": {"WORLD_SIZE": "x"}}, "WORLD_SIZE is 'x', no number", ("prepare", "evaluate")),
    "no launcher": ({"env": {"WORLD_SIZE": "2", "RANK": None}}, "but RANK is not set", ("train", "evaluate")),
    "no address": ({"env": MEET | {"MASTER_ADDR": None}}, "but MASTER_ADDR is not set", ("train",)),
    "no host": ({"env": MEET | {"MASTER_ADDR": "nohost.invalid"}}, "'nohost.invalid' is no known", ("train",)),
}  # fmt: skip
"""What a machine is short of, words of the one line or "" where it ends well, and the verbs."""


@pytest.mark.parametrize(("case", "verb"), [(case, verb) for case, rest in CASES.items() for verb in rest[2]])
def test_what_a_machine_is_short_of_is_one_line(foster, root, tmp_path, case, verb):
    environment, words, _ = CASES[case]
    if "user" in environment and os.getuid():
        pytest.skip("only root can be another user")
    environment = environment | ({"gone": str(tmp_path / "gone")} if "gone" in environment else {})
    if case == "cache of others":
        (tmp_path / "cache" / "embeddings").mkdir(parents=True)
        (tmp_path / "cache").chmod(0o700)
        environment["env"] = {"FOSTER_CACHE": str(tmp_path / "cache")}
    tmp_path.chmod(0o777)
    ended = foster(tmp_path, *arguments(root, verb), *out_of(verb, tmp_path), **environment)
    said = line_of(ended)
    assert (words in said) if words else not said, said
    if said and environment.get("stdout") is None:  # nothing half-written is left; a study goes on later
        left = {path.name for path in tmp_path.iterdir()} - {"out", "err", "cache"}
        assert not left or (verb == "tune" and left == {"made"})


NAMES = {
    "long": ("x" * 300, VERBS[:-1]),
    "deep": ("x/" * 3000, ("prepare", "distill")),
    "pipe": ("pipe", VERBS[:-1]),
    "in a pipe": ("pipe/x", ("prepare", "distill")),
    "newline": ("a\nb", ("prepare", "distill")),
    "no text": ("a\udcff", ("prepare", "distill")),
}


@pytest.mark.parametrize(("name", "verb"), [(name, verb) for name, rest in NAMES.items() for verb in rest[1]])
def test_sources_that_cannot_be_are_one_line(foster, root, tmp_path, name, verb):
    os.mkfifo(tmp_path / "pipe")
    given, place = arguments(root, verb), 2 if verb == "select" else 1
    given[place] = tmp_path / NAMES[name][0]
    assert line_of(foster(tmp_path, *given, *out_of(verb, tmp_path), seconds=60))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("verb", ["prepare", "tune"])
@pytest.mark.parametrize("name", ["long", "deep", "pipe", "in a pipe", "newline", "escapes"])
def test_places_for_results_that_cannot_be_are_one_line(foster, root, tmp_path, name, verb):
    os.mkfifo(tmp_path / "pipe")
    out = tmp_path / {"escapes": "\x1b[2J"}.get(name, NAMES.get(name, ("",))[0])
    said = line_of(foster(tmp_path, *arguments(root, verb), "--out", out, seconds=60))
    assert (said == "") == (name in ("newline", "escapes")), said
    assert said.isprintable() and (said != "" or out.is_dir())


@pytest.mark.parametrize("name", ["long", "pipe"])
def test_option_files_that_cannot_be_are_one_line(foster, root, tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    for verb in ("prepare", "recommend"):
        config = tmp_path / NAMES[name][0]
        assert line_of(foster(tmp_path, *arguments(root, verb), *out_of(verb, tmp_path), "--config", config))
