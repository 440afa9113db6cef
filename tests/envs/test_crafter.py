import crafter
import numpy as np
import pytest

from dreamworld.config import EnvConfig
from dreamworld.envs import make_env
from dreamworld.envs.adapters.crafter import CrafterEnv, crafter_score
from dreamworld.errors import UserError


def act(index):
    return {"action": np.array(index)}


def play(env, steps, seed, reset=None):
    random = np.random.default_rng(seed)
    rows = [env.reset(reset)]
    while len(rows) < steps:
        rows.append(env.reset() if rows[-1].is_last else env.step(act(random.integers(17))))
    return rows


def test_first_frames_and_rewards_equal_those_of_crafter():
    env, raw = make_env("crafter_reward"), crafter.Env(seed=4)
    np.testing.assert_array_equal(env.reset(4).obs["image"], raw.reset())
    for i in range(20):  # before any creature is drawn to disappear
        row = env.step(act(i % 17))
        image, reward, _, _ = raw.step(i % 17)
        np.testing.assert_array_equal(row.obs["image"], image)
        assert row.reward == pytest.approx(reward)


def test_seeds_reproduce_whole_games():
    """Plain crafter fails this: creatures disappear in the order of memory addresses."""
    env = make_env("crafter_reward")
    first = play(env, 250, 1, reset=1)
    ballast = [object() for _ in range(10_000)]
    again = play(env, 250, 1, reset=1)
    del ballast
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a.obs["image"], b.obs["image"])
        assert a[1:5] == b[1:5]
    assert not np.array_equal(env.reset(2).obs["image"], first[0].obs["image"])


def test_the_length_truncates_and_death_terminates():
    limited = CrafterEnv("reward", (64, 64), length=5)
    limited.reset(0)
    rows = [limited.step(act(0)) for _ in range(5)]
    assert [row.is_last for row in rows] == [False] * 4 + [True]
    assert not rows[-1].is_terminal
    rows = play(make_env("crafter_reward"), 600, 0, reset=0)
    ends = [row for row in rows if row.is_last]
    assert ends and all(row.is_terminal for row in ends)  # random players die


def test_achievements_and_score_are_logged_at_the_end_of_episodes():
    env = CrafterEnv("reward", (64, 64), length=60)
    rows = play(env, 125, 3, reset=3)
    ends = [row for row in rows if row.is_last]
    assert len(ends) == 2
    assert all("log/achievements" not in row.log for row in rows if not row.is_last)
    unlocked = [{k: v for k, v in row.log.items() if k.startswith("log/achievement_")} for row in ends]
    assert len(unlocked[0]) == 22 and set(unlocked[0].values()) <= {0.0, 1.0}
    assert ends[0].log["log/achievements"] == sum(unlocked[0].values())
    rates = [50 * (a + b) for a, b in zip(*(x.values() for x in unlocked))]
    assert ends[1].log["log/crafter_score"] == pytest.approx(crafter_score(rates))


def test_crafter_score_by_hand():
    assert crafter_score([0.0] * 22) == 0
    assert crafter_score([100.0] * 22) == pytest.approx(100)
    assert crafter_score([3.0, 0.0]) == pytest.approx(1.0)  # exp(ln(4) / 2) - 1


def test_without_reward_the_true_one_is_only_logged():
    rows = play(make_env("crafter_noreward"), 120, 0, reset=0)
    assert all(row.reward == 0 for row in rows)
    assert any(row.log.get("log/reward") for row in rows)


def test_sizes_are_height_and_width():
    env = make_env("crafter_reward", EnvConfig(size=(48, 96)))
    assert env.reset(0).obs["image"].shape == env.obs_space["image"].shape == (48, 96, 3)


def test_unknown_tasks_are_refused():
    with pytest.raises(UserError, match="did you mean crafter_reward"):
        make_env("crafter_rewards")
