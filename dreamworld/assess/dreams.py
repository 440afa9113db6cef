"""What a simulator dreams on segments, measured step by step: no dream is ever kept as a whole.

Each of B segments is seen for C rows and imagined for H, with the recorded actions, S times. Beside these dreams go,
through the same rows: one dream with the recorded and one with other actions under equal noise, and the model that
sees every row (the posterior).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import dream, nets, rollout
from dreamworld.assess.scene import DIFFERENT, Scene, lead, squared_error
from dreamworld.assess.segments import Segments, below
from dreamworld.contract import Simulator, State
from dreamworld.types import Array, Batch, Key, Params, Space, Spaces, Tree

ROWS_AT_ONCE = {"cpu": 128, "default": 1024}  # dreams that are stepped together
THUMB = 16  # pixels of the small pictures that are kept of each first dream
MeasurePart = Callable[..., dict[str, Array]]
Locate = Callable[[dict[str, Array]], dict[str, Array]]  # decoded observations -> what stands where


class Dreaming(NamedTuple):
    """How a simulator is measured."""

    simulator: Simulator
    spaces: Spaces
    scenes: dict[str, Scene]
    context: int
    samples: int
    locate: Locate | None = None
    keep: bool = False  # the decoded observations, too, as `frame/<key>`


def measure(
    dreaming: Dreaming,
    params: Params,
    segments: Segments,
    donors: np.ndarray,
    key: Key,
    run: MeasurePart | None = None,
) -> dict[str, np.ndarray]:
    """Measurements [N, H] or [N, H, S] of all segments by name, computed in equal parts.

    `donors` [N] names the segment whose actions each one is given for comparison; `run` is what `compiled` returned,
    kept from before.
    """
    size = part_size(len(segments), dreaming.samples)
    run = run or compiled(dreaming)
    parts = []
    for number, start in enumerate(range(0, len(segments), size)):
        index = np.arange(start, start + size) % len(segments)
        others = below("action", segments.columns).items()
        donated = {name: jnp.asarray(value[donors[index]]) for name, value in others}
        measured = run(params, segments.batch(index), donated, jax.random.fold_in(key, number))
        parts.append(jax.device_get(measured))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {name: value[: len(segments)] for name, value in joined.items()}


def compiled(dreaming: Dreaming) -> MeasurePart:
    """`measure_part`, compiled at its first call."""
    return jax.jit(functools.partial(measure_part, dreaming))


def part_size(count: int, samples: int) -> int:
    """Segments that are measured at once; all parts are equal, so that one program does."""
    at_once = ROWS_AT_ONCE.get(jax.default_backend(), ROWS_AT_ONCE["default"])
    most = max(1, at_once // samples)
    return -(-count // -(-count // most))


def measure_part(
    dreaming: Dreaming, params: Params, batch: Batch, donated: dict[str, Array], key: Key
) -> dict[str, Array]:
    """Measurements [B, H, ...] of a batch [B, C + H, ...]; `donated` are other actions of these rows."""
    simulator, context, samples = dreaming.simulator, dreaming.context, dreaming.samples
    observe_key, step_key = jax.random.split(key)
    count, length = batch.reward.shape
    seen = jax.tree.map(lambda x: x[:, :context], batch)
    last, _ = dream.observe_rows(simulator, params, seen, observe_key)
    before = rollout.actions_before(batch)
    others = rollout.actions_before(batch._replace(action=donated))
    imagined = lambda tree: jax.tree.map(lambda x: x[:, context:], tree)
    rows = imagined((before, others, batch.obs, batch.reward))
    frames = _targets(dreaming.spaces, jax.tree.map(lambda x: x[:, context - 1], batch.obs))
    shown = {name: frames[name] for name in _decoded_keys(dreaming, params, last)}
    spread = lambda x: jnp.repeat(x[:, None], samples, 1)
    carry = Walk(
        dream=jax.tree.map(lambda x: jnp.repeat(x, samples, 0), last),
        pair=last,
        other=last,
        posterior=last,
        truth=shown,
        shown=jax.tree.map(spread, shown),
    )
    step = functools.partial(_step, dreaming, params, count)
    _, found = rollout.scan_rows(step, carry, rows, jax.random.split(step_key, length - context))
    return found


class Walk(NamedTuple):
    """The states that go through the imagined rows together."""

    dream: State  # [B * S, ...]
    pair: State  # [B, ...] with the recorded actions
    other: State  # [B, ...] with other ones, and the noise of `pair`
    posterior: State  # [B, ...] that sees every row
    truth: dict[str, Array]  # [B, *shape], the row before
    shown: dict[str, Array]  # [B, S, *shape], what was decoded of it


def _step(dreaming: Dreaming, params: Params, count: int, walk: Walk, row: Any, key: Key) -> tuple[Any, Any]:
    """One imagined row: all states advance, what they show is measured."""
    simulator, samples = dreaming.simulator, dreaming.samples
    action, other, obs, earned = row
    dream_key, pair_key, see_key = jax.random.split(key, 3)
    repeated = jax.tree.map(lambda x: jnp.repeat(x, samples, 0), action)
    no = jnp.zeros(count, bool)
    found: dict[str, Array] = {}
    if simulator.surprise is not None:
        first = jax.tree.map(lambda x: x[::samples], walk.dream)
        found["surprise"] = simulator.surprise(params, first, action, obs, no, see_key)
    states = (
        simulator.imagine(params, walk.dream, repeated, dream_key),
        simulator.imagine(params, walk.pair, action, pair_key),
        simulator.imagine(params, walk.other, other, pair_key),
        simulator.observe(params, walk.posterior, action, obs, no, see_key),
    )
    features = jnp.concatenate([simulator.feature(params, state) for state in states])
    bounds = (count * samples, count * (samples + 1), count * (samples + 2))
    if simulator.predict is not None:
        reward, cont = simulator.predict(params, features)
        for name, value in (("reward", reward), ("cont", cont)):
            dreamt, _, _, seen = jnp.split(value.astype(jnp.float32), bounds)
            found |= {name: dreamt.reshape(count, samples), f"{name}_posterior": seen}
    if simulator.reward_nll is not None:
        nats = simulator.reward_nll(params, features[: bounds[0]], jnp.repeat(earned, samples, 0))
        found["reward_nll"] = nats.astype(jnp.float32).reshape(count, samples)
    truth = _targets(dreaming.spaces, obs)
    decoded = simulator.decode(params, features) if simulator.decode is not None else {}
    kept: dict[str, Array] = {}
    for name in walk.shown:
        space, scene = dreaming.spaces[name], dreaming.scenes[name]
        dreamt, pair, shuffled, seen = jnp.split(decoded[name], bounds)
        kept[name] = dreamt.reshape(count, samples, *space.shape)
        error = functools.partial(squared_error, space, scene, truth=truth[name])
        found[f"mse_pair/{name}"], found[f"mse_other/{name}"] = error(pair), error(shuffled)
        found[f"mse_posterior/{name}"] = error(seen)
        found |= _compare(space, scene, name, kept[name], truth[name])
        if space.is_image:
            found |= _moved(name, kept[name], walk.shown[name], truth[name], walk.truth[name])
            found[f"thumb/{name}"] = thumbs(kept[name][:, 0])
        if dreaming.keep:
            found |= {f"frame/{name}": kept[name], f"frame_posterior/{name}": seen}
    if dreaming.locate is not None and kept:
        located = jax.vmap(jax.vmap(dreaming.locate))(kept)
        found |= {f"found/{name}": value for name, value in located.items()}
    truth = {name: truth[name] for name in walk.truth}
    return Walk(*states, truth=truth, shown=kept), found


def _compare(space: Space, scene: Scene, name: str, shown: Array, truth: Array) -> dict[str, Array]:
    """Errors of S dreams [B, S, *shape] of a row [B, *shape]."""
    wide = truth[:, None]
    mse = squared_error(space, scene, shown, wide)  # [B, S]
    found = {f"mse/{name}": mse, f"apart/{name}": _apart(space, scene, shown)}
    if space.is_image and scene.background is not None:
        back = lead(scene.background, wide.ndim)
        front = jnp.abs(wide - back).max(-1) > DIFFERENT  # [B, 1, h, w]
        square = jnp.square(shown - wide).mean(-1)
        pixels = front.sum((-2, -1))
        found[f"mse_front/{name}"] = (square * front).sum((-2, -1)) / jnp.maximum(pixels, 1)
        found[f"front/{name}"] = pixels[:, 0] / front[0, 0].size
        found[f"front_dream/{name}"] = (jnp.abs(shown - back).max(-1) > DIFFERENT).mean((-2, -1))
    return found


def _apart(space: Space, scene: Scene, shown: Array) -> Array:
    """Mean root of the squared error between two different ones of S dreams [B, S, *shape], [B]."""
    samples = shown.shape[1]
    total = jnp.zeros(shown.shape[0])
    for shift in range(1, samples // 2 + 1):
        between = squared_error(space, scene, shown, jnp.roll(shown, shift, 1))
        twice = 1 if 2 * shift == samples else 2  # a shift and its opposite are the same pairs
        total += twice * jnp.sqrt(between).mean(1)
    return total / max(samples - 1, 1)


def _moved(name: str, shown: Array, before: Array, truth: Array, truth_before: Array) -> dict[str, Array]:
    """Mean absolute change of a picture from one row to the next."""
    axes = (-3, -2, -1)
    return {
        f"moved_dream/{name}": jnp.abs(shown - before).mean(axes),
        f"moved/{name}": jnp.abs(truth - truth_before).mean(axes),
    }


def thumbs(pictures: Array) -> Array:
    """Pictures [B, h, w, c] at `THUMB` pixels."""
    count, channels = pictures.shape[0], pictures.shape[-1]
    return jax.image.resize(pictures, (count, THUMB, THUMB, channels), "linear")


def _targets(spaces: Spaces, obs: dict[str, Array]) -> dict[str, Array]:
    """Observations as they are decoded."""
    return {
        name: nets.target(spaces[name], value).astype(jnp.float32)
        for name, value in obs.items()
        if name in spaces
    }


def _decoded_keys(dreaming: Dreaming, params: Params, state: Tree) -> list[str]:
    """The observation keys that the simulator decodes and that can be compared."""
    simulator = dreaming.simulator
    decode = simulator.decode
    if decode is None:
        return []
    shapes = jax.eval_shape(lambda state: decode(params, simulator.feature(params, state)), state)
    return sorted(name for name in shapes if name in dreaming.scenes)
