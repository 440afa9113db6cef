import os
import pathlib
import subprocess
import sys

import pytest

from dreamworld import text
from dreamworld.errors import UserError

CONTROLS = ["\x1b", "\n", "\r", "\t", "\0", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\ufeff", "\ud800"]


@pytest.mark.parametrize("character", CONTROLS, ids=ascii)
def test_control_characters_are_refused_and_shown(character):
    assert ascii(character)[1:-1] in text.printable(f"a{character}b")
    assert text.printable(f"a{character}b").isprintable()
    with pytest.raises(UserError) as caught:
        text.check("task", f"a{character}b")
    assert str(caught.value).isprintable() and str(caught.value).startswith("task: got 'a")


@pytest.mark.parametrize(
    "word", ["plain", "Zürich", "日本語", "می\u200cخواهم", "क्\u200dष", "a b", "[/red]", "🙂"]
)
def test_words_of_every_language_pass(word):
    text.check("task", word)
    assert text.printable(word) == word


@pytest.mark.parametrize("value", [("a", "b\n"), ["\x1b"], {"a": "\n"}, {"a\n": 1}, {"a": [{"b": "\x07"}]}])
def test_elements_and_keys_are_checked(value):
    with pytest.raises(UserError, match="control character"):
        text.check("options", value)


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(UserError) as caught:
        text.check("task", "x" * 10_000 + "\n")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("word", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\n=x"])
def test_no_text_becomes_a_formula(word):
    assert text.cell(word)[0] == "'"


@pytest.mark.parametrize("value", [-1.5, 3, True, None, "", "plain", "a=b", "1e5"])
def test_numbers_and_plain_text_stay(value):
    assert text.cell(value) is value or text.cell(value) == value


def test_a_home_folder_is_filled_in(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert text.expand_path("~/a") == pathlib.Path("/home/me/a")
    assert text.expand_path("a/~b") == pathlib.Path("a/~b") and text.expand_path("~") == pathlib.Path(
        "/home/me"
    )
    with pytest.raises(UserError, match="there is no user 'nobody-here' here; ~/nobody-here is in your home"):
        text.expand_path(pathlib.Path("~nobody-here"))


def test_no_home_folder_is_filled_in_elsewhere():
    """`Path.expanduser` raises RuntimeError."""
    root = pathlib.Path(text.__file__).parent
    sources = [
        path for part in ("", "agents", "envs", "scripts") for path in (root / part).resolve().rglob("*.py")
    ]
    assert len(sources) > 200
    assert not [path for path in sources if ".expanduser()" in path.read_text()]


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("more", [{}, {"PYTHONIOENCODING": "ascii"}])
def test_a_locale_of_ascii_changes_no_name(tmp_path, more):
    """Python would give the word as halves of characters, and could not open what a config calls by this name."""
    (tmp_path / "dätä").mkdir()
    command = [sys.executable, "-m", "dreamworld", "data", "info", "dätä"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env={**os.environ, **ASCII, **more})
    shown = b"d\\xe4t\\xe4" if more else "dätä".encode()
    assert done.stderr == b"error: " + shown + b": is a folder, not a data set; it has no dataset.json\n"


def test_in_python_a_name_that_the_locale_can_not_say_is_one_line(tmp_path):
    code = "from dreamworld.__main__ import main; main(['data', 'info', 'd\\xe4t\\xe4'])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env={**os.environ, **ASCII})
    wanted = rb"error: d\xe4t\xe4: the locale can't name this file; set LC_ALL=C.UTF-8 or PYTHONUTF8=1"
    assert done.stderr.splitlines() == [wanted]


def test_a_current_folder_that_was_removed_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert text.expand_path(tmp_path / "run") == tmp_path / "run"  # needs none
    with pytest.raises(UserError, match="the current folder was removed"):
        text.expand_path("run")
