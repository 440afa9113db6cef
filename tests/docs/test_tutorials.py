"""Each tutorial runs from its first block to its last, shows what is printed, and is the same as a notebook."""

import base64
import contextlib
import os
import pathlib
import re
import sys

import nbclient
import nbformat
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import documents
import tutorials
from tutorials import FILE, PAGES

from dreamworld.__main__ import COMMANDS, main

notebooks = tutorials.load_extension("notebooks")

# Options that end a command of a page soon: what is learned then is not what the page shows, but all else is.
SHORT = {
    "your_environment": {
        "train": "--run.steps 400 --run.report_every 0",
        "eval": "--episodes 2",
        "assess": "--segments 8 --samples 2",
    },
    "your_agent": {
        "train": "--run.steps 450 --run.train_ratio 64 --agent.candidates 16 --eval.every 150 --eval.episodes 2",
        "pytest": "-k 'ensemble and not two_devices and not goes_on'",
    },
    "reading_a_run": {"train": "--run.mode host --run.steps 640 --run.log_every 160"},
    "seeds_and_statistics": {"train": "--run.train_ratio 0 --run.steps 400 --run.log_every 160"},
    "offline": {
        "collect": "--steps 1000",
        "train": "--run.steps 80 --eval.every 20 --eval.episodes 2",
        "assess": "--segments 8 --samples 2",
    },
    "scale": {},
}
NOTEBOOK = "offline"  # is executed as a notebook: each command starts anew, which takes longer


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder from which modules are imported, and forgotten again."""
    monkeypatch.chdir(tmp_path)
    for place in ("site", "."):
        monkeypatch.syspath_prepend(str(tmp_path / place))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_a_tutorial_runs_from_top_to_end_and_shows_what_is_printed(page, folder, monkeypatch):
    if page.stem != NOTEBOOK:
        assert tutorials.run_page(page, SHORT[page.stem]) >= 3
        return
    for name, value in tutorials.environment().items():
        monkeypatch.setenv(name, value)
    book = notebooks.convert(page)
    for cell in book.cells:
        if cell.source.startswith("%%bash\n"):
            lines = documents.joined(cell.source)
            cell.source = "\n".join(tutorials.shortened(line, SHORT[NOTEBOOK]) for line in lines)
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    assert tutorials.compare_cells(page, book) >= 3


def test_commands_in_the_text_of_tutorials_and_their_options_exist(capsys):
    found = documents.inline_commands(PAGES)
    assert len(found) >= 10
    for place, (_, name, *rest) in found:
        words = [name, *rest[: name == "benchmark"]]
        with contextlib.suppress(SystemExit):
            main([*words, "--help"])
        options = {word for word in rest if word.startswith("--")}
        assert name in COMMANDS and options <= {*capsys.readouterr().out.split()}, place


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_the_cells_of_a_notebook_are_the_blocks_of_its_page(page):
    book = notebooks.convert(page)
    nbformat.validate(book)
    wanted = []
    for block in documents.blocks("python", "bash", "yaml", "toml", pages=[page]):
        magic = "%%bash\n" if block.language == "bash" else ""
        text, file = block.text.rstrip("\n"), FILE.match(block.text)
        wanted.append(f"%%writefile {file[1]}\n{text[file.end() :]}" if file else magic + text)
    assert [cell.source for cell in book.cells if cell.cell_type == "code"] == wanted
    text = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    for heading in re.findall(r"^#+ .*", page.read_text("utf-8").replace("\n# ", "\n"), re.MULTILINE):
        assert heading in text
    assert "](../" not in text and notebooks.convert(page) == book


def test_pictures_are_in_the_notebook_and_links_say_where_they_lead(tmp_path):
    page = notebooks.TUTORIALS / "example.md"
    cell = nbformat.v4.new_markdown_cell(
        "![a ball](../play.png) [judge](../assess.md#metrics), [above](#top)"
    )
    notebooks.embed(cell, page)
    cell.source = notebooks.LINK.sub(lambda link: notebooks.spelled(link, page), cell.source)
    assert cell.source == "![a ball](attachment:play.png) judge (`docs/assess.md`), above"
    picture = (documents.ROOT / "docs" / "play.png").read_bytes()
    assert cell.attachments["play.png"] == {"image/png": base64.b64encode(picture).decode()}


def test_shown_output_must_have_been_printed():
    block = documents.Block(
        "page.md:1", "text", "returns    last 46.08\n…\n  curve runs/learning_curve.png\n"
    )
    tutorials.compare(block, "updates 7\n  returns  last 1.5, mean\n 3 curve\n runs/learning_curve.png")
    masked = tutorials.masked("4 x cpu, 16 x 3 rows: [ 0.5 -1.e-3 2 ] at 4.2k in 1m 3s.")
    assert masked == "4 x cpu, 16 x # rows: [# # #] at # in #."
    with pytest.raises(AssertionError, match=r"shows 'curve runs/learning_curve\.png'"):
        tutorials.compare(block, "curve runs/learning_curve.png\nreturns last 3")


def test_a_notebook_is_written_for_each_page_and_left_alone_when_nothing_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "TUTORIALS", tmp_path)
    (tmp_path / "one.md").write_text("# One\n\n```python\n1 + 1\n```\n")
    notebooks.write()
    path = tmp_path / notebooks.FOLDER / "one.ipynb"
    assert [cell.source for cell in nbformat.read(path, as_version=4).cells] == ["# One", "1 + 1"]
    os.utime(path, (1, 1))
    notebooks.write()
    assert path.stat().st_mtime == 1


def test_the_site_offers_the_notebook_of_a_tutorial_only():
    source = ["# Title\n\nText.\n"]
    notebooks.link(None, "tutorials/offline", source)
    assert source == ["# Title\n\n{download}`Download as a notebook <notebooks/offline.ipynb>`\n\nText.\n"]
    notebooks.link(None, "assess", other := ["# Title\n"])
    assert other == ["# Title\n"]


def test_every_tutorial_is_in_the_index_and_the_readme():
    index = (documents.ROOT / "docs" / "index.md").read_text("utf-8")
    readme = (documents.ROOT / "README.md").read_text("utf-8")
    assert PAGES
    for page in PAGES:
        assert f"\ntutorials/{page.stem}\n" in index and f"(docs/tutorials/{page.name})" in readme
