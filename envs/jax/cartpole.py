"""CartPole: balance a pole on a cart (Barto, Sutton & Anderson, 1983), as gymnasium's CartPole-v1.

The equations, constants, reward (1 per step) and limits (|x| > 2.4 m or |angle| > 12 degrees ends the
episode, 500 steps truncate it) are gymnasium's; the arithmetic is float32 where gymnasium's is float64.

Returns with default options: random 22.2, heuristic and optimal 500.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from dreamworld.envs.jax import draw, spaces
from dreamworld.types import JaxStep, Spaces

Array = jax.Array

GRAVITY = 9.8
MASS_CART = 1.0
MASS_POLE = 0.1
MASS_TOTAL = MASS_CART + MASS_POLE
HALF_LENGTH = 0.5  # m
FORCE = 10.0  # N
STEP_S = 0.02
MAX_X = 2.4  # m
MAX_ANGLE = 12 * 2 * 3.141592653589793 / 360  # rad


class CartPoleState(NamedTuple):
    """`physics` is x (m), its velocity, the angle (rad, 0 upright, positive to the right), its velocity."""

    physics: Array  # [4] float32
    time: Array  # [] int32, steps taken


@dataclasses.dataclass(frozen=True)
class CartPole:
    """Actions: 0 pushes left, 1 pushes right."""

    obs: str = "vector"
    """vector: the four physical quantities. image: a picture, in which speeds are not visible."""
    time_limit: int = 500
    """Steps until the episode is truncated."""
    size: int = 32
    """Height and width of the image in pixels."""

    random_return: ClassVar[float] = 22.2
    heuristic_return: ClassVar[float] = 500.0
    optimal_return: ClassVar[float] = 500.0
    action_names: ClassVar[tuple[str, ...]] = ("left", "right")

    def __post_init__(self) -> None:
        spaces.require_choice("jax_cartpole", "obs", self.obs, ("vector", "image"))
        spaces.require_integer("jax_cartpole", "time_limit", self.time_limit, 1, 10**9)
        spaces.require_size("jax_cartpole", self.size)

    @property
    def obs_space(self) -> Spaces:
        """{"vector": [4]} or {"image": [size, size, 3]}."""
        return spaces.vector_space(4) if self.obs == "vector" else spaces.image_space(self.size)

    @property
    def act_space(self) -> Spaces:
        """Two classes."""
        return spaces.discrete_space(2)

    def reset(self, key: Array) -> tuple[CartPoleState, dict[str, Array]]:
        """All four quantities uniform in [-0.05, 0.05]."""
        physics = jax.random.uniform(key, (4,), jnp.float32, -0.05, 0.05)
        state = CartPoleState(physics, jnp.int32(0))
        return state, self.observe(state)

    def step(
        self, state: CartPoleState, action: dict[str, Array], key: Array
    ) -> tuple[CartPoleState, JaxStep]:
        """One Euler step of 20 ms. Deterministic: `key` is not used."""
        force = jnp.where(action["action"] == 1, FORCE, -FORCE)
        state = CartPoleState(_integrate(state.physics, force), state.time + 1)
        fallen = (jnp.abs(state.physics[0]) > MAX_X) | (jnp.abs(state.physics[2]) > MAX_ANGLE)
        is_last = fallen | (state.time >= self.time_limit)
        return state, JaxStep(self.observe(state), jnp.float32(1), is_last, fallen)

    def observe(self, state: CartPoleState) -> dict[str, Array]:
        """The four quantities or a picture."""
        if self.obs == "vector":
            return {"vector": state.physics}
        return {"image": _draw(state.physics, self.size)}

    def ground_truth(self, state: CartPoleState) -> dict[str, Array]:
        """Position, angle and their velocities, float32 scalars."""
        x, x_dot, angle, angle_dot = state.physics
        return {"x": x, "x_dot": x_dot, "angle": angle, "angle_dot": angle_dot}

    def from_vector(self, vector: Array) -> CartPoleState:
        """The state of an observation of the four quantities; its time is 0."""
        return CartPoleState(vector, jnp.int32(0))

    def heuristic(self, state: CartPoleState, key: Array) -> dict[str, Array]:
        """A linear controller that balances until the time limit."""
        x, x_dot, angle, angle_dot = state.physics
        return {"action": (0.1 * x + 0.3 * x_dot + 3.0 * angle + angle_dot > 0).astype(jnp.int32)}

    def render(self, state: CartPoleState) -> Array:
        """A uint8 [64, 64, 3] picture."""
        return _draw(state.physics, 64)


def _integrate(physics: Array, force: Array) -> Array:
    """Explicit Euler: positions advance by the old velocities, as gymnasium's default integrator."""
    _, x_dot, angle, angle_dot = physics
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    push = (force + MASS_POLE * HALF_LENGTH * angle_dot**2 * sin) / MASS_TOTAL
    angle_acc = (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4.0 / 3.0 - MASS_POLE * cos**2 / MASS_TOTAL))
    x_acc = push - MASS_POLE * HALF_LENGTH * angle_acc * cos / MASS_TOTAL
    change = jnp.stack([x_dot, x_acc, angle_dot, angle_acc])
    return physics + STEP_S * change


def _draw(physics: Array, size: int) -> Array:
    """Track, cart and pole; the track spans the allowed positions."""
    # the pole is drawn 0.45 pictures long whatever its length in metres: its angle has to be visible
    hinge = jnp.stack([0.5 + 0.4 * physics[0] / MAX_X, jnp.float32(0.75)])
    tip = hinge + 0.45 * jnp.stack([jnp.sin(physics[2]), -jnp.cos(physics[2])])
    picture = draw.paint(draw.canvas(size), draw.box(size, 0.0, 0.83, 1.0, 0.86), (0.4, 0.4, 0.4))
    cart = draw.box(size, hinge[0] - 0.1, 0.72, hinge[0] + 0.1, 0.83)
    picture = draw.paint(picture, cart, (0.3, 0.5, 1.0))
    return draw.to_uint8(draw.paint(picture, draw.line(size, hinge, tip, 0.05), (1.0, 0.7, 0.2)))
