from typing import Literal

import numpy as np
import pytest
from dm_control import suite

from dreamworld.config import DMCConfig, EnvConfig
from dreamworld.envs import make_env
from dreamworld.envs.adapters.dmc import DMCEnv, parse_task, task_names
from dreamworld.errors import UserError


def config(obs: Literal["proprio", "vision", "both"] = "proprio", **options):
    env = {key: options.pop(key) for key in ("size", "repeat", "time_limit") if key in options}
    return EnvConfig(dmc=DMCConfig(obs=obs, **options), **env)


def random_action(env, seed=0):
    random = np.random.default_rng(seed)
    return {key: space.sample(random) for key, space in env.act_space.items()}


def test_names_take_the_longest_domain_and_the_alias():
    assert parse_task("ball_in_cup_catch") == parse_task("cup_catch") == ("ball_in_cup", "catch")
    assert parse_task("point_mass_easy") == ("point_mass", "easy")
    assert parse_task("humanoid_CMU_run") == ("humanoid_CMU", "run")
    assert parse_task("humanoid_run_pure_state") == ("humanoid", "run_pure_state")
    assert parse_task("lqr_lqr_2_1") == ("lqr", "lqr_2_1")
    assert [parse_task(name) for name in task_names()] == list(suite.ALL_TASKS)


@pytest.mark.parametrize(
    ("name", "close"), [("walker_wlak", "dmc_walker_walk"), ("cheetah", "dmc_cheetah_run")]
)
def test_unknown_tasks_get_the_nearest_name(name, close):
    with pytest.raises(UserError, match=close):
        make_env(f"dmc_{name}")


@pytest.mark.parametrize("name", ["walker_walk", "dog_run", "quadruped_walk", "cup_catch", "lqr_lqr_2_1"])
def test_proprio_tasks_step(name):
    env = make_env(f"dmc_{name}")
    row = env.reset(0)
    assert not any(space.is_image for space in env.obs_space.values())
    row = env.step(random_action(env))
    assert {key: value.shape for key, value in row.obs.items()} == {
        k: s.shape for k, s in env.obs_space.items()
    }
    assert env.act_space["action"].low == -1 and env.act_space["action"].high == 1
    env.close()


@pytest.mark.soak
@pytest.mark.parametrize("name", task_names())
def test_every_task_steps_with_vectors_and_pixels(name):
    env = make_env(f"dmc_{name}", config("both"))
    env.reset(0)
    row = env.step(random_action(env))
    assert row.obs["image"].std() > 0 and len(row.obs) > 1
    env.close()


def test_rows_equal_those_of_the_suite_with_rewards_summed_over_the_repeat():
    env = make_env("dmc_cartpole_swingup", config(repeat=4))
    raw = suite.load("cartpole", "swingup", task_kwargs={"random": np.random.RandomState(3)})
    row, step = env.reset(3), raw.reset()
    np.testing.assert_allclose(row.obs["position"], step.observation["position"], rtol=1e-6)
    for i in range(5):
        action = np.array([np.sin(i)], np.float32)
        row = env.step({"action": action})
        rewards = []
        for _ in range(4):
            step = raw.step(action)
            rewards.append(step.reward)
        np.testing.assert_allclose(row.obs["velocity"], step.observation["velocity"], rtol=1e-5)
        assert row.reward == pytest.approx(sum(rewards))


@pytest.mark.parametrize(("repeat", "steps"), [(1, 1000), (2, 500)])
def test_the_time_limit_is_truncation(repeat, steps):
    env = make_env("dmc_cup_catch", config(repeat=repeat))
    env.reset(0)
    rows = [env.step({"action": np.zeros(2, np.float32)}) for _ in range(steps)]
    assert [row.is_last for row in rows] == [False] * (steps - 1) + [True]
    assert not rows[-1].is_terminal


def test_a_longer_time_limit_replaces_the_suites_own():
    env = make_env("dmc_cup_catch", config(time_limit=1100))
    env.reset(0)
    rows = [env.step({"action": np.zeros(2, np.float32)}) for _ in range(1100)]
    assert [row.is_last for row in rows].index(True) == 1099


def test_seeds_reproduce_without_rebuilding():
    env = make_env("dmc_reacher_easy")
    starts = [env.reset(seed).obs["to_target"].tolist() for seed in (1, None, 2, 1, None)]
    assert starts[0] == starts[3] and starts[1] == starts[4]
    assert starts[0] != starts[1] and starts[0] != starts[2]


def test_vision_has_only_the_image_and_both_has_all():
    vision = make_env("dmc_cartpole_balance", config("vision", size=(32, 48)))
    assert {key: space.shape for key, space in vision.obs_space.items()} == {"image": (32, 48, 3)}
    image = vision.reset(0).obs["image"]
    assert image.shape == (32, 48, 3) and image.dtype == np.uint8 and image.std() > 10
    both = make_env("dmc_cartpole_balance", config("both"))
    assert set(both.reset(0).obs) == {"image", "position", "velocity"}
    vision.close()
    both.close()


def test_images_are_the_suites_own_rendering():
    env = make_env("dmc_walker_walk", config("vision"))
    raw = suite.load("walker", "walk", task_kwargs={"random": np.random.RandomState(0)})
    raw.reset()
    np.testing.assert_array_equal(env.reset(0).obs["image"], raw.physics.render(64, 64, camera_id=0))
    env.close()


def test_published_cameras():
    cameras = {
        name: DMCEnv(name, (64, 64), 1, DMCConfig())._camera for name in ("quadruped_run", "walker_run")
    }
    assert cameras == {"quadruped_run": 2, "walker_run": 0}
    assert DMCEnv("walker_run", (64, 64), 1, DMCConfig(camera=1))._camera == 1
    with pytest.raises(UserError, match=r"env.dmc.camera 9: dmc_walker_run has the cameras 0 to"):
        make_env("dmc_walker_run", config(camera=9))


def test_fast_quality_looks_almost_the_same():
    images = {}
    for quality in ("exact", "fast"):
        env = make_env("dmc_walker_walk", config("vision", quality=quality))
        images[quality] = env.reset(0).obs["image"].astype(float)
        model = env._env.physics.model  # type: ignore[attr-defined]
        assert (model.vis.quality.offsamples == 0) == (quality == "fast")
        env.close()
    assert 0 < np.abs(images["exact"] - images["fast"]).mean() <= 1.5


def test_proprio_tasks_render_for_people():
    env = make_env("dmc_cartpole_balance")
    env.reset(0)
    frame = env.render()
    assert frame is not None and frame.shape == (240, 320, 3)
    env.close()
