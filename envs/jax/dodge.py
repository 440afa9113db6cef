"""Dodge: survive under falling objects.

The player moves along the bottom row of a grid while objects fall by one row per step; a new row appears at
the top every step. Each survived step earns 1, a hit ends the episode terminally with reward 0, and the
time limit truncates it. A gap that the player can reach in time runs through the rows: every episode can be
survived.

Returns with default options: random 9.99, heuristic 189, optimal 200 (by following the hidden gap).
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from dreamworld.envs.jax import draw, spaces
from dreamworld.types import JaxStep, Spaces

Array = jax.Array

OBJECT = (230, 60, 60)
PLAYER = (80, 220, 120)


class DodgeState(NamedTuple):
    """Row 0 is the top; `gap` is a free column of each row, at most 1 away from the next row's."""

    objects: Array  # [rows, cols] bool
    gap: Array  # [rows] int32
    player: Array  # [] int32, column in the bottom row
    time: Array  # [] int32, steps taken


@dataclasses.dataclass(frozen=True)
class Dodge:
    """Actions: 0 left, 1 stay, 2 right; the player moves first, then everything falls."""

    rows: int = 8
    """Rows of the grid: the player sees rows - 1 steps ahead."""
    cols: int = 8
    """Columns of the grid."""
    density: float = 0.3
    """Share of a row's cells, other than its gap, that are objects."""
    time_limit: int = 200
    """Steps until the episode is truncated."""
    size: int = 32
    """Height and width of the image in pixels."""

    random_return: ClassVar[float] = 9.99
    heuristic_return: ClassVar[float] = 189.0
    optimal_return: ClassVar[float] = 200.0
    action_names: ClassVar[tuple[str, ...]] = ("left", "stay", "right")

    def __post_init__(self) -> None:
        spaces.require_size("jax_dodge", self.size)
        spaces.require_integer("jax_dodge", "rows", self.rows, 2, self.size)
        spaces.require_integer("jax_dodge", "cols", self.cols, 2, self.size)
        spaces.require_range("jax_dodge", "density", self.density, 0, 1)
        spaces.require_integer("jax_dodge", "time_limit", self.time_limit, 1, 10**9)

    @property
    def obs_space(self) -> Spaces:
        """{"image": [size, size, 3]}."""
        return spaces.image_space(self.size)

    @property
    def act_space(self) -> Spaces:
        """Three classes."""
        return spaces.discrete_space(3)

    def reset(self, key: Array) -> tuple[DodgeState, dict[str, Array]]:
        """An empty grid with the player in the middle: every episode begins alike."""
        middle = jnp.int32(self.cols // 2)
        objects = jnp.zeros((self.rows, self.cols), bool)
        state = DodgeState(objects, jnp.full(self.rows, middle), middle, jnp.int32(0))
        return state, self.observe(state)

    def step(self, state: DodgeState, action: dict[str, Array], key: Array) -> tuple[DodgeState, JaxStep]:
        """Moves the player, then drops everything by one row."""
        player = jnp.clip(state.player + action["action"].astype(jnp.int32) - 1, 0, self.cols - 1)
        top, gap = self._new_row(state.gap[0], key)
        objects = jnp.concatenate([top[None], state.objects[:-1]])
        gaps = jnp.concatenate([gap[None], state.gap[:-1]])
        state = DodgeState(objects, gaps, player, state.time + 1)
        hit = objects[-1, player]
        is_last = hit | (state.time >= self.time_limit)
        reward = jnp.where(hit, 0.0, 1.0).astype(jnp.float32)
        return state, JaxStep(self.observe(state), reward, is_last, hit)

    def observe(self, state: DodgeState) -> dict[str, Array]:
        """Red objects and a green player on black."""
        return {"image": self._draw(state, self.size)}

    def ground_truth(self, state: DodgeState) -> dict[str, Array]:
        """Objects [rows, cols] bool, gaps [rows] and the player's column."""
        return {"objects": state.objects, "gap": state.gap, "player": state.player}

    def heuristic(self, state: DodgeState, key: Array) -> dict[str, Array]:
        """Plans over the visible rows, not the hidden gaps: the move that survives longest, else stays."""
        # value[x]: rows survived from column x on, by dynamic programming from the top row downwards
        value = jnp.zeros(self.cols, jnp.int32)
        for row in range(self.rows - 1):
            value = jnp.where(state.objects[row], 0, 1 + jnp.max(self._neighbours(value), axis=0))
        reachable = self._neighbours(value)[:, state.player]
        return {"action": jnp.argmax(2 * reachable + jnp.array([0, 1, 0])).astype(jnp.int32)}

    def render(self, state: DodgeState) -> Array:
        """A uint8 [64, 64, 3] picture (larger where `size` is)."""
        return self._draw(state, max(64, self.size))

    def _new_row(self, gap: Array, key: Array) -> tuple[Array, Array]:
        """The next top row, and its gap at most one column from the last."""
        draws = jax.random.uniform(key, (self.cols + 1,))
        gap = jnp.clip(gap + jnp.floor(3 * draws[0]).astype(jnp.int32) - 1, 0, self.cols - 1)
        return (draws[1:] < self.density) & (jnp.arange(self.cols) != gap), gap

    def _neighbours(self, value: Array) -> Array:
        """Values one column to the left, here, and to the right, [3, cols]; walls hold the player back."""
        return jnp.stack([jnp.r_[value[:1], value[:-1]], value, jnp.r_[value[1:], value[-1:]]])

    def _draw(self, state: DodgeState, size: int) -> Array:
        cells = state.objects[:, :, None] * jnp.array(OBJECT, jnp.uint8)[None, None]
        return draw.grid(cells.at[-1, state.player].set(jnp.array(PLAYER, jnp.uint8)), size)
