"""Atari on the C++ threads of `ale_py.vector_env.AtariVectorEnv`, with every option set."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from dreamworld.config import EnvConfig
from dreamworld.envs.adapters.atari import ALIASES, vector_options
from dreamworld.envs.factory import make_env
from dreamworld.envs.images import resize_bilinear, to_gray
from dreamworld.envs.vector.common import check_action, env_seed
from dreamworld.errors import UserError
from dreamworld.spaces import Described
from dreamworld.types import TimeStep

SCREEN = (210, 160)
PREFIXES = ("atari100k_", "atari_")


class AtariThreads(Described):
    """`VectorEnv` of one Atari game, stepped by C++ threads.

    Resize "area" is done by them, too, and gives the bytes of the plain environment.

    Resize "pillow", as published, takes whole screens from them and shrinks these in threads of our own:
    Pillow releases the interpreter lock while it resizes (ale_py's `act` does not, so a pool of single
    emulators would run one at a time). It gives the bytes of the plain environment but for one thing: the C++
    code leaves out the frame in which a game ends, so the picture of a terminal row may be a frame older.
    Hence `auto` takes worker processes for it.

    A failure inside the C++ code is raised as it is: it would be a bug of the emulator.
    """

    engine = "atari"
    failures = 0

    def __init__(self, name: str, config: EnvConfig, num: int, *, seed: int = 0, reason: str = ""):
        plain = make_env(
            name, config
        )  # says what is wrong with the name or the options, and knows the spaces
        self.obs_space, self.act_space = dict(plain.obs_space), dict(plain.act_space)
        plain.close()
        self.num_envs, self.engine_reason = num, reason
        self._config, self._seed = config, seed
        threads = min(config.workers or os.cpu_count() or 1, num)
        self._env: Any = make_threads(name, config, num)
        self._pool = ThreadPoolExecutor(threads, "resize") if config.atari.resize == "pillow" else None
        self._parts = np.array_split(np.arange(num), threads)
        self._ended: np.ndarray | None = None  # is_last of the last rows; None before the first
        self._sent = False
        self._image: np.ndarray | None = None

    def reset(self, seed: int) -> TimeStep:
        """See `VectorEnv.reset`."""
        if self._sent:
            self.recv()
        self._seed = seed
        seeds = np.array([env_seed(seed, index) for index in range(self.num_envs)], np.int32)
        image, _ = self._env.reset(seed=seeds)
        none = np.zeros(self.num_envs, bool)
        return self._finish(
            image, np.zeros(self.num_envs, np.float32), np.ones(self.num_envs, bool), none, none.copy()
        )

    def step(self, action: dict[str, np.ndarray]) -> TimeStep:
        """See `VectorEnv.step`."""
        self.send(action)
        return self.recv()

    def send(self, action: dict[str, np.ndarray]) -> None:
        """Starts a step."""
        if self._sent:
            raise RuntimeError("send called twice without recv")
        if self._ended is None:
            self.reset(self._seed)
        ((key, space),) = self.act_space.items()
        chosen = check_action(action, self.act_space, self.num_envs)[key]
        if chosen.min() < 0 or chosen.max() >= (space.classes or 0):
            raise UserError(f"action {key!r} is outside [0, {space.classes}): {chosen.tolist()}")
        self._env.send(chosen)
        self._sent = True

    def recv(self) -> TimeStep:
        """Waits for the step that `send` started."""
        if not self._sent or self._ended is None:
            raise RuntimeError("recv called without send")
        image, reward, terminal, truncated, _ = self._env.recv()
        self._sent = False
        return self._finish(image, reward.astype(np.float32), self._ended, terminal | truncated, terminal)

    def _finish(self, image, reward, first, last, terminal) -> TimeStep:
        self._ended = last
        self._image = self._resize(image[:, 0])
        return TimeStep({"image": self._image}, reward, first.copy(), last, terminal)

    def _resize(self, screens: np.ndarray) -> np.ndarray:
        """Frames [N, ...] as they come to images [N, height, width, channels]."""
        if self._pool is None:
            return screens.reshape(self.num_envs, *self.obs_space["image"].shape)
        size = self._config.size
        out = np.empty((self.num_envs, *size, 3), np.uint8)

        def shrink(part: np.ndarray) -> None:
            for index in part:
                out[index] = resize_bilinear(screens[index], size)

        list(self._pool.map(shrink, self._parts))
        return to_gray(out) if self._config.atari.gray else out

    def save(self) -> None:
        """None: the C++ environments can't save their state."""
        return None

    def restore(self, state: dict[str, np.ndarray]) -> TimeStep:
        """Raises UserError: there is nothing that `save` could have saved."""
        raise UserError("the atari engine can't restore a state; env.engine process can")

    def render(self, index: int = 0) -> np.ndarray | None:
        """The agent's own image, enlarged: the threads keep no other."""
        if self._image is None:
            return None
        image = np.broadcast_to(self._image[index], (*self._config.size, 3))
        scale = max(1, SCREEN[0] // self._config.size[0])
        return image.repeat(scale, 0).repeat(scale, 1)

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown()
        self._env = None


def make_threads(name: str, config: EnvConfig, num: int) -> Any:
    """ale_py's vector environment with every option set."""
    from ale_py.vector_env import AtariVectorEnv

    rest = next(name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix))
    options = vector_options(ALIASES.get(rest, rest), config.size, config.atari)
    options["max_num_frames_per_episode"] = config.atari.max_frames
    if config.atari.resize == "pillow":
        options |= {"img_height": SCREEN[0], "img_width": SCREEN[1], "grayscale": False}
    return AtariVectorEnv(
        num_envs=num,
        num_threads=min(config.workers or os.cpu_count() or 1, num),
        batch_size=num,
        thread_affinity_offset=-1,
        autoreset_mode="NextStep",
        **options,
    )
