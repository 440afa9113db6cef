"""The site of the documentation: `make docs` builds it from these pages and from the docstrings."""

import pathlib
import sys

from dreamworld import __main__ as console

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

project, author, release = "dreamworld", "the dreamworld maintainers", console.version()
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
extensions += ["reference", "docstrings", "mathml", "notebooks", "offline_search"]  # in docs/extensions
exclude_patterns = ["extensions", "results"]
source_suffix = {".md": "markdown"}

html_theme = "furo"
html_title = "dreamworld"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
copybutton_prompt_text = "$ "

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
