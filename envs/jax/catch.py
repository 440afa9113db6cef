"""Catch: move a paddle under a falling ball (bsuite, Osband et al., 2020, arXiv:1908.03568).

The ball starts in a random column of the top row and falls one row per step; the paddle starts in the middle
of the bottom row. After rows - 1 steps the episode ends, with reward 1 if the paddle is under the ball,
otherwise -1.

Returns with default options: random -0.6 (exact: without looking, one ball in five is caught), optimal 1.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from dreamworld.envs.jax import draw, spaces
from dreamworld.types import JaxStep, Spaces

Array = jax.Array


class CatchState(NamedTuple):
    """Scalars, int32."""

    ball_x: Array
    ball_y: Array
    paddle_x: Array


@dataclasses.dataclass(frozen=True)
class Catch:
    """Actions: 0 left, 1 stay, 2 right. Every episode has rows - 1 steps and ends terminally."""

    obs: str = "vector"
    """vector: the board as [rows * cols] zeros and ones. image: the board drawn, one channel."""
    rows: int = 10
    """Rows of the board."""
    cols: int = 5
    """Columns of the board."""
    size: int = 16
    """Height and width of the image in pixels."""

    random_return: ClassVar[float] = -0.6
    heuristic_return: ClassVar[float] = 1.0
    optimal_return: ClassVar[float] = 1.0
    action_names: ClassVar[tuple[str, ...]] = ("left", "stay", "right")

    def __post_init__(self) -> None:
        spaces.require_choice("jax_catch", "obs", self.obs, ("vector", "image"))
        spaces.require_size("jax_catch", self.size)
        spaces.require_integer("jax_catch", "rows", self.rows, 2, self.size)
        spaces.require_integer("jax_catch", "cols", self.cols, 1, self.size)

    @property
    def obs_space(self) -> Spaces:
        """{"vector": [rows * cols]} or {"image": [size, size, 1]}."""
        if self.obs == "vector":
            return spaces.vector_space(self.rows * self.cols, 0, 1)
        return spaces.image_space(self.size, 1)

    @property
    def act_space(self) -> Spaces:
        """Three classes."""
        return spaces.discrete_space(3)

    def reset(self, key: Array) -> tuple[CatchState, dict[str, Array]]:
        """A ball in a random column."""
        # floor(uniform * cols) costs a quarter of `randint`; uniform is below 1, so this stays on the board
        column = jnp.floor(jax.random.uniform(key) * self.cols).astype(jnp.int32)
        state = CatchState(column, jnp.int32(0), jnp.int32(self.cols // 2))
        return state, self.observe(state)

    def step(self, state: CatchState, action: dict[str, Array], key: Array) -> tuple[CatchState, JaxStep]:
        """Moves the paddle, then drops the ball by one row. Deterministic: `key` is not used."""
        paddle_x = jnp.clip(state.paddle_x + action["action"].astype(jnp.int32) - 1, 0, self.cols - 1)
        state = CatchState(state.ball_x, state.ball_y + 1, paddle_x)
        landed = state.ball_y >= self.rows - 1
        caught = jnp.where(state.ball_x == paddle_x, 1.0, -1.0)
        reward = jnp.where(landed, caught, 0.0).astype(jnp.float32)
        return state, JaxStep(self.observe(state), reward, landed, landed)

    def observe(self, state: CatchState) -> dict[str, Array]:
        """The board as a vector or as an image."""
        if self.obs == "vector":
            return {"vector": self._board(state).astype(jnp.float32)}
        return {"image": self._draw(state, self.size)}

    def ground_truth(self, state: CatchState) -> dict[str, Array]:
        """Cells of the ball and the paddle, int32."""
        return state._asdict()

    def heuristic(self, state: CatchState, key: Array) -> dict[str, Array]:
        """Optimal: moves towards the ball's column."""
        return {"action": jnp.sign(state.ball_x - state.paddle_x).astype(jnp.int32) + 1}

    def render(self, state: CatchState) -> Array:
        """A uint8 [64, 64, 3] picture (larger where the board needs it)."""
        return jnp.repeat(self._draw(state, max(64, self.size)), 3, axis=2)

    def _board(self, state: CatchState) -> Array:
        cell = jnp.arange(self.rows * self.cols, dtype=jnp.int32)
        ball = state.ball_y * self.cols + state.ball_x
        paddle = (self.rows - 1) * self.cols + state.paddle_x
        return (cell == ball) | (cell == paddle)

    def _draw(self, state: CatchState, size: int) -> Array:
        """White cells on a black board with a gray margin, uint8 [size, size, 1]."""
        board = self._board(state).reshape(self.rows, self.cols, 1).astype(jnp.uint8) * 255
        return draw.grid(board, size)
