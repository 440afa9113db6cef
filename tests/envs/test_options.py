"""Options of an environment's constructor: any name, any value, on every way that leads to it."""

import dataclasses
import pickle
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import toys
from gymnasium import spaces

from dreamworld import cli, presets
from dreamworld.config import Config, EnvConfig
from dreamworld.envs import make_env, make_vector_env
from dreamworld.envs.jax import make_jax_env
from dreamworld.errors import UserError

# Parameters of make_env, gymnasium.make and every function between them and the constructor.
TAKEN = "name value config rest env_id id time_limit seed num options env args kwargs self cls factory label target"
NAMES = [*TAKEN.split(), "spec", "family", "prefix", "steps", "size"]


class Open(toys.Counter):
    """Keeps whatever it is made with."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(*args: Any, **kept: Any):
        toys.Counter.__init__(*args)
        args[0].kept = kept

    @property
    def unwrapped(self):
        return self


class Road(gymnasium.Env):
    """Takes one mapping, as highway-env does: unknown keys in it are kept, known ones change the spaces."""

    metadata = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012
    action_space = spaces.Discrete(5)

    def __init__(self, config: dict | None = None, render_mode: str | None = None):
        self.config = {"vehicles_count": 15, **(config or {})}
        self.shape = (self.config["vehicles_count"], 5)
        self.observation_space = spaces.Box(-np.inf, np.inf, self.shape, np.float32)
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(self.shape, np.float32), {}


@pytest.fixture(autouse=True)
def registered():
    entries: dict[str, Any] = {"Open-v0": Open, "toy-road-v0": Road}
    for name, entry in entries.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry)


def kept(env):
    return env._env.unwrapped.kept


@pytest.mark.parametrize("target", ["gym_Open-v0", "test_options:Open", Open], ids=str)
def test_an_option_may_have_any_name(target, monkeypatch):
    monkeypatch.setitem(sys.modules, "test_options", sys.modules[__name__])
    for name in NAMES:
        value = {"vehicles_count": 5}
        assert kept(make_env(target, **{name: value})) == {name: value}
        assert kept(make_env(target, EnvConfig(options=f"{name}=[1,2]"))) == {name: [1, 2]}


def test_options_reach_the_constructor_with_their_types():
    text = 'sutton_barto_reward=false,seed=null,lanes=[1,2],config={"a": [1, {"b": "x"}]},rate=1e-3,label="1"'
    env = make_env("gym_Open-v0", EnvConfig(options=text))
    assert kept(env) == {
        "sutton_barto_reward": False,
        "seed": None,
        "lanes": [1, 2],
        "config": {"a": [1, {"b": "x"}]},
        "rate": 1e-3,
        "label": "1",
    }


def test_python_options_win_over_the_configs_and_need_not_be_text():
    thing = object()
    env = make_env("gym_Open-v0", EnvConfig(options="a=1,b=2"), b=thing)
    assert kept(env) == {"a": 1, "b": thing}


def test_an_environment_that_takes_a_mapping_called_config_is_made():
    for env in (
        make_env("gym_toy-road-v0", config={"vehicles_count": 5}),
        make_env("gym_toy-road-v0", EnvConfig(options='config={"vehicles_count": 5}')),
        make_env(Road, config={"vehicles_count": 5}),
    ):
        assert env.obs_space["vector"].shape == (5, 5)
    env = make_env("gym_toy-road-v0", config=EnvConfig(options='config={"vehicles_count": 5}'))
    assert env.obs_space["vector"].shape == (5, 5)


def test_gymnasiums_own_options_still_are():
    env = make_env("gym_CartPole-v1", EnvConfig(options="max_episode_steps=3"))
    env.reset(0)
    assert [env.step({"action": np.array(0)}).is_last for _ in range(3)] == [False, False, True]
    env: Any = make_env("gym_CartPole-v1", sutton_barto_reward=True)
    assert env._env.unwrapped._sutton_barto_reward is True


def test_jax_environments_take_options_of_any_name_on_both_engines():
    with pytest.raises(UserError, match="no option 'name'"):
        make_jax_env("jax_catch", name=3)
    with pytest.raises(UserError, match="no option 'config'"):
        make_env("jax_catch", config={})
    config = EnvConfig(num=2, options="rows=6,cols=5")
    for engine in ("jax", "inprocess"):
        env = make_vector_env("jax_catch", dataclasses.replace(config, engine=engine), seed=0)
        shape = env.obs_space["vector"].shape
        assert shape == make_jax_env("jax_catch", rows=6, cols=5).obs_space["vector"].shape
    env = make_vector_env("dreamworld.envs.jax.catch:Catch", config, seed=0)
    assert env.engine == "jax" and env.obs_space["vector"].shape == shape
    with pytest.raises(UserError, match=r"can't call Catch.*'nonsense'"):
        make_vector_env("dreamworld.envs.jax.catch:Catch", EnvConfig(options="nonsense=1"), seed=0)


def test_a_mapping_in_a_preset_is_the_same_as_text(tmp_path):
    text = "env:\n  options:\n    a: 1\n    b: [1, x]\n    c: '1'\n    d: {e: false}\n"
    (tmp_path / "a.yaml").write_text(text + "  randomize: {gravity: -12:-8, map: [small, large]}\n")
    config = presets.apply(Config(), [str(tmp_path / "a.yaml")])
    typed = cli.parse(
        [
            "--env.options",
            'a=1, b=[1,x], c="1", d={e: False}',
            "--env.randomize",
            "gravity=-12:-8,map=small|large",
        ]
    )
    assert config == typed and hash(config) == hash(typed) and not presets.diff(config, typed)
    presets.save_yaml(config, tmp_path / "config.yaml")
    again = presets.load_yaml(tmp_path / "config.yaml")
    assert again == config == pickle.loads(pickle.dumps(config))
    assert EnvConfig(options={"a": 1, "b": [1, "x"], "c": "1", "d": {"e": False}}) == dataclasses.replace(  # type: ignore[arg-type]
        typed.env, randomize=""
    )


def test_options_that_can_not_be_read_are_refused_before_anything_is_built(tmp_path):
    with pytest.raises(UserError, match=r"^--env\.options: 'a=no' can|^--env\.options: 'no' can be read"):
        cli.parse(["--env.options", "a=no"])
    with pytest.raises(UserError, match=r"^--env\.randomize: 'x': write option=low:high"):
        cli.parse(["--env.randomize", "x"])
    (tmp_path / "a.yaml").write_text("env: {options: [1, 2]}\n")
    with pytest.raises(UserError, match=r"a\.yaml: env\.options: got .* expects options of the environment"):
        presets.apply(Config(), [str(tmp_path / "a.yaml")])
