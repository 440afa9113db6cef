"""Metric 5, loop closure: after some actions and their inverses, in reverse order, is the dream where it was?

Reality is asked the same (`dreamworld.assess.branches`); where walls or inertia keep it from coming back, dreams are
not asked.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import nets
from dreamworld.assess.decisions import seen_state
from dreamworld.assess.dreams import Dreaming
from dreamworld.assess.ground import RESTORE
from dreamworld.assess.scene import squared_error
from dreamworld.assess.segments import Segments, below
from dreamworld.assess.sheet import Sheet
from dreamworld.contract import State
from dreamworld.types import Array, Key, Params

CLOSED = 0.1  # of the distance at the turn: what is nearer to where it began has come back
MOVED = 1e-6  # squared distance below which nothing has moved
NEEDS = (
    "needs actions that have inverses (continuous ones, or `inverse_actions` of a JAX environment); it "
    + RESTORE
)


def add_loops(sheet: Sheet, dreaming: Dreaming, params: Params, segments: Segments, key: Key) -> None:
    """Writes down how far off the last row is from the first, of the distance at the turn, in reality and in dreams.

    Dreams are asked where reality comes back.
    """
    loop = below("loop", segments.branches)
    if not loop or dreaming.simulator.decode is None:
        sheet.left_out["coherence/loop"] = "needs a decoder" if loop else NEEDS
        return
    index = loop["segment"]
    weights, alive = sheet.weights[:, index], loop["alive"].all((1, 2))
    for name, dreamt in dream_loops(dreaming, params, segments, loop, key).items():
        space, topic = segments.obs_space[name], f"coherence/{name}/loop"
        first = segments.columns[f"obs/{name}"][index, segments.context - 1][:, None]
        begin, rest = (nets.target(space, x).astype(np.float32) for x in (first, loop[f"obs/{name}"]))
        real = np.sqrt(squared_error(space, dreaming.scenes[name], begin, rest))  # [M, 2]
        moved = alive & (real[:, 0] ** 2 > MOVED)
        back = moved & (real[:, 1] <= CLOSED * real[:, 0])
        for kind, far, mask in (("real", real, moved), ("dreamt", dreamt, back)):
            with np.errstate(invalid="ignore", divide="ignore"):
                share = (weights @ (far[:, 1] * mask)) / (weights @ (far[:, 0] * mask))
            if mask.any():
                sheet.number(f"{topic}_{kind}", share, int(mask.sum()))
        if not back.any():
            sheet.left_out[f"{topic}_dreamt"] = (
                f"needs an environment that inverse actions lead back: {int(back.sum())} of {len(back):,} loops closed"
            )


def dream_loops(
    dreaming: Dreaming, params: Params, segments: Segments, loop: dict[str, np.ndarray], key: Key
) -> dict[str, np.ndarray]:
    """Distances {key: [M, 2]} of the dreamt rows at the turn and at the end from the first one, means of S dreams."""
    simulator, decode = dreaming.simulator, dreaming.simulator.decode
    see_key, dream_key = jax.random.split(key)
    start = seen_state(dreaming, params, segments, loop["segment"], see_key)
    assert decode is not None

    @jax.jit
    def one(params: Params, start: State, actions: dict[str, Array], key: Key) -> dict[str, Array]:
        show = lambda state: decode(params, simulator.feature(params, state))

        def step(state: State, row: Any) -> tuple[State, None]:
            return simulator.imagine(params, state, *row), None

        def half(state: State, rows: Any) -> tuple[State, Any]:
            state, _ = jax.lax.scan(step, state, rows)
            return state, show(state)

        turned = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), actions)  # [2, K, M, ...]
        steps = jax.tree.leaves(turned)[0].shape[1]
        keys = jax.random.split(key, 2 * steps)
        _, shown = jax.lax.scan(half, start, (turned, keys.reshape(2, steps, *keys.shape[1:])))
        begin = show(start)
        return {
            name: jnp.sqrt(squared_error(segments.obs_space[name], scene, shown[name], begin[name][None]))
            for name, scene in dreaming.scenes.items()
            if name in shown
        }

    actions = {name: jnp.asarray(value) for name, value in below("action", loop).items()}
    found = [
        one(params, start, actions, jax.random.fold_in(dream_key, number))
        for number in range(dreaming.samples)
    ]
    return {name: np.mean([np.asarray(row[name]).T for row in found], 0) for name in found[0]}
