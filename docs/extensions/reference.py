"""Writes the pages of reference that are made from the code: options, commands, presets."""

import ast
import contextlib
import dataclasses
import inspect
import io
import os
import pathlib
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from dreamworld import agents, schema
from dreamworld.__main__ import COMMANDS
from dreamworld.__main__ import main as run
from dreamworld.config import Config
from dreamworld.limits import FIXED

HERE = pathlib.Path(__file__).resolve().parent.parent
FOLDER = HERE / "reference"


def texts(cls: type) -> dict[str, str]:
    """{field: the text below it} of a dataclass and of those that it derives from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.split(".")[0] != "dreamworld":
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:]):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                found[ast.unparse(field.target)] = inspect.cleandoc(ast.literal_eval(below.value))
    return found


def groups(spec: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, instance) of a config and of all its groups."""
    yield prefix, spec
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if dataclasses.is_dataclass(value):
            yield from groups(value, f"{prefix}{field.name}.")


def rows(spec: Any, prefix: str) -> list[str]:
    """The rows of a table of the options that a group holds itself."""
    kinds, limits, said = schema.options(spec), schema.ranges(spec), texts(type(spec))
    fixed = schema.marked(spec, FIXED)
    found = []
    for name in [field.name for field in dataclasses.fields(spec) if field.name in kinds]:
        takes = schema.expected(kinds[name])
        if name in limits:
            takes = f"{takes}, {number(limits[name].low)} to {number(limits[name].high)}"
        takes += ", fixed in a run" * (name in fixed)
        cells = [f"`{prefix}{name}`", shown(getattr(spec, name)), plain(" ".join(said[name].split())), takes]
        found.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return found


def number(value: float) -> str:
    """Whole where it is whole."""
    return f"{int(value):,}" if value == int(value) and abs(value) < 1e12 else f"{value:g}"


def plain(text: str) -> str:
    """Text in which only code in backticks has a meaning."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        part if index % 2 else re.sub(r"([*_<])", r"\\\1", part) for index, part in enumerate(parts)
    )


def shown(value: Any) -> str:
    """A default as one types it."""
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{text}`" if text else "empty"


def options() -> str:
    """Every option of a training, from the dataclasses."""
    lines = [
        "# Options", "",
        "All options of `dreamworld train`, with their defaults ([how they are given](../configuration.md)).", "",
    ]  # fmt: skip
    specs = [
        ("", Config()),
        *((name, dataclasses.replace(Config(), agent=agents.find(name).config)) for name in agents.names()),
    ]
    for agent, config in specs:
        for prefix, group in groups(config):
            if bool(agent) != prefix.startswith("agent.") or not (found := rows(group, prefix)):
                continue
            of = f" of {agent}" if agent else ""
            lines += [f"## {prefix.rstrip('.') or 'a run'}{of}", ""]
            lines += ["| option | default | meaning | takes |", "|---|---|---|---|", *found, ""]
    return "\n".join(lines)


def commands() -> str:
    """What every command says of itself."""
    lines = ["# Commands", ""]
    for name, meaning in COMMANDS.items():
        if name == "train":
            text = "See `dreamworld train --help`, and [the options](options.md)."
        else:
            text = f"```text\n{printed(name)}\n```"
        lines += [f"## dreamworld {name}", "", f"{meaning[0].upper()}{meaning[1:]}.", "", text, ""]
    return "\n".join(lines)


def printed(name: str) -> str:
    """What `dreamworld NAME --help` prints on a terminal of 100 columns without colours."""
    said = io.StringIO()
    before = {key: os.environ.get(key) for key in ("COLUMNS", "NO_COLOR", "TERM")}
    os.environ.update(COLUMNS="100", NO_COLOR="1", TERM="dumb")
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            run([name, "--help"])
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
    return said.getvalue().strip()


def presets() -> str:
    """The comment that opens each preset, and what it sets."""
    lines = [
        "# Presets",
        "",
        "Layers of options for `--configs`, from left to right ([how](../configuration.md#layers)).",
        "",
    ]
    for path in sorted((HERE.parent / "configs").glob("*.yaml")):
        lines += [f"## {path.stem}", "", "```yaml", path.read_text("utf-8").strip(), "```", ""]
    return "\n".join(lines)


def write(app: Any = None) -> None:
    """Makes the pages; those that are as they were keep their time, so that they are not built again."""
    FOLDER.mkdir(exist_ok=True)
    for make in (options, commands, presets):
        path, text = FOLDER / f"{make.__name__}.md", make()
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
