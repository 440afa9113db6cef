"""Surprise at what can't be: real clips against the same clips in which an object vanishes, jumps or stops.

Violation of expectation (Piloto et al., 2022): a model that knows objects is more surprised by the impossible clip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import dream, rollout
from dreamworld.assess import intervals
from dreamworld.assess.ground import NEEDS, Ground
from dreamworld.assess.segments import Segments
from dreamworld.assess.sheet import Sheet
from dreamworld.contract import Simulator
from dreamworld.types import Array, Batch, Key, Params

CLIPS = 64
OUT = 9.0  # far outside of the picture

Edit = Callable[[np.ndarray], np.ndarray]  # positions [M, R, n, 2] of the rows from the event on


def vanish(position: np.ndarray) -> np.ndarray:
    """Object 0 is gone."""
    return _moved(position, np.full_like(position[:, :, 0], OUT))


def jump(position: np.ndarray) -> np.ndarray:
    """Object 0 is at the point opposite of the middle, if that is far; it goes on from there."""
    own = position[:, :, 0]
    other = np.where(
        np.linalg.norm(own[:, :1] - 0.5, axis=-1, keepdims=True) > 0.2, 1 - own, np.abs(own - 0.35)
    )
    return _moved(position, other)


def stop(position: np.ndarray) -> np.ndarray:
    """Object 0 stands still."""
    return _moved(position, np.broadcast_to(position[:, :1, 0], position[:, :, 0].shape))


KINDS: dict[str, Edit] = {"vanish": vanish, "jump": jump, "stop": stop}


def _moved(position: np.ndarray, own: np.ndarray) -> np.ndarray:
    changed = position.copy()
    changed[:, :, 0] = own
    return changed


def add_surprise(
    sheet: Sheet, simulator: Simulator, params: Params, segments: Segments, ground: Ground | None, key: Key
) -> None:
    """Writes down the AUROC of the greatest surprise after the event, impossible against possible clips, by kind."""
    observe = getattr(ground.env, "observe", None) if ground else None
    position = getattr(ground.states, "position", None) if ground else None
    if ground is None or observe is None or position is None:
        sheet.left_out["surprise"] = NEEDS + ", whose states have a position"
        return
    if simulator.surprise is None:
        sheet.left_out["surprise"] = "needs a model with a surprise"
        return
    chosen = np.flatnonzero(segments.valid.all(1))[:CLIPS]
    if not len(chosen):
        sheet.left_out["surprise"] = "needs segments with all their rows"
        return
    event = segments.context + (segments.valid.shape[1] - segments.context) // 2
    run = jax.jit(lambda params, batch, key: surprises(simulator, params, batch, key))
    batch = segments.batch(chosen)
    possible = np.asarray(run(params, batch, key))[:, event:].max(1)
    positive = np.r_[np.zeros(len(chosen), bool), np.ones(len(chosen), bool)]
    found = []
    for name, edit in KINDS.items():
        shown = _edited(ground, segments, chosen, event, edit, observe)
        impossible = np.asarray(run(params, batch._replace(obs=shown), key))[:, event:].max(1)
        score, segment = np.r_[possible, impossible], np.r_[chosen, chosen]
        found.append(intervals.auroc(sheet.weights, segment, score, positive))
        sheet.number(f"surprise/auroc_{name}", found[-1], len(chosen))
    sheet.number("surprise/auroc", np.mean(found, 0), len(chosen))


def _edited(
    ground: Ground, segments: Segments, chosen: np.ndarray, event: int, edit: Edit, observe: Any
) -> dict[str, Array]:
    """The observations of clips whose rows from the event on are changed."""
    states = jax.tree.map(lambda x: x[chosen], ground.states)
    position = np.array(states.position)
    position[:, event:] = edit(position[:, event:])
    return jax.jit(jax.vmap(jax.vmap(observe)))(states._replace(position=jnp.asarray(position)))


def surprises(simulator: Simulator, params: Params, batch: Batch, key: Key) -> Array:
    """How surprised a model is by each row [B, L] that it sees; the first one is 0."""
    assert simulator.surprise is not None
    surprise, count = simulator.surprise, batch.reward.shape[0]
    first, rest = (jax.tree.map(lambda x, cut=cut: x[:, cut], batch) for cut in (slice(0, 1), slice(1, None)))
    begin_key, key = jax.random.split(key)
    state, _ = dream.observe_rows(simulator, params, first, begin_key)
    no = jnp.zeros(count, bool)

    def see(state: Any, row: Any, key: Key) -> tuple[Any, Array]:
        action, obs = row
        found = surprise(params, state, action, obs, no, key)
        return simulator.observe(params, state, action, obs, no, key), found

    actions = {name: value[:, 1:] for name, value in rollout.actions_before(batch).items()}
    keys = jax.random.split(key, rest.reward.shape[1])
    _, found = rollout.scan_rows(see, state, (actions, rest.obs), keys)
    return jnp.concatenate([jnp.zeros((count, 1)), found], 1)
