"""Configuration of Sphinx for the pages of the documentation: `make docs`."""

import re

from sphinx.application import Sphinx

import tasklens

project = "tasklens"
author = "The tasklens authors"
copyright = author
version = release = tasklens.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["scripts", "data"]

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# Docstrings have names of code between single backticks, and numpydoc's sections.
default_role = "code"
napoleon_google_docstring = False
napoleon_preprocess_types = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
add_module_names = False
highlight_language = "none"  # commands and what they print
# Types of other packages have no page: nothing is fetched to link them.
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_title = f"tasklens {version}"
html_copy_source = False
html_show_search_summary = False  # it would be fetched, which no browser does from a disk
html_show_sphinx = False


def link_inside(app: Sphinx, name: str, source: list[str]) -> None:
    """Link the files at the root of the repository to the pages of the site that include them."""
    source[0] = re.sub(
        r"\]\(\.\./((?:\.\./)*)(CHANGELOG|CONTRIBUTING)\.md",
        lambda match: f"]({match[1]}{match[2].lower()}.md",
        source[0],
    )


def setup(app: Sphinx) -> None:
    """Connect the rewriting of links."""
    app.connect("source-read", link_inside)
