"""Environments of the user's own: object, class or factory, given as `module:Name` or by an entry point."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dreamworld import words
from dreamworld.envs.adapters.dm import DmEnv
from dreamworld.envs.adapters.gym import GymEnv
from dreamworld.envs.adapters.kinds import ACCEPTED, recognise, why_foreign
from dreamworld.envs.adapters.shown import MODE, takes_mode
from dreamworld.envs.attributes import attribute, has, parameters, read, signature
from dreamworld.envs.base import Env
from dreamworld.envs.building import building
from dreamworld.envs.families import find_family
from dreamworld.envs.modules import import_user_module
from dreamworld.envs.names import nearest
from dreamworld.envs.pictures import AUTO, Reading
from dreamworld.envs.render import prepare
from dreamworld.envs.sources import check_factory, is_object
from dreamworld.envs.spelling import require_module
from dreamworld.errors import UserError
from dreamworld.types import EnvSource

GROUP = "dreamworld.envs"
NONE: Mapping[str, Any] = MappingProxyType({})


def load_object(name: str) -> EnvSource:
    """The attribute `Name` of `module` from "module:Name"; modules in the current directory, too."""
    try:
        return _load(name)
    except UserError as error:
        own = name.replace(":", "_", 1)
        if family := find_family(own):
            end = "" if str(error).endswith("?") else "."
            raise UserError(f"{error}{end} An environment of {family.prefix}… is written {own}") from None
        raise


def _load(name: str) -> EnvSource:
    module_name, _, attribute = name.partition(":")
    require_module(module_name, attribute, f"environment {name!r}")
    module = import_user_module(module_name, f"environment {name!r}")
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            close = nearest(part, [key for key in vars(value) if not key.startswith("_")])
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise UserError(f"environment {name!r}: {module_name} has no {part!r}{hint}")
        value = getattr(value, part)
    return value


def find_entry_point(name: str) -> tuple[Callable[..., Any], tuple[str, ...]] | None:
    """The factory for `name` and its positional arguments, from entry points of the group `dreamworld.envs`.

    An entry point "suite" serves the task "suite" and, called with "task", every "suite_task"; the longest
    name wins.
    """
    points = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    if any(name == key or name.startswith(f"{key}_") for key in points):
        prepare()
    for key in sorted(points, key=len, reverse=True):
        if name == key:
            return points[key].load(), ()
        if name.startswith(key + "_"):
            return points[key].load(), (name[len(key) + 1 :],)
    return None


def adapt(
    value: EnvSource,
    name: str,
    args: Sequence[str] = (),
    options: Mapping[str, Any] = NONE,
    reading: Reading = AUTO,
) -> Env:
    """An Env from an environment object, or from a class or factory called with `args` and `options`."""
    factory: Callable[..., Any] | None = None
    check_source(value, name, args, options)
    if not is_object(value):
        if "render_mode" not in options and takes_mode(value):
            options = {**options, "render_mode": MODE}  # pictures for people
        factory = functools.partial(value, *args, **options)
        value = factory()
    kind = recognise(value)
    if kind == "gymnasium":
        return GymEnv(value, reading)
    if kind in ("own", "jax"):
        reading.refuse(name)
    if kind == "own":
        return _own(value, name)
    if kind == "dm_env":
        seeded = factory is not None and "seed" not in options and "seed" in (parameters(factory) or ())
        return DmEnv(value, (lambda seed: factory(seed=seed)) if factory and seeded else None, reading)
    if kind == "foreign":
        require_readable(value, name)
        raise UserError(f"environment {name!r} {why_foreign(value)}")
    from dreamworld.envs.adapters.jax_host import JaxHostEnv
    from dreamworld.envs.jax import from_gymnax

    return JaxHostEnv(from_gymnax(value, reading=reading) if kind == "gymnax" else value)


def check_source(value: EnvSource, name: str, args: Sequence[str], options: Mapping[str, Any]) -> None:
    """UserError for what is neither an environment nor what may be called, with these options, to make one."""
    if not is_object(value):
        if not callable(value):
            require_readable(value, name)
            raise UserError(
                f"environment {name!r} is {words.type_of(value)}; expected {ACCEPTED}, or a factory of one"
            )
        check_factory(value, name)
        check_call(value, name, args, options)
    elif options:
        raise UserError(
            f"environment {name!r} is an object already and takes no options, got {sorted(options)}"
        )


def require_readable(value: object, name: str) -> None:
    """NotBuilt, which says where, if what every environment has is there and raises."""
    with building(name):
        read(value, "step", "reset", "observation_space", "action_space", "obs_space", "act_space")


def check_call(value: EnvSource, name: str, args: Sequence[str], options: Mapping[str, Any]) -> None:
    """Options that the factory does not take: an error here, not a traceback from inside."""
    found = signature(value)
    if found is None:
        return
    try:
        found.bind(*args, **options)
    except TypeError as error:
        called = attribute(value, "__name__", type(value).__name__)
        raise UserError(f"environment {name!r}: can't call {called}{found}: {error}") from None


def _own(value: Any, name: str) -> Env:
    missing = [key for key in ("render", "save", "restore", "close") if not has(value, key)]
    if missing:
        raise UserError(
            f"environment {name!r}: {type(value).__name__} lacks {', '.join(missing)}; "
            "see dreamworld.envs.base.Env"
        )
    return value
