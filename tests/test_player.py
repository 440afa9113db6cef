import dataclasses
import itertools
import re

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from dreamworld import testing
from dreamworld.agents import make_agent
from dreamworld.config import EnvConfig
from dreamworld.envs.spaces import make_act_codec, make_obs_codec
from dreamworld.errors import UserError
from dreamworld.player import Player
from dreamworld.types import Space


class Mixed(gymnasium.Env):
    """Every kind of action and observation; checks the actions that it gets."""

    observation_space = spaces.Dict(
        {
            "place": spaces.Box(-2.0, 2.0, (3,), np.float32),
            "state": spaces.Dict({"phase": spaces.Discrete(4, start=2), "keys": spaces.MultiBinary(3)}),
        }
    )
    action_space = spaces.Dict(
        {
            "torque": spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
            "gear": spaces.Discrete(3, start=-1),
            "levels": spaces.MultiDiscrete([2, 3]),
            "lamps": spaces.MultiBinary(2),
            "ticks": spaces.Box(0, 1000, (), np.int64),
        }
    )

    def __init__(self):
        self.actions = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.actions.append(action)
        return self.observation_space.sample(), 0.0, len(self.actions) % 3 == 0, False, {}


def make_player(env):
    obs, act = make_obs_codec(env.observation_space), make_act_codec(env.action_space)
    agent = make_agent(testing.tiny_config(), obs.spaces, act.spaces)
    return Player(agent, agent.init(jax.random.PRNGKey(0)).params)


def box_env(observation, action):
    class Plain(gymnasium.Env):
        observation_space, action_space = observation, action

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            assert self.action_space.contains(action), action
            return self.observation_space.sample(), 0.0, False, False, {}

    return Plain()


@pytest.fixture(scope="module")
def cart():
    """A vector of 4, two actions: the demo's spaces."""
    return make_player(box_env(spaces.Box(-np.inf, np.inf, (4,), np.float32), spaces.Discrete(2)))


@pytest.fixture(scope="module")
def pendulum():
    """Torques in [-2, 2] and a vector of 3."""
    box = spaces.Box(-np.ones(3, np.float32), np.ones(3, np.float32))
    return make_player(box_env(box, spaces.Box(-2.0, 2.0, (1,), np.float32)))


@pytest.fixture(scope="module")
def mixed():
    return make_player(Mixed())


ROW = [0.0, 0.0, 0.02, 0.0]


@pytest.mark.parametrize(
    "obs",
    [
        {"vector": ROW},
        {"vector": [ROW]},
        {"vector": tuple(ROW), "is_first": True},
        {"vector": [0, 0, 1, 0], "is_first": [True]},
        {"vector": np.array([ROW]), "is_first": np.array([True])},
        {"vector": np.array(ROW, np.float16)},
        {"vector": jnp.asarray(ROW), "is_first": jnp.asarray(True)},
        {"vector": jnp.asarray(ROW, jnp.bfloat16)},
        {"vector": [ROW], "is_first": 1},
        {"vector": ROW, "reward": 0.0, "is_last": False, "is_terminal": False},
        ROW,
        np.array([ROW]),
    ],
    ids=str,
)
def test_observations_come_as_lists_numpy_or_jax_arrays_batched_or_not(cart, obs):
    state, action = cart.act(cart.initial(1), obs)
    value = obs["vector"] if isinstance(obs, dict) else obs
    assert action["action"].shape == np.shape(value)[:-1]
    assert action["action"] in (0, 1) and np.issubdtype(action["action"].dtype, np.integer)
    assert state.step == 1


def test_equal_observations_in_any_form_give_equal_actions_and_states(cart):
    forms = ({"vector": ROW}, {"vector": [ROW], "is_first": [True]}, jnp.asarray([ROW], jnp.float32))
    found = [cart.act(cart.initial(), obs) for obs in forms]
    for state, action in found[1:]:
        np.testing.assert_array_equal(np.ravel(action["action"]), np.ravel(found[0][1]["action"]))
        jax.tree.map(np.testing.assert_array_equal, state.carry, found[0][0].carry)


def test_it_says_what_it_is(cart):
    said = r"Player\(sees vector: float32 \(4,\); acts action: 2 classes; [\d,]+ parameters, mode \w+\)"
    assert re.fullmatch(said, repr(cart)), repr(cart)
    state, _ = cart.act(cart.initial(), {"vector": ROW})
    assert repr(state) == "PlayerState(1 call so far, batch 1)"
    acts = "acts {'action': Space((), 'int32', classes=2)}; phases update)"
    assert repr(cart.agent) == f"Agent(sees {dict(cart.agent.obs_space)}; {acts}"
    policy = repr(cart.policy(gymnasium.make("CartPole-v1"), mode="greedy"))
    assert policy == f"Policy(of {cart!r}, mode greedy)" and len(policy) < 150


def test_an_episode_begins_at_the_first_call_only_unless_told(cart):
    state, _ = cart.act(cart.initial(), ROW)
    latent = lambda found: np.asarray(jax.tree.leaves(found[0].carry[0])[0])
    default = latent(cart.act(state, ROW))
    said = [latent(cart.act(state, {"vector": ROW, "is_first": first})) for first in (False, True)]
    np.testing.assert_array_equal(default, said[0])
    assert not np.array_equal(default, said[1])


def test_several_environments_are_one_batch(cart):
    _, action = cart.act(cart.initial(3), {"vector": [ROW] * 3, "is_first": [True, True, True]})
    assert action["action"].shape == (3,)


@pytest.mark.parametrize(
    ("batch", "obs", "text"),
    [
        (1, {}, r"no 'vector'; expected vector: float32 \(4,\)"),
        (
            1,
            {"vecotr": ROW},
            r"'vecotr' is not an observation of this agent; expected vector: float32 \(4,\)",
        ),
        (1, {"vector": ROW, "extra": 1}, r"'extra' is not an observation of this agent; expected vector"),
        (1, {"vector": [0.0, 1.0]}, r"'vector' has the shape \(2,\); expected \(4,\) or \(1, 4\)"),
        (1, {"vector": [ROW, ROW]}, r"shape \(2, 4\); expected \(4,\) or \(1, 4\).*initial\(2\)"),
        (2, {"vector": ROW}, r"shape \(4,\); expected \(2, 4\)"),
        (1, {"vector": [[0.0], [1.0, 2.0]]}, "'vector' is no array"),
        (1, {"vector": "north"}, "'vector' holds text; expected float32"),
        (1, {"vector": None}, "'vector' is no array"),
        (1, {"vector": [0.0, 1.0, 2.0, 1j]}, "'vector' holds complex128; expected float32"),
        (1, {"vector": [0.0, np.nan, 0.0, 0.0]}, "'vector' holds nan or inf"),
        (1, {"vector": [0.0, 1e300, 0.0, 0.0]}, "'vector' holds nan or inf"),
        (
            1,
            {"vector": ROW, "is_first": [True, False]},
            r"'is_first' has the shape \(2,\); expected one bool",
        ),
        (1, {"vector": ROW, "is_first": "yes"}, "'is_first' holds text; expected bool"),
        (1, {"vector": ROW, "is_first": 7}, "'is_first' holds 7; expected bool"),
        (1, [1.0], r"'vector' has the shape \(1,\)"),
        (1, "text", "'vector' holds text"),
    ],
    ids=str,
)
def test_an_observation_that_does_not_fit_is_one_line_that_names_what_is_expected(cart, batch, obs, text):
    with pytest.raises(UserError, match=text) as found:
        cart.act(cart.initial(batch), obs)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"state/phase": 4}, "'state/phase' holds 4; expected a class from 0 to 3"),
        ({"state/phase": -1}, "'state/phase' holds -1"),
        ({"state/phase": 0.5}, "'state/phase' holds float64; expected 4 classes"),
        ({"state/phase": [1]}, "'state/phase' has a batch axis and 'place' has none"),
        ({"place": [0.0]}, "'place' has the shape"),
    ],
    ids=str,
)
def test_classes_and_several_keys_are_checked(mixed, changes, text):
    obs = {"place": [0.0] * 3, "state/phase": 1, "state/keys": [0, 1, 0]}
    mixed.act(mixed.initial(), obs)
    with pytest.raises(UserError, match=text):
        mixed.act(mixed.initial(), obs | changes)


def test_a_bare_array_needs_one_observation_key(mixed):
    with pytest.raises(UserError, match=r"several observations; give a mapping: place: float32 \(3,\)"):
        mixed.act(mixed.initial(), [0.0] * 3)


def test_an_image_must_be_bytes():
    env = box_env(spaces.Box(0, 255, (16, 16, 3), np.uint8), spaces.Discrete(2))
    player = make_player(env)
    image = np.full((16, 16, 3), 200, np.uint8)
    for given in (image, image.tolist(), image.astype(np.int64)[None]):
        player.act(player.initial(), {"image": given})
    with pytest.raises(UserError, match=r"'image' holds float64; expected uint8 \(16, 16, 3\)"):
        player.act(player.initial(), {"image": image / 255})
    with pytest.raises(UserError, match="'image' holds 256; expected values from 0 to 255"):
        player.act(player.initial(), {"image": np.full((16, 16, 3), 256)})
    with pytest.raises(UserError, match=r"'image' has the shape \(3, 16, 16\); expected \(16, 16, 3\)"):
        player.act(player.initial(), {"image": image.transpose(2, 0, 1)})


def test_actions_come_in_the_bounds_of_the_environment_and_normalised_on_request(pendulum):
    state, obs = pendulum.initial(), [0.1, 0.2, 0.3]
    _, own = pendulum.act(state, obs)
    _, unit = pendulum.act(state, obs, normalised=True)
    assert own["action"].dtype == np.float32 and own["action"].shape == (1,)
    assert 0 < abs(unit["action"][0]) <= 1
    np.testing.assert_allclose(own["action"], 2 * unit["action"], rtol=1e-6)
    env = gymnasium.make("Pendulum-v1")
    obs, _ = env.reset(seed=0)
    env.step(pendulum.act(state, obs)[1]["action"])
    env.close()


def test_the_mode_is_chosen_per_call(cart):
    state, obs = cart.initial(64), {"vector": [ROW] * 64}
    actions = lambda player, **options: player.act(state, obs, **options)[1]["action"].tolist()
    greedy = Player(cart.agent, cart.params, mode="greedy")
    assert actions(cart, mode="greedy") == actions(greedy) != actions(cart)
    assert actions(greedy, mode="sample") == actions(cart)
    with pytest.raises(UserError, match="mode 'best': expected sample or greedy"):
        cart.act(state, obs, mode="best")
    with pytest.raises(UserError, match="mode 'best': expected sample or greedy"):
        cart.policy(gymnasium.make("CartPole-v1"), mode="best")
    with pytest.raises(UserError, match="mode 'best'"):
        Player(cart.agent, cart.params, mode="best")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="batch 0: needs at least 1"):
        cart.initial(0)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_a_policy_plays_a_plain_gymnasium_environment(cart, pendulum, name):
    player = cart if name == "CartPole-v1" else pendulum
    env = gymnasium.make(name)
    policy = player.policy(env)
    obs, _ = env.reset(seed=0)
    for _ in range(5):
        obs, _, terminated, truncated, _ = env.step(policy(obs))
        if terminated or truncated:
            obs, _ = env.reset()
            policy.reset()
    env.close()


def test_a_policy_plays_nested_spaces_and_every_kind_of_action(mixed):
    env = Mixed()
    policy = mixed.policy(env)
    obs, _ = env.reset(seed=0)
    for _ in range(6):
        obs, *_ = env.step(policy(obs))
    assert len(env.actions) == 6 and set(env.actions[0]) == {"torque", "gear", "levels", "lamps", "ticks"}


def test_a_policy_starts_anew_after_reset(cart):
    env = gymnasium.make("CartPole-v1")
    policy, again = cart.policy(env, mode="greedy"), cart.policy(env, mode="greedy")
    latent = lambda found: np.asarray(jax.tree.leaves(found.state.carry[0])[0])
    for value in (policy, again):
        value(np.array(ROW, np.float32))
        value(np.array(ROW, np.float32))
    np.testing.assert_array_equal(latent(policy), latent(again))
    policy.reset()
    for value in (policy, again):
        value(np.array(ROW, np.float32))
    assert not np.array_equal(latent(policy), latent(again))
    env.close()


def test_a_policy_shows_and_repeats_as_training_did():
    config = EnvConfig(resize=True, size=(16, 16), gray=True, stack=2, repeat=3)
    env = box_env(spaces.Box(0, 255, (20, 24, 3), np.uint8), spaces.Box(-1.0, 1.0, (2,), np.float32))
    agent = make_agent(
        testing.tiny_config(),
        {"image": Space((16, 16, 2), "uint8", low=0, high=255)},
        make_act_codec(env.action_space).spaces,
    )
    player = Player(agent, agent.init(jax.random.PRNGKey(0)).params, env=config)
    policy = player.policy(env)
    actions = [policy(env.observation_space.sample()) for _ in range(7)]
    same = [np.array_equal(one, other) for one, other in itertools.pairwise(actions)]
    assert same == [True, True, False, True, True, False]
    plain = dataclasses.replace(config, gray=False)
    with pytest.raises(UserError, match=r"observation 'image' is uint8 \(16, 16, 6\).*uint8 \(16, 16, 2\)"):
        Player(agent, player.params, env=plain).policy(env)


def test_a_policy_reads_pictures_and_tables_as_training_did():
    config = EnvConfig(vector_keys="image", size=(16, 16))
    env = box_env(spaces.Box(0, 255, (32, 40), np.uint8), spaces.Discrete(2))
    agent = make_agent(
        testing.tiny_config(),
        {"vector": Space((32, 40), "float32", low=0, high=255)},
        make_act_codec(env.action_space).spaces,
    )
    player = Player(agent, agent.init(jax.random.PRNGKey(0)).params, env=config)
    assert player.policy(env)(env.observation_space.sample()) in (0, 1)


@pytest.mark.parametrize(
    ("env", "text"),
    [
        (lambda: gymnasium.make("Pendulum-v1"), r"observation 'vector' is float32 \(3,\).*float32 \(4,\)"),
        (lambda: gymnasium.make("MountainCar-v0"), "observation 'vector'"),
        (lambda: gymnasium.make_vec("CartPole-v1", 2), "vector environment"),
        (lambda: object(), "expected a gymnasium environment"),
        (lambda: "CartPole-v1", "expected a gymnasium environment"),
        (
            lambda: box_env(spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(3)),
            "action 'action' is 3 classes",
        ),
        (lambda: box_env(Mixed.observation_space, spaces.Discrete(2)), "observation"),
    ],
)
def test_an_environment_that_does_not_fit_the_agent_is_named(cart, env, text):
    with pytest.raises(UserError, match=text):
        cart.policy(env())


@pytest.mark.parametrize("batch", [0, -1, 2.0, "3", None], ids=repr)
def test_a_batch_is_a_whole_number(cart, batch):
    with pytest.raises(UserError, match=r"initial: batch .*needs at least 1, a whole number"):
        cart.initial(batch)


@pytest.mark.parametrize("state", [None, 3, (1, 2, 3), ROW], ids=str)
def test_what_is_no_state_is_named(cart, state):
    with pytest.raises(UserError, match="what `initial` or the last `act` returned"):
        cart.act(state, ROW)
