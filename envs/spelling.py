"""The right form of a name that was meant for an environment: a path, a dot for a colon, another version or case."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable
from pathlib import PurePosixPath

from dreamworld.errors import UserError

PACKAGES = {"ALE": ("ale_py", "pip install ale-py")}  # namespace of gymnasium -> import name, how to get it
SIMILAR = 0.75  # of difflib's ratio
GUESSES = ("{}", "{}_env", "{}_gym", "{}_gymnasium", "gym_{}", "gymnasium_{}")


def require_module(module: str, rest: str, label: str, prefix: str = "") -> None:
    """UserError with the right form unless `module` is a dotted name; `prefix` and `rest` stand around it."""
    parts = module.split(".")
    if all(parts) and rest and parts[-1] != "py" and not re.search(r"[/\\~\s]", module):
        return
    name = (module and rest) or ("Id-v0" if prefix else "Name")
    raise UserError(f"{label}: write it as {right_path(module, name, prefix)}")


def right_path(path: str, rest: str, prefix: str = "") -> str:
    """`module:Name` of a path of a Python file, and the folder to start in where it is not below this one."""
    pure = PurePosixPath(path.strip().replace("\\", "/").removesuffix(".py"))
    parts = [part.lstrip(".") or part for part in pure.parts]
    outside = pure.is_absolute() or bool(parts and parts[0] in ("..", "~"))
    if not outside and all(part.isidentifier() for part in parts) and parts:
        return f"{prefix}{'.'.join(parts)}:{rest}"
    stem = parts[-1] if parts and parts[-1].isidentifier() else "module"
    if not outside and len(parts) < 2:
        return f"{prefix}{stem}:{rest}"
    return f"{prefix}{stem}:{rest}, and start in the folder {pure.parent} (or add it to PYTHONPATH)"


def right_forms(name: str, prefixes: Iterable[str]) -> list[str]:
    """What was probably meant by a name that no family has and that holds no module."""
    for prefix in prefixes:
        if name.lower().startswith(prefix):
            return [prefix + name[len(prefix) :]]
    if name.endswith(".py"):
        return [right_path(name, "Name")]
    if re.fullmatch(r"([\w:-]+/)?[\w.-]+-v\d+", name):
        return [f"gym_{form}" for form in right_ids(name)] or [f"gym_{name}"]
    module, dot, rest = name.rpartition(".")
    if dot and rest.isidentifier() and _exists(module.partition(".")[0]):
        return [f"{module}:{rest}"]
    return []


def gym_hint(env_id: str, module: str = "") -> str:
    """What to write instead of an id that gymnasium does not know (with `module` imported): the end of a message."""
    import gymnasium

    prefix = f"gym_{module}:" if module else "gym_"
    forms = right_ids(env_id, packages=not module)
    if forms:
        return f"; did you mean {prefix}{forms[0]}?"
    if not env_id.strip():
        return "; give its id, as in gym_CartPole-v1"
    space = env_id.rpartition("/")[0]
    close = difflib.get_close_matches(env_id, list(gymnasium.registry), n=1, cutoff=SIMILAR)
    hint = f"; did you mean {prefix}{close[0]}?" if close and not space else ""
    if module:
        return hint
    package, install = PACKAGES.get(space, ("package", ""))
    what = f"{space} is not registered: {install}, and" if install else "if a package registers it,"
    if space and not install:
        what = f"nothing has registered the namespace {space}:"
    return f"{hint or ';'} {what} name the package, as in gym_{package}:{env_id.strip()}"


def right_ids(env_id: str, *, packages: bool = True) -> list[str]:
    """The id in the right case and version, or behind the installed package that probably registers it."""
    import gymnasium

    same = [key for key in gymnasium.registry if _plain(key) == _plain(env_id)]
    if same:
        asked = [key for key in same if _version(key) == _version(env_id.strip())]
        return [max(asked or same, key=_version)]
    space, _, name = env_id.strip().rpartition("/")
    guesses = [PACKAGES[space][0]] if space in PACKAGES else _guesses(space or name)
    found = [f"{guess}:{env_id.strip()}" for guess in guesses if _is_installed(guess)]
    return found[:1] if packages else []


def similar_module(module: str) -> str:
    """A module of the current folder that is spelled much like `module`; empty if there is none."""
    with os.scandir() as entries:
        names = [
            entry.name.removesuffix(".py")
            for entry in entries
            if entry.name.endswith(".py") or entry.is_dir()
        ]
    lower = {name.lower(): name for name in names if name.isidentifier()}
    close = difflib.get_close_matches(module.lower(), list(lower), n=1, cutoff=SIMILAR)
    return lower[close[0]] if close else ""


def _plain(env_id: str) -> str:
    return _plain_words(env_id.strip()).lower()


def _version(env_id: str) -> int:
    found = re.search(r"-v(\d+)$", env_id)
    return int(found[1]) if found else -1


def _guesses(name: str) -> list[str]:
    """What a package with this namespace, or with ids that begin so, may be called."""
    words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", _plain_words(name))
    stems = {"_".join(words[:count]).lower() for count in (1, 2, len(words)) if words}
    stems = {*stems, name.partition("-")[0].lower()} - sys.stdlib_module_names
    return [guess.format(stem) for stem in sorted(stems, key=len, reverse=True) for guess in GUESSES]


def _plain_words(name: str) -> str:
    return re.sub(r"-v\d+$", "", name)


def _is_installed(module: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None  # none: a folder without code, such as that of a run


def _exists(module: str) -> bool:
    return bool(module) and (_is_installed(module) or os.path.exists(f"{module}.py") or os.path.isdir(module))
