"""Averages of metrics between log steps, kept on the device, and statistics of training episodes."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamworld.types import TimeStep, Tree


class Metrics:
    """Means of scalar metrics since the last `result`.

    Device arrays are summed on the device in float32, all arrays of one `add` as one vector in one jitted
    program: `add` never waits for a value, `result` fetches one vector per set of keys, and memory does not
    grow with the number of additions. Host numbers are summed in float64.
    """

    def __init__(self) -> None:
        self._host: dict[str, float] = {}
        self._device: dict[tuple[str, ...], Any] = {}  # names -> their sums, [len(names)] float32
        self._restored: dict[
            str, np.float32
        ] = {}  # sums of a restored state whose set of keys has not come again
        self._counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, Any], prefix: str = "") -> None:
        """Adds scalars (floats, numpy or device arrays of shape []) under `prefix` + key."""
        arrays: dict[str, Any] = {}
        for key, value in metrics.items():
            name = prefix + key
            if getattr(value, "shape", ()) != ():
                raise ValueError(f"metric {name} has shape {value.shape}, expects a scalar")
            self._counts[name] = self._counts.get(name, 0) + 1
            if hasattr(value, "addressable_shards"):
                arrays[name] = value
            else:
                self._host[name] = self._host.get(name, 0.0) + float(value)
        if arrays:
            names = tuple(arrays)
            if names not in self._device:
                start = [self._restored.pop(name, np.float32(0)) for name in names]
                self._device[names] = np.asarray(start, np.float32)
            self._device[names] = _accumulate()(self._device[names], list(arrays.values()))

    def result(self) -> dict[str, float]:
        """Means since the last call, sorted by name, and starts anew; waits for the device once."""
        sums = self._device_sums()
        means = {
            name: (self._host.get(name, 0.0) + float(sums.get(name, 0.0))) / count
            for name, count in sorted(self._counts.items())
        }
        self._host, self._device, self._restored, self._counts = {}, {}, {}, {}
        return means

    def state(self) -> dict[str, np.ndarray]:
        """Everything as arrays: a restored object goes on to the same bits."""
        state = {f"device/{name}": np.asarray(value) for name, value in self._device_sums().items()}
        state |= {f"host/{name}": np.asarray(value, np.float64) for name, value in self._host.items()}
        return state | {f"count/{name}": np.asarray(count, np.int64) for name, count in self._counts.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes `state()` back."""
        parts: dict[str, dict[str, np.ndarray]] = {"device": {}, "host": {}, "count": {}}
        for key, value in state.items():
            kind, _, name = key.partition("/")
            parts[kind][name] = np.asarray(value)
        self._device = {}
        self._restored = {name: np.float32(value) for name, value in parts["device"].items()}
        self._host = {name: float(value) for name, value in parts["host"].items()}
        self._counts = {name: int(value) for name, value in parts["count"].items()}

    def _device_sums(self) -> dict[str, np.float32]:
        sums = dict(self._restored)
        if self._device:
            import jax

            for names, vector in jax.device_get(self._device).items():
                for name, value in zip(names, vector, strict=True):
                    sums[name] = sums.get(name, np.float32(0)) + value
        return sums


@functools.cache
def _accumulate() -> Any:
    """The jitted sum; made at first use, so that this module loads no JAX."""
    import jax
    import jax.numpy as jnp

    def accumulate(sums: Tree, values: list[Any]) -> Tree:
        return sums + jnp.stack([value.astype(jnp.float32) for value in values])

    return jax.jit(accumulate)


class EpisodeStats:
    """Running return, length and `log/` values of N environments; one row when an episode ends.

    The row of a reset counts neither in the return nor in the length: a length is a number of actions.
    """

    window = 100

    def __init__(self, num_envs: int) -> None:
        self._return = np.zeros(num_envs, np.float64)
        self._length = np.zeros(num_envs, np.int64)
        self._sums: dict[str, np.ndarray] = {}
        self._recent: deque[float] = deque(maxlen=self.window)
        self.episodes = 0  # finished since the start of the run

    def add(self, step: TimeStep) -> list[dict[str, float]]:
        """Takes the rows of one vector step; returns a row for each episode that ended.

        A row holds env, return, length, and for every `step.log` key `log/<name>` its last value under the same
        key, and under `log/<name>/mean` the mean over the episode's steps.
        """
        started = np.asarray(step.is_first)
        self._return = np.where(started, 0.0, self._return + step.reward)
        self._length = np.where(started, 0, self._length + 1)
        nothing = np.zeros(len(started))
        # A reset clears also what its own row does not log.
        for key in dict.fromkeys((*self._sums, *step.log)):
            value = np.asarray(step.log.get(key, nothing), np.float64)
            self._sums[key] = np.where(started, 0.0, self._sums.get(key, nothing) + value)
        return [self._finish(int(env), step) for env in np.flatnonzero(step.is_last)]

    def add_steps(
        self, reward: np.ndarray, is_first: np.ndarray, is_last: np.ndarray
    ) -> list[tuple[int, dict[str, float]]]:
        """`add` of T vector steps without `log/` values at once, to the same bits: (t, row) per ended episode.

        Arguments are [T, N]; the row after an `is_last` row must be `is_first`.
        """
        episode = np.cumsum(np.insert(is_first, 0, False, 0), 0)  # [1 + T, N]: which one of its environment
        episode += np.cumsum(np.insert(episode[-1, :-1] + 1, 0, 0))
        counted = np.where(is_first, 0, reward)
        # bincount adds one by one, in this order: what was there before, then the rewards of the episode.
        sums = np.bincount(episode.ravel(), np.concatenate([self._return[None], counted]).ravel())
        lengths = np.bincount(episode.ravel(), np.concatenate([self._length[None], ~is_first]).ravel())
        rows = []
        for t, env in np.argwhere(is_last).tolist():
            at = episode[1 + t, env]
            rows.append((t, self._end({"env": env, "return": float(sums[at]), "length": int(lengths[at])})))
        self._return, self._length = sums[episode[-1]], lengths[episode[-1]].astype(np.int64)
        return rows

    def _finish(self, env: int, step: TimeStep) -> dict[str, float]:
        length = int(self._length[env])
        row: dict[str, float] = {"env": env, "return": float(self._return[env]), "length": length}
        for key, sums in self._sums.items():
            name = key if key.startswith("log/") else f"log/{key}"
            if key in step.log:
                row[name] = float(step.log[key][env])
            row[f"{name}/mean"] = float(sums[env]) / max(1, length)
        return self._end(row)

    def _end(self, row: dict[str, float]) -> dict[str, float]:
        self._recent.append(row["return"])
        self.episodes += 1
        return row

    @property
    def last(self) -> float:
        """Return of the last finished episode, nan before the first."""
        return self._recent[-1] if self._recent else float("nan")

    @property
    def mean(self) -> float:
        """Mean return of the last 100 finished episodes, nan before the first."""
        return float(np.mean(self._recent)) if self._recent else float("nan")

    def state(self) -> dict[str, np.ndarray]:
        """Everything as arrays; shapes depend only on the number of environments and the `log/` keys."""
        recent = np.full(self.window, np.nan)
        recent[: len(self._recent)] = self._recent
        state = {"return": self._return.copy(), "length": self._length.copy(), "recent": recent}
        state["episodes"] = np.asarray(self.episodes, np.int64)
        return state | {f"sum/{key}": value.copy() for key, value in self._sums.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes `state()` back."""
        self._return = np.array(state["return"], np.float64)
        self._length = np.array(state["length"], np.int64)
        self._recent.clear()
        self._recent.extend(float(value) for value in state["recent"] if not np.isnan(value))
        self.episodes = int(state["episodes"])
        self._sums = {key[4:]: np.array(value) for key, value in state.items() if key.startswith("sum/")}
