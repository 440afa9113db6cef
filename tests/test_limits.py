"""Ranges of numbers: every numeric option of every command has one, and what lies outside is one short line."""

import dataclasses
import importlib
import pkgutil
import re
import typing

import pytest

import dreamworld.benchmarks
import dreamworld.scripts
from dreamworld import cli, presets, schema
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.limits import parse_float, parse_int
from dreamworld.sweep import spec


def flag_classes():
    """The options of every command and benchmark."""
    modules = [spec]
    for package in (dreamworld.scripts, dreamworld.benchmarks):
        for item in pkgutil.iter_modules(package.__path__):
            modules.append(importlib.import_module(f"{package.__name__}.{item.name}"))
    return [module.Flags for module in modules if dataclasses.is_dataclass(getattr(module, "Flags", None))]


def numeric(hint):
    """Whether a type is a number, or a list of numbers."""
    return any(part in (int, float) for part in (hint, *typing.get_args(hint)))


NUMBERS = [
    (cls, key)
    for cls in (Config, *flag_classes())
    for key, hint in schema.options(cls).items()
    if numeric(hint)
]


def line_of(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    return str(caught.value)


def test_there_are_options_of_many_commands():
    assert len({cls.__module__ for cls, _ in NUMBERS}) >= 15 and len(NUMBERS) > 130


@pytest.mark.parametrize(("cls", "key"), NUMBERS, ids=lambda value: getattr(value, "__module__", value))
def test_every_number_has_a_range_that_holds_its_default(cls, key):
    range_ = schema.ranges(cls)[key]
    assert -1 <= range_.low < range_.high <= 1e16
    schema.check_range(cls, key, presets.flat(cls())[key], key)


@pytest.mark.parametrize("value", ["1e18", "-2", "9" * 300, "inf", "-inf"])
def test_no_number_option_takes_absurd_values(value):
    for key in (key for cls, key in NUMBERS if cls is Config):
        hint = schema.options(Config)[key]
        text = f"{value},{value}" if hint == tuple[int, int] else value
        assert key in line_of(lambda key=key, text=text: cli.parse([f"--{key}={text}"]))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("env.num", "1e18", "got 1000000000000000000, expects at most 65536"),
        ("agent.behaviour.units", "1e18", "at most 65536"),
        ("agent.rssm.posterior_layers", "-1", "got -1, expects between 0 and 64"),
        ("seed", "9" * 400, "9…9"),
        ("seed", "9" * 5000, "(5,002 characters)"),
        ("agent.optim.lr", "1e-400", None),
        ("agent.optim.lr", "1e400", "got inf, expects between 0 and 10"),
        ("agent.optim.beta1", "1", "got 1, expects between 0 and 0.9999999"),
    ],
)
def test_a_value_outside_is_shown_short_with_what_is_expected(key, value, words):
    if words is None:
        assert presets.flat(cli.parse([f"--{key}", value]))[key] == 0
        return
    assert words.replace("9…9", "…") in line_of(lambda: cli.parse([f"--{key}", value]))


@pytest.mark.parametrize(
    ("text", "number"),
    [("12", 12), ("-3", -3), ("+3", 3), ("1_000", 1000), ("1e6", 10**6), ("1.0", 1), (" 5 ", 5), ("007", 7)],
)
def test_whole_numbers_in_every_spelling(text, number):
    assert parse_int(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1.5",
        "0x10",
        "0b1",
        "1__0",
        "_1",
        "1_",
        "٣",
        "１",
        "1 2",
        "nan",
        "1e",
        "e5",
        "--1",
        "9" * 401,
        "inf",
        "1e309",
        "²",
    ],
)
def test_what_is_no_whole_number(text):
    with pytest.raises((ValueError, OverflowError)):
        parse_int(text)


@pytest.mark.parametrize(
    "text", ["nan", "-nan", ".nan", "0x1p3", "1,5", "٣.٣", "1e٣", "", "1.2.3", "infinit"]
)
def test_what_is_no_number(text):
    with pytest.raises(ValueError):
        parse_float(text)


def test_numbers_in_every_spelling():
    texts = ("1.5", "1e-3", ".5", "5.", "-2E+3", "1_0.5", "inf", "-.inf", ".INF")
    inf = float("inf")
    assert [parse_float(text) for text in texts] == [1.5, 1e-3, 0.5, 5.0, -2000.0, 10.5, inf, -inf, inf]


@pytest.mark.parametrize("key", ["agent.encoder.vector_keys", "agent.encoder.image_keys"])
@pytest.mark.parametrize("text", ["[", "(", "*", "a{99999999999999}", "(?P<x", "\\", "(" * 5000])
def test_what_is_no_regular_expression_is_one_line(key, text):
    line = line_of(lambda: cli.parse([f"--{key}={text}"]))
    assert f"--{key}: " in line and "regular expression" in line


def test_every_option_with_keys_of_observations_is_compiled():
    known = schema.options(Config)
    assert {key for key in known if re.search("_keys$", key)} == {
        key for key, hint in known.items() if getattr(hint, "words", "").startswith("a regular expression")
    }


def test_ranges_hold_in_files_and_in_python(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("env: {num: 1e18}\nagent: {encoder: {image_keys: '['}}")
    assert "mine.yaml: env.num" in line_of(lambda: cli.parse(["--configs", str(file)]))
    assert "env.num" in line_of(lambda: cli.override(Config(), {"env.num": 10**18}))


@pytest.mark.parametrize(
    "argv",
    [
        ["--episodes", "1e12"],
        ["--episodes", "0"],
        ["--step", "-2"],
        ["--seed", "9" * 400],
    ],
)
def test_options_of_commands_have_ranges_too(argv):
    from dreamworld.scripts.eval import Flags

    assert argv[0] in line_of(lambda: cli.parse_flags(argv, Flags(), prog="x"))
