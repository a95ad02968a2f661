"""The documentation site: ``make docs`` builds it with Sphinx from the Markdown files of the repository.

The source folder is the root of the repository, so that a relative link means the same here and in a checkout.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent / "_extensions"))
sys.path.insert(0, str(ROOT / "src"))

from foster.version import __version__  # noqa: E402

project = "FOSTER"
author = "the FOSTER developers"
project_copyright = author
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",  # the last ones are in _extensions
    "option_tables",
]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "docs/**.rst", "benchmarks/**.md", "CHANGELOG.md", "SECURITY.md"]
exclude_patterns = [".[a-z]*", "build", "dist", "runs", "foster-demo", "src", "tests", "findings"]

# Links to what a page does not exist for are those of a file: a source, a table of runs.
myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 4
html_math_renderer = "mathml"
smartquotes = False  # two hyphens begin a flag

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"FOSTER {release}"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_root"]  # index.html, which leads to the first page
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
