"""Any world as an environment: episodes of dreams that begin in real rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dreamworld import dream
from dreamworld.contract import Expected, Simulator
from dreamworld.dream_env import DreamEnv, burn_in
from dreamworld.envs.jax.batched import batched
from dreamworld.envs.jax.view import GymView
from dreamworld.errors import UserError
from dreamworld.types import Batch, JaxEnv, Space

KEY = jax.random.PRNGKey(0)
OBS = {"x": Space((2,), "float32"), "image": Space((2, 2, 1), "uint8")}
ACT = {"move": Space((1,), "float32", low=-1.0, high=1.0)}


def imagine(params, state, action, key, temperature=1.0):
    noise = jax.random.normal(key, state.shape) * temperature
    return state + params["pace"] * action["move"] + 0.1 * noise


def observe(params, state, prev_action, obs, is_first, key):
    """Half of what it sees, half of what it expected."""
    before = jnp.where(is_first[:, None], 0, imagine(params, state, prev_action, key, 0.0))
    return 0.5 * before + 0.5 * obs["x"]


# The state walks by the action; the reward is its first entry, the episode goes on while that is below 3.
SIMULATOR = Simulator(
    initial=lambda params, batch: jnp.zeros((batch, 2)),
    observe=observe,
    imagine=imagine,
    feature=lambda params, state: state,
    predict=lambda params, feature: Expected(feature[..., 0], jax.nn.sigmoid(20 * (3 - feature[..., 0]))),
    decode=lambda params, feature: {
        "image": jnp.broadcast_to(feature[..., :1, None, None], (*feature.shape[:-1], 2, 2, 1))
    },
    edit=lambda params, state, obs, key: 0.5 * state + 0.5 * obs["x"],
)
PARAMS = {"pace": jnp.float32(0.5)}
STARTS = jnp.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]])
ENV = DreamEnv(SIMULATOR, PARAMS, OBS, ACT, STARTS, horizon=5, temperature=0.0)


def play(env, actions, key=KEY, start=0):
    state, _ = env.reset(key)
    state = state._replace(model=STARTS[start])
    found = []
    for action in actions:
        state, step = jax.jit(env.step)(state, {"move": jnp.array([action])}, key)
        found.append(step)
    return found


def test_it_is_a_jax_environment_of_features():
    assert isinstance(ENV, JaxEnv) and ENV.obs_space == {"feature": Space((2,), "float32")}
    firsts = {float(ENV.reset(jax.random.PRNGKey(seed))[1]["feature"][0]) for seed in range(30)}
    assert firsts == {0.0, 1.0, 2.0}


def test_a_step_is_what_the_model_imagines_and_predicts():
    steps = play(ENV, [1.0, -1.0, 0.5])
    np.testing.assert_allclose([step.reward for step in steps], [0.5, 0.0, 0.25], atol=1e-6)
    np.testing.assert_allclose(steps[-1].obs["feature"], [0.25, 1.25], atol=1e-6)
    assert not any(step.is_last for step in steps)


def test_an_episode_is_truncated_at_the_horizon_and_ends_where_the_model_says():
    steps = play(ENV, [0.0] * 5)
    assert [bool(step.is_last) for step in steps] == [False] * 4 + [True]
    assert not any(step.is_terminal for step in steps)
    ended = play(dataclasses.replace(ENV, end="likely"), [1.0, 1.0, 1.0], start=2)
    assert [bool(step.is_terminal) for step in ended] == [False, False, True]
    assert not any(
        step.is_terminal for step in play(dataclasses.replace(ENV, end="never"), [1.0] * 4, start=2)
    )


def test_ends_are_drawn_with_their_probability():
    fair = SIMULATOR._replace(
        predict=lambda params, feature: Expected(feature[..., 0], jnp.full(feature.shape[:-1], 0.8))
    )
    env = dataclasses.replace(ENV, simulator=fair)
    state, _ = env.reset(KEY)
    step = jax.jit(jax.vmap(lambda key: env.step(state, {"move": jnp.zeros(1)}, key)[1].is_terminal))
    assert abs(float(step(jax.random.split(KEY, 4000)).mean()) - 0.2) < 0.03


def test_temperature_scales_the_noise():
    spread = []
    for temperature in (0.0, 1.0, 2.0):
        env = dataclasses.replace(ENV, temperature=temperature)
        state, _ = env.reset(KEY)
        step = jax.vmap(
            lambda key, env=env, state=state: env.step(state, {"move": jnp.zeros(1)}, key)[1].reward
        )
        spread.append(float(step(jax.random.split(KEY, 2000)).std()))
    assert spread[0] == 0 and spread[1] == pytest.approx(0.1, rel=0.1)
    assert spread[2] == pytest.approx(2 * spread[1], rel=1e-4)


def test_pictures_are_decoded_to_bytes():
    env = dataclasses.replace(ENV, shown="decoded")
    assert env.obs_space == {"image": OBS["image"]}
    (step,) = play(env, [0.5])
    assert step.obs["image"].dtype == jnp.uint8 and step.obs["image"].shape == (2, 2, 1)
    np.testing.assert_array_equal(np.unique(step.obs["image"]), [64])


def test_actions_are_clipped_as_an_environment_clips_them():
    (far,), (near,) = play(ENV, [7.0]), play(ENV, [1.0])
    np.testing.assert_array_equal(far.obs["feature"], near.obs["feature"])


def test_a_dream_is_shown_an_observation_and_goes_on_from_there():
    state, _ = ENV.reset(KEY)
    state, _ = ENV.step(state, {"move": jnp.zeros(1)}, KEY)
    start = ENV.set_state(state, np.array([1.0, 2.0], np.float32))
    edited = jax.jit(ENV.edit)(start, {"x": jnp.array([3.0, 0.0])}, KEY)
    assert int(edited.time) == int(state.time) == 1
    np.testing.assert_allclose(ENV.observe(edited)["feature"], [2.0, 1.0])
    after, step = ENV.step(edited, {"move": jnp.ones(1)}, KEY)
    np.testing.assert_allclose(step.obs["feature"], [2.5, 1.5])
    np.testing.assert_array_equal(ENV.step(edited, {"move": jnp.ones(1)}, KEY)[0].model, after.model)


@pytest.mark.parametrize(
    "model", [np.zeros(3, np.float32), np.zeros(2, np.int32), (np.zeros(2, np.float32),)]
)
def test_only_a_state_of_the_model_is_put_into_a_dream(model):
    with pytest.raises(UserError, match=r"a state of this world has the arrays \{'': 'float32\[2\]'\}, not"):
        ENV.set_state(ENV.reset(KEY)[0], model)
    blind = dataclasses.replace(ENV, simulator=SIMULATOR._replace(edit=None))
    with pytest.raises(UserError, match="can't be shown an observation within a dream; use set_state"):
        blind.edit(ENV.reset(KEY)[0], {"x": jnp.zeros(2)}, KEY)


def test_gymnasium_finds_nothing_wrong_with_a_dream():
    view = GymView(dataclasses.replace(ENV, shown="decoded"))
    check_env(view, skip_render_check=True)
    view.reset(seed=0)
    ends = [view.step({"move": np.zeros(1)})[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]


def test_many_dreams_run_in_one_program_and_begin_anew():
    env = batched(ENV)
    state, rows = env.reset(jax.random.split(KEY, 4))
    for time in range(12):
        assert rows.is_first.all() == (time % 6 == 0)
        state, rows = jax.jit(env.step)(state, {"move": jnp.zeros((4, 1))})


def test_dreams_begin_where_real_rows_lead():
    random = np.random.default_rng(0)
    obs, move = (
        random.normal(size=(3, 4, 2)).astype(np.float32),
        random.uniform(-1, 1, (3, 4, 1)).astype(np.float32),
    )
    first = np.zeros((3, 4), bool)
    first[1, 2] = True  # an episode that begins within the rows
    flags = (np.zeros((3, 4), np.float32), first, np.zeros((3, 4), bool), np.zeros((3, 4), bool))
    batch = Batch({"x": obs}, {"move": move}, *flags, extras={})
    found = np.asarray(burn_in(SIMULATOR, PARAMS, batch, KEY))
    for index in range(3):
        state = np.zeros(2)
        for time in range(4):
            begins = time == 0 or first[index, time]
            state = 0.5 * (0 if begins else state + 0.5 * move[index, time - 1]) + 0.5 * obs[index, time]
        np.testing.assert_allclose(found[index], state, rtol=1e-5)
    states, features = dream.open_loop(SIMULATOR, PARAMS, batch, 4, KEY)
    np.testing.assert_allclose(states[:, -1], found, rtol=1e-6)
    assert features.shape == (3, 4, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"simulator": SIMULATOR._replace(predict=None)}, "predicts no reward"),
        ({"simulator": SIMULATOR._replace(decode=None), "shown": "decoded"}, "can't decode"),
        ({"horizon": 0}, "horizon 0"),
        ({"temperature": -1.0}, "temperature -1"),
    ],
)
def test_what_a_world_can_not_do_is_said(changes, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(ENV, **changes)


def test_a_dream_says_in_one_line_what_it_is():
    assert repr(ENV) == "DreamEnv(shows feature: float32 (2,); takes move: float32 (1,))"
