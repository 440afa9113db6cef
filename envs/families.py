"""The families of environments: which prefix builds what, and which packages that takes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dreamworld.config import EnvConfig
from dreamworld.envs.base import Env
from dreamworld.envs.names import unknown
from dreamworld.envs.pictures import Reading
from dreamworld.envs.wrappers import ResizeImage

Options = Mapping[str, Any]  # of the environment's constructor; any names, hence never keywords of ours


class Family(NamedTuple):
    """Environments that share a prefix."""

    prefix: str
    about: str
    example: str
    packages: tuple[str, ...]  # import names
    install: str  # what to type when one of them is missing
    make: Callable[[str, EnvConfig, Options], Env]  # (rest of the name, config, options)
    names: Callable[[], list[str]]  # the rests that can be listed; imports the packages
    options: bool  # takes options
    repeats: bool  # does its own action repeat


def find_family(name: str) -> Family | None:
    """The family whose prefix the name has; None for module:Name and for names that none of them has."""
    for family in FAMILIES:
        if name.startswith(family.prefix):
            return family
    return None


def missing_packages(family: Family) -> list[str]:
    """Import names that can't be found."""
    return [package for package in family.packages if importlib.util.find_spec(package) is None]


def family_names(family: Family) -> list[str]:
    """Every name of a family whose packages are installed."""
    return [family.prefix + rest for rest in family.names()]


def _atari_names() -> list[str]:
    from dreamworld.envs.adapters.atari import GAMES

    return list(GAMES)


def _atari100k_names() -> list[str]:
    from dreamworld.envs.adapters.atari import GAMES_100K

    return list(GAMES_100K)


def _make_atari(rest: str, config: EnvConfig, options: Options) -> Env:
    from dreamworld.envs.adapters.atari import AtariEnv, game_name

    return AtariEnv(game_name("atari_", rest, _atari_names()), config.size, config.atari)


def _make_atari100k(rest: str, config: EnvConfig, options: Options) -> Env:
    from dreamworld.envs.adapters.atari import AtariEnv, game_name

    return AtariEnv(game_name("atari100k_", rest, _atari100k_names()), config.size, config.atari)


def _dmc_names() -> list[str]:
    from dreamworld.envs.adapters.dmc import task_names

    return task_names()


def _make_dmc(rest: str, config: EnvConfig, options: Options) -> Env:
    from dreamworld.envs.adapters.dmc import DMCEnv

    return DMCEnv(rest, config.size, config.repeat, config.dmc, own_limit=not config.time_limit)


def _crafter_names() -> list[str]:
    from dreamworld.envs.adapters.crafter import TASKS

    return list(TASKS)


def _make_crafter(rest: str, config: EnvConfig, options: Options) -> Env:
    from dreamworld.envs.adapters.crafter import LENGTH, CrafterEnv

    if rest not in _crafter_names():
        raise unknown("task", f"crafter_{rest}", [f"crafter_{task}" for task in _crafter_names()])
    return CrafterEnv(rest, config.size, config.time_limit * config.repeat or LENGTH)


def _gym_names() -> list[str]:
    import gymnasium

    # ale-py and minigrid register theirs here, too: those have families of their own.
    return sorted(key for key, spec in gymnasium.registry.items() if spec.namespace is None)


def _make_gym(rest: str, config: EnvConfig, options: Options) -> Env:
    from dreamworld.envs.adapters.gym import make_gym

    return make_gym(rest, options, config.time_limit * config.repeat, Reading.of(config))


def _minigrid_names() -> list[str]:
    from dreamworld.envs.adapters.suites import minigrid_names

    return minigrid_names()


def _make_minigrid(rest: str, config: EnvConfig, options: Options) -> Env:
    from dreamworld.envs.adapters.suites import make_minigrid

    return ResizeImage(make_minigrid(rest, options), config.size)


def _bsuite_names() -> list[str]:
    from bsuite import sweep

    return [bsuite_id.replace("/", "_") for bsuite_id in sweep.SWEEP]


def _make_bsuite(rest: str, config: EnvConfig, options: Options) -> Env:
    from dreamworld.envs.adapters.suites import make_bsuite

    return make_bsuite(rest)


def _memorymaze_names() -> list[str]:
    from dreamworld.envs.adapters.suites import MAZES

    return list(MAZES)


def _make_memorymaze(rest: str, config: EnvConfig, options: Options) -> Env:
    from dreamworld.envs.adapters.suites import make_memorymaze
    from dreamworld.envs.render import choose_backend

    choose_backend(pixels=True)
    return ResizeImage(make_memorymaze(rest), config.size)


def _jax_names() -> list[str]:
    from dreamworld.envs.jax import JAX_ENVS

    return [name.removeprefix("jax_") for name in JAX_ENVS]


def _make_jax(rest: str, config: EnvConfig, options: Options) -> Env:
    from dreamworld.envs.adapters.jax_host import JaxHostEnv
    from dreamworld.envs.jax import make_jax_env

    return JaxHostEnv(make_jax_env(f"jax_{rest}", **options))


def _extra(name: str) -> str:
    return f"pip install 'dreamworld[{name}]'"


FAMILIES = (
    Family("atari100k_", "26 games, 100k agent steps", "atari100k_pong", ("ale_py",), _extra("atari"),
           _make_atari100k, _atari100k_names, options=False, repeats=True),
    Family("atari_", "57 games, 200M frames", "atari_pong", ("ale_py",), _extra("atari"),
           _make_atari, _atari_names, options=False, repeats=True),
    Family("dmc_", "DeepMind Control Suite: dmc_<domain>_<task>", "dmc_walker_walk", ("dm_control",),
           _extra("dmc"), _make_dmc, _dmc_names, options=False, repeats=True),
    Family("crafter_", "crafter_reward and crafter_noreward", "crafter_reward", ("crafter",),
           _extra("crafter"), _make_crafter, _crafter_names, options=False, repeats=False),
    Family("gym_", "any gymnasium id, also module:Id-v0", "gym_CartPole-v1", ("gymnasium",),
           "pip install gymnasium", _make_gym, _gym_names, options=True, repeats=False),
    Family("minigrid_", "MiniGrid and BabyAI from the agent's own pixels", "minigrid_Empty-5x5",
           ("minigrid",), _extra("minigrid"), _make_minigrid, _minigrid_names, options=True, repeats=False),
    Family("bsuite_", "bsuite_<experiment>_<number>", "bsuite_catch_0", ("bsuite",), _extra("bsuite"),
           _make_bsuite, _bsuite_names, options=False, repeats=False),
    Family("memorymaze_", "memorymaze_9x9 to memorymaze_15x15", "memorymaze_9x9", ("memory_maze", "gym"),
           _extra("memorymaze"), _make_memorymaze, _memorymaze_names, options=False, repeats=False),
    Family("jax_", "our own JAX environments", "jax_catch", ("jax",), "pip install jax", _make_jax,
           _jax_names, options=True, repeats=False),
)  # fmt: skip
