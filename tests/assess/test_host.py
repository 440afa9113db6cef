"""Environments on the host: what was played is played again, and goes on under other actions, exactly."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from dreamworld.assess import branches, files, host, segments, tape
from dreamworld.assess.gather import gather
from dreamworld.config import EnvConfig
from dreamworld.envs.vector.worker import maker
from dreamworld.errors import UserError
from dreamworld.sessions.policies import random_policy

SMALL = EnvConfig(size=(16, 16), time_limit=40, stack=2, resize=True)
PLAYED = {
    "gym_CartPole-v1": EnvConfig(),
    "gym_Pendulum-v1": EnvConfig(),
    "gym_Hopper-v5": EnvConfig(),
    "crafter_reward": EnvConfig(size=(64, 64), time_limit=40),
    "atari_pong": SMALL,
    "jax_catch": SMALL,
}


def make(name, config, count=24):
    """Segments of random actions in an environment on the host, and the environment itself as their ground truth."""
    from dreamworld.envs.vector.inprocess import InProcess

    recorded = tape.Tape()
    env = tape.Recorder(InProcess(maker(name, config), 3), recorded)
    acts = {"random": random_policy(env.act_space, 3, 0)}
    found = gather(env, acts, steps={"random": 300}, seed=5)
    env.close()
    spaces = (env.obs_space, env.act_space)
    drawn = segments.draw(found.episodes, found.labels, spaces, count=count, context=3, horizon=6)
    drawn = tape.with_streams(drawn, recorded)
    return drawn, grounded(name, config, drawn)


def grounded(name, config, drawn):
    ground = host.make_host_ground(maker(name, config), drawn)
    assert ground is not None
    return ground


def recorded(made):
    """The actions after the context of each segment, as one sequence each."""
    first = made.context - 1
    return {
        key: made.columns[f"action/{key}"][:, None, first : first + made.horizon] for key in made.act_space
    }


def check(made, ground):
    """Under the recorded actions, what is played from restored states is what was recorded."""
    starts = np.arange(len(made), dtype=np.int32)
    twice = {key: np.concatenate([value, value], 1) for key, value in recorded(made).items()}
    told, reached = ground.play(made, starts, twice, keep=True)
    assert reached.all()
    for branch in range(2):
        np.testing.assert_array_equal(told.alive[:, branch], made.imagined)
        for key in made.obs_space:
            np.testing.assert_array_equal(
                told.obs[key][:, branch], made.columns[f"obs/{key}"][:, made.context :]
            )
        np.testing.assert_array_equal(
            told.reward[:, branch], made.columns["reward"][:, made.context :] * made.imagined
        )
    return told


@pytest.mark.parametrize("name", PLAYED)
def test_going_on_as_recorded_is_what_was_recorded(name):
    made, ground = make(name, PLAYED[name])
    check(made, ground)
    assert ground.told == []  # nothing was left out, and states were copied


def test_where_states_can_not_be_copied_the_way_is_gone_again():
    made, ground = make("gym_ale_py:ALE/Pong-v5", SMALL, count=6)  # whose actions stick
    check(made, ground)
    (note,) = ground.told
    assert note.startswith(
        "the environment is played again for each branch: the state that ale-py copies lacks"
    )


def test_branches_and_decisions_of_the_true_environment_are_there():
    made, ground = make("gym_CartPole-v1", EnvConfig())
    found = branches.with_branches(made, ground)
    fan, plan = segments.below("fan", found.branches), segments.below("plan", found.branches)
    assert fan["obs/vector"].shape[:2] == (24, 2) and fan["alive"].any()
    # the actions push the cart to opposite sides
    speed = fan["obs/vector"][:, :, 0, 1]
    assert (speed[:, 0] < speed[:, 1]).all()
    assert plan["reward"].shape[1] == 5 and (plan["reward"].sum(-1) == plan["alive"].sum(-1)).all()
    kept = found.branches.keys() & {"replay/seed", "replay/begin", "replay/action/action"}
    assert len(kept) == 3


def test_rows_that_another_environment_would_give_are_left_out():
    made, _ = make("gym_CartPole-v1", EnvConfig())
    columns = made.columns | {"obs/vector": made.columns["obs/vector"] + np.float32(1e-6)}
    ground = grounded("gym_CartPole-v1", EnvConfig(), dataclasses.replace(made, columns=columns))
    _, reached = ground.play(
        dataclasses.replace(made, columns=columns), np.arange(24), recorded(made), keep=False
    )
    assert not reached.any()
    assert ground.told == ["24 of 24 states were left out: their seeds and actions led to other rows"]
    assert (
        branches.with_branches(dataclasses.replace(made, columns=columns), ground).branches.keys()
        == made.branches.keys()
    )


def test_time_ends_it():
    made, ground = make("gym_CartPole-v1", EnvConfig())
    ground.seconds = -1.0
    _, reached = ground.play(made, np.arange(24), recorded(made), keep=False)
    assert not reached.any() and "24 of 24 states were left out: playing on took" in ground.told[0]


def test_an_environment_that_raises_costs_its_state_alone():
    made, ground = make("gym_CartPole-v1", EnvConfig())
    actions = recorded(made)
    actions["action"] = actions["action"].copy()
    actions["action"][3] = 7  # no such action
    _, reached = ground.play(made, np.arange(24), actions, keep=False)
    assert np.flatnonzero(~reached).tolist() == [3]
    assert ground.told[0].startswith("1 of 24 states were left out: the environment raised")


class Trap(gymnasium.Env):
    """Four times action 1 lead to what is no row."""

    observation_space = gymnasium.spaces.Box(-99, 99, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    kind = "nan"

    def reset(self, *, seed=None, options=None):
        self.time = self.ones = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.time, self.ones = self.time + 1, (self.ones + 1) * int(action)
        obs, reward = np.full(3, self.time, np.float32), 0.0
        if self.ones >= 4:
            obs = {"nan": obs * np.nan, "shape": np.zeros(5, np.float32), "reward": obs}[self.kind]
            reward = 1e39
        return obs, reward, self.time >= 12, False, {}


@pytest.mark.parametrize("kind", ["nan", "shape", "reward"])
def test_rows_that_no_training_would_take_are_left_out_and_named(kind, monkeypatch):
    monkeypatch.setattr(Trap, "kind", kind)
    made, ground = make(Trap, EnvConfig(), count=12)
    found = branches.with_branches(made, ground)
    assert any("the environment gave what is no row: " in line for line in ground.told)
    assert all(np.isfinite(value).all() for value in found.branches.values() if value.dtype.kind == "f")
    assert "branch/plan/reward" in found.arrays() and "branch/fan/alive" not in found.arrays()


def test_streams_come_back_from_a_file_and_crafted_ones_are_one_line(tmp_path):
    made, _ = make("gym_CartPole-v1", EnvConfig(), count=6)
    again, _ = files.load(files.save(made, tmp_path / "assess", {}))
    check(again, grounded("gym_CartPole-v1", EnvConfig(), again))
    for name, change in {
        "replay/seed": lambda x: x - 2**40,
        "replay/begin": lambda x: x[::-1].copy(),
        "replay/action/action": lambda x: x[:-1],
    }.items():
        crafted = dataclasses.replace(made, branches=made.branches | {name: change(made.branches[name])})
        with pytest.raises(UserError, match="replay"):
            files.load(files.save(crafted, tmp_path / "crafted", {}))
    for name in ("replay/seed", "replay/begin"):
        crafted = dataclasses.replace(
            made, branches={key: value for key, value in made.branches.items() if key != name}
        )
        with pytest.raises(UserError, match=f"lacks the array 'branch/{name}'"):
            files.load(files.save(crafted, tmp_path / "crafted", {}))
    far = made.columns | {tape.COLUMN: made.columns[tape.COLUMN] + 999}
    with pytest.raises(UserError, match="that names no rows"):
        files.load(files.save(dataclasses.replace(made, columns=far), tmp_path / "crafted", {}))
