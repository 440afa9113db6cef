"""After a snapshot is restored, the same actions lead to the same rows, to the last bit; or one line says why not."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from dreamworld.config import EnvConfig
from dreamworld.envs import restore
from dreamworld.envs.factory import make_env

CONFIG = EnvConfig()
PROPRIO = dataclasses.replace(CONFIG, dmc=dataclasses.replace(CONFIG.dmc, obs="proprio"))
SMALL = dataclasses.replace(CONFIG, size=(32, 32))
WRAPPED = dataclasses.replace(SMALL, stack=3, time_limit=25, repeat=2)
STICKY = dataclasses.replace(CONFIG, atari=dataclasses.replace(CONFIG.atari, sticky=0.25))
ENVIRONMENTS = {
    "gym_CartPole-v1": CONFIG,
    "gym_Pendulum-v1": CONFIG,
    "gym_Acrobot-v1": CONFIG,
    "gym_FrozenLake-v1": CONFIG,  # its moves are drawn
    "gym_Hopper-v5": CONFIG,
    "gym_Ant-v5": CONFIG,
    "dmc_cartpole_swingup": PROPRIO,
    "dmc_finger_turn_hard": PROPRIO,  # its model changes from episode to episode
    "dmc_walker_walk": PROPRIO,
    "crafter_reward": WRAPPED,
    "atari_pong": dataclasses.replace(CONFIG, atari=dataclasses.replace(CONFIG.atari, sticky=0.0)),
    "atari_freeway": STICKY,
    "atari_breakout": dataclasses.replace(WRAPPED, atari=dataclasses.replace(CONFIG.atari, sticky=0.0)),
    "minigrid_Dynamic-Obstacles-6x6": CONFIG,
    "bsuite_catch_0": CONFIG,
    "jax_balls": WRAPPED,
}


def play(env, seed, steps):
    """Rows under random actions; after the end of an episode the next one."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(steps):
        row = env.step({key: space.sample(random) for key, space in env.act_space.items()})
        rows.append(row)
        if row.is_last:
            rows.append(env.reset(None))
    return rows


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_same_actions_lead_to_the_same_rows(name):
    env = make_env(name, ENVIRONMENTS[name])
    env.reset(3)
    play(env, 0, 15)
    taken = restore.snapshot(env)
    first = play(env, 1, 60)
    play(env, 2, 20)
    for _ in range(2):
        restore.restore(env, taken)
        assert restore.equal_rows(play(env, 1, 60), first)
    other = play(env, 4, 60)
    assert not restore.equal_rows(other, first)  # rows differ where actions do: the comparison can fail
    assert restore.why_not(env) == ""
    env.close()


def test_atari_of_gymnasium_is_restored_by_its_emulator():
    env = make_env("gym_ale_py:ALE/Pong-v5", repeat_action_probability=0.0)
    assert restore.why_not(env) == ""


def test_other_physics_are_other_rows():
    """The comparison sees one number of the state that is not brought back."""
    env: Any = make_env("gym_Hopper-v5")
    env.reset(0)
    taken = restore.snapshot(env)
    first = play(env, 1, 5)
    restore.restore(env, taken)
    env._env.unwrapped.data.qvel[0] += 1e-9
    assert not restore.equal_rows(play(env, 1, 5), first)


def test_sticky_actions_of_an_emulator_are_refused():
    """Its state would be brought back, but not the action that it may repeat."""
    env = make_env("gym_ale_py:ALE/Pong-v5")
    assert restore.why_not(env).startswith("the state that ale-py copies lacks the action that sticks")


class Stream:
    """Draws its observations from a generator of the module, which no copy of it has."""

    random = np.random.default_rng(0)

    def __init__(self):
        import gymnasium

        self.observation_space = gymnasium.spaces.Box(-9, 9, (1,))
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return Stream.random.normal(size=1).astype(np.float32), {}

    def step(self, action):
        return Stream.random.normal(size=1).astype(np.float32), 0.0, False, False, {}

    def close(self):
        pass


class Held(Stream):
    """Holds something that can't be copied."""

    def __init__(self):
        super().__init__()
        self.file = open(__file__)  # noqa: SIM115


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Stream, "after its state was restored, the same actions led to other rows"),
        (Held, "its state can't be copied: TypeError: cannot pickle"),
    ],
)
def test_what_can_not_be_restored_says_why_in_one_line(kind, told):
    why = restore.why_not(make_env(kind))
    assert why.startswith(told) and "\n" not in why
