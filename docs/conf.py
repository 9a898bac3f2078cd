"""Configuration of Sphinx for the pages of the documentation: `make docs`."""

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
# Types of other packages have no page: nothing is fetched to link them.
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_title = f"tasklens {version}"
html_copy_source = False
html_show_sphinx = False
