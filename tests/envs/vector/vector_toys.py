"""Small environments with a known trajectory that can be told to fail."""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from typing import Any

import numpy as np

from dreamworld.config import EnvConfig
from dreamworld.envs import vector
from dreamworld.envs.base import Step
from dreamworld.types import Space


class Counter:
    """Counts its steps; the noise tells the seed. Ends after `length` steps, terminally if `terminal`.

    `fault` names what happens at step `at` of an episode: raise, hang, kill (SIGKILL of the process), shape.
    It happens only while the file `flag` does not exist, which it creates, so that the rebuilt one works; an
    empty `flag` makes it happen always.
    """

    def __init__(self, length=5, terminal=True, fault="", at=2, flag="", size=4, step_s=0.0):
        self.obs_space = {"image": Space((size, size, 3), "uint8"), "noise": Space((), "float32")}
        self.act_space = {"action": Space((2,), "float32", low=-1, high=1)}
        self.length, self.terminal, self.fault, self.at, self.flag = length, terminal, fault, at, flag
        self.size, self.step_s = size, step_s
        self.random = np.random.default_rng()
        self.count = 0
        self.closed = False

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.count = 0
        if self.fault == "reset" and self._strike():
            raise RuntimeError("broken at reset")
        return self._step(0.0, first=True)

    def step(self, action):
        if self.step_s:
            time.sleep(self.step_s)
        self.count += 1
        if self.count == self.at and self.fault not in ("", "reset") and self._strike():
            if self.fault == "raise":
                raise RuntimeError(f"broken at step {self.count}")
            if self.fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "hang":
                time.sleep(1000)
            if self.fault == "shape":
                return Step(
                    {"image": np.zeros((1, 1, 3), np.uint8), "noise": np.zeros((), np.float32)},
                    0.0,
                    False,
                    False,
                    False,
                )
        return self._step(float(action["action"].sum()))

    def _strike(self):
        if not self.flag:
            return True
        try:
            os.close(os.open(self.flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def _step(self, reward, first=False):
        last = self.count >= self.length
        image = np.full((self.size, self.size, 3), self.count, np.uint8)
        obs = {"image": image, "noise": np.array(self.random.uniform(), np.float32)}
        log = {"log/count": float(self.count)} if last else {}
        return Step(obs, reward, first, last, last and self.terminal, log)

    def render(self):
        return np.full((8, 8, 3), self.count, np.uint8)

    def save(self):
        return {
            "count": np.array(self.count),
            "random": np.frombuffer(repr(self.random.bit_generator.state).encode(), np.uint8),
        }

    def restore(self, state):
        import ast

        self.count = int(state["count"])
        self.random.bit_generator.state = ast.literal_eval(state["random"].tobytes().decode())

    def close(self):
        self.closed = True


def make_vector_env(target: Any, config: EnvConfig, *, seed: int, num: int | None = None) -> Any:
    """As the real one, untyped: engines have more than the contract, which type checkers don't know."""
    return vector.make_vector_env(target, config, seed=seed, num=num)


def make(**options):
    """A factory that worker processes can import."""
    return functools.partial(Counter, **options)


def zeros(env):
    """An action for every environment."""
    return {key: space.zeros(env.num_envs) for key, space in env.act_space.items()}


def roll(env, steps, seed=0):
    """Time steps of `steps` random actions after a reset with seed 7."""
    random = np.random.default_rng(seed)
    out = [env.reset(7)]
    for _ in range(steps):
        action = {key: space.sample(random, env.num_envs) for key, space in env.act_space.items()}
        out.append(env.step(action))
    return out


class Modules(Counter):
    """Observes whether its process has loaded JAX."""

    def __init__(self):
        super().__init__()
        self.obs_space = {"jax_loaded": Space((), "int32", classes=2)}

    def _step(self, reward, first=False):
        return Step({"jax_loaded": np.array("jax" in sys.modules, np.int32)}, reward, first, False, False)


class Walker(Counter):
    """A Counter that returns `value` as `where` (a key, "reward" or a flag) in row `at` of an episode."""

    def __init__(self, value, where="reward", at=2, flag=""):
        super().__init__(at=at, flag=flag)
        self.value, self.where = value, where
        self.obs_space = {"noise": Space((), "float32"), "speed": Space((3,), "float32")}

    def _step(self, reward, first=False):
        row = super()._step(reward, first)
        obs = {"noise": row.obs["noise"], "speed": np.array([self.count, 0, 0], np.float32)}
        if self.count == self.at and self._strike():
            if self.where == "reward":
                return Step(obs, self.value, first, False, False)
            if self.where in Step._fields:
                return row._replace(obs=obs, **{self.where: self.value})
            obs[self.where] = self.value
        return row._replace(obs=obs)


class Unbuildable(Counter):
    """Fails when it is built, as an environment with a broken installation does."""

    def __init__(self):
        raise OSError("built wrong")


class Emulator(Counter):
    """One per process, as stable-retro: another one raises until the first is closed."""

    alive = 0

    def __init__(self, **options):
        if Emulator.alive:
            raise RuntimeError("Cannot create multiple emulator instances per process")
        super().__init__(**options)
        self.obs_space = {"noise": self.obs_space["noise"]}
        Emulator.alive += 1

    def _step(self, reward, first=False):
        row = super()._step(reward, first)
        return row._replace(obs={"noise": row.obs["noise"]})

    def close(self):
        if not self.closed:
            Emulator.alive -= 1
        super().close()
