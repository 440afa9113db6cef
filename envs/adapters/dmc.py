"""DeepMind Control Suite (Tassa et al., 2018, arXiv:1801.00690), proprioceptive, from pixels, or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamworld.config import DMCConfig
from dreamworld.envs.adapters.dm import dm_step, refuse_options
from dreamworld.envs.adapters.specs import gym_space_of_spec
from dreamworld.envs.base import Step, Unsaved
from dreamworld.envs.names import unknown
from dreamworld.envs.render import choose_backend
from dreamworld.envs.spaces import make_act_codec, make_obs_codec
from dreamworld.errors import UserError
from dreamworld.types import Space

if TYPE_CHECKING:
    import gymnasium

ALIASES = {"cup": "ball_in_cup"}
CAMERAS = {"quadruped": 2}  # the others use camera 0


def parse_task(name: str) -> tuple[str, str]:
    """("ball_in_cup", "catch") of "ball_in_cup_catch" or "cup_catch": the longest domain that fits."""
    from dm_control import suite

    tasks: dict[str, Any] = suite.TASKS_BY_DOMAIN
    candidates: list[str] = [*tasks, *ALIASES]
    for domain in sorted(candidates, key=len, reverse=True):
        if name.startswith(domain + "_"):
            real, task = ALIASES.get(domain, domain), name[len(domain) + 1 :]
            if task in tasks[real]:
                return real, task
    raise unknown("task", f"dmc_{name}", [f"dmc_{known}" for known in task_names()])


def task_names() -> list[str]:
    """Every "<domain>_<task>"."""
    from dm_control import suite

    return [f"{domain}_{task}" for domain, task in suite.ALL_TASKS]


class DMCEnv(Unsaved):
    """One task. Rewards of `repeat` control steps are summed; only the last of them is rendered."""

    takes_options = False

    def __init__(
        self, name: str, size: tuple[int, int], repeat: int, config: DMCConfig, own_limit: bool = True
    ):
        choose_backend(pixels=config.obs != "proprio")
        from dm_control import suite

        domain, task = parse_task(name)
        # Our own handle on the task's random state: reseeding it needs no rebuild. (The dynamics of lqr are
        # drawn once, here, so that they are the same in all parallel environments.)
        self._random = np.random.RandomState(0)
        options: dict[str, Any] = {"random": self._random}
        if not own_limit:
            options["time_limit"] = float("inf")
        self._env = suite.load(domain, task, task_kwargs=options)
        self._size, self._repeat = size, repeat
        self._camera = CAMERAS.get(domain, 0) if config.camera == -1 else config.camera
        self._check_camera(name)
        if config.quality == "fast":
            quality = self._env.physics.model.vis.quality
            quality.shadowsize, quality.offsamples = 512, 0
        self._pixels = config.obs != "proprio"
        self._vectors = make_obs_codec(gym_space_of_spec(self._env.observation_spec()))
        self._show_vectors = config.obs != "vision"
        self._act = make_act_codec(_bounded(gym_space_of_spec(self._env.action_spec())))
        self.act_space = self._act.spaces
        self.obs_space = dict(self._vectors.spaces) if self._show_vectors else {}
        if self._pixels:
            self.obs_space["image"] = Space((*size, 3), "uint8", low=0, high=255)

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Step:
        """Starts an episode."""
        refuse_options(self, options)
        if seed is not None:
            self._random.seed(seed % 2**32)
        return self._row(dm_step(self._env.reset(), self._encode))

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Advances by `repeat` control steps, fewer when the episode ends."""
        control = self._act.decode(action)
        reward = 0.0
        for _ in range(self._repeat):
            time_step = self._env.step(control)
            reward += time_step.reward
            if time_step.last():
                break
        return self._row(dm_step(time_step._replace(reward=reward), self._encode))

    def render(self) -> np.ndarray | None:
        """A larger picture from the same camera; None where rendering is off."""
        if choose_backend(pixels=False) == "disable":
            self.no_picture = "MuJoCo does not render here (MUJOCO_GL is disable)"
            return None
        return self._env.physics.render(240, 320, camera_id=self._camera)

    def close(self) -> None:
        """Frees the physics and its rendering contexts."""
        self._env.close()

    def _encode(self, observation: Any) -> dict[str, np.ndarray]:
        return self._vectors.encode(observation) if self._show_vectors else {}

    def _row(self, step: Step) -> Step:
        if self._pixels:
            height, width = self._size
            image = self._env.physics.render(height, width, camera_id=self._camera)
            step.obs["image"] = np.array(image, np.uint8)
        return step

    def _check_camera(self, name: str) -> None:
        cameras = self._env.physics.model.ncam
        if not 0 <= self._camera < cameras:
            raise UserError(f"env.dmc.camera {self._camera}: dmc_{name} has the cameras 0 to {cameras - 1}")


def _bounded(space: gymnasium.Space) -> gymnasium.Space:
    """lqr's actuators have no limits (MuJoCo says 1e10): its actions are taken as [-1, 1]."""
    from gymnasium import spaces

    if not isinstance(space, spaces.Box) or np.abs(space.low).max() < 1e9:
        return space
    return spaces.Box(-1.0, 1.0, space.shape, space.dtype)
