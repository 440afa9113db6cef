"""The front door: environments by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dreamworld.config import Config, EnvConfig
from dreamworld.envs.attributes import is_a
from dreamworld.envs.base import Env
from dreamworld.envs.families import FAMILIES, find_family, missing_packages
from dreamworld.envs.names import check_keys, unknown
from dreamworld.envs.pictures import Reading
from dreamworld.envs.randomize import RandomizeReset
from dreamworld.envs.render import prepare
from dreamworld.envs.spelling import right_forms
from dreamworld.envs.wrappers import (
    ActionRepeat,
    ClipReward,
    FrameStack,
    ResizeImage,
    TimeLimit,
)
from dreamworld.errors import UserError
from dreamworld.values import parse_choices, parse_options


def make_env(name: str | Callable[..., Any] | Any, config: EnvConfig | None = None, /, **options: Any) -> Env:
    """Builds one environment.

    `name` is a name (`dreamworld envs` lists the families), or an environment object or factory. `options`,
    which may have any names, go to the constructor of gym_, minigrid_, jax_ and module:Name environments,
    entry points and factories. Raises UserError with one clear line for anything that can't be built.
    """
    if config is None and isinstance(options.get("config"), EnvConfig | Config):
        config = options.pop("config")  # ours, by keyword
    config = config.env if isinstance(config, Config) else config or EnvConfig()
    options = {**parse_options(config.options), **options}
    if not is_a(name, str):
        from dreamworld.envs.adapters.custom import adapt
        from dreamworld.envs.sources import name_of

        prepare()
        return wrap(adapt(name, name_of(name), (), options, Reading.of(config)), config)
    family = find_family(name)
    if family is None:
        return wrap(_make_custom(name, options, Reading.of(config)), config)
    missing = missing_packages(family)
    if missing:
        raise UserError(f"{name} needs {', '.join(missing)}, which is not installed: {family.install}")
    if options and not family.options:
        raise UserError(f"{name} takes no options, got {sorted(options)}; its settings are in env.*")
    if family.prefix != "gym_":
        Reading.of(config).refuse(name)
    env = family.make(name.removeprefix(family.prefix), config, options)
    return wrap(env, config, repeats=family.repeats)


def wrap(env: Env, config: EnvConfig, *, repeats: bool = False) -> Env:
    """Adds the wrappers that the options ask for; `repeats` if `env` does its own action repeat."""
    check_keys(env.obs_space, "an observation")
    check_keys(env.act_space, "an action")
    if config.repeat > 1 and not repeats:
        env = ActionRepeat(env, config.repeat)
    if config.time_limit > 0:
        env = TimeLimit(env, config.time_limit)
    images = [space for space in env.obs_space.values() if space.is_image]
    if images and (config.resize or config.gray):
        env = ResizeImage(env, config.size if config.resize else None, config.gray)
    if config.stack > 1:
        env = FrameStack(env, config.stack)
    if config.clip_reward > 0:
        env = ClipReward(env, config.clip_reward)
    if config.randomize:
        env = RandomizeReset(env, parse_choices(config.randomize))
    return env


def _make_custom(name: str, options: dict[str, Any], reading: Reading) -> Env:
    from dreamworld.envs.adapters.custom import adapt, find_entry_point, load_object

    if ":" in name:
        return adapt(load_object(name), name, (), options, reading)
    found = find_entry_point(name)
    if found is not None:
        factory, args = found
        return adapt(factory, name, args, options, reading)
    raise unknown_environment(name)


def unknown_environment(name: str) -> UserError:
    """The error for a name that is of no family and no entry point."""
    forms = right_forms(name, [family.prefix for family in FAMILIES])
    if forms:
        return UserError(f"unknown environment {name!r}; did you mean {' or '.join(forms)}?")
    examples = [*(family.example for family in FAMILIES), "my_package.my_module:MyEnv"]
    return unknown("environment", name, examples)
