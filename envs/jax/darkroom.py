"""A dark chamber to explore, with or without a noisy television (Burda et al., 2019, arXiv:1808.04355).

The agent sees only the cells within `light` of itself. The goal lies somewhere in the dark: reaching it
earns 1 and ends the episode terminally, the time limit truncates it. What has been seen is dark again once
the agent has left, so searching well takes memory. In the variant `jax_darkroom_noisytv` a television of
three by three cells shows new random pixels every step while it is lit: unpredictable and worthless, a trap
for curiosity. It can be walked over.

Returns with default options: random 0.228 (0.227 with the television), optimal 1. The heuristic knows where
the goal is and earns 1.
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

MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))  # (row, column)
FLOOR = (60, 60, 60)
AGENT = (255, 255, 255)
GOAL = (60, 230, 90)
TV_CELLS = 3
RANDOM, RANDOM_TV = 0.228, 0.227  # mean returns of uniform actions without and with the television


class DarkRoomState(NamedTuple):
    """Places are (row, column) of the grid, row 0 at the top."""

    agent: Array  # [2] int32
    goal: Array  # [2] int32
    seen: Array  # [cells, cells] bool, lit at least once in this episode
    tv: Array  # [pixels, pixels, 3] uint8, what the television shows; zeros without one
    tv_steps: Array  # [] int32, rows so far in which the television was lit
    time: Array  # [] int32, steps taken


@dataclasses.dataclass(frozen=True)
class DarkRoom:
    """Actions: 0 stay, 1 up, 2 down, 3 left, 4 right; walls stop the agent."""

    noisy_tv: bool = False
    """Places the television in the middle of the left wall."""
    cells: int = 15
    """Cells along each side, at least 7."""
    light: int = 2
    """Cells that the agent sees in each direction, diagonals included."""
    time_limit: int = 200
    """Steps until the episode is truncated."""
    size: int = 32
    """Height and width of the image in pixels."""

    heuristic_return: ClassVar[float] = 1.0
    optimal_return: ClassVar[float] = 1.0
    action_names: ClassVar[tuple[str, ...]] = ("no-op", "up", "down", "left", "right")
    inverse_actions: ClassVar[tuple[int, ...]] = (0, 2, 1, 4, 3)  # action a is undone by inverse_actions[a]

    def __post_init__(self) -> None:
        spaces.require_size("jax_darkroom", self.size)
        spaces.require_integer("jax_darkroom", "cells", self.cells, 7, self.size)
        spaces.require_integer("jax_darkroom", "light", self.light, 0, self.cells // 2 - 1)
        spaces.require_integer("jax_darkroom", "time_limit", self.time_limit, 1, 10**9)

    @property
    def random_return(self) -> float:
        """Mean return of uniform actions with the other options at their defaults."""
        return RANDOM_TV if self.noisy_tv else RANDOM

    @property
    def obs_space(self) -> Spaces:
        """{"image": [size, size, 3]}."""
        return spaces.image_space(self.size)

    @property
    def act_space(self) -> Spaces:
        """Five classes."""
        return spaces.discrete_space(5)

    def reset(self, key: Array) -> tuple[DarkRoomState, dict[str, Array]]:
        """The agent in the middle, the goal on a random cell that is still dark."""
        goal_key, tv_key = jax.random.split(key)
        choices = jnp.asarray(self._goal_cells(), jnp.int32)
        agent = jnp.full(2, self.cells // 2, jnp.int32)
        goal = choices[jnp.floor(jax.random.uniform(goal_key) * len(choices)).astype(jnp.int32)]
        unseen = jnp.zeros((self.cells, self.cells), bool)
        state = DarkRoomState(agent, goal, unseen, self._static(tv_key), jnp.int32(0), jnp.int32(0))
        state = self._look(state)
        return state, self.observe(state)

    def step(
        self, state: DarkRoomState, action: dict[str, Array], key: Array
    ) -> tuple[DarkRoomState, JaxStep]:
        """Moves the agent; `key` draws what the television shows."""
        agent = jnp.clip(state.agent + jnp.array(MOVES, jnp.int32)[action["action"]], 0, self.cells - 1)
        state = self._look(state._replace(agent=agent, tv=self._static(key), time=state.time + 1))
        found = jnp.all(agent == state.goal)
        is_last = found | (state.time >= self.time_limit)
        return state, JaxStep(self.observe(state), found.astype(jnp.float32), is_last, found)

    def observe(self, state: DarkRoomState) -> dict[str, Array]:
        """White agent, green goal and gray floor where it is lit, black elsewhere."""
        return {"image": self._draw(state)}

    def ground_truth(self, state: DarkRoomState) -> dict[str, Array]:
        """Places, cells seen so far, their share (`coverage`), and rows in which the television was lit."""
        return {
            "agent": state.agent,
            "goal": state.goal,
            "seen": state.seen,
            "coverage": jnp.mean(state.seen, dtype=jnp.float32),
            "tv_steps": state.tv_steps,
        }

    def heuristic(self, state: DarkRoomState, key: Array) -> dict[str, Array]:
        """Walks to the goal, which it knows, rows first."""
        rows, cols = state.goal - state.agent
        vertical = jnp.where(rows < 0, 1, 2)
        horizontal = jnp.where(cols < 0, 3, 4)
        action = jnp.where(rows != 0, vertical, jnp.where(cols != 0, horizontal, 0))
        return {"action": action.astype(jnp.int32)}

    def render(self, state: DarkRoomState) -> Array:
        """The observation, enlarged to at least 64 pixels."""
        times = math.ceil(64 / self.size)
        return jnp.repeat(jnp.repeat(self._draw(state), times, axis=0), times, axis=1)

    @property
    def _cell_pixels(self) -> int:
        return self.size // self.cells

    @property
    def _tv_cells(self) -> tuple[slice, slice]:
        top = (self.cells - TV_CELLS) // 2
        return slice(top, top + TV_CELLS), slice(0, TV_CELLS)

    def _goal_cells(self) -> np.ndarray:
        """Cells [M, 2] that are dark at the start and free of the television."""
        middle = np.arange(self.cells) - self.cells // 2
        free = np.maximum(abs(middle)[:, None], abs(middle)[None]) > self.light
        if self.noisy_tv:
            free[self._tv_cells] = False
        return np.argwhere(free)

    def _lit(self, state: DarkRoomState) -> Array:
        """Cells within the light, [cells, cells] bool."""
        cell = jnp.arange(self.cells)
        near = jnp.abs(cell[None] - state.agent[:, None]) <= self.light
        return near[0][:, None] & near[1][None]

    def _look(self, state: DarkRoomState) -> DarkRoomState:
        """Books what is lit now."""
        lit = self._lit(state)
        tv_steps = state.tv_steps
        if self.noisy_tv:
            tv_steps = tv_steps + jnp.any(lit[self._tv_cells]).astype(jnp.int32)
        return state._replace(seen=state.seen | lit, tv_steps=tv_steps)

    def _static(self, key: Array) -> Array:
        """Random pixels for the television."""
        shape = (TV_CELLS * self._cell_pixels, TV_CELLS * self._cell_pixels, 3)
        return jax.random.bits(key, shape, jnp.uint8) if self.noisy_tv else jnp.zeros(shape, jnp.uint8)

    def _draw(self, state: DarkRoomState) -> Array:
        lit = self._lit(state)
        cells = lit[:, :, None] * jnp.array(FLOOR, jnp.uint8)[None, None]
        goal_color = lit[state.goal[0], state.goal[1]] * jnp.array(GOAL, jnp.uint8)
        cells = cells.at[state.goal[0], state.goal[1]].set(goal_color)
        cells = cells.at[state.agent[0], state.agent[1]].set(jnp.array(AGENT, jnp.uint8))
        picture = draw.grid(cells, self.size)
        return self._draw_tv(picture, state, lit) if self.noisy_tv else picture

    def _draw_tv(self, picture: Array, state: DarkRoomState, lit: Array) -> Array:
        """Shows the screen where it is lit, behind the agent."""
        shown = lit.at[state.agent[0], state.agent[1]].set(False)[self._tv_cells]
        shown = jnp.repeat(jnp.repeat(shown, self._cell_pixels, axis=0), self._cell_pixels, axis=1)
        margin = (self.size - self._cell_pixels * self.cells) // 2
        top, left = (margin + cells.start * self._cell_pixels for cells in self._tv_cells)
        area = slice(top, top + shown.shape[0]), slice(left, left + shown.shape[1])
        return picture.at[area].set(jnp.where(shown[:, :, None], state.tv, picture[area]))
