"""Pictures of foreign environments for people: whether there are any, and why not."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dreamworld.envs.attributes import attribute, calls, is_a, parameters
from dreamworld.envs.base import Env
from dreamworld.envs.wrappers import Wrapper

MODE = "rgb_array"


def why_no_picture(env: Env) -> str:
    """Why the last `render()` of an environment gave None."""
    inner: object = env
    while isinstance(inner, Wrapper):
        inner = inner.env
    return attribute(inner, "no_picture") or "its render() gives none"


def why_not(env: object) -> str:
    """Why a gymnasium environment can't be asked for a picture; empty if it can.

    Without a render mode it is asked if it lists no mode that would open a window.
    """
    if not calls(env, "render"):
        return "it has no render()"
    mode = attribute(env, "render_mode")
    if isinstance(mode, str):
        return "" if mode.startswith(MODE) else f"its render_mode is {mode!r}, and pictures need {MODE!r}"
    modes = _modes(env)
    if MODE in modes and "human" not in modes:
        return ""
    return f"it was made without render_mode={MODE!r}" + (
        "" if MODE in modes else ", which its metadata does not list"
    )


def takes_mode(made: object) -> bool:
    """Whether a class lists "rgb_array" in its metadata and its constructor takes `render_mode`."""
    if is_a(made, functools.partial):
        return "render_mode" not in made.keywords and takes_mode(made.func)
    return is_a(made, type) and MODE in _modes(made) and _names_mode(made)


def may_take_mode(made: Callable[..., Any]) -> bool:
    """The same for what is registered with gymnasium, where constructors pass on what they don't know."""
    if MODE not in _modes(made):
        return False
    found = parameters(made)
    return found is None or "render_mode" in found or _passes_on(found)


def _names_mode(made: type) -> bool:
    """Whether a constructor names `render_mode`, itself or the next one that it passes unknown options on to."""
    for base in made.__mro__:
        if "__init__" in vars(base):
            found = parameters(base.__init__) or {}
            if "render_mode" in found or not _passes_on(found):
                return "render_mode" in found
    return False


def _passes_on(found: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in found.values())


def _modes(env: object) -> tuple[str, ...]:
    metadata = attribute(env, "metadata")
    modes = metadata.get("render_modes") if isinstance(metadata, Mapping) else None
    return tuple(modes) if isinstance(modes, list | tuple | set) else ()
