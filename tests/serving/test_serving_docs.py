"""The commands and Python blocks of docs/serving.md, run in their order on a small log."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import polars as pl
import pytest

from foster import cli
from synthetic_log import synthetic_log, write_csv

# Looked for, not imported: usearch 2.26 before onnxruntime 1.32, and neither after torch, crash the interpreter.
if any(importlib.util.find_spec(package) is None for package in ("usearch", "onnxruntime", "onnxscript")):
    pytest.skip("needs the extras ann and onnx", allow_module_level=True)
PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def foster(monkeypatch, capsys, *arguments) -> str:
    monkeypatch.setattr(sys, "argv", ["foster", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as ended:
        printed = capsys.readouterr()
        assert not ended.code, (arguments, printed.err)
        return printed.out
    return capsys.readouterr().out


def test_commands_and_blocks(tmp_path, tiny_encoder, monkeypatch, capsys):
    rows = [{**row, "item_id": str(row["item_id"]).replace("i", "item-", 1)} for row in synthetic_log(users=80)]
    write_csv(tmp_path / "log.csv", [{name: row[name] for name in ("user_id", "item_id", "timestamp")} for row in rows])
    titles = {row["item_id"]: row["title"] for row in rows}
    write_csv(tmp_path / "items.csv", [{"item_id": item, "title": title} for item, title in titles.items()])
    write_csv(tmp_path / "in-stock.csv", [{"item_id": item} for item in list(titles)[::2]])
    (tmp_path / "sold-out.txt").write_text("item-4\nitem-5\nunheard-of\n")
    (tmp_path / "some-users.txt").write_text("".join(f"{user}\n" for user in sorted({r["user_id"] for r in rows})[:3]))
    monkeypatch.chdir(tmp_path)
    small = ["--steps", 4, "--eval-every", 2, "--dim", 8, "--heads", 1, "--encoder", tiny_encoder]
    foster(monkeypatch, capsys, "prepare", "log.csv", "items.csv", "--out", "data")
    foster(monkeypatch, capsys, "train", "data", "--out", "model", *small)
    foster(monkeypatch, capsys, "select", "random", "data", "--out", "distilled", "--sequences", 3, *small[4:])

    names: dict = {}
    verbs = []
    for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", PAGE, re.S | re.M):
        if language == "python":
            exec(compile(block, "serving.md", "exec"), names)
            assert capsys.readouterr().out.count("item-") >= 5 or "import UsearchIndex" in block
            continue
        for line in block.splitlines():
            program, *rest = shlex.split(line, comments=True)
            if program == "pip":
                extra = re.findall(r"\[(.*)\]", line)[0]
                assert re.search(rf"^{extra} = ", _pyproject(), re.M)
                continue
            assert program == "foster"
            verbs.append(rest[0])
            assert foster(monkeypatch, capsys, *rest)
    assert set(verbs) == {"recommend", "similar", "evaluate", "export"}

    lists = {name: pl.read_parquet(f"{name}.parquet") for name in ("recs", "again", "some", "near", "lists")}
    assert lists["recs"].height == 10 * lists["recs"]["user_id"].n_unique()
    assert not set(lists["again"]["item_id"]) & {"item-4", "item-5"} and "item-3" not in set(lists["lists"]["item_id"])
    assert set(lists["some"]["item_id"]) <= set(list(titles)[::2]) and lists["some"]["user_id"].n_unique() == 3
    # onnxruntime alone recommends what the model does.
    histories = [["item-1", "item-2"], ["item-5"], ["item-7", "item-9", "item-2"]]
    assert names["recommend"](histories, 5) == [[i for i, _ in f] for f in names["model"].recommend(histories, 5)]


def _pyproject() -> str:
    return (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recommend", "m"], "give --history, once for each item of one user, or --users LOG"),
        (
            ["recommend", "m", "--history", "a", "--users", "x", "--out", "y"],
            "--history and --users were given; leave one",
        ),
        (["recommend", "m", "--users", "x"], "--out is missing"),
        (["recommend", "m", "--history", "a", "--user-ids", "x"], "--user-ids: is for --users"),
        (["recommend", "m", "--users", "x", "--out", "none/y"], "--out none/y: cannot be written"),
        (["export", "m", "--to", "csv", "--out", "y"], "--to csv: unknown"),
        (["export", "m", "--to", "hf", "--out", "y"], "m: no such folder"),
        (["push", "m", "name"], "name: is no name of a repository"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["foster", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    error = capsys.readouterr().err
    assert ended.value.code == 2 and said in error and error.count("\n") == 1, error
    assert not list(tmp_path.iterdir())
