"""Lets the search show what was found on a site that is read from disk, where a page may not fetch another one.

The texts of all pages go into one script, which the page of the search alone loads.
"""

import html
import json
import pathlib
from typing import Any

from docutils import nodes

NAME = "page_texts.js"
SCRIPT = """// What Sphinx's search fetches of a page, where the browser can't: the sections of its text.
if (location.protocol === "file:") {
  const pages = %s;
  const root = document.documentElement.dataset.content_root;
  window.fetch = async (url) => new Response(pages[url.slice(root.length)] ?? "");
}
"""


def text_of(node: nodes.Element) -> str:
    """A section as HTML without anything but its ids and its words."""
    inner = "".join(
        text_of(child) if isinstance(child, nodes.section) else html.escape(f"{child.astext()}\n")
        for child in node.children
        if not isinstance(child, nodes.comment)
    )
    for name in node.get("ids", []):
        inner = f'<div id="{name}">{inner}</div>'
    return inner


def write(app: Any, error: Exception | None) -> None:
    """Writes the script beside the other static files."""
    if error or app.builder.name != "html":
        return
    pages = {
        f"{name}.html": f'<div role="main">{text_of(app.env.get_doctree(name))}</div>'
        for name in sorted(app.env.found_docs)
    }
    path = pathlib.Path(app.outdir) / "_static" / NAME
    path.write_text(SCRIPT % json.dumps(pages).replace("</", "<\\/"), "utf-8")


def load(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if page == "search":
        app.add_js_file(NAME, loading_method="defer")


def setup(app: Any) -> dict[str, Any]:
    app.connect("html-page-context", load)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
