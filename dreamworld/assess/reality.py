"""Metric 1, the floor of stochastic worlds: reality, played again from the same states, with other random numbers.

Two real rollouts under equal actions differ by it, so no model can be nearer to what happened than a draw from reality
is, unless it shows a mean of what may happen.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import nets
from dreamworld.assess.dreams import part_size
from dreamworld.assess.drift import LEAST_MSE, psnr
from dreamworld.assess.ground import NEEDS, Ground, play, start_states
from dreamworld.assess.host import HostGround
from dreamworld.assess.scene import Scene, squared_error
from dreamworld.assess.segments import Segments, below
from dreamworld.assess.sheet import Sheet
from dreamworld.types import Array, Key, Tree

HOST = (
    "needs an environment in JAX: a snapshot of another one holds its random numbers, so it goes on as it did"
)
AT_ONCE = 4  # dreams that playing a segment again takes as much memory as


def add_reality(
    sheet: Sheet,
    segments: Segments,
    found: dict[str, np.ndarray],
    ground: Ground | HostGround | None,
    scenes: dict[str, Scene],
    key: Key,
) -> None:
    """Writes down the error of reality played again, of each key that is decoded, and that of dreams as a share of it.

    There is no share in deterministic environments, whose error is 0. Rows after the end of the episode that is played
    again are left out.
    """
    keys = sorted(below("mse", found))
    if not keys:
        return
    if not isinstance(ground, Ground):
        sheet.left_out["drift/reality"] = HOST if isinstance(ground, HostGround) else NEEDS
        return
    errors, alive = play_again(ground, segments, {name: scenes[name] for name in keys}, key)
    mask = segments.imagined & alive
    for name, error in errors.items():
        topic = f"drift/{name}"
        lines = {"mse": error} | ({"psnr": psnr(error)} if segments.obs_space[name].is_image else {})
        for kind, values in lines.items():
            sheet.mean_curve(f"{topic}/{kind}_reality", values, mask)
            sheet.mean_number(f"{topic}/{kind}_reality", values, mask)
        if mask.any() and error[mask].mean() > LEAST_MSE:
            sums = (np.where(mask, x, 0) for x in (found[f"mse/{name}"].mean(-1), error))
            sheet.ratio_number(f"{topic}/mse_by_reality", *sums, n=int(mask.sum()))


def play_again(
    ground: Ground, segments: Segments, scenes: dict[str, Scene], key: Key
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Squared errors {key: [N, H]} of what comes of the recorded actions, and whether there is a row [N, H]."""
    first, size = segments.context - 1, part_size(len(segments), AT_ONCE)

    @jax.jit
    def part(states: Tree, age: Array, actions: dict[str, Array], keys: Array, obs: dict[str, Array]) -> Tree:
        told = play(ground, states, age, actions, keys, keep=True)
        error = {}
        for name, scene in scenes.items():
            space = segments.obs_space[name]
            again, truth = (nets.target(space, x).astype(jnp.float32) for x in (told.obs[name], obs[name]))
            error[name] = squared_error(space, scene, again, truth)
        return error, told.alive

    parts = []
    for number, start in enumerate(range(0, len(segments), size)):
        index = np.arange(start, start + size) % len(segments)
        states, age = start_states(ground, segments, index)
        acts = {name: x[index, first:-1] for name, x in below("action", segments.columns).items()}
        obs = {name: segments.columns[f"obs/{name}"][index, first + 1 :] for name in scenes}
        keys = jax.random.split(jax.random.fold_in(key, number), size)
        parts.append(jax.device_get(part(states, age, acts, keys, obs)))
    return jax.tree.map(lambda *rows: np.concatenate(rows)[: len(segments)], *parts)
