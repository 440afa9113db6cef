"""Draws what a model decodes of vectors as the environment itself is rendered, where a vector tells its whole state."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamworld.types import JaxEnv, VectorEnv

Draw = Callable[[dict[str, Any]], np.ndarray | None]
ToState = Callable[[np.ndarray], Any]  # a vector of finite numbers -> the state that it tells


def _plain(x: np.ndarray) -> Any:
    return np.array(x, np.float64)


def _pendulum(x: np.ndarray) -> Any:
    return np.array([math.atan2(x[1], x[0]), x[2]])


def _acrobot(x: np.ndarray) -> Any:
    return np.array([math.atan2(x[1], x[0]), math.atan2(x[3], x[2]), x[4], x[5]])


# Environments of gymnasium, by the beginning of their ids, whose `state` follows from the observation; and its size.
GYM: dict[str, tuple[int, ToState]] = {
    "gym_CartPole-": (4, _plain),
    "gym_MountainCar": (2, _plain),
    "gym_Pendulum-": (3, _pendulum),
    "gym_Acrobot-": (6, _acrobot),
}


def make_draw(task: str, env: VectorEnv) -> Draw | None:
    """A function from decoded observations to a picture, uint8 [H, W, 3]; None where no vector tells the state."""
    keys = [key for key, space in env.obs_space.items() if len(space.shape) == 1 and space.dtype == "float32"]
    if len(keys) != 1 or len(env.obs_space) != 1:
        return None
    (key,), size = keys, env.obs_space[keys[0]].size
    for prefix, (wanted, to_state) in GYM.items():
        if task.startswith(prefix) and size == wanted:
            return _of_gym(task.removeprefix("gym_"), key, to_state)
    source = getattr(env, "source", None)
    return _of_jax(source, key) if source is not None else None


def _of_gym(env_id: str, key: str, to_state: ToState) -> Draw:
    """By a second copy of the environment, which is put into the state; one thread at a time."""
    import gymnasium

    env: Any = gymnasium.make(env_id, render_mode="rgb_array", disable_env_checker=True)
    env.reset(seed=0)
    lock = threading.Lock()

    def draw(obs: dict[str, Any]) -> np.ndarray | None:
        with lock:
            env.unwrapped.state = to_state(np.nan_to_num(np.asarray(obs[key], np.float64)))
            return np.asarray(env.render())

    return draw


def _of_jax(env: JaxEnv, key: str) -> Draw | None:
    """By `render` of the state of an observation (`from_vector`), where the environment has both."""
    import jax

    from_vector, render = getattr(env, "from_vector", None), getattr(env, "render", None)
    if from_vector is None or render is None:
        return None
    paint = jax.jit(lambda vector: render(from_vector(vector)))
    return lambda obs: np.asarray(paint(np.nan_to_num(np.asarray(obs[key], np.float32))))
