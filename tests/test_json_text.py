"""All JSON that is written is JSON."""

import ast
import json
import math
from pathlib import Path

import pytest

import foster
from foster.artefacts import write_json, write_metrics
from foster.cli.output import show
from foster.errors import InputError
from foster.json_text import to_json
from foster.manifest import seal

PACKAGE = Path(foster.__file__).parent
WORDS = {"data/frames.py", "data/json_lines.py", "data/layouts/lines.py"}
"""Here JSON is how a cell of a table is read as words, as other readers do it; no file."""


def test_nothing_writes_json_but_by_the_one_function_that_refuses_what_is_none():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name == "json_text.py" or name in WORDS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Attribute) and called.attr in ("dump", "dumps")), f"{name}:{node.lineno}"
            imported = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            assert not (isinstance(node, ast.ImportFrom) and node.module == "json" and imported), (
                f"{name}:{node.lineno}"
            )


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_written_nowhere(number, tmp_path, capsys):
    content = {"rows": [{"value": number}]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(content)
    with pytest.raises(InputError, match="is not finite"):
        write_json(tmp_path / "config.json", content)
    with pytest.raises(InputError, match="is not finite"):
        write_metrics(tmp_path, [content])
    with pytest.raises(ValueError, match="not JSON compliant"):
        seal(tmp_path, content)
    with pytest.raises(InputError, match="--json: a number of the result is not finite"):
        show(content, True, "")
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == []


def test_words_beyond_ascii_stay_or_are_escaped():
    assert json.loads(to_json({"ü": "電"}, ascii_only=True)) == json.loads(to_json({"ü": "電"})) == {"ü": "電"}
    assert to_json("電", ascii_only=True).isascii() and not to_json("電").isascii()
