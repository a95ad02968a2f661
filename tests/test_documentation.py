"""README and docs: every block is run on a small log with small settings; every link and anchor is there.

What a block says that it needs has a stand-in here: files of public data sets are made, a server of this machine gives
what lies in the network, the tiny encoder is each encoder of the hub, the CPU is the GPU.
"""

import datetime as dt
import functools
import gzip
import hashlib
import http.server
import importlib.util
import json
import re
import shlex
import shutil
import sys
import threading
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import foster
from documentation import NEEDS, NOTEBOOK, PAGES, ROOT, anchors, blocks, links, prose, run_cells
from foster import cli
from foster.data.dataset import Dataset
from foster.distillation.options import DistillOptions
from foster.models.options import ModelOptions
from foster.runs import pretrain, train
from foster.text.options import EncoderOptions
from foster.training.options import TeacherOptions, TrainOptions
from processes import in_processes
from synthetic_log import synthetic_log, write_csv

VERBS = get_command(cli.app).commands
FULL = {"--steps": "4", "--eval-every": "2", "--dim": "8", "--heads": "1", "--checkpoints": "3"}
SMALL = {
    "pretrain": {**FULL, "--encoder": "my-encoder"},
    "distill": {"--select-every": "2", "--student-steps": "2"},
    "select": {"--dim": "8", "--heads": "1", "--encoder": "my-encoder"},
    "check": {"--encoder": "my-encoder"},
    "train": {"--steps": "4"},
    "tune": {"--trials": "2"},
    "audit": {"--shadows": "0"},
    "bench": {**FULL, "--seeds": "1", "--student-steps": "2", "--encoder": "my-encoder"},
}
"""Flags that replace those of a line."""
FIRST = (
    "foster prepare log.csv items.csv --out data",
    "foster pretrain data --out teacher",
    "foster distill data --teacher teacher --out distilled",
    "foster train distilled --validation data --out model",
)
PRIVATE = importlib.util.find_spec("opacus") is not None
"""Whether the extra is there without which two lines are parsed only."""
MODEL, RECIPE = ModelOptions(dim=8, heads=1), TrainOptions(steps=4, eval_every=2)
STUDENT = {"select_every": 2, "student_steps": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_encoder):
    """A folder with log.csv, items.csv and my-encoder, and with what the pages' lines start from."""
    folder = tmp_path_factory.mktemp("made")
    rows = [{**row, "item_id": str(row["item_id"]).replace("i", "item-", 1)} for row in synthetic_log(users=80)]
    write_csv(folder / "log.csv", [{name: row[name] for name in ("user_id", "item_id", "timestamp")} for row in rows])
    titles = {row["item_id"]: row["title"] for row in rows}
    write_csv(folder / "items.csv", [{"item_id": item, "title": title} for item, title in titles.items()])
    shutil.copytree(tiny_encoder, folder / "my-encoder")
    data = Dataset.prepare([folder / "log.csv", folder / "items.csv"])
    data.save(folder / "data")
    encoder = EncoderOptions(encoder=str(tiny_encoder))
    teacher = TeacherOptions(checkpoints=3)
    pretrain(data, folder / "teacher", encoder=encoder, model=MODEL, train=RECIPE, teacher=teacher)
    distilled, _ = foster.distill(data, folder / "teacher", DistillOptions(**STUDENT))
    distilled.save(folder / "distilled")
    train(distilled)[0].save_pretrained(folder / "model")
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of that folder, which is the current one. Maps of few bits are trained in few steps."""
    for recipe in ("EXPERTS", "LINEAR"):
        monkeypatch.setattr(f"foster.distillation.compact.{recipe}", RECIPE)
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def public(place):
    """Public data sets in that folder, and the address of a server of its files."""
    rows = synthetic_log(users=40)
    (place / "games").symlink_to("data")  # a data set that is called so
    (place / "ml-1m").mkdir()
    lines = [f"{row['user_id'][1:]}::{row['item_id'][1:]}::5::{row['timestamp']}\n" for row in rows]
    (place / "ml-1m" / "ratings.dat").write_text("".join(lines))
    titles = {row["item_id"][1:]: row["title"] for row in rows}
    (place / "ml-1m" / "movies.dat").write_text("".join(f"{item}::{titles[item]}::Comedy\n" for item in titles))
    reviews = [{"user_id": r["user_id"], "parent_asin": r["item_id"], "timestamp": r["timestamp"]} for r in rows]
    for row in reviews:
        row |= {"asin": row["parent_asin"], "rating": 5.0, "title": "good", "text": ""}
    items = [{"parent_asin": f"i{item}", "title": title, "store": "maker"} for item, title in titles.items()]
    for name, content in (("Video_Games.jsonl.gz", reviews), ("meta_Video_Games.jsonl.gz", items)):
        with gzip.open(place / name, "wt") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in content)
    handler = functools.partial(_Quiet, directory=place)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def small_functions(tiny_encoder, monkeypatch):
    """Let the functions of ``foster`` take small options, whatever they are given."""
    encoder, real = EncoderOptions(encoder=str(tiny_encoder)), {name: getattr(foster, name) for name in foster.__all__}

    def small_pretrain(data, out, **given):
        return real["pretrain"](data, out, **given, encoder=encoder, model=MODEL, train=RECIPE)

    def small_distill(data, teacher, options=None):
        return real["distill"](data, teacher, (options or DistillOptions()).model_copy(update=STUDENT))

    def small_tune(*given, options, **more):
        options = options.model_copy(update={"trials": 2})
        return real["tune"](*given, options=options, train=TrainOptions(steps=2), **more)

    for function in (small_pretrain, small_distill, small_tune):
        monkeypatch.setattr(foster, function.__name__.removeprefix("small_"), function)


def flag(arguments, name):
    """Return the value of a flag, or None."""
    return arguments[arguments.index(name) + 1] if name in arguments else None


def with_flags(arguments, flags):
    """Return arguments with flags that replace those of the same names; None takes a flag away."""
    kept = list(arguments)
    for name, value in flags.items():
        if name in kept:
            del kept[kept.index(name) : kept.index(name) + 2]
        kept += [] if value is None else [name, value]
    return kept


def small(verb, arguments):
    """Return the arguments of a verb for a small log."""
    if arguments[:1] == ["grocery"]:
        arguments = ["log.csv", "items.csv", *arguments[1:]]
    flags = dict(SMALL.get(verb, {}))
    if flag(arguments, "--epsilon"):  # such a training looks at no validation user
        flags["--eval-every"] = None
    if verb == "distill" and (flag(arguments, "--method") or flag(arguments, "--steps")):
        flags["--steps"] = "2"
    if verb == "tune":
        flags |= {"--steps": "2", "--eval-every": None, "--space": flag(arguments, "--space") or "small-space.yaml"}
        flags |= {"--retrain": "1", "--retrain-steps": "2"} if flag(arguments, "--retrain") else {}
    if verb == "bench":
        flags["--methods"] = flag(arguments, "--methods") or "foster"
    return with_flags(arguments, flags)


def with_stand_ins(line, server):
    """Return a line with what this machine has in place of the network and of a GPU."""
    line = line.replace("https://host/", server).replace("--device cuda:0", "--device cpu")
    return line.replace("#sha256=0f1e...", f"#sha256={hashlib.sha256(Path('log.csv').read_bytes()).hexdigest()}")


def run_line(line, monkeypatch, capsys, made):
    """Run a line of the command line in this process, or in two, in place of what the page began with."""
    words = shlex.split(line, comments=True)
    launched = words[0] == "torchrun"
    verb, *arguments = words[5 if launched else 1 :]
    arguments, out = small(verb, arguments), flag(arguments, "--out")
    if out in made and Path(out).exists() and verb not in ("tune", "bench"):
        shutil.rmtree(out)
    if launched:
        assert "2 processes" in in_processes(2, "-m", "foster", verb, *arguments).stderr
        return
    monkeypatch.setattr(sys, "argv", ["foster", verb, *arguments])
    try:
        cli.main()
    except SystemExit as ended:
        assert not ended.code, (line, capsys.readouterr().err)


def check_line(line):
    """See that a line is one of foster with flags that exist, or names an extra or a target that exists."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["torchrun"]:
        assert words[1:5] == ["--nproc_per_node", "2", "-m", "foster"], line
        words = words[4:]
    if words[:2] == ["pip", "install"]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"]
        for word in words[2:]:
            known = re.fullmatch(r"\.(\[([\w,]+)\])?", word)
            assert known is None or set((known[2] or "demo").split(",")) <= extras.keys(), line
            assert known or word == "--no-deps" or word in str(extras["demo"]), line
    elif words[:1] == ["make"]:
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8"), line
    elif words:
        assert words[0] == "foster", line
        VERBS[words[1]].make_context(words[1], words[2:])  # raises where a flag or an argument is not so


def write_yaml(text):
    """Write a block under the name that its first line says, with few steps."""
    name = re.match(r"# (\S+\.yaml)\n", text)[1]
    content = yaml.safe_load(text)
    for row in content.values():
        if isinstance(row, dict) and (row.get("steps") or row.get("targets") == "next"):
            row |= {"steps": 2, "select_every": 2}
    Path(name).write_text(yaml.safe_dump(content), encoding="utf-8")


# The page of serving has a test of its own, tests/serving/test_serving_docs.py.
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "serving.md"], ids=lambda page: page.name)
def test_blocks_run(page, place, public, small_functions, monkeypatch, capsys):
    made, names = {path.name for path in place.iterdir()}, {}
    (place / "small-space.yaml").write_text("dropout: [0.0, 0.1]\n")
    (place / "FOLDER").symlink_to("data")
    found = blocks(page)
    if page.name == "README.md":  # it begins with nothing
        for name in ("data", "teacher", "distilled", "model"):
            shutil.rmtree(name)
    for block in found:
        if block.language == "yaml":
            write_yaml(block.text)
    for block in found:
        if block.text.startswith("# needs folders that the command line made"):
            for line in FIRST:
                run_line(line, monkeypatch, capsys, made)
        if block.language == "bash":
            for line in block.text.splitlines():
                check_line(line)
                if line.startswith(("foster ", "torchrun ")) and (PRIVATE or "private" not in line):
                    run_line(with_stand_ins(line, public), monkeypatch, capsys, made)
        elif block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, page.name, "exec"), names)
            assert page.name != "README.md" or capsys.readouterr().out.count("item-") == 5
        else:
            assert block.language in ("yaml", "text", "{toctree}"), (page.name, block.line, block.language)


def test_lines_that_are_wrong_are_seen():
    for line in ("foster train data --out x --no-such 1", "foster nothing", "pip install '.[nothing]'", "make nothing"):
        with pytest.raises(Exception):  # noqa: B017 - of the parser, or an assertion
            check_line(line)


def test_what_a_block_needs_is_its_first_line():
    for page in PAGES:
        for block in blocks(page):
            inside = [line for line in block.text.splitlines()[1:] if re.match(r"# needs ", line)]
            assert not inside, (page.name, block.line)
            assert bool(NEEDS.match(block.text)) == block.text.startswith("# needs "), (page.name, block.line)


def test_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 115
    code = next(block.text for block in blocks(ROOT / "README.md") if block.language == "python")
    assert len([line for line in code.splitlines() if line]) <= 10


def test_what_is_understood_of_own_data(tmp_path, monkeypatch, capsys):
    users = [f"u{(n * 7) % 60:03}" for n in range(635)]
    when = [f"{dt.datetime.fromtimestamp(1_600_000_000 + 3_600 * n, dt.UTC):%Y-%m-%d %H:%M:%S}" for n in range(635)]
    rows = zip(users, (f"i{n % 40}" for n in range(635)), when, strict=True)
    write_csv(tmp_path / "log.csv", [dict(zip(("customer_id", "sku", "ordered_at"), row, strict=True)) for row in rows])
    texts = {"title": "lamp", "brand": "maker", "category": "hall", "price": "3"}
    write_csv(tmp_path / "items.csv", [{"sku": f"i{n}", **texts} for n in range(40)])
    monkeypatch.chdir(tmp_path)
    command, shown = blocks(ROOT / "docs" / "data.md")[:2]
    assert shown.language == "text"
    run_line(command.text, monkeypatch, capsys, ())
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in shown.text.splitlines() if line not in printed] == []
    assert not list(tmp_path.glob("data*"))


def test_notebook_runs(tmp_path, tiny_encoder, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    data = Dataset.read(made / "data")
    monkeypatch.setattr("foster.data.grocery.grocery", lambda: data)
    parameters = f"""
from foster import DistillOptions
folder, encoder, model = Path("small"), EncoderOptions(encoder={str(tiny_encoder)!r}), ModelOptions(dim=8, heads=1)
recipe, student = TrainOptions(steps=4, eval_every=2), TrainOptions(steps=2)
"""
    printed = [text for _, text in run_cells(NOTEBOOK, parameters)]
    assert sum("NDCG@10" in text for text in printed) == 2
    assert (tmp_path / "small" / "model" / "model.safetensors").is_file()


def test_notebook_is_as_it_ran():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    names = [cell["metadata"].get("tags") for cell in cells if cell["cell_type"] == "code"]
    assert names.count(["parameters"]) == 1


def notebook_links():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.findall(r"\]\(([^()\s]+)\)", text)


@pytest.mark.parametrize(
    "page",
    [*PAGES, NOTEBOOK, ROOT / "CHANGELOG.md", *sorted((ROOT / "benchmarks").rglob("*.md"))],
    ids=lambda page: page.name,
)
def test_links_lead_somewhere(page):
    for target in notebook_links() if page == NOTEBOOK else links(page):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        to = (page.parent / name).resolve() if name else page
        assert to.is_relative_to(ROOT), target
        assert to.exists(), target
        if anchor:
            assert anchor in anchors(to), target


def test_all_that_is_offered_is_in_the_reference():
    page = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    named = set(re.findall(r"^\.\. \w+:: foster\.(\w+)$", page, re.M))
    assert named == set(foster.__all__) - {"__version__"}


def test_pages_have_no_pictures_of_other_places():
    for page in PAGES:
        assert not re.findall(r"!\[[^\]]*\]\(https?:", prose(page)), page.name
