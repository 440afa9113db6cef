"""Rows for replay tests: every value of a row is derived from its environment and step."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from dreamworld.config import ReplayConfig
from dreamworld.replay import Replay
from dreamworld.types import Space

SPACES = {
    "obs/image": Space((16, 16, 3), "uint8"),
    "obs/position": Space((3,), "float32"),
    "action/action": Space((2,), "int32", classes=5),
    "reward": Space((), "float32"),
    "is_first": Space((), "bool"),
    "is_last": Space((), "bool"),
    "is_terminal": Space((), "bool"),
    "latent/deter": Space((160,), "float32"),
    "latent/stoch": Space((4,), "uint8"),
}


def make_rows(step: int, num_envs: int, first=None, last=None) -> dict[str, np.ndarray]:
    """One row per environment; `reward` is step * 1000 + environment."""
    envs = np.arange(num_envs)
    code = (step * 1000 + envs).astype(np.int64)
    rows = {
        "obs/image": ((code[:, None] * 7 + np.arange(768)) // 16 % 256)
        .astype(np.uint8)
        .reshape(-1, 16, 16, 3),
        "obs/position": (code[:, None] + np.array([0.25, 0.5, 0.75])).astype(np.float32),
        "action/action": (code[:, None] % 5 + np.zeros((1, 2), int)).astype(np.int32),
        "reward": code.astype(np.float32),
        "is_first": np.zeros(num_envs, bool) if first is None else np.asarray(first, bool),
        "is_last": np.zeros(num_envs, bool) if last is None else np.asarray(last, bool),
        "is_terminal": np.zeros(num_envs, bool),
    }
    return rows | make_latents(code)


def make_latents(code: np.ndarray) -> dict[str, np.ndarray]:
    """Latents of any leading shape that tell `code`."""
    return {
        "latent/deter": (code[..., None] + np.arange(160) / 256).astype(np.float32),
        "latent/stoch": ((code[..., None] + np.arange(4)) % 16).astype(np.uint8),
    }


def make_replay(num_envs=2, length=5, context=1, capacity=400, seed=0, directory=None, **options) -> Replay:
    settings = {"chunk": 8, "hot_chunks": 1, "min_starts": 1, "online": False} | options
    config = ReplayConfig(capacity_steps=capacity, **settings)
    return Replay(
        SPACES, config, num_envs=num_envs, length=length, context=context, directory=directory, seed=seed
    )


def fill(replay: Replay, steps: int, begin: int = 0, episode: int = 10) -> None:
    """Adds rows of episodes of a fixed length."""
    for step in range(begin, begin + steps):
        first, last = step % episode == 0, step % episode == episode - 1
        num = replay.num_envs
        replay.add(make_rows(step, num, [first] * num, [last] * num))


def all_starts(replay: Replay) -> list[int]:
    """Ids of all valid starts, in the order of chunks."""
    return [(c.stream << 40) | (c.start + i) for c in replay.chunks for i in range(c.valid)]


@pytest.fixture
def kit() -> SimpleNamespace:
    return SimpleNamespace(
        SPACES=SPACES,
        rows=make_rows,
        latents=make_latents,
        replay=make_replay,
        fill=fill,
        starts=all_starts,
    )
