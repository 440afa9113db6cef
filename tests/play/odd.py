"""Environments as people have them: without pictures, with several, with odd actions, short, and failing."""

import gymnasium
import numpy as np
from gymnasium import spaces


class Plain(gymnasium.Env):
    """Three numbers, two actions, twenty steps, and no `render` of its own."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)
    limit = 20

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.seen(), {}

    def step(self, action):
        self.t += 1
        return self.seen(), 1.0, self.t >= self.limit, False, {}

    def seen(self):
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


class Single(Plain):
    action_space = spaces.Discrete(1)


class Several(Plain):
    action_space = spaces.MultiDiscrete([3, 2, 5])


class Arm(Plain):
    action_space = spaces.Box(-2, 3, (6,), np.float32)


class Hybrid(Plain):
    action_space = spaces.Dict({"move": spaces.Box(-1, 1, (2,), np.float32), "jump": spaces.Discrete(2)})


class Crowd(Plain):
    action_space = spaces.Box(-1, 1, (100,), np.float32)


class Short(Plain):
    limit = 1


class Views(Plain):
    """Two pictures of different sizes beside numbers."""

    observation_space = spaces.Dict(
        {
            "front": spaces.Box(0, 255, (24, 24, 3), np.uint8),
            "map": spaces.Box(0, 255, (40, 16, 1), np.uint8),
            "pose": spaces.Box(-np.inf, np.inf, (4,), np.float32),
        }
    )

    def seen(self):
        front, over = np.full((24, 24, 3), 30, np.uint8), np.full((40, 16, 1), 200, np.uint8)
        front[self.t % 24, :, 0], over[:, self.t % 16] = 255, 0
        return {"front": front, "map": over, "pose": np.arange(4, dtype=np.float32) + self.t}


class Everything(Views):
    """Views, and sliders, a choice and toggles to act with."""

    action_space = spaces.Dict(
        {"force": spaces.Box(-2, 3, (2,), np.float32), "gear": spaces.MultiDiscrete([4, 2])}
    )
    limit = 1000


class Torn(Plain):
    """Its fourth picture is NaN."""

    observation_space = spaces.Box(0, 1, (16, 16, 3), np.float32)

    def seen(self):
        return np.full((16, 16, 3), np.nan if self.t == 4 else 0.1, np.float32)


class Stuck(Plain):
    """Fails at its fourth step."""

    def step(self, action):
        if self.t == 3:
            raise RuntimeError("the motor is stuck")
        return super().step(action)


class Broken(Plain):
    """Fails at every step."""

    def step(self, action):
        raise RuntimeError("the motor is stuck")


class Dim(Plain):
    """Is drawn until its second step."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  # as gymnasium has it

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        if self.t >= 2:
            raise RuntimeError("no display")
        return np.full((600, 800, 3), 99, np.uint8)
