"""What the site's reference is made of: every option has its text, and docstrings become what autodoc reads."""

import importlib
import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import documents


@pytest.fixture
def extension(repo, monkeypatch):
    """name -> a module of docs/extensions."""
    monkeypatch.syspath_prepend(repo / "docs" / "extensions")
    return importlib.import_module


def test_every_option_is_in_the_reference(extension):
    from dreamworld import agents, schema
    from dreamworld.config import Config

    page = extension("reference").options()
    names = {key for key in schema.options(Config()) if not key.startswith("agent.")}
    for agent in agents.names():
        names |= {f"agent.{key}" for key in schema.options(agents.find(agent).config)}
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {line.split("`")[1] for line in rows} == names
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in rows]
    assert all(len(row) == 4 and row[2].strip() for row in cells), "an option without a text below its field"


def test_every_command_and_preset_is_in_the_reference(extension, repo):
    from dreamworld.__main__ import COMMANDS

    reference = extension("reference")
    assert all(f"\n## dreamworld {name}\n" in reference.commands() for name in COMMANDS)
    presets = reference.presets()
    assert all(f"\n## {path.stem}\n" in presets for path in (repo / "configs").glob("*.yaml"))


def test_every_public_name_is_on_the_page_of_python(repo):
    import dreamworld

    page = (repo / "docs" / "api.md").read_text("utf-8")
    told = set(re.findall(r"^\.\. auto\w+:: dreamworld\.(\w+)(?:\(.*\))?$", page, re.MULTILINE))
    table = set(re.findall(r"`(\w+)`", page.partition("| you want to")[2].partition("\n\n")[0]))
    assert set(dreamworld.__all__) <= told and set(dreamworld.__all__) <= table


def test_docstrings_keep_code_lists_and_what_looks_like_markup(extension):
    said = ["Takes `x_` and gym_*.", "", "    a = b", "", "Args:", "  x: one, that", "    goes on.", "Then."]
    code, items = ["", "::", "", "      a = b", "", ""], ["Args:", "", "* x: one, that", "  goes on.", ""]
    found = extension("docstrings").translate(said)
    assert found == [r"Takes ``x_`` and gym\_\*.", "", *code, *items, "Then.", ""]


@pytest.mark.parametrize("page", documents.PAGES, ids=lambda page: str(page.relative_to(documents.ROOT)))
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(page):
    for words, path, fragment in documents.links(page):
        target = (page.parent / path).resolve() if path else page
        written = target.parent.name == "reference" and target.parent.parent == documents.ROOT / "docs"
        assert written or target.exists(), (
            f"[{words}]({path}): no such file"
        )  # the reference is written by the build
        if fragment and target.suffix == ".md" and not written:
            assert fragment in documents.slugs(target), f"[{words}]({path}#{fragment}): no such heading"


def test_every_link_into_the_reference_leads_to_a_heading(extension):
    reference, folder = extension("reference"), documents.ROOT / "docs" / "reference"
    found = [
        (page.name, (page.parent / path).resolve(), fragment)
        for page in [*documents.PAGES, *documents.TUTORIALS]
        for _, path, fragment in documents.links(page)
        if fragment and (page.parent / path).resolve().parent == folder
    ]
    assert found
    for page, target, fragment in found:
        heads = documents.anchors(getattr(reference, target.stem)())
        assert fragment in heads, f"{page}: {target.name}#{fragment}: no such heading"


def test_the_appendix_is_in_the_contents(repo):
    contents = (repo / "docs" / "index.md").read_text("utf-8").partition(":caption: Appendix")[2]
    pages = {f"appendix/{page.stem}" for page in (repo / "docs" / "appendix").glob("*.md")}
    assert pages and pages <= set(contents.split())


def test_the_readme_fits_a_screen_or_three_and_its_numbers_stand_in_the_pages_that_it_links(repo):
    text = (repo / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 130
    rows = re.findall(r"^\| .*?\]\(([^)#]+)[^)]*\)[^|]*\| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    assert len(rows) >= 5
    for page, result, date in rows:
        measured = (repo / page).read_text("utf-8")
        numbers = re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-\d+)?", result)
        assert numbers and all(number.strip(",") in measured for number in numbers), (page, result)
        assert date[:10] in measured, (page, date)
