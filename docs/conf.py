"""How the documentation is built: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import kaon

project = "Kaon"
author = "The Kaon authors"
project_copyright = "The Kaon authors, Apache-2.0"
release = kaon.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_design", "generated"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "Kaon"
html_copy_source = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False
exclude_patterns = ["_build", "reference/packages.md"]
suppress_warnings = ["myst.xref_missing"]
locale_dirs = ["locale/"]  # the Chinese texts go here, by sphinx-intl
gettext_compact = False
