"""Typed access to what a file holds: a missing or mistyped field is a `BadFile` that names file and field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.reading import INT64, BadFile, PathLike, is_number, read_json

REQUIRED: Any = object()


class Fields:
    """A mapping that was read from a file. `where` is the dotted key at which it lies in the file."""

    def __init__(self, row: object, path: PathLike, where: str = ""):
        self.path, self.where = path, where
        if not isinstance(row, dict):
            raise BadFile(path, f"{where or 'its content'} must be a mapping, not {_kind(row)}")
        self.row: dict[str, Any] = row

    def __contains__(self, key: str) -> bool:
        return key in self.row

    def __iter__(self) -> Iterator[str]:
        return iter(self.row)

    def name(self, key: str) -> str:
        """The dotted key of a field."""
        return f"{self.where}.{key}" if self.where else key

    def bad(self, key: str, expected: str) -> BadFile:
        """The error for a field that is not what it should be."""
        found = f"not {_kind(self.row[key])}" if key in self.row else "and is missing"
        return BadFile(self.path, f"{self.name(key)} must be {expected}, {found}")

    def get(self, key: str, default: object = REQUIRED) -> Any:
        """A field of any kind."""
        if key in self.row:
            return self.row[key]
        if default is REQUIRED:
            raise BadFile(self.path, f"{self.name(key)} is missing")
        return default

    def integer(self, key: str, low: int = 0, high: int = INT64 - 1, default: object = REQUIRED) -> int:
        """A whole number from `low` to `high`."""
        value = self.get(key, default)
        if value is not default and not (type(value) is int and low <= value <= high):
            raise self.bad(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, default: object = REQUIRED) -> float:
        """A finite number."""
        value = self.get(key, default)
        if value is not default and not is_number(value):
            raise self.bad(key, "a finite number")
        return value

    def flag(self, key: str, default: object = REQUIRED) -> bool:
        """True or False."""
        value = self.get(key, default)
        if value is not default and not isinstance(value, bool):
            raise self.bad(key, "true or false")
        return value

    def text(self, key: str, default: object = REQUIRED) -> str:
        """Text."""
        value = self.get(key, default)
        if value is not default and not isinstance(value, str):
            raise self.bad(key, "text")
        return value

    def items(self, key: str, kind: type = object, default: object = REQUIRED) -> list[Any]:
        """A list, each element a `kind`."""
        value = self.get(key, default)
        if value is not default and not (isinstance(value, list) and all(isinstance(v, kind) for v in value)):
            words = "" if kind is object else f" of {_NAMES[kind]}"
            raise self.bad(key, f"a list{words}")
        return value

    def table(self, key: str, columns: int) -> np.ndarray:
        """A list of rows of `columns` whole numbers, as int64 [rows, columns]."""
        rows = self.items(key, list)
        if not rows:
            return np.zeros((0, columns), np.int64)
        try:
            array: Any = np.array(rows)
        except (ValueError, OverflowError):
            array = np.zeros(0)
        if array.ndim != 2 or array.shape[1] != columns or array.dtype.kind != "i":
            raise self.bad(key, f"a list of rows of {words.count(columns, 'whole number')}")
        return array

    def table_row(self, key: str, columns: int) -> list[int]:
        """A list of `columns` whole numbers of at least 0."""
        row = self.items(key, int)
        if len(row) != columns or not all(0 <= value < INT64 for value in row):
            raise self.bad(key, f"a list of {words.count(columns, 'whole number')}")
        return row

    def fields(self, key: str) -> Fields:
        """A mapping within this one."""
        if key not in self.row:
            raise BadFile(self.path, f"{self.name(key)} is missing")
        return Fields(self.row[key], self.path, self.name(key))

    def rows(self, key: str) -> list[Fields]:
        """A list of mappings."""
        return [Fields(row, self.path, f"{self.name(key)}[{i}]") for i, row in enumerate(self.items(key))]


def read_fields(path: PathLike, limit: int | None = None) -> Fields:
    """The mapping that a JSON file holds."""
    return Fields(read_json(path, *([limit] if limit else [])), path)


_NAMES: dict[Any, str] = {
    dict: "mappings",
    list: "lists",
    str: "texts",
    int: "whole numbers",
    float: "numbers",
    np.ndarray: "arrays",
}


def _kind(value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return names.get(type(value)) or f"the number {value!s:.40}"
