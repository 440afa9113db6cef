"""Pictures of an episode for people: taken within a share of the evaluation's time, and never the end of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from dreamworld.frames import as_picture, fit
from dreamworld.types import TimeStep, VectorEnv

MAX_FRAMES = 1000
MAX_BYTES = 512 << 20  # of all frames
SHARE = 0.25  # of an evaluation's time that may go into rendering


class Film:
    """The first episode of the first environment of an evaluation, one frame a step.

    Rendering may take far longer than playing. Once it has taken `SHARE` of the time so far, the picture before
    stands for the next steps, so that the video runs at the episode's own speed. What is played is the same with
    and without a film. When no picture can be had, `problem` says why and nothing more is asked for.
    """

    def __init__(self, env: VectorEnv, clock: Callable[[], float] = time.perf_counter):
        self.problem = ""
        self._env, self._clock = env, clock
        self._frames: list[np.ndarray] = []
        self._began = clock()
        self._spent_s = 0.0  # without the first picture, which starts a renderer
        self._over = False

    def see(self, step: TimeStep) -> None:
        """Takes the picture of the current rows, until the episode or the film is over."""
        if self._over:
            return
        try:
            frame = self._picture(step)
        except Exception as error:  # of the environment's own code, or memory
            self._stop(f"{type(error).__name__}: {error}")
            return
        if frame is None:
            why = getattr(self._env, "no_picture", None)  # foreign vector environments can't tell
            self._stop((why and why()) or "this environment gives no picture")
            return
        self._frames.append(frame)
        full = len(self._frames) >= min(MAX_FRAMES, MAX_BYTES // frame.nbytes)
        self._over = full or bool(step.is_last[0])

    def develop(self) -> np.ndarray | None:
        """uint8 [T, H, W, 3], or None."""
        try:
            return np.stack(self._frames) if self._frames else None
        except MemoryError as error:
            self._stop(f"MemoryError: {error}")
            return None

    def _stop(self, problem: str) -> None:
        self._over, self.problem = True, " ".join(problem.split())

    def _picture(self, step: TimeStep) -> np.ndarray | None:
        """The first image observation, or what the environment renders."""
        for key in sorted(step.obs):
            if self._env.obs_space[key].is_image:
                return as_picture(step.obs[key][0])
        if self._frames and not self._may_render():
            return self._frames[-1]
        began = self._clock()
        rendered = self._env.render(0)
        frame = None if rendered is None else as_picture(rendered)
        if self._frames:
            self._spent_s += self._clock() - began
            frame = None if frame is None else fit(frame, self._frames[0].shape)
        else:
            self._began += self._clock() - began
        return frame

    def _may_render(self) -> bool:
        return self._spent_s <= SHARE * (self._clock() - self._began)
