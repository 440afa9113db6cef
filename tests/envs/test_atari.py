import dataclasses

import numpy as np
import pytest
from ale_py import ALEInterface, roms
from ale_py.vector_env import AtariVectorEnv
from PIL import Image

from dreamworld.config import AtariConfig, EnvConfig
from dreamworld.envs import make_env
from dreamworld.envs.adapters.atari import GAMES, GAMES_100K, AtariEnv, vector_options
from dreamworld.envs.images import resize_area
from dreamworld.errors import UserError

AREA = AtariConfig(resize="area")


def act(index):
    return {"action": np.array(index)}


def play(env, actions, seed):
    rows = [env.reset(seed)]
    for action in actions:
        rows.append(env.reset() if rows[-1].is_last else env.step(act(action)))
    return rows


@pytest.mark.parametrize("gray", [True, False])
@pytest.mark.parametrize(
    ("game", "sticky", "size"),
    [("pong", 0.25, (64, 64)), ("breakout", 0.0, (96, 96)), ("boxing", 0.25, (64, 96))],
)
def test_area_path_equals_ale_vector_env_pixel_for_pixel(game, sticky, size, gray):
    config = AtariConfig(resize="area", gray=gray, sticky=sticky, max_frames=480)
    plain = AtariEnv(game, size, config)
    vector = AtariVectorEnv(num_envs=1, **vector_options(game, size, config))
    actions = np.random.default_rng(0).integers(0, 18, 150)
    rows = play(plain, actions, seed=5)
    obs, _ = vector.reset(seed=5)
    firsts = 0
    for t, row in enumerate(rows):
        np.testing.assert_array_equal(row.obs["image"], obs[0, 0].reshape(row.obs["image"].shape), f"row {t}")
        firsts += row.is_first
        if t < len(actions):
            obs, reward, terminated, truncated, _ = vector.step(actions[t : t + 1])
            following = rows[t + 1]
            assert following.reward == reward[0]
            assert (following.is_last, following.is_terminal) == (
                terminated[0] or truncated[0],
                terminated[0],
            )
    assert firsts == 2  # the limit was reached, and the no-ops of the second episode were the same, too


@pytest.mark.parametrize(
    ("old", "new"), [((210, 160), (64, 64)), ((210, 160), (96, 96)), ((210, 160), (84, 84))]
)
def test_area_resize_is_the_exact_average(old, new):
    def overlaps(old, new):  # share of output cell i that lies in input pixel j
        edges = np.arange(new + 1) * old / new
        start, end = edges[:-1, None], edges[1:, None]
        return (np.minimum(end, np.arange(old) + 1) - np.maximum(start, np.arange(old))).clip(0) * new / old

    image = np.random.default_rng(1).integers(0, 256, (*old, 3)).astype(np.uint8)
    exact = np.einsum("ih,jw,hwc->ijc", overlaps(old[0], new[0]), overlaps(old[1], new[1]), image)
    assert np.abs(resize_area(image, new) - exact).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("gray", [True, False])
def test_published_preprocessing_by_hand(gray):
    """Max of the last two RGB frames, Pillow bilinear, then gray."""
    env = AtariEnv("breakout", (96, 96), AtariConfig(gray=gray, noops=0, actions="needed"))
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("random_seed", 3)
    ale.loadROM(str(roms.get_rom_path("breakout")))
    actions = ale.getMinimalActionSet()
    ale.reset_game()
    env.reset(3)
    for choice in np.random.default_rng(0).integers(0, len(actions), 40):
        row = env.step(act(choice))
        frames, reward = [], 0
        for _ in range(4):
            reward += ale.act(actions[choice])
            frames.append(ale.getScreenRGB())
        pooled = Image.fromarray(np.maximum(frames[-1], frames[-2]))
        image = np.asarray(pooled.resize((96, 96), Image.Resampling.BILINEAR))
        if gray:
            image = (image @ [0.299, 0.587, 0.114]).astype(np.uint8)[:, :, None]
        np.testing.assert_allclose(row.obs["image"], image, atol=1 if gray else 0)  # rounding of the weights
        assert row.reward == reward


def test_sticky_actions_are_drawn_per_emulator_frame():
    """A step executes a new action in its last 0 to 4 frames; drawn once a step it would be 0 or 4."""
    pictures = {}
    for sticky in (0.0, 0.5):
        env = AtariEnv("freeway", (64, 64), AtariConfig(sticky=sticky, noops=0, actions="needed"))
        rows = [play(env, [0, 0, 1], seed)[-1] for seed in range(12)]
        pictures[sticky] = {row.obs["image"].tobytes() for row in rows}
    assert len(pictures[0.0]) == 1
    assert len(pictures[0.5]) > 2


def test_no_ops_vary_the_start_and_stay_within_their_limit():
    env = AtariEnv("freeway", (64, 64), AtariConfig(noops=30))
    counts = {env._draw_noops() for _ in range(2000)}
    assert counts == set(range(31))
    starts = {env.reset().obs["image"].tobytes() for _ in range(10)}
    assert len(starts) > 3


def test_frame_limit_truncates_and_game_over_terminates():
    limited = AtariEnv("pong", (64, 64), AtariConfig(max_frames=40))
    limited.reset(0)
    rows = [limited.step(act(0)) for _ in range(10)]
    assert [row.is_last for row in rows] == [False] * 9 + [True]
    assert not rows[-1].is_terminal
    over = AtariEnv("breakout", (64, 64), AtariConfig())
    row = over.reset(0)
    while not row.is_last:
        row = over.step(act(1))  # fires, never moves: loses all lives
    assert row.is_terminal


def test_all_or_needed_actions():
    assert AtariEnv("pong", (64, 64), AtariConfig(actions="all")).act_space["action"].classes == 18
    assert AtariEnv("pong", (64, 64), AtariConfig(actions="needed")).act_space["action"].classes == 6


@pytest.mark.parametrize("resize", ["pillow", "area"])
def test_restored_games_go_on_identically(resize):
    config = AtariConfig(resize=resize, sticky=0.5)
    env = AtariEnv("breakout", (64, 64), config)
    play(env, [1, 2, 3, 3, 2], seed=1)
    state = env.save()
    rows = [env.step(act(i % 4)) for i in range(30)] + [env.reset()]
    other = AtariEnv("breakout", (64, 64), config)
    current = other.restore({key: value.copy() for key, value in state.items()})
    np.testing.assert_array_equal(current.obs["image"], state["image"])
    for row, again in zip(rows, [other.step(act(i % 4)) for i in range(30)] + [other.reset()]):
        np.testing.assert_array_equal(row.obs["image"], again.obs["image"])
        assert row[1:] == again[1:]


def test_what_sticks_is_restored_from_every_point_of_a_game():
    """Freeway shows at once whether the last frame went up or waited; the emulator's own state does not say it."""
    config = AtariConfig(sticky=0.9, noops=0, actions="needed")
    env, other = (AtariEnv("freeway", (64, 64), config) for _ in range(2))
    env.reset(3)
    for turn in range(12):
        env.step(act(turn % 3))
        state = {key: value.copy() for key, value in env.save().items()}
        other.reset(turn)
        other.step(act(1 + turn % 2))
        other.restore(state)
        wanted = [env.step(act((turn + i) % 3)) for i in range(3)]
        for row, again in zip(wanted, [other.step(act((turn + i) % 3)) for i in range(3)]):
            np.testing.assert_array_equal(row.obs["image"], again.obs["image"])
        env.restore(state)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"executed": np.array(99)}, "no action of the emulator"),
        ({"sticky": np.full(625, 2**31, np.uint32)}, "no state of a random generator"),
        ({"executed": None}, "without the action that may stick"),
    ],
)
def test_a_crafted_or_older_state_is_refused(change, told):
    env = AtariEnv("pong", (64, 64), AtariConfig(sticky=0.25))
    env.reset(0)
    state = {key: value for key, value in (env.save() | change).items() if value is not None}
    with pytest.raises(ValueError, match=told):
        env.restore(state)


def test_there_are_57_games_and_26_of_them_for_100k():
    assert len(GAMES) == 57 and len(GAMES_100K) == 26
    assert set(GAMES_100K) < set(GAMES)


@pytest.mark.parametrize("game", GAMES)
def test_every_game_builds_and_steps(game):
    env = make_env(f"atari_{game}")
    assert env.reset(0).is_first
    assert env.step(act(3)).obs["image"].shape == (64, 64, 3)


def test_both_prefixes_take_their_settings_from_the_options():
    config = EnvConfig(size=(96, 96), atari=AtariConfig(gray=True, actions="needed"))
    for name in ("atari_pong", "atari100k_pong"):
        env = make_env(name, config)
        assert env.obs_space["image"].shape == (96, 96, 1) and env.act_space["action"].classes == 6
    assert make_env("atari_james_bond").act_space["action"].classes == 18


def test_unknown_games_get_the_nearest_name():
    with pytest.raises(UserError, match="did you mean atari_ms_pacman"):
        make_env("atari_mspacman")
    with pytest.raises(UserError, match=r"unknown game 'atari100k_tennis'"):
        make_env("atari100k_tennis")  # one of the 57, not of the 26


def test_area_does_not_enlarge():
    with pytest.raises(UserError, match=r"area only shrinks .* pillow"):
        make_env("atari_pong", EnvConfig(size=(256, 256), atari=dataclasses.replace(AREA)))
