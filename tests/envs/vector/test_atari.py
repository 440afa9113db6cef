"""Atari's C++ threads against the plain environment: rows, pixels, limits."""

import dataclasses

import numpy as np
import pytest
import vector_toys as toys
from etils import epath

from dreamworld.config import AtariConfig, EnvConfig
from dreamworld.errors import UserError
from dreamworld.training import trees


def pair(name, atari, num=2, size=(64, 64)):
    """The game on the C++ threads and in this process."""
    config = EnvConfig(atari=atari, size=size)
    return [
        toys.make_vector_env(name, dataclasses.replace(config, engine=engine), seed=0, num=num)
        for engine in ("atari", "inprocess")
    ]


def play(env, steps, seed=3):
    """Time steps under random actions."""
    random = np.random.default_rng(0)
    rows = [env.reset(seed)]
    for _ in range(steps):
        action = env.act_space["action"].sample(random, env.num_envs)
        rows.append(env.step({"action": action}))
    env.close()
    return rows


def assert_same_flags(one, two):
    for key in ("reward", "is_first", "is_last", "is_terminal"):
        np.testing.assert_array_equal(getattr(one, key), getattr(two, key))
        assert getattr(one, key).dtype == getattr(two, key).dtype


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("game", ["breakout", "space_invaders", "ms_pacman"])
def test_area_path_agrees_with_the_plain_path_pixel_for_pixel(game, gray):
    # A limit of 203 frames: episodes end within a step, and several are played.
    atari = AtariConfig(resize="area", gray=gray, sticky=0.25, max_frames=203)
    fast, plain = pair(f"atari_{game}", atari)
    assert fast.obs_space == plain.obs_space and fast.act_space == plain.act_space
    for one, two in zip(play(fast, 120), play(plain, 120)):
        np.testing.assert_array_equal(one.obs["image"], two.obs["image"])
        assert_same_flags(one, two)


def test_game_over_shows_the_same_last_frame_on_both_paths():
    fast, plain = pair("atari_breakout", AtariConfig(resize="area", sticky=0.25), num=4, size=(32, 32))
    ends = 0
    for one, two in zip(play(fast, 400), play(plain, 400)):
        np.testing.assert_array_equal(one.obs["image"], two.obs["image"])
        assert_same_flags(one, two)
        ends += one.is_terminal.sum()
    assert ends >= 4


@pytest.mark.parametrize("gray", [False, True])
def test_pillow_path_on_the_threads_agrees_but_for_last_rows(gray):
    fast, plain = pair("atari_breakout", AtariConfig(resize="pillow", gray=gray, sticky=0.25))
    for one, two in zip(play(fast, 250), play(plain, 250)):
        same = ~two.is_last
        np.testing.assert_array_equal(one.obs["image"][same], two.obs["image"][same])
        assert_same_flags(one, two)


def test_a_resumed_run_plays_the_same_rows_though_actions_stick(tmp_path):
    """From a checkpoint into new environments; the first action after the resume may repeat the one before."""
    atari = AtariConfig(sticky=0.9, noops=2, actions="needed", max_frames=60)
    whole, resumed = (pair("atari_freeway", atari, size=(32, 32))[1] for _ in range(2))
    random = np.random.default_rng(0)
    whole.reset(3)
    for _ in range(6):
        whole.step({"action": random.integers(0, 3, 2)})
    trees.write_tree(epath.Path(tmp_path / "host"), trees.copy_tree(whole.save()))
    resumed.restore(trees.read_tree(epath.Path(tmp_path / "host")))
    for _ in range(20):  # with the beginning of another episode
        action = {"action": random.integers(0, 3, 2)}
        one, two = whole.step(action), resumed.step(action)
        np.testing.assert_array_equal(one.obs["image"], two.obs["image"])
        assert_same_flags(one, two)


def test_frame_limit_truncates_and_does_not_terminate():
    fast, _ = pair("atari_pong", AtariConfig(resize="area", max_frames=40))
    rows = play(fast, 11)
    assert rows[10].is_last.all() and not rows[10].is_terminal.any()
    assert rows[11].is_first.all() and not rows[11].reward.any()


def test_noops_are_drawn_up_to_the_limit():
    config = EnvConfig(engine="atari", atari=AtariConfig(resize="area", noops=3))
    fast = toys.make_vector_env("atari_pong", config, seed=0, num=16)
    _, info = fast._env.reset(seed=np.arange(16))
    frames = set(info["episode_frame_number"].tolist())
    assert frames == {min(frames), min(frames) + 1, min(frames) + 2, min(frames) + 3}


def test_send_and_recv_are_a_step_and_arrays_are_the_callers():
    fast, plain = pair("atari_pong", AtariConfig(resize="area"))
    first = fast.reset(1)
    kept = first.obs["image"].copy()
    plain.reset(1)
    action = {"action": np.array([2, 3], np.int32)}
    fast.send(action)
    with pytest.raises(RuntimeError, match="send called twice"):
        fast.send(action)
    np.testing.assert_array_equal(fast.recv().obs["image"], plain.step(action).obs["image"])
    with pytest.raises(RuntimeError, match="recv called without send"):
        fast.recv()
    np.testing.assert_array_equal(first.obs["image"], kept)
    assert first.obs["image"].flags.writeable


def test_action_outside_the_space_is_refused_before_it_reaches_the_threads():
    fast, _ = pair("atari_pong", AtariConfig(resize="area"))
    fast.reset(0)
    with pytest.raises(UserError, match=r"outside \[0, 18\)"):
        fast.step({"action": np.array([18, 0], np.int32)})
    fast.step({"action": np.array([17, 0], np.int32)})


def test_step_before_reset_uses_the_seed_given_at_construction():
    one, _ = pair("atari_pong", AtariConfig(resize="area"))
    two, _ = pair("atari_pong", AtariConfig(resize="area"))
    two.reset(0)
    action = {"action": np.zeros(2, np.int32)}
    np.testing.assert_array_equal(one.step(action).obs["image"], two.step(action).obs["image"])


def test_render_enlarges_the_image_and_no_state_is_saved():
    fast, _ = pair("atari_pong", AtariConfig(resize="area", gray=True))
    assert fast.render() is None and fast.save() is None
    fast.reset(0)
    assert fast.render(1).shape == (192, 192, 3)
    with pytest.raises(UserError, match=r"env\.engine process"):
        fast.restore({})
    fast.close()
    fast.close()


def test_engine_refuses_what_it_does_not_serve():
    with pytest.raises(UserError, match="atari_<game>"):
        toys.make_vector_env("gym_CartPole-v1", EnvConfig(engine="atari"), seed=0, num=1)
    with pytest.raises(UserError, match=r"env\.stack"):
        toys.make_vector_env("atari_pong", EnvConfig(engine="atari", stack=4), seed=0, num=1)
    with pytest.raises(UserError, match="did you mean"):
        toys.make_vector_env("atari_pongg", EnvConfig(engine="atari"), seed=0, num=1)
