"""Two rooms: walk to a goal through the door of a wall.

The unit square is divided by a vertical wall with one door. Agent and goal start anywhere, in one room or
in two. Reaching the goal earns 1 and ends the episode terminally; the time limit truncates it. The agent is
a disc that slides along walls: each step moves it first along x, then along y, each move up to where it
touches.

Returns with default options: random 0.211, heuristic and optimal 1.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from dreamworld.envs.jax import draw, spaces
from dreamworld.types import JaxStep, Spaces

Array = jax.Array

RADIUS = 0.04  # of the agent
WALL = 0.06  # thickness
BAND = WALL / 2 + RADIUS  # the agent's centre is kept this far from the middle of the wall


class TwoRoomState(NamedTuple):
    """Points are (x, y) in the unit square, y down."""

    agent: Array  # [2] float32
    goal: Array  # [2] float32
    door: Array  # [] float32, y of the middle of the door
    time: Array  # [] int32, steps taken


@dataclasses.dataclass(frozen=True)
class TwoRoom:
    """Actions: a move in [-1, 1] on each axis, times `stride`."""

    obs: str = "image"
    """image: agent red, goal green, walls gray. vector: agent x, y, goal x, y, door y."""
    other_room: bool = False
    """The goal is always in the room where the agent is not."""
    random_door: bool = True
    """Draws the door's place per episode; otherwise it is in the middle."""
    door_width: float = 0.24
    """Width of the door, share of the square."""
    stride: float = 0.06
    """Longest move per axis and step."""
    reach: float = 0.08
    """Distance to the goal that counts as reached."""
    time_limit: int = 100
    """Steps until the episode is truncated."""
    size: int = 32
    """Height and width of the image in pixels."""

    random_return: ClassVar[float] = 0.211
    heuristic_return: ClassVar[float] = 1.0
    optimal_return: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        spaces.require_choice("jax_tworoom", "obs", self.obs, ("image", "vector"))
        spaces.require_size("jax_tworoom", self.size)
        spaces.require_integer("jax_tworoom", "time_limit", self.time_limit, 1, 10**9)
        spaces.require_range("jax_tworoom", "door_width", self.door_width, 3 * RADIUS, 1)
        spaces.require_range("jax_tworoom", "stride", self.stride, 0.001, 1)
        spaces.require_range("jax_tworoom", "reach", self.reach, 0.01, 0.5)

    @property
    def obs_space(self) -> Spaces:
        """{"image": [size, size, 3]} or {"vector": [5]}."""
        return spaces.image_space(self.size) if self.obs == "image" else spaces.vector_space(5, 0, 1)

    @property
    def act_space(self) -> Spaces:
        """Two numbers."""
        return spaces.box_space(2)

    def reset(self, key: Array) -> tuple[TwoRoomState, dict[str, Array]]:
        """Agent, goal and door at random."""
        draws = jax.random.uniform(key, (7,))  # one draw for everything: each call costs a compilation
        depth = RADIUS + (0.5 - BAND - RADIUS) * draws[0:2]
        y = RADIUS + (1 - 2 * RADIUS) * draws[2:4]
        right = draws[4:6] < 0.5
        if self.other_room:
            right = jnp.stack([right[0], ~right[0]])
        x = jnp.where(right, 1 - depth, depth)
        door = jnp.float32(0.5)
        if self.random_door:
            door = self.door_width / 2 + (1 - self.door_width) * draws[6]
        places = jnp.stack([x, y], axis=1)
        state = TwoRoomState(places[0], places[1], door, jnp.int32(0))
        return state, self.observe(state)

    def step(self, state: TwoRoomState, action: dict[str, Array], key: Array) -> tuple[TwoRoomState, JaxStep]:
        """Moves the agent. Deterministic: `key` is not used."""
        move = self.stride * jnp.clip(action["action"].astype(jnp.float32), -1, 1)
        state = state._replace(agent=self._slide(state.agent, move, state.door), time=state.time + 1)
        reached = jnp.linalg.norm(state.agent - state.goal) <= self.reach
        is_last = reached | (state.time >= self.time_limit)
        return state, JaxStep(self.observe(state), reached.astype(jnp.float32), is_last, reached)

    def observe(self, state: TwoRoomState) -> dict[str, Array]:
        """A picture from above, or the five numbers."""
        if self.obs == "image":
            return {"image": self._draw(state, self.size)}
        return {"vector": jnp.concatenate([state.agent, state.goal, state.door[None]])}

    def ground_truth(self, state: TwoRoomState) -> dict[str, Array]:
        """Agent and goal [2], the door's y."""
        return {"agent": state.agent, "goal": state.goal, "door": state.door}

    def heuristic(self, state: TwoRoomState, key: Array) -> dict[str, Array]:
        """Walks straight to the goal, or by way of the door's two sides."""
        (x, y), towards = state.agent, jnp.sign(state.goal[0] - 0.5)
        across = (x - 0.5) * towards < 0  # the wall's middle is between agent and goal
        clear = BAND + 0.01
        aligned = jnp.abs(y - state.door) < self.door_width / 2 - RADIUS
        before = jnp.stack([0.5 - towards * clear, state.door])
        behind = jnp.stack([0.5 + towards * clear, state.door])
        target = jnp.where(across, jnp.where(aligned, behind, before), state.goal)
        return {"action": jnp.clip((target - state.agent) / self.stride, -1, 1)}

    def render(self, state: TwoRoomState) -> Array:
        """A uint8 [64, 64, 3] picture."""
        return self._draw(state, 64)

    def _slide(self, agent: Array, move: Array, door: Array) -> Array:
        """Moves along x, then y, each up to the first wall."""
        half_door = self.door_width / 2 - RADIUS
        left, right = 0.5 - BAND, 0.5 + BAND
        blocked = jnp.abs(agent[1] - door) > half_door
        x = agent[0] + move[0]
        # from inside the doorway (neither <= left nor >= right) both ways are free
        x = jnp.where(blocked & (agent[0] <= left), jnp.minimum(x, left), x)
        x = jnp.where(blocked & (agent[0] >= right), jnp.maximum(x, right), x)
        x = jnp.clip(x, RADIUS, 1 - RADIUS)
        y = jnp.clip(agent[1] + move[1], RADIUS, 1 - RADIUS)
        doorway = (x > left) & (x < right)
        return jnp.stack([x, jnp.where(doorway, jnp.clip(y, door - half_door, door + half_door), y)])

    def _draw(self, state: TwoRoomState, size: int) -> Array:
        picture, gray = draw.canvas(size), (0.5, 0.5, 0.5)
        left, right, half = 0.5 - WALL / 2, 0.5 + WALL / 2, self.door_width / 2
        picture = draw.paint(picture, draw.box(size, left, 0.0, right, state.door - half), gray)
        picture = draw.paint(picture, draw.box(size, left, state.door + half, right, 1.0), gray)
        picture = draw.paint(picture, draw.disc(size, state.goal, RADIUS), (0.2, 0.9, 0.3))
        return draw.to_uint8(draw.paint(picture, draw.disc(size, state.agent, RADIUS), (1.0, 0.25, 0.2)))
