"""What the site's reference is made of: every option has its text, and docstrings become what autodoc reads."""

import importlib

import pytest


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
    assert all(line.rsplit("|", 2)[1].strip() for line in rows), "an option without a text below its field"


def test_every_command_and_preset_is_in_the_reference(extension, repo):
    from dreamworld.__main__ import COMMANDS

    reference = extension("reference")
    assert all(f"\n## dreamworld {name}\n" in reference.commands() for name in COMMANDS)
    presets = reference.presets()
    assert all(f"\n## {path.stem}\n" in presets for path in (repo / "configs").glob("*.yaml"))


def test_docstrings_keep_code_lists_and_what_looks_like_markup(extension):
    said = ["Takes `x_` and gym_*.", "", "    a = b", "", "Args:", "  x: one, that", "    goes on.", "Then."]
    code, items = ["", "::", "", "      a = b", "", ""], ["Args:", "", "* x: one, that", "  goes on.", ""]
    found = extension("docstrings").translate(said)
    assert found == [r"Takes ``x_`` and gym\_\*.", "", *code, *items, "Then.", ""]
