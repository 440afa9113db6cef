"""Every API is recognised by several of its attributes; what is not supported says so in one line with a way out.

The classes below have the attributes and signatures of the libraries that they are called after.
"""

from typing import Any

import gymnasium
import numpy as np
import pytest
import toys
from gymnasium import spaces

from dreamworld.config import EnvConfig
from dreamworld.envs import make_env, make_vector_env
from dreamworld.envs.adapters.kinds import recognise, why_foreign
from dreamworld.envs.jax import make_jax_env
from dreamworld.errors import UserError

BOX, DISCRETE = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)


class PettingZooAEC:
    """pettingzoo.AECEnv: `agents` appears with the first reset."""

    metadata = {"render_modes": []}  # noqa: RUF012
    possible_agents = ["a", "b"]  # noqa: RUF012
    observation_spaces = action_spaces = {"a": BOX, "b": BOX}  # noqa: RUF012

    def observation_space(self, agent): ...
    def action_space(self, agent): ...
    def reset(self, seed=None, options=None): ...
    def step(self, action): ...
    def last(self, observe=True): ...
    def agent_iter(self, max_iter=2**63): ...
    def state(self): ...


class PettingZooParallel:
    metadata = {"render_modes": []}  # noqa: RUF012
    possible_agents = ["a", "b"]  # noqa: RUF012

    def observation_space(self, agent): ...
    def action_space(self, agent): ...
    def reset(self, seed=None, options=None): ...
    def step(self, actions): ...
    def state(self): ...


class JaxMarl:
    agents = ["a", "b"]  # noqa: RUF012
    num_agents = 2

    def observation_space(self, agent): ...
    def action_space(self, agent): ...
    def reset(self, key): ...
    def step(self, key, state, actions, reset_state=None): ...


class Rllib:
    """ray.rllib.env.MultiAgentEnv with the spaces of each agent."""

    agents = possible_agents = ["a", "b"]  # noqa: RUF012
    observation_space = action_space = None
    observation_spaces = action_spaces = {"a": BOX, "b": BOX}  # noqa: RUF012

    def reset(self, *, seed=None, options=None): ...
    def step(self, action_dict): ...


class Jumanji:
    """jumanji.Environment since 1.0: specs are attributes."""

    observation_spec = action_spec = reward_spec = discount_spec = object()

    def reset(self, key): ...
    def step(self, state, action): ...


class JumanjiBefore:
    """jumanji.Environment before: specs are methods, as in dm_env."""

    def observation_spec(self): ...
    def action_spec(self): ...
    def reward_spec(self): ...
    def reset(self, key): ...
    def step(self, state, action): ...


class Brax:
    """brax.envs.Env and mujoco_playground.MjxEnv."""

    observation_size, action_size, backend = 4, 2, "spring"

    def reset(self, rng): ...
    def step(self, state, action): ...


class Functional:
    def reset(self, rng): ...
    def step(self, state, action): ...


class Torchrl:
    observation_spec = action_spec = object()

    def rollout(self, max_steps): ...
    def reset(self, tensordict=None, **kwargs): ...
    def step(self, tensordict): ...


class Robosuite:
    action_spec = (np.zeros(2), np.ones(2))

    def observation_spec(self): ...
    def reset(self): ...
    def step(self, action): ...


class StableBaselinesVector:
    num_envs, observation_space, action_space = 2, BOX, DISCRETE

    def reset(self): ...
    def step(self, actions): ...
    def step_async(self, actions): ...
    def step_wait(self): ...


class Envpool:
    observation_space, action_space, config = BOX, DISCRETE, {"num_envs": 2}

    def reset(self): ...
    def step(self, action): ...
    def send(self, action): ...
    def recv(self): ...
    def async_reset(self): ...


class OldSpace:
    shape = (3,)


class OldGym:
    observation_space, action_space = OldSpace(), OldSpace()

    def reset(self): ...
    def step(self, action): ...


class HalfOldGym(OldGym):
    observation_space: Any = BOX


class SpacesAsMethods(OldGym):
    def observation_space(self): ...  # type: ignore[override]
    def action_space(self): ...  # type: ignore[override]


class PlainSpaces(gymnasium.Env):
    observation_space: Any = {"a": BOX}  # noqa: RUF012
    action_space: Any = DISCRETE

    def reset(self, *, seed=None, options=None): ...
    def step(self, action): ...


class PlainActions(PlainSpaces):
    observation_space: Any = BOX
    action_space: Any = (DISCRETE, BOX)


class NoSpaces:
    def reset(self): ...
    def step(self, action): ...


FOREIGN = [
    (PettingZooAEC, "is multi-agent (as PettingZoo's, one agent after the other): give one agent's view"),
    (PettingZooParallel, "is multi-agent (as PettingZoo's, all agents at once): give one agent's view"),
    (JaxMarl, "is multi-agent"),
    (Rllib, "is multi-agent"),
    (Jumanji, "is a jumanji environment: wrap it with jumanji's own jumanji.wrappers.JumanjiToGymWrapper"),
    (JumanjiBefore, "is a jumanji environment"),
    (Brax, "is a brax environment: write its reset and step as a dreamworld.types.JaxEnv"),
    (Functional, "is a JAX environment of another kind, with reset(key) and step(state, action)"),
    (Torchrl, "is a torchrl environment: give the environment that it wraps"),
    (Robosuite, "is a robosuite environment: wrap it with robosuite.wrappers.GymWrapper"),
    (StableBaselinesVector, "is a vector environment; give one environment"),
    (Envpool, "is a vector environment"),
    (lambda: gymnasium.make_vec("CartPole-v1", 2), "is a vector environment"),
    (lambda: make_vector_env(toys.Counter, EnvConfig(), seed=0, num=2), "is a vector environment"),
    (OldGym, "OldSpace, not a gymnasium space: the old gym API is not supported"),
    (HalfOldGym, "OldSpace, not a gymnasium space: the old gym API is not supported"),
    (SpacesAsMethods, "has a method observation_space(), but does not step as gymnax does"),
    (NoSpaces, "made a NoSpaces; expected a gymnasium.Env"),
    (lambda: (toys.Counter(), {}), "made a tuple of 2: return the environment alone"),
    (
        lambda: toys.Counter,
        "made the class Counter: return an environment, Counter(), or give the class itself",
    ),
    (PlainSpaces, "has a plain dict as observation_space: write gymnasium.spaces.Dict(…) around it"),
    (PlainActions, "has a plain tuple as action_space: write gymnasium.spaces.Tuple(…) around it"),
    (lambda: None, "made a NoneType; expected a gymnasium.Env"),
]


@pytest.mark.parametrize(("make", "text"), FOREIGN, ids=lambda value: getattr(value, "__name__", None))
def test_what_is_not_supported_is_named_with_a_way_out(make, text):
    with pytest.raises(UserError) as error:
        make_env(make)
    assert text in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith("environment ")


@pytest.mark.parametrize("make", [PettingZooAEC, PettingZooParallel, JaxMarl, Jumanji, Brax], ids=str)
@pytest.mark.parametrize("engine", ["auto", "jax", "inprocess"])
def test_no_engine_takes_them(make, engine):
    for source, num in ((make, 2), (make(), 1)):
        with pytest.raises(UserError, match=r"is (multi-agent|a jumanji|a brax)"):
            make_vector_env(source, EnvConfig(engine=engine), seed=0, num=num)


class Gymnax:
    default_params = None

    def observation_space(self, params): ...
    def action_space(self, params=None): ...
    def reset(self, key, params=None): ...
    def step(self, key, state, action, params=None): ...


class Remarkable(toys.Counter):
    """A gymnasium environment whose other attributes are those of other libraries."""

    num_envs, agents, possible_agents, default_params, backend = 4, ["me"], ["me"], {}, "x"
    single_observation_space, observation_size, config = BOX, 3, {}

    def observation_spec(self): ...
    def send(self): ...
    def recv(self): ...


class DmWithAgents(toys.DmCounter):
    agents, num_envs, observation_size = ["me"], 1, 3

    def step(self, action, verbose=False):
        return super().step(action)


class OpenSignatures(toys.DmCounter):
    """As behind a wrapper that passes on everything."""

    def reset(self, *args, **kwargs):
        return super().reset()

    def step(self, *args, **kwargs):
        return super().step(*args)


@pytest.mark.parametrize(
    ("env", "kind"),
    [
        (toys.Counter(), "gymnasium"), (Remarkable(), "gymnasium"), (gymnasium.make("CartPole-v1"), "gymnasium"),
        (toys.DmCounter(), "dm_env"), (DmWithAgents(), "dm_env"), (OpenSignatures(), "dm_env"),
        (toys.Own(), "own"), (make_jax_env("jax_catch"), "jax"), (Gymnax(), "gymnax"),
    ],
)  # fmt: skip
def test_one_attribute_of_another_library_changes_nothing(env, kind):
    assert recognise(env) == kind


def test_a_reason_is_given_for_whatever_is_foreign():
    for value in (object(), 3, [], (), "text", np.zeros(3), Functional):
        assert (recognise(value) == "foreign" and "made " in why_foreign(value)) or "JAX" in why_foreign(
            value
        )
