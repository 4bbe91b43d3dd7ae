"""How Sphinx makes the site from the pages: `make docs`.

The pages stay plain Markdown, as GitHub shows them. Sphinx adds the rest while it reads them: see pages.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from signs_dist import __version__  # noqa: E402
from website import messages, pages  # noqa: E402

project = "signs_dist"
author = "the authors of signs_dist"
release = version = __version__
html_title = "signs_dist"
html_show_copyright = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = pages.source_pages(REPOSITORY)
exclude_patterns = pages.other_folders(REPOSITORY)
source_suffix = {".md": "markdown"}
nitpicky = False

myst_heading_anchors = 4  # the anchors of headings are those of GitHub
myst_links_external_new_tab = False

smartquotes = False  # two dashes are those of a flag

default_role = "literal"  # docstrings are written with single backquotes
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 88

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # it is fetched, which a browser refuses for files
html_theme_options = {"navigation_with_keys": False}
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def setup(app: Any) -> None:
    """Let Sphinx call what the site adds."""
    app.connect("source-read", pages.add_to_page)
    app.connect("doctree-read", messages.add_anchors)
    app.connect("html-page-context", messages.load_messages)
    app.connect("build-finished", pages.finish_site)
