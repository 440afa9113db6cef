"""Values written as text: what they mean, that they come back, and the one line for what can't be read."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamworld.errors import UserError
from dreamworld.values import (
    Loader,
    choices_text,
    options_text,
    parse_choices,
    parse_options,
    parse_value,
    value_text,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("false", False), ("False", False), ("TRUE", True), ("null", None), ("None", None), ("~", None),
        ("3", 3), ("-3", -3), ("+3", 3), ("007", 7), ("1_000", 1000), ("0x1f", 31),
        ("1e6", 1e6), ("2.5", 2.5), (".5", 0.5), ("5.", 5.0), ("-1e-3", -0.001), ("inf", float("inf")),
        ("-.inf", float("-inf")),
        ("1:5", "1:5"), ("1.2.3", "1.2.3"), ("2024-01-01", "2024-01-01"), ("image", "image"), ("y", "y"),
        ("http://x/#y", "http://x/#y"), ("*.png", "*.png"), ("it's", "it's"), ("a b", "a b"), ("ä", "ä"),
        ('"no"', "no"), ("'1'", "1"), ('"a,b"', "a,b"), ("'it''s'", "it's"), (r'"\n"', "\n"),
        ("[1, 2]", [1, 2]), ("[]", []), ("[[1,2],[3]]", [[1, 2], [3]]), ("[a, 'b', null]", ["a", "b", None]),
        ('{"x": 1}', {"x": 1}), ("{x: [1, {y: false}]}", {"x": [1, {"y": False}]}), ("{}", {}),
        ("{1: a}", {1: "a"}),
    ],
)  # fmt: skip
def test_a_value_has_the_type_that_it_looks_like(text, value):
    found = parse_options(f"a={text}")["a"]
    assert found == value and type(found) is type(value)


def test_commas_in_brackets_and_quotes_do_not_split():
    text = 'a=1, b=[1, 2],c={"x": [1,2], y: "},"},d=false,e=null,f="g,h=1",i=\'j,k\''
    assert parse_options(text) == {
        "a": 1,
        "b": [1, 2],
        "c": {"x": [1, 2], "y": "},"},
        "d": False,
        "e": None,
        "f": "g,h=1",
        "i": "j,k",
    }


def test_a_mapping_in_braces_is_taken_whole():
    assert parse_options('{"a": 1, b: [x], c: false}') == {"a": 1, "b": ["x"], "c": False}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "'a': write option=value"), ("a=", "'a=': write option=value"), ("=3", "write option=value"),
        ("a=(1,2)", r"'2\)': write option=value \(a list as \[1,2\]"), ("a b=1", "'a b=1': write option=value"),
        ("a=1,a=2", "'a' is given twice"), ("a={x: 1, x: 2}", "'x' is given twice"),
        ("a=[1", "']' is missing"), ("a=[1}", "']' is missing"), ('a="x', "quote \" is not closed"),
        ("a=no", "read in two ways: write false"), ("a=ON", "write true"), ("a=[yes]", "write true"),
        ("a=" + 20 * "[" + 20 * "]", "more than 16 brackets"),
        ("a=[&x [1], *x]", "anchors and aliases"), ("a=[!!python/name:os.system x]", "tags such as"),
        ('a="x" y', "more|expected"), ('a="x": 1', "behind its end"), ("a={[1]: 2}", "can't be a key|not a value"),
        ("[1,2]", "write option=value"), ("{1: 2}", "1 is no name of an option"),
    ],
)  # fmt: skip
def test_what_can_not_be_read_is_one_line(text, words):
    with pytest.raises(UserError, match=words) as error:
        parse_options(text)
    assert "\n" not in str(error.value)


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text() | st.integers(), x, max_size=3)
)


@settings(max_examples=300, deadline=None)
@given(trees)
def test_every_value_comes_back_from_its_text(value):
    text = value_text(value)
    assert parse_value(text) == value
    found = parse_options(options_text({"a": value, "b": 1}))
    assert found == {"a": value, "b": 1} and repr(found["a"]) == repr(value)
    assert options_text(found) == options_text(options_text(found))


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text):
    for parse in (parse_options, parse_choices):
        try:
            parse(text)
        except UserError as error:
            assert len(str(error).splitlines()) == 1


def test_equal_options_have_equal_text():
    texts = ("a=1, b=[1, 2],c=True", '{"a": 1, "b": [1,2], "c": true}', "a=0x1,b=[1,2],c=true")
    assert {options_text(text) for text in texts} == {"a=1,b=[1,2],c=true"}
    mapping = yaml.load("{a: 1, b: [1, 2], c: True}", Loader=Loader)
    assert options_text(mapping) == "a=1,b=[1,2],c=true"


def test_quotes_in_a_yaml_file_make_text():
    tree = yaml.load("{a: 1, b: '1', c: \"false\", d: null, e: }", Loader=Loader)
    assert parse_options(tree) == {"a": 1, "b": "1", "c": "false", "d": None, "e": None}
    assert parse_options({"a": "1", "b": (2, 3)}) == {"a": "1", "b": [2, 3]}


def test_what_a_config_can_not_hold_is_named():
    with pytest.raises(UserError, match="an object can't be kept in a config"):
        options_text({"a": object()})


def test_choices_are_ranges_or_lists_of_values():
    text = 'gravity=-12:-8, map=small|large|0.5, flag=true|null, start=[0,0]|[1, 2], at="1:5"|"a|b,c"'
    choices = {
        "gravity": (-12, -8),
        "map": ["small", "large", 0.5],
        "flag": [True, None],
        "start": [[0, 0], [1, 2]],
        "at": ["1:5", "a|b,c"],
    }
    assert parse_choices(text) == choices
    assert parse_choices(choices_text(text)) == choices
    assert choices_text("gravity=-12:-8,map=small|large") == "gravity=-12:-8,map=small|large"
    tree = yaml.load("{gravity: -12:-8, map: [small, 1], x: a|b, y: 0.5:2}", Loader=Loader)
    assert parse_choices(tree) == {
        "gravity": (-12, -8),
        "map": ["small", 1],
        "x": ["a", "b"],
        "y": (0.5, 2),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gravity", "write option=low:high or option=a"), ("gravity=", "write option"), ("=3", "write option"),
        ("a=b:c", "must be two numbers"), ("a=1:2:3", "two numbers"), ("a=2:1", "the lower one first"),
        ("a=0:inf", "finite"), ("a=nan:1", "finite"), ("a=1|", "an empty choice"), ("a=x|no", "two ways"),
        ("a=1,a=2", "given twice"),
    ],
)  # fmt: skip
def test_choices_that_can_not_be_read_are_one_line(text, words):
    with pytest.raises(UserError, match=words):
        parse_choices(text)
