"""Makes a notebook of each tutorial from its page, to be downloaded beside it: the page is the only source.

`python` and `bash` blocks become cells. A block that opens with the name of a file (`# reach.py`) becomes a cell that
writes this file. `sh` blocks are for a terminal, since their commands go on until they are stopped; they stay text.
"""

import base64
import mimetypes
import os
import pathlib
import re
from typing import Any

import jupytext
from nbformat import NotebookNode

TUTORIALS = pathlib.Path(__file__).resolve().parent.parent / "tutorials"
FOLDER = "notebooks"  # below TUTORIALS; made, not kept
HEADER = "---\njupyter:\n  jupytext:\n    main_language: python\n---\n\n"  # else the most frequent one
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

FILE = re.compile(r"^```(?:python|yaml|toml)\n# (\w[\w./-]*\.(?:py|yaml|toml))\n", re.MULTILINE)
TERMINAL = re.compile(r"^```sh\n", re.MULTILINE)
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^):]+)\)")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:)([^)#]*)(?:#[^)]*)?\)")


def convert(page: pathlib.Path) -> NotebookNode:
    """The notebook of a page, the same to the byte each time."""
    text = page.read_text("utf-8")
    text = FILE.sub(r"```python\n%%writefile \1\n", text)
    book = jupytext.reads(HEADER + TERMINAL.sub("```console\n", text), fmt="md")
    for index, cell in enumerate(book.cells):
        cell.id = f"cell-{index}"
        if cell.cell_type == "markdown":
            embed(cell, page)
            cell.source = LINK.sub(lambda link: spelled(link, page), cell.source)
    book.metadata = NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    return book


def embed(cell: NotebookNode, page: pathlib.Path) -> None:
    """Puts the pictures of a cell into it: a notebook is one file."""
    for _, name in PICTURE.findall(cell.source):
        kind = mimetypes.guess_type(name)[0]
        assert kind, f"{page}: of what kind is {name}?"
        data = base64.b64encode((page.parent / name).read_bytes()).decode()
        cell.setdefault("attachments", {})[pathlib.PurePath(name).name] = {kind: data}
    cell.source = PICTURE.sub(lambda m: f"![{m[1]}](attachment:{pathlib.PurePath(m[2]).name})", cell.source)


def spelled(link: re.Match[str], page: pathlib.Path) -> str:
    """A link to another page, which a notebook that was moved can't follow: its words, and where that page is."""
    if not link[2]:  # within the page
        return link[1]
    return f"{link[1]} (`{os.path.relpath(page.parent / link[2], TUTORIALS.parent.parent)}`)"


def write(app: Any = None) -> None:
    """Writes the notebooks of all pages; one that is as it was keeps its time."""
    (TUTORIALS / FOLDER).mkdir(exist_ok=True)
    for page in sorted(TUTORIALS.glob("*.md")):
        path, text = TUTORIALS / FOLDER / f"{page.stem}.ipynb", jupytext.writes(convert(page), fmt="ipynb")
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def link(app: Any, name: str, source: list[str]) -> None:
    """Adds to a tutorial, below its title, the link to its notebook."""
    folder, _, page = name.rpartition("/")
    if folder == TUTORIALS.name:
        title, _, rest = source[0].partition("\n")
        source[0] = f"{title}\n\n{{download}}`Download as a notebook <{FOLDER}/{page}.ipynb>`\n{rest}"


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", write)
    app.connect("source-read", link)
    return {"parallel_read_safe": True}
