"""Rows of logs and status files as strict JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dreamworld import writing


def write_json(path: Path, row: dict[str, Any]) -> None:
    """Replaces a JSON file atomically; non-finite floats become null."""
    writing.replace(path, dumps(row) + "\n")


def dumps(row: Any) -> str:
    """One line of strict JSON: numpy scalars and arrays as numbers and lists, non-finite floats as null."""
    return json.dumps(_plain(row), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist") and not isinstance(value, str | bytes):
        return _plain(value.tolist())
    if isinstance(value, float) and not (-float("inf") < value < float("inf")):
        return None
    return value
