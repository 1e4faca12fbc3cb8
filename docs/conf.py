"""Sphinx builds these pages: `make docs`. What is read off the code is made by generate.py."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

import forebear

sys.path.insert(0, str(Path(__file__).parent))

from generate import fill

project = "forebear"
author = "the forebear authors"
project_copyright = "the forebear authors, Apache-2.0"
version = release = forebear.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"forebear {release}"
html_static_path = ["_static"]
html_css_files = ["forebear.css"]
html_show_sphinx = False
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes = False  # quotes and dashes are often part of a command or a value

default_role = "code"  # the docstrings write `name` for code, as Markdown does
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# References are checked (make docs passes --nitpicky). The build needs no network, so types of
# other libraries and types that are not public have no target.
nitpick_ignore_regex = [
    ("py:.*", r"(torch|numpy|np|pathlib|collections|typing|types|os|safetensors)\..*"),
    ("py:.*", r"(Tensor|nn\.Module|Module|NDArray|NDArray\[.*|Path|EllipsisType|Any|Self)"),
    ("py:.*", r"(Iterable|Iterator|Mapping|Sequence|Callable)"),
    ("py:.*", r"forebear\.[a-z_]+\..*"),
    ("py:.*", r"(Array|Bad|Plan|ModelCard|Form|Activation|Resize|Interpolation|Row)"),
    ("py:.*", r"(Shortcut|Init|Names)"),
]

linkcheck_timeout = 30
linkcheck_workers = 2


def _fill(app: Sphinx, page: str, content: list[str]) -> None:
    content[0] = fill(content[0])


def _dashes(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Sphinx writes -- between a parameter and its meaning, and leaves the dash to smartquotes."""
    for text in list(tree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" \N{EN DASH} "))


def setup(app: Sphinx) -> None:
    """Fills the generated parts of each page as it is read."""
    app.connect("source-read", _fill)
    app.connect("doctree-resolved", _dashes)
