"""Suites that already have the API of gymnasium or dm_env: MiniGrid, bsuite, memory-maze."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from dreamworld.envs.adapters.dm import DmEnv
from dreamworld.envs.adapters.gym import GymEnv, make_registered
from dreamworld.envs.names import unknown
from dreamworld.types import EnvObject

MAZES = ("9x9", "11x11", "13x13", "15x15")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def minigrid_names() -> list[str]:
    """ "Empty-5x5" and the like, without family and version."""
    return sorted({_short(env_id) for env_id in _minigrid_ids()})


def minigrid_id(name: str) -> str:
    """The registered id of "empty_5x5", "Empty-5x5" or "MiniGrid-Empty-5x5-v0"; BabyAI too."""
    table: dict[str, str] = {}
    for env_id in _minigrid_ids():  # sorted: the newest version wins
        for key in (env_id, env_id.rsplit("-v", 1)[0], _short(env_id)):
            table[_plain(key)] = env_id
    if _plain(name) not in table:
        raise unknown("task", f"minigrid_{name}", [f"minigrid_{known}" for known in minigrid_names()])
    return table[_plain(name)]


def _minigrid_ids() -> list[str]:
    import gymnasium
    import minigrid  # noqa: F401  registers its environments

    return sorted(key for key in gymnasium.registry if key.startswith(("MiniGrid-", "BabyAI-")))


def _short(env_id: str) -> str:
    return env_id.split("-", 1)[1].rsplit("-v", 1)[0]


def make_minigrid(name: str, options: Mapping[str, Any]) -> GymEnv:
    """The agent's own partial view as an RGB image, its direction; the mission text is left out."""
    import gymnasium
    from gymnasium.wrappers import FilterObservation
    from minigrid.wrappers import RGBImgPartialObsWrapper

    env = make_registered(gymnasium.spec(minigrid_id(name)), f"minigrid_{name}", options)
    # The wrapped observation space still lists the text, which nothing here reads.
    return GymEnv(FilterObservation(RGBImgPartialObsWrapper(env, tile_size=8), ["image", "direction"]))


def bsuite_id(name: str) -> str:
    """`catch/0` of `catch_0`, `catch/0` and `catch`; UserError where there is none."""
    from bsuite import sweep

    match = re.fullmatch(r"(.+?)[_/](\d+)", name)
    found = f"{match[1]}/{match[2]}" if match else f"{name}/0"
    if found not in sweep.SWEEP:
        raise unknown("task", f"bsuite_{name}", [f"bsuite_{x.replace('/', '_')}" for x in sweep.SWEEP])
    return found


def make_bsuite(name: str) -> DmEnv:
    """`catch_0` is the published `catch/0`; without a number it is the first of the sweep."""
    import bsuite
    from bsuite import sweep

    found = bsuite_id(name)
    settings = dict(sweep.SETTINGS[found])
    experiment = found.partition("/")[0]

    def build(seed: int | None) -> EnvObject:
        # Where the published settings leave the seed open it is ours to choose.
        free = "seed" in settings and settings["seed"] is None
        return bsuite.load(experiment, {**settings, "seed": seed} if free else settings)

    return DmEnv(build(None), build)


def make_memorymaze(name: str) -> DmEnv:
    """`9x9` to `15x15`; the 64x64 image is the only observation."""
    from memory_maze import tasks

    if name not in MAZES:
        raise unknown("task", f"memorymaze_{name}", [f"memorymaze_{size}" for size in MAZES])
    build = functools.partial(getattr(tasks, f"memory_maze_{name}"), image_only_obs=True)
    return DmEnv(build(), lambda seed: build(seed=seed))
