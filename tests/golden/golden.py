"""Writes the golden record of a tiny agent's first three updates: `make golden`.

A test compares every commit with the record. Run this only after a deliberate change of the algorithm, and read
the difference before committing it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import optax

from dreamworld import math, optim, testing, words
from dreamworld.agents.dreamerv3 import agent as dreamerv3
from dreamworld.config import Config
from dreamworld.contract import modules
from dreamworld.options import OptimConfig
from dreamworld.training.step import make_update, tensor_name
from dreamworld.types import Batch, Space, Spaces, TrainState

PATH = pathlib.Path(__file__).resolve().parent / "dreamerv3.json"
OBS: Spaces = {"image": Space((8, 8, 3), "uint8"), "vector": Space((3,), "float32")}
ACT: Spaces = {"move": Space((2,), "float32"), "pick": Space((), "int32", classes=3)}
UPDATES = 3
# Limits so low that losses and percentiles of random networks are above them.
CONFIG = testing.tiny_config(
    rssm=dataclasses.replace(testing.TINY.rssm, free_nats=0.1),
    behaviour=dataclasses.replace(testing.TINY.behaviour, return_limit=1e-3),
    optim=OptimConfig(lr=3e-3, warmup=0),
)


class Recorded(NamedTuple):
    """A tiny agent whose optimiser state keeps the last raw gradient."""

    config: Config
    world: Any
    behaviour: Any
    state: TrainState  # with random parameters, output layers included
    batch: Batch
    update: Callable[[TrainState, Any, Batch], Any]  # not compiled

    def initial(self) -> Any:
        """The carry of the first update."""
        return ()


def keep_gradient() -> optax.GradientTransformation:
    """Passes gradients through and keeps the last in its state."""
    init = lambda params: jax.tree.map(lambda x: np.zeros(x.shape, np.float32), params)
    return optax.GradientTransformation(init, lambda updates, state, params=None: (updates, updates))


def make_recorded(obs_space: Spaces, act_space: Spaces, config: Config = CONFIG, seed: int = 0) -> Recorded:
    """A tiny agent for these spaces. Parameters and batch are drawn by numpy: equal on every version of JAX."""
    options = dreamerv3.options_of(config)
    world, behaviour = dreamerv3.make_parts(config, obs_space, act_space)
    feature = jax.eval_shape(lambda: world.feature(None, world.initial(None, 1)))
    zeros: Any = np.zeros(feature.shape, np.float32)
    flat = testing.random_params(lambda key: world.init(key) | behaviour.init(zeros, key), seed)
    testing.centre_bins(flat["reward"])
    testing.centre_bins(flat["critic"])
    own = {name: flat.pop(name) for name in ("actor", "critic")}
    params: Any = {"world": flat, "behaviour": own}
    optimizer = optax.chain(keep_gradient(), optim.make_optimizer(options.optim))
    slow: Any = {"behaviour": {"critic": jax.tree.map(np.copy, own["critic"])}}
    zero: Any = np.float32(0)
    step: Any = np.int32(0)
    key: Any = np.array([0, seed], np.uint32)
    state = TrainState(params, optimizer.init(params), slow, math.Percentiles(zero, zero), step, key)
    batch = testing.random_batch(
        np.random.default_rng(seed), obs_space, act_space, world.latent_space, config
    )
    loss = dreamerv3.make_loss(world, behaviour, options.loss)
    update = make_update(loss, optimizer, dreamerv3.make_update_slow(behaviour))
    return Recorded(config, world, behaviour, state, batch, update)


def record(recorded: Recorded, update: Callable[..., Any]) -> list[dict[str, Any]]:
    """What each of the first updates computed: losses, and norms of every tensor by name."""
    state, carry, rows = recorded.state, recorded.initial(), []
    moved = lambda new, old: norms(jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), new, old))
    optimizer = dreamerv3.options_of(recorded.config).optim
    for _ in range(UPDATES):
        before = state.params
        state, carry, output = update(state, carry, recorded.batch)
        gradient, (_, moments, _) = state.opt_state
        clip = optim.clip_by_agc(optimizer.agc, optimizer.agc_floor)
        clipped, _ = clip.update(gradient, clip.init(before), before)
        rows.append(
            {
                "metrics": {key: float(value) for key, value in sorted(output.metrics.items())},
                "gradient": norms(gradient),
                "clipped": norms(clipped),
                "nu": norms(moments.nu),
                "mu": norms(moments.mu),
                "params": norms(state.params),
                "params_moved": moved(state.params, recorded.state.params),
                "slow": norms(state.slow),
                "slow_moved": moved(state.slow, recorded.state.slow),
                "stats": norms(state.stats),
                "latents": norms(output.writeback),
            }
        )
    return rows


def norms(tree: Any) -> dict[str, float]:
    """Euclidean norm of each tensor, by name."""
    parts = isinstance(tree, dict) and "behaviour" in tree
    leaves = jax.tree_util.tree_leaves_with_path(modules({"world": {}, **tree}) if parts else tree)
    return {tensor_name(path): float(np.linalg.norm(np.asarray(leaf, np.float64))) for path, leaf in leaves}


def rounded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All numbers to 7 digits."""
    return jax.tree.map(lambda value: float(f"{value:.7g}"), rows)


def main() -> int:
    """Writes the record."""
    recorded = make_recorded(OBS, ACT)
    rows = record(recorded, jax.jit(recorded.update))
    PATH.write_text(json.dumps(rounded(rows), indent=1) + "\n", "utf-8")
    print(
        f"wrote {PATH}: {UPDATES} updates of {words.count(len(rows[0]['params']), 'tensor')}, JAX {jax.__version__}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
