"""The documentation site: python -m sphinx -W --keep-going docs docs/_build"""

import os
import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

import docstrings  # noqa: E402
import gallery  # noqa: E402
import tutorials  # noqa: E402

import hfjax  # noqa: E402

project = "hfjax"
author = copyright = "The hfjax developers"
release = hfjax.__version__

extensions = [
    "mathml",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
default_role = "py:obj"  # a name in backticks links to its entry, if it has one

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks/make.py runs them, and stores their outputs

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
add_module_names = False
python_maximum_signature_line_length = 88

html_math_renderer = "mathml"
html_theme = "sphinx_book_theme"
html_title = "hfjax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "home_page_in_toc": True,
    "navbar_persistent": [],
    "show_navbar_depth": 1,
    "use_download_button": False,
    "use_fullscreen_button": False,
    **tutorials.launch_buttons(os.environ.get("GITHUB_REPOSITORY")),
}


def own_pages(app, path, docname, content):
    """Links of the README lead to pages of the site where there are any."""
    text = re.sub(r"\(experiments/(\w+)/RESULTS\.md\)", r"(/results/\1.md)", content[0])
    text = re.sub(r"\(docs/(\S+\.(?:md|gif))\)", r"(/\1)", text)
    text = re.sub(r"\((notebooks/\w+\.ipynb)\)", r"(/\1)", text)
    content[0] = re.sub(r"\[([^]]+)\]\(experiments/\w+\)", r"`\1`", text)


def setup(app):
    """Lets autodoc read our docstrings, which are plain text, and writes pages."""
    gallery.write(DOCS)
    tutorials.write(DOCS)
    app.connect("autodoc-process-docstring", docstrings.process)
    app.connect("include-read", own_pages)
    app.connect("autodoc-skip-member", docstrings.skip_field)
