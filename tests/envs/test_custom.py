import importlib.metadata
import subprocess
import sys
from typing import NamedTuple

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from dreamworld.envs import make_env
from dreamworld.envs.adapters.dm import DmEnv
from dreamworld.envs.adapters.gym import GymEnv
from dreamworld.envs.adapters.jax_host import JaxHostEnv
from dreamworld.envs.jax import make_jax_env
from dreamworld.errors import UserError


def make_counter(length: int = 4):
    return toys.Counter(length)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("toys:Counter", GymEnv),
        (toys.Counter, GymEnv),
        (toys.Counter(), GymEnv),
        (make_counter, GymEnv),
        ("toys:DmCounter", DmEnv),
        (toys.DmCounter(), DmEnv),
        ("toys:Own", toys.Own),
        ("dreamworld.envs.jax.catch:Catch", JaxHostEnv),
        (make_jax_env("jax_catch"), JaxHostEnv),
    ],
)
def test_every_kind_of_environment_plugs_in(target, kind):
    env = make_env(target)
    assert isinstance(env, kind)
    assert env.reset(0).is_first
    random = np.random.default_rng(0)
    row = env.step({key: space.sample(random) for key, space in env.act_space.items()})
    assert row.obs.keys() == env.obs_space.keys()


def test_options_go_to_the_constructor():
    assert make_env("toys:Counter", length=9)._env.length == 9  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"can't call Counter\(length.*'size'"):
        make_env("toys:Counter", size=3)
    with pytest.raises(UserError, match="is an object already"):
        make_env(toys.Counter(), length=3)


def test_dm_factories_with_a_seed_parameter_are_seeded():
    env = make_env(toys.DmCounter, length=7)
    env.reset(5)
    assert env._env.seed == 5 and env._env.length == 7  # type: ignore[attr-defined]


def test_a_module_in_the_current_directory_is_found(tmp_path):
    (tmp_path / "my_folder_env.py").write_text(
        "from gymnasium.envs.classic_control import CartPoleEnv\nclass MyEnv(CartPoleEnv): pass\n"
    )
    code = (
        "from dreamworld.envs import make_env;"
        "print(make_env('my_folder_env:MyEnv').obs_space['vector'].shape)"
    )
    # -P: as a console script, without the current directory on the path.
    result = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.strip() == "(4,)", result.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no_such_module:Env", "no module named 'no_such_module'"),
        ("jax:catch", r"\? An environment of jax_… is written jax_catch"),
        ("dmc:walker_walk", r"Python path\). An environment of dmc_… is written dmc_walker_walk"),
        ("toys:Countr", "toys has no 'Countr'; did you mean Counter"),
        ("toys:np", "made a|is a"),
        (":Counter", "write it as module:Name"),
        ("nothing_like_this", "unknown environment 'nothing_like_this'; there are atari100k_pong"),
        ("atarii_pong", "did you mean atari_pong"),
    ],
)
def test_names_that_can_not_be_built_say_why(name, text):
    with pytest.raises(UserError, match=text) as error:
        make_env(name)
    assert "\n" not in str(error.value)


class OldSpace:
    shape = (3,)


class OldGym(toys.Counter):
    observation_space = OldSpace()  # type: ignore[assignment]


class Half:
    obs_space = act_space = {}  # noqa: RUF012

    def reset(self, seed=None, options=None): ...

    def step(self, action): ...


def test_what_does_not_fit_is_explained():
    with pytest.raises(UserError, match=r"OldSpace, not a gymnasium space: the old gym API"):
        make_env(OldGym)
    with pytest.raises(UserError, match="Half lacks render, save, restore, close"):
        make_env(Half)
    with pytest.raises(UserError, match="is a vector environment"):
        make_env(gymnasium.vector.SyncVectorEnv([toys.Counter]))
    with pytest.raises(UserError, match=r"made a list; expected a gymnasium\.Env"):
        make_env(lambda: [1])


def test_entry_points_serve_their_name_and_every_name_that_begins_with_it(monkeypatch):
    def entry(name, value):
        return importlib.metadata.EntryPoint(name, value, "dreamworld.envs")

    points = importlib.metadata.EntryPoints(
        [entry("toybox", "toys:suite"), entry("toybox_long", "toys:suite"), entry("lonely", "toys:Counter")]
    )
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points.select(group=group))
    monkeypatch.setattr(
        toys, "suite", lambda task="", length=0: toys.Counter(length or len(task)), raising=False
    )
    assert make_env("lonely", length=2)._env.length == 2  # type: ignore[attr-defined]
    assert make_env("toybox_abc")._env.length == 3  # type: ignore[attr-defined]
    assert make_env("toybox_long_ab")._env.length == 2  # type: ignore[attr-defined]
    assert make_env("toybox_abc", length=8)._env.length == 8  # type: ignore[attr-defined]


class GymnaxBox(NamedTuple):
    low: float
    high: float
    shape: tuple[int, ...]
    dtype: type = np.float32


class GymnaxStyle:
    """Counts to three in the style of gymnax."""

    default_params = None

    def observation_space(self, params):
        return GymnaxBox(0.0, 5.0, (1,))

    def action_space(self, params):
        return GymnaxBox(-2.0, 2.0, (1,))

    def reset(self, key, params):
        return jnp.zeros(1), jnp.zeros((), jnp.int32)

    def step(self, key, state, action, params):
        state = state + 1
        return state[None].astype(jnp.float32), state, action[0], state >= 3, {}


def test_a_gymnax_style_object_plugs_in():
    env = make_env(GymnaxStyle())
    env.reset(0)
    rows = [env.step({"action": np.ones(1, np.float32)}) for _ in range(3)]
    assert [float(row.obs["vector"][0]) for row in rows] == [1, 2, 3]
    assert [row.reward for row in rows] == [2, 2, 2]  # 1 is the upper bound
    assert [row.is_last for row in rows] == [False, False, True]
