"""Pages in a headless Chromium: width, colours, keyboard, accessibility tree."""

from __future__ import annotations

import pytest

from browser import browser_path, open_browser
from foster.inspection.html import page
from foster.inspection.inspect import Look, look_at

pytestmark = pytest.mark.skipif(browser_path() is None, reason="no Chromium here; install chromium to look at pages")

OPEN_ALL = "document.querySelectorAll('details').forEach(d => d.open = true)"
# Texts whose contrast with the paper is below what WCAG 2 asks for (4.5), by tag.
LOW_CONTRAST = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = color => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const linear = c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = color => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => sum + w * linear(rgb(color)[i] / 255), 0);
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const low = new Set();
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    if (e.closest('svg') && e.tagName !== 'text') continue;
    const style = getComputedStyle(e), ink = light(e.closest('svg') ? style.fill : style.color);
    if ((Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05) < 4.5) low.add(e.tagName);
  }
  return [...low];
})()
"""


@pytest.fixture(scope="module")
def tab():
    with open_browser() as tab:
        yield tab


@pytest.fixture
def path(any_folder, data, tmp_path):
    look = Look(data) if any_folder.name in ("twenty", "random") else Look()
    path = tmp_path / "report.html"
    path.write_text(page(look_at(any_folder, look)), encoding="utf-8")
    return path


def name_of(node):
    return node.get("name", {}).get("value", "").strip()


def role_of(node):
    return node["role"]["value"]


@pytest.mark.parametrize("width", [320, 800])
def test_nothing_is_wider_than_the_window_and_nothing_is_loaded(path, tab, width):
    tab.open(path, width)
    tab.evaluate(OPEN_ALL)
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert [address.split("/")[-1] for address in tab.requests()] == ["report.html"]
    faults = [e for e in tab.events if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert not faults, faults


@pytest.mark.parametrize("dark", [False, True])
def test_texts_can_be_read(path, tab, dark):
    tab.open(path, 800, dark)
    tab.evaluate(OPEN_ALL)
    assert tab.evaluate(LOW_CONTRAST) == []
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(paper.split("(")[1].split(",")[0]) < 80) is dark


def test_accessibility_tree(path, tab):
    tab.open(path, 800)
    tab.evaluate(OPEN_ALL)
    nodes = tab.tree()
    roles = [role_of(node) for node in nodes]
    assert [roles.count(landmark) for landmark in ("banner", "main", "contentinfo", "navigation")] == [1, 1, 1, 1]
    for role in ("table", "image", "radio", "DisclosureTriangle", "link", "region", "heading", "radiogroup", "group"):
        unnamed = [node for node in nodes if role_of(node) == role and not name_of(node) and role != "group"]
        assert not unnamed, role
    assert "table" in roles and "heading" in roles
    levels = [
        next(p["value"]["value"] for p in node["properties"] if p["name"] == "level")
        for node in nodes
        if role_of(node) == "heading"
    ]
    assert levels[0] == 1 and max(levels) <= 3


def test_keyboard_reaches_what_can_be_opened(distilled_folder, tmp_path, tab):
    path = tmp_path / "report.html"
    path.write_text(page(look_at(distilled_folder)), encoding="utf-8")
    tab.open(path, 800)
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.press("Enter")
    assert tab.evaluate("location.hash") == "#content"
    for _ in range(40):
        tab.press("Tab")
        if tab.evaluate("document.activeElement.parentElement.className") == "sequence":
            break
    was_open = tab.evaluate("document.activeElement.parentElement.open")
    tab.press("Enter")
    assert tab.evaluate("document.activeElement.parentElement.open") is not was_open


def test_one_sequence_is_picked_out_of_the_map(distilled_folder, tmp_path, tab):
    path = tmp_path / "report.html"
    path.write_text(page(look_at(distilled_folder)), encoding="utf-8")
    tab.open(path, 800)
    shown = "[1, 2].map(n => getComputedStyle(document.querySelector('.pick-' + n)).display)"
    assert tab.evaluate(shown) == ["inline", "inline"]
    tab.evaluate("document.querySelector('input[value=\"all\"]').focus()")
    tab.press("ArrowRight")
    assert tab.evaluate("document.activeElement.value") == "1"
    assert tab.evaluate(shown) == ["inline", "none"]
