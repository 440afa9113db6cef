"""Values written as text in one option: `a=1,b=[1,2],c={"x": 1}` and `gravity=-12:-8,map=small|large`.

A value is YAML's flow syntax with the types of YAML 1.2 (and Python's spelling of None): 1:5 and 1.2.3 are text.
What YAML 1.1 takes for a bool and a person may mean as text (`no`, `on`) is refused. Loads no JAX.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from dreamworld import words
from dreamworld.brackets import MAX_DEPTH, split
from dreamworld.errors import UserError
from dreamworld.limits import shorten

MAX_DIGITS = 400
WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("null", "Null", "NULL", "None", "~", ""), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
AMBIGUOUS = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
INTEGER = re.compile(r"[-+]?(?:0x[0-9a-fA-F]+|0o[0-7]+|[0-9]+(?:_[0-9]+)*)")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
SPECIAL = re.compile(r"([-+]?)\.?(inf|Inf|INF|nan|NaN|NAN)")
BARE = re.compile(r"[^\W\d][\w./-]*")  # text that needs no quotes
NAME = re.compile(r"[^\s,=|:{}\[\]\"'#]+")
NODES = {"[": yaml.SequenceNode, "{": yaml.MappingNode, '"': yaml.ScalarNode, "'": yaml.ScalarNode}


class Plain(str):
    """Text that stood without quotes in a YAML file: a number or a bool where it looks like one."""


_BASE: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class Loader(_BASE):
    """YAML in which every scalar is text; those without quotes are `Plain`, so that options can be typed later."""

    def construct_scalar(self, node: Any) -> str:
        """See BaseLoader."""
        text = super().construct_scalar(node)
        return text if node.style else Plain(text)


@dataclasses.dataclass(frozen=True)
class Syntax:
    """How the text of an option is written; `canonical` gives equal texts for equal values."""

    words: str
    canonical: Callable[[Any], str]


def parse_options(text: str | Mapping[str, Any]) -> dict[str, Any]:
    """Constructor options from `obs=image,size=32,config={"lanes": 4}`, from `{a: 1}`, or from a mapping."""
    if isinstance(text, Mapping):
        return {_name(name): _typed(value) for name, value in text.items()}
    if text.lstrip().startswith("{"):
        return parse_options(parse_value(text))
    return {name: parse_value(value) for name, value in _assignments(text, "option=value")}


def options_text(options: str | Mapping[str, Any]) -> str:
    """The canonical text of options: `parse_options` gives them back."""
    return ",".join(f"{name}={value_text(value)}" for name, value in parse_options(options).items())


def parse_choices(text: str | Mapping[str, Any]) -> dict[str, tuple[float, float] | list[Any]]:
    """(low, high) or the list to choose from, by name: `gravity=-12:-8,map=small|large`, or such a mapping."""
    if isinstance(text, Mapping):
        return {_name(name): _choice(name, value) for name, value in text.items()}
    return {
        name: _choice(name, Plain(value))
        for name, value in _assignments(text, "option=low:high or option=a|b|c")
    }


def choices_text(choices: str | Mapping[str, Any]) -> str:
    """The canonical text of choices: `parse_choices` gives them back."""
    parts = []
    for name, choice in parse_choices(choices).items():
        number = lambda x: value_text(int(x) if x.is_integer() else x)
        words = map(number, choice) if isinstance(choice, tuple) else map(value_text, choice)
        parts.append(f"{name}={(':' if isinstance(choice, tuple) else '|').join(words)}")
    return ",".join(parts)


OPTIONS = Syntax("options of the environment, such as size=32,map=[1,2]", options_text)
CHOICES = Syntax("choices for every episode, such as gravity=-12:-8,map=small|large", choices_text)


def pattern_text(pattern: object) -> str:
    """A regular expression, unchanged; UserError where it is none."""
    if not isinstance(pattern, str):
        raise TypeError(pattern)
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"{shorten(repr(pattern))} is not a regular expression: {error}") from None
    return str(pattern)


PATTERN = Syntax("a regular expression such as image|depth, auto, or empty", pattern_text)


def parse_value(text: str) -> Any:
    """One value: a list or mapping in brackets, text in quotes, else what `plain` makes of it."""
    text = text.strip()
    kind = NODES.get(text[:1])
    if kind is None:
        return plain(text)
    list(split(text, ","))  # counts the brackets
    try:
        node = yaml.compose(text, Loader=_Flow)
        if not isinstance(node, kind):
            raise yaml.YAMLError("there is more behind its end")
        return _from_node(node)
    except yaml.YAMLError as error:
        what = getattr(error, "problem", None) or str(error)
        raise UserError(f"{text!r} is not a value: {' '.join(what.split())}") from None


def plain(text: str) -> Any:
    """The number, bool, None or text that text without quotes means."""
    if text in WORDS:
        return WORDS[text]
    if AMBIGUOUS.fullmatch(text):
        meant = "true" if text.lower() in ("yes", "on") else "false"
        raise UserError(
            f'{text!r} can be read in two ways: write {meant}, or "{text}" in quotes for the word'
        )
    if INTEGER.fullmatch(text) and len(text) <= MAX_DIGITS:
        digits = text.lstrip("+-")
        number = int(digits, {"0x": 16, "0o": 8}.get(digits[:2], 10))
        return -number if text[0] == "-" else number
    if FLOAT.fullmatch(text):
        return float(text)
    if special := SPECIAL.fullmatch(text):
        return float(special[1] + special[2].lower())
    return str(text)


def value_text(value: object) -> str:
    """The text that `parse_value` reads back to an equal value of the same type; no option text needs more."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return str(value) if BARE.fullmatch(value) and _is_text(value) else _quoted(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return (
            repr(float(value))
            if math.isfinite(value)
            else f"{value:f}".replace("inf", ".inf").replace("nan", ".nan")
        )
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{value_text(key)}: {value_text(item)}" for key, item in value.items()) + "}"
    if callable(tolist := getattr(value, "tolist", None)):  # numpy's own
        return value_text(tolist())
    raise UserError(
        f"{words.type_of(value)} can't be kept in a config: numbers, text, bools, None, lists and mappings can"
    )


def _is_text(value: str) -> bool:
    try:
        return isinstance(plain(value), str)
    except UserError:
        return False


def _quoted(value: str) -> str:
    """In double quotes, every character that YAML won't take as it is escaped."""
    escaped = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped)


class _Flow(yaml.BaseLoader):
    """Refuses anchors, which can make a short text huge."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.YAMLError("anchors and aliases are not taken")
        return super().compose_node(parent, index)


def _from_node(node: yaml.Node) -> Any:
    if node.tag not in (f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")):
        raise yaml.YAMLError(f"tags such as {node.tag} are not taken")
    if isinstance(node, yaml.SequenceNode):
        return [_from_node(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        pairs = [(_from_node(key), _from_node(value)) for key, value in node.value]
        return _unique(pairs)
    return node.value if getattr(node, "style", None) else plain(node.value)


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if isinstance(key, list | dict):
            raise yaml.YAMLError(f"{value_text(key)} can't be a key")
        if key in found:
            raise UserError(f"{key!r} is given twice")
        found[key] = value
    return found


def _typed(value: object, depth: int = 0) -> Any:
    """What a YAML file's mapping holds, with the types of values; other values as they are."""
    if depth > MAX_DEPTH:
        raise UserError(f"more than {MAX_DEPTH} lists or mappings inside each other")
    if isinstance(value, Plain):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_typed(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {_typed(key): _typed(item, depth + 1) for key, item in value.items()}
    return value


def _choice(name: str, value: object) -> tuple[float, float] | list[Any]:
    if not isinstance(value, str):
        return [_typed(item) for item in value] if isinstance(value, list | tuple) else [_typed(value)]
    parts = [part.strip() for part in split(value, "|")]
    if not all(parts):
        raise UserError(f'{name}={value!r}: an empty choice; write "" for empty text')
    ends = list(split(value, ":"))
    if len(parts) > 1 or len(ends) == 1:
        return [parse_value(part) for part in parts]
    try:
        low, high = map(float, ends)
    except ValueError:
        raise UserError(
            f"{name}={value!r}: low:high must be two numbers; quote text that has a colon"
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise UserError(f"{name}={value!r}: low:high must be two finite numbers, the lower one first")
    return low, high


def _name(name: object) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"{name!r} is no name of an option")
    return str(name)


def _assignments(text: str, form: str) -> Iterator[tuple[str, str]]:
    """(name, text of the value) pairs, each name once."""
    seen = set()
    for item in filter(None, (part.strip() for part in split(text, ","))):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not value or not NAME.fullmatch(name):
            raise UserError(f'{item!r}: write {form} (a list as [1,2], text with commas as "a,b")')
        if name in seen:
            raise UserError(f"{name!r} is given twice")
        seen.add(name)
        yield name, value
