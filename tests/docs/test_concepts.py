"""The concept pages hold: every function that they name is where they say, figures are what their script draws."""

import ast
import importlib.util
import pathlib
import sys
import xml.etree.ElementTree

import pytest

from dreamworld import agents

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import documents

FOLDER = documents.ROOT / "docs" / "concepts"
PAGES = sorted(FOLDER.glob("*.md"))


def load(name):
    """A script of the folder as a module."""
    spec = importlib.util.spec_from_file_location(f"concepts_{name}", FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FIGURES = load("figures").FIGURES


def names(path):
    """Functions, classes and fields of a Python file, those of classes as `Class.name`."""
    found = set()

    def add(nodes, prefix):
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                add(node.body, f"{node.name}.")
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(prefix + node.target.id)

    add(ast.parse(path.read_text("utf-8")).body, "")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_to_a_file_and_to_a_name_in_it(page):
    for words, path, fragment in documents.links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"[{words}]({path}): no such file"
        if fragment:
            known = names(target) if target.suffix == ".py" else documents.slugs(target)
            assert fragment in known, f"[{words}]({path}#{fragment}): not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_link_to_code_is_called_by_the_name_it_leads_to(page):
    for words, path, fragment in documents.links(page):
        if path.endswith(".py") and fragment and words.startswith("`") and not words.endswith(".py`"):
            called = words.strip("`").split(".")
            assert called[-1] == fragment.split(".")[-1], f"[{words}]({path}#{fragment})"


def test_the_links_were_read():
    """Guards the reader: a broken pattern would find nothing and test nothing."""
    to_code = [
        link for page in PAGES for link in documents.links(page) if link[1].endswith(".py") and link[2]
    ]
    assert len(to_code) >= 60 and len(PAGES) == 5


def test_dreamerv3_names_a_function_of_every_file_of_the_algorithm():
    named = {path for _, path, fragment in documents.links(FOLDER / "dreamerv3.md") if fragment}
    files = {
        "dreamworld/math.py", "dreamworld/dists.py", "dreamworld/nets.py", "dreamworld/optim.py",
        "dreamworld/models/rssm.py", "dreamworld/models/observations.py", "dreamworld/behaviours/actor_critic.py",
        "dreamworld/rollout.py", "dreamworld/training/step.py", "agents/dreamerv3/agent.py",
    }  # fmt: skip
    assert {f"../../{file}" for file in files} <= named


def test_the_table_of_systems_has_the_agents_that_there_are():
    text = (FOLDER / "world_models.md").read_text("utf-8")
    table = text.partition("## Systems")[2].partition("##")[0]
    rows = [row.split("|")[1:-1] for row in table.strip().splitlines() if row.startswith("|")][2:]
    assert len(rows) >= 12 and all("](https://" in row[3] for row in rows), "a primary source for each"
    there = {row[4].strip(" `") for row in rows} - {"no"}
    assert there == set(agents.built_in())


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_small_is_xml_and_is_what_its_script_draws(name):
    file = FOLDER / f"{name}.svg"
    assert file.read_text("utf-8") == FIGURES[name](), "run python docs/concepts/figures.py"
    assert file.stat().st_size <= 40_000
    assert xml.etree.ElementTree.parse(file).getroot().tag.endswith("svg")


def test_every_figure_is_shown_and_has_words_for_those_who_do_not_see_it():
    shown = {
        path: words for page in PAGES for words, path, _ in documents.links(page) if path.endswith(".svg")
    }
    assert set(shown) == {f"{name}.svg" for name in FIGURES} and all(shown.values())


def test_engines_that_begin_alike_stay_alike_and_others_part():
    apart = load("measure").drift(1, episodes=8, off=(0.0, 1e-3), after=(1, 2))
    assert not apart[0].any()
    assert apart[1][0] == pytest.approx(1e-3, rel=1e-2)


def test_speed_is_measured_of_engine_and_dream():
    rows = load("measure").speed(sizes=("debug",), batches=(1,), repeats=1)
    assert [name for name, _, _ in rows] == [
        "engine, states", "engine, pictures", "dream of debug, states", "dream of debug, pictures",
    ]  # fmt: skip
    assert all(took[1] > 0 for _, _, took in rows)
    assert rows[0][1] == 0 and rows[2][1] > 1000
