"""What helps against drift: seeing reality again, in full or now and then, and noise on what is seen at first.

Each means is tried alone and all beside the plain dream, on the same segments and with the same noise. The error of a
row is always taken before the model sees anything of it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import dream, nets, rollout
from dreamworld.assess import drift, intervals
from dreamworld.assess.dreams import Dreaming
from dreamworld.assess.intervals import Estimate
from dreamworld.assess.scene import copy_last, lead, squared_error
from dreamworld.assess.segments import Segments
from dreamworld.assess.sheet import make_sheet
from dreamworld.assess.studies.study import Line, Picture, Study, Value
from dreamworld.contract import State
from dreamworld.errors import UserError
from dreamworld.types import Array, Batch, Key, Params, Space

METHOD = (
    "Re-anchored: every n rows the dream goes on from the state of a model that has seen every row. Keyframes: every n "
    "rows the dream sees the one row that is there, and nothing of those between. Noise: on the rows of the context, "
    "of this standard deviation (of pixels in 0..1; of vectors in their standard deviations). Errors are of rows that "
    "the model has not seen yet; intervals over episodes."
)
COLUMNS = {
    "means": "means",
    "mse": "MSE",
    "of_plain": "of the plain one",
    "last": "in the last tenth",
    "useful_horizon": "useful horizon",
}


class Means(NamedTuple):
    """What is done against drift."""

    name: str
    anchor: int = 0  # rows after which the dream goes on from what happens; 0 for never
    keyframe: int = 0  # rows after which it sees one row
    noise: float = 0.0  # on the context


def choices(every: int, noise: float) -> list[Means]:
    """Each means off, alone, and with the noise."""
    return [
        Means("plain"),
        Means(f"re-anchored every {every}", anchor=every),
        Means(f"keyframe every {every}", keyframe=every),
        Means(f"noise {noise:g}", noise=noise),
        Means(f"re-anchored every {every}, noise {noise:g}", anchor=every, noise=noise),
        Means(f"keyframe every {every}, noise {noise:g}", keyframe=every, noise=noise),
    ]


def errors(dreaming: Dreaming, name: str, params: Params, batch: Batch, means: Means, key: Key) -> Array:
    """Squared errors [B, H] of the observation `name` in the rows after the context."""
    simulator, context = dreaming.simulator, dreaming.context
    decode = simulator.decode
    assert decode is not None
    count, length = batch.reward.shape
    noise_key, see_key, step_key = jax.random.split(key, 3)
    seen = jax.tree.map(lambda x: x[:, :context], batch)
    clean, _ = dream.observe_rows(simulator, params, seen, see_key)
    start = clean
    if means.noise:
        noisy = seen._replace(obs=_noisy(dreaming, seen.obs, means.noise, noise_key))
        start, _ = dream.observe_rows(simulator, params, noisy, see_key)
    space, scene, no = dreaming.spaces[name], dreaming.scenes[name], jnp.zeros(count, bool)

    def step(carry: Any, row: Any, key: Key) -> tuple[Any, Array]:
        state, posterior, number = carry
        action, obs = row
        dream_key, own_key = jax.random.split(key)
        moved = simulator.imagine(params, state, action, dream_key)
        shown = decode(params, simulator.feature(params, moved))[name]
        error = squared_error(space, scene, shown, nets.target(space, obs[name]).astype(jnp.float32))
        posterior = simulator.observe(params, posterior, action, obs, no, own_key)
        if means.anchor:
            moved = _pick((number + 1) % means.anchor == 0, posterior, moved)
        if means.keyframe:
            corrected = simulator.observe(params, state, action, obs, no, own_key)
            moved = _pick((number + 1) % means.keyframe == 0, corrected, moved)
        return (moved, posterior, number + 1), error

    actions = {key: x[:, context:] for key, x in rollout.actions_before(batch).items()}
    rows = (actions, {key: x[:, context:] for key, x in batch.obs.items()})
    keys = jax.random.split(step_key, length - context)
    return rollout.scan_rows(step, (start, clean, jnp.int32(0)), rows, keys)[1]


def _pick(flag: Array, one: State, other: State) -> State:
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), one, other)


def _noisy(dreaming: Dreaming, obs: dict[str, Array], noise: float, key: Key) -> dict[str, Array]:
    """Observations with normal noise, within their range and of their kind; classes stay as they are."""
    found = {}
    for number, (name, value) in enumerate(sorted(obs.items())):
        space: Space | None = dreaming.spaces.get(name)
        if space is None or (space.discrete and not space.is_image) or not space.size:
            found[name] = value
            continue
        drawn = noise * jax.random.normal(jax.random.fold_in(key, number), value.shape)
        if space.is_image:
            changed = jnp.clip(value.astype(jnp.float32) + 255 * drawn, 0, 255)
            found[name] = jnp.round(changed).astype(value.dtype)
        else:
            scale = lead(dreaming.scenes[name].scale, value.ndim)
            found[name] = (value.astype(jnp.float32) + drawn * scale).astype(value.dtype)
    return found


def study(
    name: str,
    params: Params,
    dreaming: Dreaming,
    segments: Segments,
    every: int,
    noise: float,
    about: dict[str, Any],
    seed: int = 0,
) -> Study:
    """The study of a world with parameters `params`. UserError for one without a decoder."""
    key = shown_key(dreaming, params)
    if not key:
        raise UserError(f"{name}: --study drift {drift.FLOOR}")
    batch = segments.batch()
    found = {}
    for means in choices(every, noise):
        run = jax.jit(functools.partial(errors, dreaming, key, means=means))
        keys = jax.random.split(jax.random.PRNGKey(seed), dreaming.samples)
        found[means.name] = np.mean([np.asarray(run(params, batch, key=one)) for one in keys], 0)
    return tabulate(name, found, segments, copy_last(segments, key, dreaming.scenes[key]), key, about, seed)


def shown_key(dreaming: Dreaming, params: Params) -> str:
    """The observation that is compared: the first picture that is decoded, else the first of all."""
    simulator = dreaming.simulator
    decode = simulator.decode
    if decode is None:
        return ""
    show = lambda params: decode(params, simulator.feature(params, simulator.initial(params, 1)))
    names = sorted(name for name in jax.eval_shape(show, params) if name in dreaming.scenes)
    return next(iter([n for n in names if dreaming.spaces[n].is_image] or names), "")


def tabulate(
    name: str,
    found: dict[str, np.ndarray],
    segments: Segments,
    copied: np.ndarray,
    key: str,
    about: dict[str, Any],
    seed: int = 0,
) -> Study:
    """The study of errors [N, H] by means, beside those of copying the last row; the first means is none."""
    sheet, mask = make_sheet(segments.episode, seed=seed), segments.imagined
    base = intervals.mean(sheet.weights, copied, mask)
    total = lambda values: intervals.total_mean(sheet.weights, values, mask)
    late = mask & (np.arange(segments.horizon) >= segments.horizon - max(1, segments.horizon // 10))
    plain = total(next(iter(found.values())))

    def number(values: np.ndarray, mask: np.ndarray) -> Estimate:
        """Of the episodes that have a row there: of one alone there is no interval."""
        episodes = len(np.unique(segments.episode[mask.any(1)]))
        return intervals.estimate(values, episodes, int(mask.sum()))

    rows: list[dict[str, Value]] = []
    lines: list[Line] = []
    for means, values in found.items():
        curve = intervals.mean(sheet.weights, values, mask)
        useful = drift.useful_horizon(drift.skill(curve, base))
        with np.errstate(invalid="ignore", divide="ignore"):
            part: Estimate = number(total(values) / plain, mask)
        row: dict[str, Value] = {"means": means, "mse": number(total(values), mask), "of_plain": part}
        row["last"] = number(intervals.total_mean(sheet.weights, values, late), late)
        row["useful_horizon"] = number(useful, mask[:, :1])
        rows.append(row)
        lines.append(_line(means, curve, sheet.episodes, mask))
    lines.append(_line("copying the last row", base, sheet.episodes, mask, dashed=True))
    picture = Picture(f"Error of {key} by imagined step.", "imagined step", "squared error", lines)
    return Study(name, "drift", about, COLUMNS, rows, [picture], METHOD)


def _line(name: str, values: np.ndarray, episodes: int, mask: np.ndarray, dashed: bool = False) -> Line:
    steps: Sequence[float] = range(1, values.shape[1] + 1)
    return Line(name, steps, intervals.curve(values, episodes, mask.sum(0)), dashed)
