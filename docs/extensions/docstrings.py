"""Docstrings are plain text with `code`, indented blocks and lists of arguments; autodoc reads reStructuredText."""

import re
from typing import Any


def translate(lines: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText."""
    found: list[str] = []
    kind = ""  # of what is indented: "code", or "list" below `Args:`
    for line in lines:
        if line.startswith("  ") and not kind:
            kind = "list" if found and found[-1].endswith(":") and found[-1].istitle() else "code"
            found += ["", "::", ""] if kind == "code" else [""]
        elif line.strip() and not line.startswith(" ") and kind:
            found.append("")
            kind = ""
        found.append({"": _escape, "code": "  {}".format, "list": _item}[kind](line) if line.strip() else "")
    return [*found, ""]


def _item(line: str) -> str:
    """`  name: what it is` as an item; lines that go on are indented by more than two spaces."""
    return f"  {_escape(line.strip())}" if line.startswith("   ") else f"* {_escape(line.strip())}"


def _escape(line: str) -> str:
    parts = re.split(r"(`[^`]+`)", line)
    return "".join(
        f"``{part[1:-1]}``" if index % 2 else re.sub(r"([*_|\\`])", r"\\\1", part)
        for index, part in enumerate(parts)
    )


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [] if lines[:1] and lines[0].startswith("Alias for field number") else translate(lines)


def setup(app: Any) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}
