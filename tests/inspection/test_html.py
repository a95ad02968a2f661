"""Pages: what they hold of hostile texts, their structure, and the files that are written."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from foster.data.dataset import Dataset
from foster.errors import InputError
from foster.inspection.html import GENERATOR, check_page, page, write_page
from foster.inspection.inspect import KINDS, Look, look_at
from foster.manifest import seal

VOID = {"meta", "input", "br", "img", "link"}


class Parsed(HTMLParser):
    """The elements of a page and its text, by a parser that is not ours."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.within: list[tuple[str, str]] = []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        self.within.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(folder: Path, data: Dataset | None = None) -> str:
    return page(look_at(folder, Look(data)))


def test_hostile_texts_stay_texts(any_folder):
    text = page_of(any_folder)
    found = Parsed(text)
    tags = {tag for tag, _ in found.elements}
    assert not tags & {"script", "img", "iframe", "link", "object", "u", "base", "form"}
    assert len(found.all("style")) <= 2  # of the page and of its map
    assert [a["class"] for a in found.all("details") if a.get("class")] == ["sequence"] * len(found.all("b"))
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "action")], tag
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    assert "url(http" not in text and "@import" not in text
    policy = next(a["content"] for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_hostile_texts_are_shown_as_they_are(coreset_folder, distilled_folder, data):
    shown = "".join("".join(Parsed(page_of(folder)).text) for folder in (coreset_folder, distilled_folder))
    for text in (
        "<script>alert(1)</script> 0",
        "{{ 7 * 7 }} {% raw %} ${x} $\\alpha$ &amp; &lt; 3",
        "red \N{REPLACEMENT CHARACTER}elppa",
    ):
        assert text in shown
    assert "x" * 120 + "..." in shown and "x" * 121 not in shown
    assert any("\u202e" in text for text in data.texts)


def test_headings_captions_and_names(any_folder):
    text = page_of(any_folder)
    found = Parsed(text)
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in found.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= set(ids), tag
        if tag in ("a", "use"):
            target = attributes.get("href") or attributes.get("xlink:href")
            assert target[1:] in ids
        for value in attributes.values():
            assert set(re.findall(r"url\(#([^)]*)\)", value or "")) <= set(ids)
    assert len(found.all("table")) == len(found.all("caption"))
    assert all(cell.get("scope") in ("row", "col") for cell in found.all("th"))
    for svg in found.all("svg"):
        assert svg["role"] == "img" and len(svg["aria-labelledby"].split()) == 2
    assert "".join(text for tag, text in found.within if tag == "title").startswith("FOSTER")
    links = [attributes["href"] for attributes in found.all("a")][1:]  # but that which skips them
    assert links == [f"#{attributes['id']}" for tag, attributes in found.elements if tag == "h2"]
    assert found.all("html")[0]["lang"] == "en" and {"header", "nav", "main", "footer"} <= {
        t for t, _ in found.elements
    }


def test_drawings_take_the_colours_of_the_page(distilled_folder):
    drawn = "".join(re.findall(r"<svg.*?</svg>", page_of(distilled_folder), re.DOTALL))
    assert "var(--series-1)" in drawn and "currentColor" in drawn and "var(--dots)" in drawn
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", re.sub(r"(url\(#|href=\"#|id=\")[^\")]*", "", drawn))
    assert "<style" not in drawn


def test_equal_folders_give_equal_pages_without_a_place(any_folder, tmp_path, tiny_encoder):
    copy = tmp_path / "elsewhere" / any_folder.name
    shutil.copytree(any_folder, copy)
    first, second = page_of(any_folder), page_of(copy)
    assert first == second
    for place in (any_folder, copy, tiny_encoder):
        assert str(place) not in first and place.parent.name not in first
    assert "/secret" not in first


def test_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "report.html"
    check_page(path, False, ())
    assert write_page(path, f"<head>{GENERATOR}", False) == path.stat().st_size
    with pytest.raises(InputError, match="exists already; give another file or add --overwrite"):
        check_page(path, False, ())
    check_page(path, True, ())
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left on device"):
        write_page(path, "other", True)
    assert path.read_text() == f"<head>{GENERATOR}" and list(path.parent.iterdir()) == [path]


def test_only_pages_are_replaced(tmp_path):
    other = tmp_path / "index.html"
    other.write_text("<html>mine")
    for path, inputs, message in (
        (other, (), "is no page that foster wrote"),
        (tmp_path, (), "is a folder"),
        (tmp_path / "in" / "page.html", (None, tmp_path / "in"), "lies in a folder that is looked at"),
        (other / "page.html", (), "is no folder|Not a directory"),
    ):
        with pytest.raises(InputError, match=message):
            check_page(path, True, inputs)
    assert other.read_text() == "<html>mine"


def test_what_appeared_meanwhile_is_kept(tmp_path):
    path = tmp_path / "report.html"
    check_page(path, False, ())
    path.write_text("mine")
    with pytest.raises(InputError, match="is there by now"):
        write_page(path, "page", False)
    assert path.read_text() == "mine"


def test_a_missing_extra_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs jinja2 and matplotlib: pip install 'foster\[report\]'"):
        check_page(tmp_path / "report.html", False, ())


def test_every_kind_has_its_file_and_others_are_refused(tmp_path):
    for module in set(KINDS.values()):
        assert callable(importlib.import_module(f"foster.inspection.{module}").look_at)
    (tmp_path / "config.json").write_text(json.dumps({"kind": "cake"}))
    seal(tmp_path)
    with pytest.raises(InputError, match="is of kind cake"):
        look_at(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        look_at(tmp_path / "none")
