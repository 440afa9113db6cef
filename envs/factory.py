"""The front door: environments by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

from dreamworld.config import EnvConfig
from dreamworld.envs.base import Env
from dreamworld.envs.names import unknown
from dreamworld.envs.wrappers import (
    ActionRepeat,
    ClipReward,
    FrameStack,
    RandomizeReset,
    ResizeImage,
    TimeLimit,
    parse_choices,
)
from dreamworld.errors import UserError


class Family(NamedTuple):
    """Environments that share a prefix."""

    prefix: str
    about: str
    example: str
    packages: tuple[str, ...]  # import names
    install: str  # what to type when one of them is missing
    make: Callable[..., Env]  # (rest of the name, config, **options)
    options: bool  # takes options
    repeats: bool  # does its own action repeat


def make_env(name: str | Callable[..., Any] | Any, config: EnvConfig | None = None, **options: Any) -> Env:
    """Builds one environment.

    `name` is a name (`dreamworld envs` lists the families), or an environment object or factory. `options`
    go to the constructor of gym_, minigrid_, jax_ and module:Name environments, entry points and factories.
    Raises UserError with one clear line for anything that can't be built.
    """
    config = config or EnvConfig()
    if not isinstance(name, str):
        from dreamworld.envs.adapters.custom import adapt

        return _wrap(
            adapt(name, getattr(name, "__name__", type(name).__name__), **options), config, repeats=False
        )
    family = find_family(name)
    if family is None:
        return _wrap(_make_custom(name, options), config, repeats=False)
    missing = missing_packages(family)
    if missing:
        raise UserError(f"{name} needs {', '.join(missing)}, which is not installed: {family.install}")
    if options and not family.options:
        raise UserError(f"{name} takes no options, got {sorted(options)}; its settings are in env.*")
    env = family.make(name[len(family.prefix) :], config, **options)
    return _wrap(env, config, repeats=family.repeats)


def find_family(name: str) -> Family | None:
    """The family whose prefix the name has; None for module:Name and for names that none of them has."""
    for family in FAMILIES:
        if name.startswith(family.prefix):
            return family
    return None


def missing_packages(family: Family) -> list[str]:
    """Import names that can't be found."""
    return [package for package in family.packages if importlib.util.find_spec(package) is None]


def _wrap(env: Env, config: EnvConfig, *, repeats: bool) -> Env:
    """The options that every environment understands. Wraps from the inside out."""
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


def _make_custom(name: str, options: dict[str, Any]) -> Env:
    from dreamworld.envs.adapters.custom import adapt, find_entry_point, load_object

    if ":" in name:
        return adapt(load_object(name), name, **options)
    found = find_entry_point(name)
    if found is not None:
        factory, args = found
        return adapt(factory, name, *args, **options)
    raise unknown(
        "environment", name, [family.example for family in FAMILIES] + ["my_package.my_module:MyEnv"]
    )


def _atari(rest: str, config: EnvConfig, games: tuple[str, ...], prefix: str) -> Env:
    from dreamworld.envs.adapters.atari import ALIASES, AtariEnv

    game = ALIASES.get(rest, rest)
    if game not in games:
        raise unknown("game", prefix + rest, [prefix + known for known in games])
    return AtariEnv(game, config.size, config.atari)


def _make_atari(rest: str, config: EnvConfig) -> Env:
    from dreamworld.envs.adapters.atari import GAMES

    return _atari(rest, config, GAMES, "atari_")


def _make_atari100k(rest: str, config: EnvConfig) -> Env:
    from dreamworld.envs.adapters.atari import GAMES_100K

    return _atari(rest, config, GAMES_100K, "atari100k_")


def _make_dmc(rest: str, config: EnvConfig) -> Env:
    from dreamworld.envs.adapters.dmc import DMCEnv

    return DMCEnv(rest, config.size, config.repeat, config.dmc, own_limit=not config.time_limit)


def _make_crafter(rest: str, config: EnvConfig) -> Env:
    from dreamworld.envs.adapters.crafter import LENGTH, TASKS, CrafterEnv

    if rest not in TASKS:
        raise unknown("task", f"crafter_{rest}", [f"crafter_{task}" for task in TASKS])
    return CrafterEnv(rest, config.size, config.time_limit * config.repeat or LENGTH)


def _make_gym(rest: str, config: EnvConfig, **options: Any) -> Env:
    from dreamworld.envs.adapters.gym import make_gym

    return make_gym(rest, config.time_limit * config.repeat, **options)


def _make_minigrid(rest: str, config: EnvConfig, **options: Any) -> Env:
    from dreamworld.envs.adapters.suites import make_minigrid

    return ResizeImage(make_minigrid(rest, **options), config.size)


def _make_bsuite(rest: str, config: EnvConfig) -> Env:
    from dreamworld.envs.adapters.suites import make_bsuite

    return make_bsuite(rest)


def _make_memorymaze(rest: str, config: EnvConfig) -> Env:
    from dreamworld.envs.adapters.suites import make_memorymaze
    from dreamworld.envs.render import choose_backend

    choose_backend(pixels=True)
    return ResizeImage(make_memorymaze(rest), config.size)


def _make_jax(rest: str, config: EnvConfig, **options: Any) -> Env:
    from dreamworld.envs.adapters.jax_host import JaxHostEnv
    from dreamworld.envs.jax import make_jax_env

    return JaxHostEnv(make_jax_env(f"jax_{rest}", **options))


def _extra(name: str) -> str:
    return f"pip install 'dreamworld[{name}]'"


FAMILIES = (
    Family("atari100k_", "26 games, 100k agent steps", "atari100k_pong", ("ale_py",), _extra("atari"),
           _make_atari100k, options=False, repeats=True),
    Family("atari_", "57 games, 200M frames", "atari_pong", ("ale_py",), _extra("atari"),
           _make_atari, options=False, repeats=True),
    Family("dmc_", "DeepMind Control Suite: dmc_<domain>_<task>", "dmc_walker_walk", ("dm_control",),
           _extra("dmc"), _make_dmc, options=False, repeats=True),
    Family("crafter_", "crafter_reward and crafter_noreward", "crafter_reward", ("crafter",),
           _extra("crafter"), _make_crafter, options=False, repeats=False),
    Family("gym_", "any gymnasium id, also module:Id-v0", "gym_CartPole-v1", ("gymnasium",),
           "pip install gymnasium", _make_gym, options=True, repeats=False),
    Family("minigrid_", "MiniGrid and BabyAI from the agent's own pixels", "minigrid_Empty-5x5",
           ("minigrid",), _extra("minigrid"), _make_minigrid, options=True, repeats=False),
    Family("bsuite_", "bsuite_<experiment>_<number>", "bsuite_catch_0", ("bsuite",), _extra("bsuite"),
           _make_bsuite, options=False, repeats=False),
    Family("memorymaze_", "memorymaze_9x9 to memorymaze_15x15", "memorymaze_9x9", ("memory_maze",),
           "pip install memory-maze", _make_memorymaze, options=False, repeats=False),
    Family("jax_", "our own JAX environments", "jax_catch", ("jax",), "pip install jax", _make_jax,
           options=True, repeats=False),
)  # fmt: skip
