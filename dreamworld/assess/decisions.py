"""Metrics 3 (counterfactuals) and 4 (decisions): does the model know what other actions would have led to?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import dream, nets
from dreamworld.assess import intervals
from dreamworld.assess.dreams import Dreaming, Locate
from dreamworld.assess.ground import RESTORE
from dreamworld.assess.scene import DIFFERENT, lead
from dreamworld.assess.segments import Segments, below
from dreamworld.assess.sheet import Sheet
from dreamworld.contract import State
from dreamworld.types import Array, Key, Params

LEAST_SHARE = 0.25  # of an object's area
HALF_PIXEL = 0.5
SAME = 1e-6  # effects below are none


def seen_state(dreaming: Dreaming, params: Params, segments: Segments, index: np.ndarray, key: Key) -> State:
    """States [M, ...] of a model that has seen the context of some segments."""
    batch = segments.batch(index)
    seen = jax.tree.map(lambda x: x[:, : segments.context], batch)
    return jax.jit(lambda params, batch, key: dream.observe_rows(dreaming.simulator, params, batch, key)[0])(
        params, seen, key
    )


# --- the fan ---------------------------------------------------------------------------------------------------


def add_counterfactuals(
    sheet: Sheet, dreaming: Dreaming, params: Params, segments: Segments, key: Key
) -> dict[str, np.ndarray]:
    """Writes down CFC = E[cos(e, ê) | |e| > d] and the leak |ê| where e = 0; e(a) = x_k(a) - x_k(a0).

    Returns what is dreamt of the fan, `<key>` [M, A, K, *shape], for the page.
    """
    fan = below("fan", segments.branches)
    if not fan or dreaming.simulator.decode is None:
        sheet.left_out["actions/counterfactual"] = RESTORE if not fan else "needs a decoder"
        return {}
    dreamt = dream_fan(dreaming, params, segments, fan, key)
    alive = fan["alive"] & fan["alive"][:, :1]
    weights = sheet.weights[:, fan["segment"]]
    for name, shown in dreamt.items():
        space = segments.obs_space[name]
        if space.discrete:
            continue
        real = nets.target(space, fan[f"obs/{name}"]).astype(np.float32)
        scale = lead(dreaming.scenes[name].scale, real.ndim)
        effects = [(x - x[:, :1])[:, 1:] / scale for x in (real, shown)]
        real_effect, dreamt_effect = (x.reshape(*x.shape[:3], -1) for x in effects)
        clear = (np.abs(real_effect).max(-1) > DIFFERENT) & alive[:, 1:]
        none = (np.abs(real_effect).max(-1) < SAME) & alive[:, 1:]
        cosine = _cosine(real_effect, dreamt_effect)
        topic = f"actions/{name}"
        sheet.curve(
            f"{topic}/cfc",
            _mean_by_step(weights, cosine, clear),
            clear.sum((0, 1)),
        )
        sheet.number(f"{topic}/cfc", intervals.total_mean(weights, cosine, clear), int(clear.sum()))
        size = np.sqrt((dreamt_effect**2).mean(-1))
        sheet.number(f"{topic}/leak", intervals.total_mean(weights, size, none), int(none.sum()))
        if space.is_image and dreaming.locate is not None:
            add_signs(sheet, dreaming.locate, name, real, shown, alive, fan["segment"])
    return dreamt


def add_signs(
    sheet: Sheet,
    locate: Locate,
    key: str,
    real: np.ndarray,
    shown: np.ndarray,
    alive: np.ndarray,
    segment: np.ndarray,
) -> None:
    """Writes down how often an action moves an object to the side, on each axis, to which it moves it in truth.

    Of objects that are there in both pictures, and that it moves by more than half a pixel.
    """
    read = jax.jit(jax.vmap(lambda picture: locate({key: picture})))
    place, there = [], []
    for pictures in (real, shown):
        found = jax.device_get(read(pictures.reshape(-1, *pictures.shape[3:])))
        place.append(found["place"].reshape(*pictures.shape[:3], -1, 2))
        there.append(found["share"].reshape(*pictures.shape[:3], -1) >= LEAST_SHARE)
    moved = [(x - x[:, :1])[:, 1:] for x in place]
    both = there[0] & there[1] & alive[..., None]
    clear = np.abs(moved[0]) * real.shape[3] > HALF_PIXEL
    clear &= (both[:, 1:] & both[:, :1])[..., None]
    right = np.sign(moved[0]) == np.sign(moved[1])
    weights = sheet.weights[:, segment]
    sheet.number(f"actions/{key}/sign", intervals.total_mean(weights, right, clear), int(clear.sum()))


def _mean_by_step(weights: np.ndarray, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Means [R, K] over starts and actions of values [M, A, K]."""
    total = weights @ np.where(mask, values, 0).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / (weights @ mask.sum(1))


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of the angle between vectors [..., P]; 0 where the second one is zero."""
    norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return (one * other).sum(-1) / np.maximum(norms, 1e-12)


def dream_fan(
    dreaming: Dreaming, params: Params, segments: Segments, fan: dict[str, np.ndarray], key: Key
) -> dict[str, np.ndarray]:
    """Observations that are dreamt under each held action, equal noise for all, the mean of S dreams."""
    see_key, dream_key = jax.random.split(key)
    start = seen_state(dreaming, params, segments, fan["segment"], see_key)
    steps = fan["alive"].shape[2]
    decode = dreaming.simulator.decode
    assert decode is not None

    def one(params: Params, start: State, action: dict[str, Array], key: Key) -> dict[str, Array]:
        """[K, M, *shape] of one action and one dream."""
        count = len(fan["segment"])
        held = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (count, *x.shape)), action)

        def step(state: State, key: Key) -> tuple[Any, Any]:
            state = dreaming.simulator.imagine(params, state, held, key)
            return state, decode(params, dreaming.simulator.feature(params, state))

        return jax.lax.scan(step, start, jax.random.split(key, steps))[1]

    run = jax.jit(one)
    held = {name: jnp.asarray(value) for name, value in below("action", fan).items()}
    found = []
    for number in range(fan["alive"].shape[1]):
        action = {name: value[number] for name, value in held.items()}
        total: Any = None
        for sample in range(dreaming.samples):
            shown = run(params, start, action, jax.random.fold_in(dream_key, sample))
            total = shown if total is None else jax.tree.map(jnp.add, total, shown)
        found.append(jax.tree.map(lambda x: np.asarray(x) / dreaming.samples, total))
    names = [name for name in found[0] if name in dreaming.scenes]
    return {
        name: np.stack([np.swapaxes(shown[name], 0, 1) for shown in found], 1) for name in names
    }  # [M, A, K, ...]


# --- plans ------------------------------------------------------------------------------------------------------


def add_decisions(sheet: Sheet, dreaming: Dreaming, params: Params, segments: Segments, key: Key) -> None:
    """Writes down how often the plan that the model likes best is the best one, what is lost, and rank correlation.

    Starts at which all plans earn the same are left out.
    """
    plans = below("plan", segments.branches)
    if not plans or dreaming.simulator.predict is None:
        sheet.left_out["decisions"] = RESTORE if not plans else "needs a model that predicts rewards"
        return
    real = plans["reward"].sum(-1)
    expected = expected_returns(dreaming, params, segments, plans, key)
    score(sheet, real, expected, plans["segment"])


def score(sheet: Sheet, real: np.ndarray, expected: np.ndarray, segment: np.ndarray) -> None:
    """Writes down the metrics of real and expected returns [M, P] of plans from these segments [M].

    Plans that the model likes equally share the choice.
    """
    spread = real.max(1) - real.min(1)
    use = spread > SAME
    if not use.any():
        sheet.left_out["decisions"] = "needs starts at which one plan earns more than another"
        return
    liked = expected >= expected.max(1, keepdims=True) - SAME
    share = liked / liked.sum(1, keepdims=True)
    best = real >= real.max(1, keepdims=True) - SAME
    weights, n = sheet.weights[:, segment], int(use.sum())
    top = (share * best).sum(1)
    regret = (real.max(1) - (share * real).sum(1)) / np.maximum(spread, SAME)
    rank = np.array([_rank_correlation(one, other) for one, other in zip(real, expected)])
    for name, values in (("top1", top), ("regret", regret), ("spearman", rank)):
        sheet.number(f"decisions/{name}", intervals.total_mean(weights, values, use), n)
    chance = best.mean(1)
    sheet.number("decisions/top1_chance", intervals.total_mean(weights, chance, use), n)


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's; 0 where one of them is constant."""
    found = intervals.weighted_correlation(
        np.ones((1, len(one))), intervals.ranks(one), intervals.ranks(other)
    )[0]
    return 0.0 if np.isnan(found) else float(found)


def expected_returns(
    dreaming: Dreaming, params: Params, segments: Segments, plans: dict[str, np.ndarray], key: Key
) -> np.ndarray:
    """[M, P]: rewards, each times the probability that the episode has not ended before; the mean of S dreams."""
    see_key, dream_key = jax.random.split(key)
    start = seen_state(dreaming, params, segments, plans["segment"], see_key)
    predict = dreaming.simulator.predict
    assert predict is not None

    @jax.jit
    def one(params: Params, start: State, actions: dict[str, Array], key: Key) -> Array:
        def step(carry: Any, row: Any) -> tuple[Any, Any]:
            state, alive, total = carry
            action, key = row
            state = dreaming.simulator.imagine(params, state, action, key)
            reward, cont = predict(params, dreaming.simulator.feature(params, state))
            return (state, alive * cont, total + alive * reward), None

        length = jax.tree.leaves(actions)[0].shape[1]
        rows = (jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), actions), jax.random.split(key, length))
        count = len(plans["segment"])
        carry = (start, jnp.ones(count), jnp.zeros(count))
        return jax.lax.scan(step, carry, rows)[0][2]

    found = []
    for number in range(plans["reward"].shape[1]):
        actions = {name: jnp.asarray(value[:, number]) for name, value in below("action", plans).items()}
        dreams = [
            one(params, start, actions, jax.random.fold_in(dream_key, sample))
            for sample in range(dreaming.samples)
        ]
        found.append(np.mean([np.asarray(value) for value in dreams], 0))
    return np.stack(found, 1)
