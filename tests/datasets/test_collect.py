"""What is recorded of playing: whole episodes in the rows of replay, none chosen for being short."""

from typing import Any

import made
import numpy as np
import pytest

from dreamworld.config import EnvConfig
from dreamworld.datasets import DataWriter, open_dataset
from dreamworld.datasets.collect import collect, make_schema
from dreamworld.envs.vector import make_vector_env
from dreamworld.errors import UserError
from dreamworld.types import Space, TimeStep


class Counting:
    """Environments whose episodes have these lengths, in turn (0: no end); observe and reward what was done."""

    engine = "toy"

    def __init__(self, *lengths):
        self.lengths, self.num_envs, self.resets = lengths, len(lengths), 0
        self.obs_space = {"x": Space((2,), "float32")}
        self.act_space = {"action": Space((), "float32", low=-1, high=1)}

    def reset(self, seed):
        self.resets += 1
        self.at = np.zeros(self.num_envs, int)
        return self._rows(np.zeros(self.num_envs, np.float32))

    def step(self, action):
        over = (self.at == self.lengths) & (self.at > 0)
        self.at = np.where(over, 0, self.at + 1)
        return self._rows(np.where(over, 0, action["action"]).astype(np.float32))

    def _rows(self, reward):
        last = (self.at == self.lengths) & (self.at > 0)
        obs = {"x": np.stack([self.at, np.arange(self.num_envs)], -1).astype(np.float32)}
        return TimeStep(obs, reward, self.at == 0, last, last & (self.at % 2 == 1))


def act(step):
    """Always more than the environment takes."""
    return {"action": step.obs["x"][:, 0].astype(np.float64) * 0.25}


def record(folder, env, act=act, truth=None, **options: Any) -> Any:
    options = {"steps": 10, "seed": 0} | options
    with DataWriter(folder, make_schema(env, truth)) as writer:
        done = collect(env, act, writer, "toy", truth=truth, **options)
    return done, (open_dataset(folder) if (folder / "dataset.json").exists() else None)


def test_rows_hold_the_action_chosen_after_them_and_the_reward_that_came_with_them(tmp_path):
    _, data = record(tmp_path / "data", Counting(6), steps=6)
    (episode,) = data
    assert episode["obs/x"][:, 0].tolist() == list(range(7))
    assert episode["action/action"].tolist() == [
        0,
        0.25,
        0.5,
        0.75,
        1,
        1,
        0,
    ]  # as carried out, the last one zero
    assert episode["reward"].tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert data.returns == [3.5] and data.terminals == [False]


def test_every_environment_ends_the_episode_that_it_is_in(tmp_path):
    done, data = record(tmp_path / "data", Counting(2, 3, 20), steps=10)
    # After four rows 10 steps are taken; the first two environments have begun their second episodes before.
    assert sorted(data.lengths) == [3, 3, 4, 4, 21] and done.steps == data.steps == 30
    assert data.terminals == [length % 2 == 0 for length in data.lengths]


def test_an_episode_without_an_end_is_ended_at_the_limit_and_all_begin_anew(tmp_path):
    env = Counting(0, 0)
    done, data = record(tmp_path / "data", env, steps=15, max_steps=4)
    assert data.lengths == [5] * 4 and done.cut == 4 and env.resets == 2 and not any(data.terminals)


def test_an_environment_that_was_cut_waits_while_others_record(tmp_path):
    env = Counting(0, 2)
    _, data = record(tmp_path / "data", env, steps=20, max_steps=4)
    assert env.resets == 1 and data.lengths == [3, 5] + [3] * 7


def test_a_stop_keeps_complete_episodes(tmp_path):
    count = iter(range(100))
    done, data = record(tmp_path / "data", Counting(2, 9), steps=50, stop=lambda: next(count) > 7)
    assert done.stopped and data.lengths == [3, 3]


def test_a_stop_before_the_first_end_leaves_nothing(tmp_path):
    done, data = record(tmp_path / "data", Counting(9), stop=lambda: True)
    assert done.stopped and data is None and not (tmp_path / "data").exists()


def test_a_policy_that_raises_keeps_complete_episodes(tmp_path):
    def fails(step):
        if step.obs["x"][0, 0] == 0 and step.obs["x"][1, 0] > 2:
            raise UserError("no more")
        return act(step)

    with pytest.raises(UserError, match="no more"):
        record(tmp_path / "data", Counting(2, 9), fails, steps=50)
    assert open_dataset(tmp_path / "data").episodes == 1


def test_episodes_of_one_row_and_states_that_are_not_finite_are_left_out(tmp_path):
    env = Counting(2, 3)
    env.reset(0)
    truth = lambda: {"place": np.where(env.at == 3, np.nan, env.at).astype(np.float32)}
    done, data = record(tmp_path / "data", env, truth=truth)
    assert done.dropped and set(data.lengths) == {3}
    assert data.episode(0)["extra/state/place"].tolist() == [0, 1, 2]


def test_the_state_of_a_jax_environment_belongs_to_its_row(tmp_path):
    config = EnvConfig(num=3, time_limit=7)
    env = make_vector_env("jax_cartpole", config, seed=0, num=3)
    env.reset(0)
    random = np.random.default_rng(0)
    done, data = record(
        tmp_path / "data",
        env,
        lambda step: {"action": env.act_space["action"].sample(random, 3)},
        env.truth,  # type: ignore[attr-defined]
        steps=40,
    )
    assert done.steps >= 40 and set(data.extra_space) == {"state/physics", "state/time"}
    for episode in data:
        assert episode["extra/state/physics"].tobytes() == episode["obs/vector"].tobytes()
        assert episode["extra/state/time"].tolist() == list(range(len(episode["reward"])))


def test_equal_seeds_record_equal_data(tmp_path):
    found = []
    for name in ("one", "two"):
        env = make_vector_env("gym_CartPole-v1", EnvConfig(num=2, engine="inprocess"), seed=0, num=2)
        random = np.random.default_rng(5)
        choose = lambda step, random=random, env=env: {"action": env.act_space["action"].sample(random, 2)}
        found.append(record(tmp_path / name, env, choose, steps=60)[1])
        env.close()
    assert made.same(*found)
