"""Tiny agents, random parameters and random batches, for tests and for the golden record."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dreamworld.agents.dreamerv3.config import TINY
from dreamworld.config import Config, RunConfig
from dreamworld.types import Batch, Params, Spaces


def tiny_config(*, batch: int = 2, length: int = 4, **agent: Any) -> Config:
    """A config that compiles in seconds; `agent` replaces sections of TINY, such as `rssm=`."""
    return Config(
        agent=dataclasses.replace(TINY, **agent), run=RunConfig(batch_size=batch, batch_length=length)
    )


def random_batch(
    random: np.random.Generator, obs_space: Spaces, act_space: Spaces, latent_space: Spaces, config: Config
) -> Batch:
    """A batch as replay serves it, in numpy: context and trained rows of episodes that end in both ways."""
    shape = (config.run.batch_size, config.run.replay_context + config.run.batch_length)
    is_first: np.ndarray = random.random(shape) < 0.2
    is_first[:, 0] = True
    is_last: np.ndarray = np.roll(is_first, -1, 1)
    is_last[:, -1] = False
    is_terminal: np.ndarray = is_last & (random.random(shape) < 0.5)
    reward: np.ndarray = np.where(is_first, 0, random.normal(0, 2, shape)).astype(np.float32)
    action: dict[str, Any] = {key: space.sample(random, *shape) for key, space in act_space.items()}
    for value in action.values():
        value[is_last] = 0
    extras: dict[str, Any] = {key: space.sample(random, *shape) for key, space in latent_space.items()}
    extras["row"] = np.arange(np.prod(shape), dtype=np.int64).view(np.int32).reshape(*shape, 2)
    obs: dict[str, Any] = {key: space.sample(random, *shape) for key, space in obs_space.items()}
    return Batch(obs, action, reward, is_first, is_last, is_terminal, extras)


def random_params(init: Callable[[Any], Any], seed: int = 0) -> Params:
    """Parameters structured as `init(key)` with no zeros: output layers, biases and scales random, too.

    Only traces `init`, and takes the numbers from numpy: equal everywhere, and no compilation.
    """
    random = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        normal = random.normal(size=leaf.shape)
        name = path[-1].key
        if name == "kernel":
            return (normal / np.sqrt(np.prod(leaf.shape[:-1]))).astype(np.float32)
        return (0.2 * normal + (name == "scale")).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(init, jax.random.PRNGKey(0)))


def centre_bins(head: Params, at: float = 127) -> None:
    """Tilts the biases of a two-hot head in place, so that its values are near bin `at`, not the outer bins."""
    bias = head["out"]["bias"]
    bias -= (0.35 * np.abs(np.arange(bias.size) - at)).astype(np.float32)
