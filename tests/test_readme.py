"""The README's Python lines and command lines, run as they stand on a small log with small settings."""

import datetime as dt
import re
import shlex
import sys
from pathlib import Path

import pytest

from foster import cli
from synthetic_log import synthetic_log, write_csv

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SMALL = {
    "pretrain": "--steps 4 --eval-every 2 --dim 8 --heads 1 --checkpoints 3",
    "distill": "--steps 2 --select-every 2 --student-steps 2",
    "select": "--dim 8 --heads 1",
    "train": "--steps 4",
    "tune": "--trials 2 --space small-space.yaml",
    "bench": "--steps 4 --eval-every 2 --dim 8 --heads 1 --checkpoints 3 --student-steps 2 --variants small.yaml",
}


def block(heading: str, language: str, which: int = 0) -> str:
    """Return a code block of a language under a heading."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)[which]


@pytest.fixture
def small_log(tmp_path, monkeypatch):
    """A folder with log.csv and items.csv, item ids as in the README."""
    rows = [{**row, "item_id": str(row["item_id"]).replace("i", "item-", 1)} for row in synthetic_log(users=80)]
    write_csv(tmp_path / "log.csv", [{name: row[name] for name in ("user_id", "item_id", "timestamp")} for row in rows])
    (tmp_path / "small-space.yaml").write_text("steps: [2]\ndropout: [0.0, 0.1]\n")
    titles = {row["item_id"]: row["title"] for row in rows}
    write_csv(tmp_path / "items.csv", [{"item_id": item, "title": title} for item, title in titles.items()])
    (tmp_path / "small.yaml").write_text("foster: {method: foster, steps: 2, select_every: 2}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_command_lines(small_log, tiny_encoder, monkeypatch, capsys):
    lines = block("The same as command lines", "bash").splitlines()
    assert len(lines) >= 9
    for line in lines:
        program, verb, *rest = shlex.split(line, comments=True)
        assert program == "foster"
        extra = shlex.split(SMALL.get(verb, ""))
        if verb in ("pretrain", "select", "bench"):
            extra += ["--encoder", str(tiny_encoder)]
        monkeypatch.setattr(sys, "argv", [program, verb, *rest, *extra])
        try:
            cli.main()
        except SystemExit as ended:
            assert not ended.code, (line, capsys.readouterr().err)
    assert (small_log / "model" / "model.safetensors").is_file()


def test_python_lines(small_log, tiny_encoder, capsys):
    from foster import DistillOptions, EncoderOptions, ModelOptions, TrainOptions

    code = block("In Python", "python")
    assert len([line for line in code.splitlines() if line]) <= 10
    small = {
        'pretrain(data, "teacher")': 'pretrain(data, "teacher", encoder=ENCODER, model=MODEL, train=TRAIN)',
        'distill(data, "teacher")': 'distill(data, "teacher", DISTILL)',
    }
    for line, replacement in small.items():
        assert line in code
        code = code.replace(line, replacement)
    names = {
        "ENCODER": EncoderOptions(encoder=str(tiny_encoder)),
        "MODEL": ModelOptions(dim=8, heads=1),
        "TRAIN": TrainOptions(steps=4, eval_every=2),
        "DISTILL": DistillOptions(steps=2, select_every=2, student_steps=2),
    }
    exec(compile(code, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.count("item-") == 5

    code = block("In Python", "python", 1)
    small = {
        "DistillOptions(sequences=60)": "DISTILL.model_copy(update={'sequences': 60})",
        "import Condensed, DistillOptions, ModelOptions": "import Condensed, ModelOptions",
        "validation=Dataset.read": "train=TRAIN, validation=Dataset.read",
    }
    for line, replacement in small.items():
        assert line in code
        code = code.replace(line, replacement)
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["distilled"]) == 60 and names["model"].catalogue.ids[-1] == "new-1"


def test_what_is_understood_of_own_data(tmp_path, monkeypatch, capsys):
    users = [f"u{(n * 7) % 60:03}" for n in range(635)]
    when = [f"{dt.datetime.fromtimestamp(1_600_000_000 + 3_600 * n, dt.UTC):%Y-%m-%d %H:%M:%S}" for n in range(635)]
    rows = zip(users, (f"i{n % 40}" for n in range(635)), when, strict=True)
    write_csv(tmp_path / "log.csv", [dict(zip(("customer_id", "sku", "ordered_at"), row, strict=True)) for row in rows])
    texts = {"title": "lamp", "brand": "maker", "category": "hall", "price": "3"}
    write_csv(tmp_path / "items.csv", [{"sku": f"i{n}", **texts} for n in range(40)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", shlex.split(block("Your own data", "bash"), comments=True))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    for line in block("Your own data", "text").splitlines():
        assert line.startswith("first") or line in printed.splitlines()
    assert not list(tmp_path.glob("data*"))
