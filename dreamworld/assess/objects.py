"""Metric 6, permanence and physics: where the objects of a dream are, against where they truly are.

Needs an environment that tells the `position` and `velocity` of its objects (`ground_truth`) and that can read from a
picture where each of them is (`locate`). Positions are in units of the picture's side; errors are given in pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from dreamworld.assess.dreams import Locate
from dreamworld.assess.ground import NEEDS, Ground, truth
from dreamworld.assess.segments import Segments
from dreamworld.assess.sheet import Sheet
from dreamworld.types import Array

VISIBLE = 0.75  # of an object's area in the real picture: less is hidden in part, and its place uncertain
HIDDEN = 0.25
PRESENT = 0.25  # of an object's area in a dream
NEAR_ROWS = 1  # by which an object may come back too early or too late
SLOW = 0.25  # pixels a row: slower objects have no direction


class Objects(NamedTuple):
    """What is known of N segments of L rows with n objects."""

    position: np.ndarray  # [N, L, n, 2]
    velocity: np.ndarray  # [N, L, n, 2] per row
    share: np.ndarray  # [N, L, n] of each object that is visible
    seen: np.ndarray  # [N, L, n, 2], where it is read from the real picture
    radius: float
    pixels: int  # of the picture's side


def locator(ground: Ground | None) -> Locate | None:
    """Reads places from decoded observations; None where the environment can't."""
    env = ground.env if ground else None
    return getattr(env, "locate", None) if getattr(env, "can_locate", False) else None


def make_objects(ground: Ground, segments: Segments) -> Objects | None:
    """The objects of the segments; None where the environment does not tell enough of them."""
    locate, told = locator(ground), truth(ground)
    images = {key: space for key, space in segments.obs_space.items() if space.is_image}
    if locate is None or len(images) != 1 or not {"position", "velocity"} <= told.keys():
        return None
    ((key, space),) = images.items()
    read = _read(segments, locate, key)
    radius = float(getattr(ground.env, "radius", 0.0))
    return Objects(told["position"], told["velocity"], read["share"], read["place"], radius, space.shape[0])


def _read(segments: Segments, locate: Locate, key: str) -> dict[str, np.ndarray]:
    """What is read from the real pictures, [N, L, n, ...]."""

    @jax.jit
    def read(pictures: Array) -> dict[str, Array]:
        return jax.vmap(lambda picture: locate({key: picture}))(pictures)

    found = [jax.device_get(read(pictures)) for pictures in segments.targets(key)]
    return {name: np.stack([row[name] for row in found]) for name in found[0]}


def add_objects(
    sheet: Sheet, segments: Segments, found: dict[str, np.ndarray], objects: Objects | None
) -> None:
    """Writes down presence, places, identities, re-emergence, bounces and speeds."""
    if objects is None or "found/place" not in found:
        sheet.left_out["objects"] = NEEDS + ", which tells where its objects are (jax_balls)"
        return
    context = segments.context
    rows = lambda x: x[:, context:, None]  # [N, H, 1, n, ...] beside [N, H, S, n, ...]
    visible = rows(objects.share >= VISIBLE) & segments.imagined[..., None, None]
    place, share = found["found/place"], found["found/share"]
    off = np.linalg.norm(place - rows(objects.position), axis=-1)
    present = (share >= PRESENT) & (off <= 2 * objects.radius)
    visible = np.broadcast_to(visible, present.shape)
    items = lambda values, mask: (np.where(mask, values, 0).sum((2, 3)), mask.sum((2, 3)))
    for name, values, mask in (
        ("presence", present, visible),
        ("centroid_error", off * objects.pixels, visible & present),
    ):
        sheet.ratio_curve(f"objects/{name}", *items(values, mask))
        sheet.ratio_number(f"objects/{name}", *items(values, mask))
    _add_baselines(sheet, segments, objects, visible)
    _add_identities(sheet, objects, place, share, off, visible, rows(objects.position))
    _add_strata(sheet, segments, objects, off * objects.pixels, visible, present)
    _add_bounces(sheet, segments, objects, place, visible, present)
    _add_speed(sheet, segments, objects, place, visible & present)
    _add_momentum(sheet, segments, objects, place, visible & present)
    _add_occlusion(sheet, segments, objects, off, present, visible)


def _add_baselines(sheet: Sheet, segments: Segments, objects: Objects, visible: np.ndarray) -> None:
    """Errors of objects that stay where they were seen last, and of those that go straight on."""
    first = segments.context - 1
    steps = np.arange(1, segments.horizon + 1)[:, None, None]
    last = objects.position[:, first : first + 1]
    straight = last + steps * objects.velocity[:, first : first + 1]
    mask = visible[:, :, 0]
    for name, guess in (("copy", np.broadcast_to(last, straight.shape)), ("linear", straight)):
        off = np.linalg.norm(guess - objects.position[:, first + 1 :], axis=-1) * objects.pixels
        sheet.ratio_curve(f"objects/centroid_error_{name}", np.where(mask, off, 0).sum(2), mask.sum(2))


def _add_identities(
    sheet: Sheet,
    objects: Objects,
    place: np.ndarray,
    share: np.ndarray,
    off: np.ndarray,
    visible: np.ndarray,
    position: np.ndarray,
) -> None:
    """The share of objects that are where another one should be, and the error of their number."""
    there = share >= PRESENT
    wrong = np.abs((there & visible).sum(-1) - visible.sum(-1))
    sheet.ratio_number("objects/count_error", wrong.mean(2), np.any(visible[:, :, 0], axis=-1))
    count = off.shape[-1]
    if count < 2:
        return
    between = np.linalg.norm(place[..., :, None, :] - position[..., None, :, :], axis=-1)
    between = np.where(np.eye(count, dtype=bool), np.inf, between).min(-1)
    switched = there & (between < off) & (between <= 2 * objects.radius)
    sheet.ratio_number("objects/switches", np.where(visible, switched, 0), visible)


def contacts(segments: Segments, objects: Objects) -> tuple[np.ndarray, np.ndarray]:
    """Which objects met a wall, on each axis [N, H, n, 2], and which met another one [N, H, n], on the way to each row.

    A wall turns the sign of a component near a side; what else changes a velocity by more than twice what most steps
    change is another object.
    """
    first = segments.context - 1
    before, after = objects.velocity[:, first:-1], objects.velocity[:, first + 1 :]
    place = objects.position[:, first + 1 :]
    turned = before * after < 0
    reach = objects.radius + np.abs(after) + 1e-3
    wall = turned & ((place < reach) | (place > 1 - reach))
    change = np.abs(after - before).max(-1)
    usual = np.quantile(change[segments.imagined], 0.5) if segments.imagined.any() else 0.0
    count = change.shape[-1]
    near = np.linalg.norm(place[..., :, None, :] - place[..., None, :, :], axis=-1)
    near = np.where(np.eye(count, dtype=bool), np.inf, near).min(-1)
    speed = np.linalg.norm(after, axis=-1).max(-1, keepdims=True)
    pair = (change > 2 * usual + 1e-4) & (near < 2 * objects.radius + 2 * speed) & ~wall.any(-1)
    return wall, pair


def _add_strata(
    sheet: Sheet,
    segments: Segments,
    objects: Objects,
    error: np.ndarray,
    visible: np.ndarray,
    present: np.ndarray,
) -> None:
    """Centroid errors on rows of free flight, of a wall and of another object, apart."""
    wall, pair = contacts(segments, objects)
    wall = np.any(wall, axis=-1)
    for name, rows in (("free", ~wall & ~pair), ("wall", wall), ("pair", pair)):
        inside = present & visible & rows[:, :, None]
        if (visible & rows[:, :, None]).any():
            sheet.ratio_number(f"objects/centroid_error_{name}", np.where(inside, error, 0), inside)


def _add_bounces(
    sheet: Sheet,
    segments: Segments,
    objects: Objects,
    place: np.ndarray,
    visible: np.ndarray,
    present: np.ndarray,
) -> None:
    """The share of bounces off a wall after which the dream moves in the right direction."""
    wall, _ = contacts(segments, objects)
    moved = place[:, 1:] - place[:, :-1]  # from row k to k + 1
    real = objects.velocity[:, segments.context :][:, :-1, None]
    clear = np.abs(real) * objects.pixels > SLOW
    both = lambda mask: (mask[:, :-1] & mask[:, 1:])[..., None]
    bounces = wall[:, :-1, None] & clear & both(visible)
    inside = bounces & both(present)
    if not bounces.any():
        sheet.left_out["objects/bounce_sign"] = "needs segments in which an object meets a wall"
        return
    right = np.sign(moved) == np.sign(real)
    sheet.ratio_number("objects/bounce_sign", right & inside, inside)


def _add_speed(
    sheet: Sheet, segments: Segments, objects: Objects, place: np.ndarray, mask: np.ndarray
) -> None:
    """Dreamt by real speed, and the same of squares (kinetic energy), over rows in which an object is well visible.

    Both are read from pictures, so that what reading adds is in both.
    """
    both = mask[:, 1:] & mask[:, :-1]
    real = objects.seen[:, segments.context :]
    dreamt = np.linalg.norm(place[:, 1:] - place[:, :-1], axis=-1)
    moved = np.broadcast_to(np.linalg.norm(real[:, 1:] - real[:, :-1], axis=-1)[:, :, None], dreamt.shape)
    for name, power in (("speed_ratio", 1), ("energy_ratio", 2)):
        dream, truth = (np.where(both, x**power, 0) for x in (dreamt, moved))
        sheet.ratio_number(f"objects/{name}", dream, truth, int(both.sum()))


def _add_momentum(
    sheet: Sheet, segments: Segments, objects: Objects, place: np.ndarray, mask: np.ndarray
) -> None:
    """Errors of total momentum and of total kinetic energy, each of the real one; masses are equal, as radii are.

    Over steps on which all objects are there and none meets a wall, of energy none another one either: then the sum of
    changes of place is the momentum. Both are read from pictures, as speeds are.
    """
    step = lambda x: x[:, 1:] - x[:, :-1]
    real, dreamt = step(objects.seen[:, segments.context :])[:, :, None], step(place)
    wall, pair = (x[:, 1:, None] for x in contacts(segments, objects))
    whole = (mask[:, 1:] & mask[:, :-1]).all(-1) & ~wall.any((-2, -1))
    met = pair.any(-1)
    momentum, energy = conserved(dreamt, real)
    for name, values, rows in (
        ("momentum_error", momentum, whole),
        ("momentum_error_pair", momentum, whole & met),
        ("energy_error", energy, whole & ~met),
    ):
        if name != "momentum_error_pair" or met.any():
            sums = (np.where(rows, x, 0) for x in values)
            sheet.ratio_number(f"objects/{name}", *sums, n=int(rows.sum()))


def conserved(dreamt: np.ndarray, real: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """|P' - P| and |P|, then |E' - E| and E, [...] of velocities [..., n, 2]; P = sum v, E = sum v^2."""
    length = lambda x: np.linalg.norm(x.sum(-2), axis=-1)
    square = lambda x: (x**2).sum((-2, -1))
    real = np.broadcast_to(real, dreamt.shape)
    return [length(dreamt - real), length(real)], [np.abs(square(dreamt) - square(real)), square(real)]


def reappearing(share: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Rows [N, L, n] at which an object is visible that was hidden, and visible before that; `share` [N, L, n]."""
    found = np.zeros(share.shape, bool)
    seen = share[:, 0] >= VISIBLE
    hidden = np.zeros_like(seen)
    for row in range(1, share.shape[1]):
        back = hidden & (share[:, row] >= VISIBLE)
        found[:, row] = back & valid[:, row, None]
        hidden = (hidden | (seen & (share[:, row] < HIDDEN))) & ~back
        seen |= share[:, row] >= VISIBLE
    return found


def _add_occlusion(
    sheet: Sheet,
    segments: Segments,
    objects: Objects,
    off: np.ndarray,
    present: np.ndarray,
    visible: np.ndarray,
) -> None:
    """Objects that come out from behind something: how often they are there in time, and how far off."""
    back = reappearing(objects.share, segments.valid)[:, segments.context :, None]
    back = np.broadcast_to(back, present.shape) & visible
    if not back.any():
        sheet.left_out["objects/reemergence"] = "needs an occluder behind which objects pass"
        return
    near = np.pad(present, ((0, 0), (NEAR_ROWS, NEAR_ROWS), (0, 0), (0, 0)))
    shifts = range(2 * NEAR_ROWS + 1)
    soon = np.any([near[:, shift : shift + present.shape[1]] for shift in shifts], axis=0)
    sheet.ratio_number("objects/reemergence", soon & back, back)
    there = back & present
    sheet.ratio_number("objects/reemergence_error", np.where(there, off * objects.pixels, 0), there)
