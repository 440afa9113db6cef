"""Reads YAML files of others: plain values only, no anchors, no tags, never very large or deep. Loads no JAX."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import yaml

from dreamworld.reading import LONG_NUMBER, BadFile, PathLike, decoded, read_bytes
from dreamworld.values import Loader

MAX_YAML = 256 << 10  # a whole config has 6 KiB
MAX_YAML_DEPTH = 20
_BaseLoader: Any = Loader
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TYPES = {f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "null")}


class _TypedSafeLoader(_SafeLoader):
    """Knows numbers, flags and null; no dates, no merged mappings."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in pairs if tag in _TYPES]
        for first, pairs in _SafeLoader.yaml_implicit_resolvers.items()
    }


def read_yaml(path: PathLike, *, typed: bool = False) -> Any:
    """What a YAML file holds: scalars as text, or with `typed` as numbers, flags and text."""
    return parse_yaml(read_bytes(path, MAX_YAML), path, typed=typed)


def parse_yaml(data: bytes | str, path: PathLike, *, typed: bool = False) -> Any:
    """What YAML text holds. Anchors, aliases and tags are refused: a few lines of them are gigabytes, or code."""
    text = data if isinstance(data, str) else decoded(data, path)
    try:
        _check_events(text, path)
        value = yaml.load(text, Loader=_TypedSafeLoader) if typed else yaml.load(text, Loader=_BaseLoader)
        if typed and LONG_NUMBER.search(text.encode()):
            json.dumps(value, default=str)  # raises ValueError for a number that can't be printed
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(path, f"not valid YAML: {' '.join(str(error).split())}") from None
    return value


def _check_events(text: str, path: PathLike) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_BaseLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise BadFile(path, "not valid YAML here: anchors (&) and aliases (*) are refused")
        if getattr(event, "tag", None):
            raise BadFile(path, f"not valid YAML here: tags are refused, such as {event.tag}")
        if isinstance(event, yaml.ScalarEvent):
            event.value.encode("utf-8")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_YAML_DEPTH:
            raise BadFile(path, f"not valid YAML here: nested more than {MAX_YAML_DEPTH} deep")
