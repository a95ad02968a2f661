"""The documentation site is built without a warning, and its pages load nothing from elsewhere."""

import re
from html.parser import HTMLParser

import pytest

from documentation import ROOT

pytest.importorskip("furo")
pytest.importorskip("myst_parser")

pytestmark = [  # of MyST, about the Sphinx to come
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "srcset"}


class Loads(HTMLParser):
    """What a page loads when it is opened."""

    def __init__(self):
        super().__init__()
        self.places = []

    def handle_starttag(self, tag, attrs):
        """Keep the place of a script, a picture, a style."""
        if place := dict(attrs).get(LOADED.get(tag, "")):
            self.places.append(place)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    from sphinx.application import Sphinx

    folder = tmp_path_factory.mktemp("site")
    app = Sphinx(
        ROOT, ROOT / "docs", folder / "html", folder / "doctrees", "html", status=None, warningiserror=True,
        exception_on_warning=True,
    )  # fmt: skip
    app.build()
    return folder / "html"


def test_every_page_is_there(site):
    pages = {path.stem for path in (ROOT / "docs").iterdir() if path.suffix in (".md", ".rst")}
    assert {path.stem for path in (site / "docs").glob("*.html")} == pages
    navigation = (site / "docs" / "index.html").read_text(encoding="utf-8")
    assert [page for page in pages if f'href="{page}.html"' not in navigation and page != "index"] == []


def test_pages_load_nothing_from_elsewhere(site):
    for path in site.rglob("*.html"):
        parser = Loads()
        parser.feed(path.read_text(encoding="utf-8"))
        assert [place for place in parser.places if re.match(r"(https?:)?//", place)] == [], path


def test_equations_need_no_script(site):
    page = (site / "docs" / "concepts.html").read_text(encoding="utf-8")
    assert page.count("<math") > 20
    assert "MathJax" not in page


def test_reference_has_functions_options_and_flags(site):
    api = (site / "docs" / "api.html").read_text(encoding="utf-8")
    for name in ("foster.distill", "foster.Dataset.prepare", "foster.TextRecommender.add_items", "foster.TrainOptions"):
        assert f'id="{name}"' in api, name
    verbs = (site / "docs" / "commands.html").read_text(encoding="utf-8")
    assert "--label-encoder" in verbs
    assert 'id="foster-distill"' in verbs


def test_search_finds_a_word(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert "k-core" in index or "core" in index
    assert "docs/data" in index


def test_styles_and_the_first_page_are_there(site):
    assert (site / "_static" / "site.css").is_file()
    assert 'url=docs/index.html"' in (site / "index.html").read_text(encoding="utf-8")
