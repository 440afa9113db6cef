"""Balls: n discs of equal mass in a box, reflected exactly and colliding elastically.

Between contacts every ball moves in a straight line, so the times of all wall and pair contacts are known
in closed form. A step advances from contact to contact: no substeps, no tunnelling, no overlap, and energy
is kept up to rounding. The force of the action changes the velocity of ball 0 at the start of the step.

The reward is 1 for each step that ends with the centre of ball 0 in the middle of the box (within `zone` of
it on both axes); the others knock it away. Episodes end by the time limit only.

Returns with default options: random 12.8, heuristic 92.4; the optimum is not known, at most 100.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.envs.jax import draw, spaces
from dreamworld.types import JaxStep, Spaces

Array = jax.Array

WHITE, RED, GREEN = (1.0, 1.0, 1.0), (0.9, 0.2, 0.2), (0.2, 0.8, 0.3)
BLUE, YELLOW, VIOLET = (0.3, 0.5, 1.0), (1.0, 0.8, 0.1), (0.8, 0.3, 0.9)
COLORS = (WHITE, RED, GREEN, BLUE, YELLOW, VIOLET)
OCCLUDER = (0.35, 0.7)  # left and right edge of the bar, share of the box
OCCLUDER_COLOR = (0.45, 0.45, 0.45)
DIRECTIONS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


class BallsState(NamedTuple):
    """The box is the unit square, y points down, time is counted in steps."""

    position: Array  # [n, 2] float32, centres
    velocity: Array  # [n, 2] float32, box widths per step
    time: Array  # [] int32, steps taken


@dataclasses.dataclass(frozen=True)
class Balls:
    """Discrete actions: 0 no-op, 1 left, 2 right, 3 up, 4 down. Continuous: the force, 0 is the no-op."""

    n: int = 3
    """Number of balls, 1 to 16."""
    obs: str = "image"
    """image: anti-aliased discs, ball 0 white. vector: positions and velocities, [4 * n]."""
    action: str = "discrete"
    """discrete: five actions. continuous: a force in [-1, 1] on each axis."""
    radius: float = 0.1
    """Radius of every ball; the box is 1 wide."""
    speed: float = 0.04
    """Greatest speed of a ball after a reset, box widths per step; the least is half of it."""
    force: float = 0.01
    """Change of velocity per step by the full force along one axis."""
    zone: float = 0.15
    """Half the width of the square in the middle that is rewarded."""
    occluder: bool = False
    """Draws an opaque vertical bar over the balls; it touches nothing."""
    time_limit: int = 100
    """Steps until the episode is truncated."""
    size: int = 32
    """Height and width of the image in pixels."""

    random_return: ClassVar[float] = 12.8
    heuristic_return: ClassVar[float] = 92.4
    optimal_return: ClassVar[float | None] = None
    action_names: ClassVar[tuple[str, ...]] = ("no-op", "left", "right", "up", "down")

    def __post_init__(self) -> None:
        spaces.require_choice("jax_balls", "obs", self.obs, ("image", "vector"))
        spaces.require_choice("jax_balls", "action", self.action, ("discrete", "continuous"))
        spaces.require_size("jax_balls", self.size)
        spaces.require_integer("jax_balls", "n", self.n, 1, 16)
        spaces.require_integer("jax_balls", "time_limit", self.time_limit, 1, 10**9)
        spaces.require_range("jax_balls", "radius", self.radius, 0.01, 0.45 / self._places)
        spaces.require_range("jax_balls", "speed", self.speed, 0, 0.5)
        spaces.require_range("jax_balls", "force", self.force, 0, 0.5)
        spaces.require_range("jax_balls", "zone", self.zone, 0, 0.5)

    @property
    def obs_space(self) -> Spaces:
        """{"image": [size, size, 3]} or {"vector": [4 * n]}."""
        return spaces.image_space(self.size) if self.obs == "image" else spaces.vector_space(4 * self.n)

    @property
    def act_space(self) -> Spaces:
        """Five classes, or two numbers."""
        return spaces.discrete_space(5) if self.action == "discrete" else spaces.box_space(2)

    def reset(self, key: Array) -> tuple[BallsState, dict[str, Array]]:
        """Balls apart from each other, moving in random directions."""
        # one draw for everything: each call of the generator costs a compilation
        draws = jax.random.uniform(key, (4 * self.n + self._places**2,))
        shift, angle, speed = (
            draws[: 2 * self.n],
            draws[2 * self.n : 3 * self.n],
            draws[3 * self.n : 4 * self.n],
        )
        # one ball to a square of a coarse grid: no overlap and no rejection loop
        width = 1 / self._places
        place = jnp.argsort(draws[4 * self.n :])[: self.n]
        middle = (jnp.stack([place % self._places, place // self._places], axis=1) + 0.5) * width
        slack = width / 2 - self.radius
        position = middle + slack * (2 * shift.reshape(self.n, 2) - 1)
        heading = jnp.stack([jnp.cos(2 * np.pi * angle), jnp.sin(2 * np.pi * angle)], axis=1)
        velocity = (self.speed * (0.5 + 0.5 * speed))[:, None] * heading
        state = BallsState(position, velocity, jnp.int32(0))
        return state, self.observe(state)

    def step(self, state: BallsState, action: dict[str, Array], key: Array) -> tuple[BallsState, JaxStep]:
        """Pushes ball 0, then moves all by one unit of time. Deterministic: `key` is not used."""
        velocity = state.velocity.at[0].add(self.force * self._direction(action["action"]))
        position, velocity = advance(state.position, velocity, self.radius)
        state = BallsState(position, velocity, state.time + 1)
        inside = jnp.max(jnp.abs(position[0] - 0.5)) <= self.zone
        is_last = state.time >= self.time_limit
        return state, JaxStep(self.observe(state), inside.astype(jnp.float32), is_last, jnp.zeros((), bool))

    def observe(self, state: BallsState) -> dict[str, Array]:
        """A picture, or positions and velocities, ball by ball."""
        if self.obs == "image":
            return {"image": self._draw(state, self.size)}
        return {"vector": jnp.concatenate([state.position, state.velocity], axis=1).reshape(-1)}

    def ground_truth(self, state: BallsState) -> dict[str, Array]:
        """Positions and velocities [n, 2], and the kinetic energy for unit masses."""
        energy = 0.5 * jnp.sum(state.velocity**2)
        return {"position": state.position, "velocity": state.velocity, "energy": energy}

    @property
    def can_locate(self) -> bool:
        """Whether balls are told apart by their colours."""
        return self.obs == "image" and self.n <= len(COLORS)

    def locate(self, obs: dict[str, Array]) -> dict[str, Array]:
        """Reads from a picture in 0..1, a dreamt one too, where each ball is: `place` [n, 2], and `share` [n] of it.

        A pixel is a mixture of black and of the one colour that explains it best; mixtures with less than a quarter of
        it count as black. The share is that of a whole ball's area; a ball without any is in the middle of the box.
        """
        picture = obs["image"]
        colors = jnp.array([COLORS[i % len(COLORS)] for i in range(self.n)], jnp.float32)
        along = jnp.tensordot(picture, colors.T, 1) / jnp.sum(colors**2, 1)[None, None]
        part = jnp.clip(along, 0, 1)  # [size, size, n]
        left = jnp.sum((picture[:, :, None] - part[..., None] * colors[None, None]) ** 2, -1)
        own = part * jax.nn.one_hot(jnp.argmin(left, -1), self.n) * (part >= 0.25)
        if self.occluder:
            own *= (draw.box(self.size, OCCLUDER[0], 0.0, OCCLUDER[1], 1.0) == 0)[..., None]
        pixel = (jnp.arange(self.size) + 0.5) / self.size
        pixels = jnp.sum(own, (0, 1))
        middle = lambda axis: jnp.tensordot(pixel, jnp.sum(own, axis), 1) / jnp.maximum(pixels, 1e-6)
        place = jnp.where((pixels > 0)[:, None], jnp.stack([middle(0), middle(1)], 1), 0.5)
        return {"place": place, "share": pixels / (np.pi * (self.radius * self.size) ** 2)}

    def place(self, obs: dict[str, Array], index: Array, where: Array) -> Array:
        """A uint8 picture with ball `index` at `where` [2], and the others where a picture in 0..1 has them."""
        found = self.locate(obs)["place"].at[index].set(where)
        return self._draw(BallsState(found, jnp.zeros_like(found), jnp.int32(0)), self.size)

    def from_vector(self, vector: Array) -> BallsState:
        """The state of an observation of positions and velocities; its time is 0."""
        each = vector.reshape(self.n, 4)
        return BallsState(each[:, :2], each[:, 2:], jnp.int32(0))

    def heuristic(self, state: BallsState, key: Array) -> dict[str, Array]:
        """Steers ball 0 to the middle by a damped spring; ignores the other balls."""
        wish = (0.1 * (0.5 - state.position[0]) - 0.6 * state.velocity[0]) / max(self.force, 1e-6)
        if self.action == "continuous":
            return {"action": jnp.clip(wish, -1, 1)}
        axis = jnp.argmax(jnp.abs(wish))
        push = 1 + 2 * axis + (wish[axis] > 0)
        return {"action": jnp.where(jnp.abs(wish[axis]) > 0.5, push, 0).astype(jnp.int32)}

    def render(self, state: BallsState) -> Array:
        """A uint8 [64, 64, 3] picture."""
        return self._draw(state, 64)

    @property
    def _places(self) -> int:
        return math.ceil(math.sqrt(self.n))

    def _direction(self, action: Array) -> Array:
        if self.action == "continuous":
            return jnp.clip(action.astype(jnp.float32), -1, 1)
        return jnp.array(DIRECTIONS, jnp.float32)[action]

    def _draw(self, state: BallsState, size: int) -> Array:
        picture = draw.canvas(size)
        for i in range(self.n):
            coverage = draw.disc(size, state.position[i], self.radius)
            picture = draw.paint(picture, coverage, COLORS[i % len(COLORS)])
        if self.occluder:
            bar = draw.box(size, OCCLUDER[0], 0.0, OCCLUDER[1], 1.0)
            picture = draw.paint(picture, bar, OCCLUDER_COLOR)
        return draw.to_uint8(picture)


def advance(position: Array, velocity: Array, radius: float, duration: float = 1.0) -> tuple[Array, Array]:
    """Moves [n, 2] balls for `duration`, from contact to contact; returns positions and velocities.

    After 64 + 32 n contacts the rest of the duration is dropped, so the loop ends whatever happens (balls
    wedged between others); energy is kept.
    """
    max_contacts = 64 + 32 * position.shape[0]

    def unfinished(carry):
        _, _, left, contacts = carry
        return (left > 0) & (contacts < max_contacts)

    def to_next_contact(carry):
        position, velocity, left, contacts = carry
        wall, pair = _wall_times(position, velocity, radius), _pair_times(position, velocity, radius)
        soonest = jnp.minimum(jnp.min(wall), jnp.min(pair))
        elapsed = jnp.minimum(soonest, left)
        position = jnp.clip(position + velocity * elapsed, radius, 1 - radius)
        wall_first = jnp.min(wall) <= jnp.min(pair)
        bounced = jnp.where(wall_first, _reflect(velocity, wall), _collide(position, velocity, pair))
        velocity = jnp.where(soonest <= left, bounced, velocity)
        return position, velocity, left - elapsed, contacts + 1

    start = (position, velocity, jnp.float32(duration), jnp.int32(0))
    position, velocity, _, _ = jax.lax.while_loop(unfinished, to_next_contact, start)
    return position, velocity


def _wall_times(position: Array, velocity: Array, radius: float) -> Array:
    """Time until each coordinate [n, 2] meets the wall it moves to."""
    wall = jnp.where(velocity > 0, 1 - radius, radius)
    moving = velocity != 0
    return jnp.where(moving, jnp.maximum((wall - position) / jnp.where(moving, velocity, 1), 0), jnp.inf)


def _pair_times(position: Array, velocity: Array, radius: float) -> Array:
    """Time until each pair [n, n], i < j, touches: the first root of |dp + t dv| = 2 radius; else inf."""
    dp, dv = position[None] - position[:, None], velocity[None] - velocity[:, None]
    a, b, c = jnp.sum(dv * dv, -1), jnp.sum(dp * dv, -1), jnp.sum(dp * dp, -1) - 4 * radius**2
    square = b * b - a * c
    meets = (b < 0) & (square >= 0) & jnp.triu(jnp.ones(a.shape, bool), 1)
    # c / (root - b) is the smaller root without cancellation; below 0 the pair overlaps by rounding: now
    root = jnp.sqrt(jnp.maximum(square, 0))
    return jnp.where(meets, jnp.maximum(c / jnp.where(meets, root - b, 1), 0), jnp.inf)


def _reflect(velocity: Array, times: Array) -> Array:
    """Turns round the coordinate that meets its wall first."""
    flat = velocity.reshape(-1)
    first = jnp.argmin(times)
    return flat.at[first].set(-flat[first]).reshape(velocity.shape)


def _collide(position: Array, velocity: Array, times: Array) -> Array:
    """Exchanges the velocities along the line of centres of the pair that touches first (equal masses)."""
    i, j = jnp.unravel_index(jnp.argmin(times), times.shape)
    apart = position[j] - position[i]
    normal = apart / jnp.maximum(jnp.linalg.norm(apart), 1e-9)
    exchange = jnp.dot(velocity[j] - velocity[i], normal) * normal
    return velocity.at[i].add(exchange).at[j].add(-exchange)
