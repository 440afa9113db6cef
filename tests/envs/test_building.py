"""Environments that can't be built, or return what can't be taken: one line that says where, said once."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from dreamworld.config import Config, EnvConfig
from dreamworld.envs import make_env
from dreamworld.envs.building import building
from dreamworld.envs.check import check_env
from dreamworld.envs.jax.catch import Catch
from dreamworld.envs.vector import make_vector_env
from dreamworld.errors import UserError
from dreamworld.sessions.pieces import make_eval_env, make_train_env
from dreamworld.types import Space


class Sound(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}


class Raises(Sound):
    def __init__(self):
        raise KeyError("no licence")


class Exits(Sound):
    def __init__(self):
        raise SystemExit(3)


class Late(Sound):
    @property
    def observation_space(self):
        raise RuntimeError("not ready")


def config(engine, num=2):
    return Config(env=EnvConfig(engine=engine, num=num, workers=2 if engine == "process" else 0))


@pytest.mark.parametrize("engine", ["auto", "inprocess"])
@pytest.mark.parametrize(
    ("made", "said"),
    [
        (Raises, r"it raised KeyError: 'no licence' \(.*test_building\.py:\d+, in __init__\)"),
        (Late, r"it raised RuntimeError: not ready \(.*test_building\.py:\d+, in observation_space\)"),
    ],
)
def test_what_a_constructor_raises_is_one_line_with_its_place(engine, made, said):
    for build in (make_train_env, lambda *words: make_eval_env(*words, episodes=2)):
        with pytest.raises(
            UserError, match=rf"^environment '\S+{made.__name__}' can't be built: {said}$"
        ) as found:
            build(config(engine), made)
        assert found.value.__cause__ is not None


def test_what_it_raises_in_a_worker_is_told_the_same_way(tmp_path, monkeypatch):
    (tmp_path / "broken_walk.py").write_text(
        "import gymnasium\n\n\nclass Walk(gymnasium.Env):\n"
        "    def __init__(self):\n        raise KeyError('no licence')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    said = r"can't be built: it raised .*KeyError: 'no licence' \(.*broken_walk\.py:6, in __init__\)$"
    with pytest.raises(UserError, match=said):
        make_train_env(dataclasses.replace(config("process"), task="broken_walk:Walk"))


def test_a_constructor_that_ends_the_process_does_not():
    with pytest.raises(UserError, match="can't be built: it ended the process with exit status 3"):
        make_train_env(config("inprocess"), Exits)


def test_other_exits_and_errors_pass():
    class Signal(SystemExit):
        pass

    for error in (Signal(75), UserError("as it is"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as found, building("x"):
            raise error
        assert found.value is error


@pytest.mark.parametrize("missing", ["observation_space", "action_space"])
def test_a_gymnasium_environment_without_a_space_is_told_which(missing):
    made = type("Bare", (Sound,), {missing: None})
    with pytest.raises(UserError, match=rf"has no {missing}: set it to a gymnasium space"):
        make_env(made)


@pytest.mark.parametrize(
    "names", [{"observation_space": "a\nb"}, {"action_space": "\x1b[31m"}], ids=["observation", "action"]
)
def test_control_characters_in_names_are_refused(names):
    spaces = {name: gymnasium.spaces.Dict({key: getattr(Sound, name)}) for name, key in names.items()}
    with pytest.raises(UserError, match=r"is called '.*': control characters are refused"):
        make_env(type("Odd", (Sound,), spaces))


def test_control_characters_in_names_of_a_jax_environment_are_refused():
    class Odd(Catch):
        @property
        def act_space(self):
            return {"a\nb": Space((), "int32", classes=3)}

    with pytest.raises(UserError, match=r"an action is called 'a\\nb'"):
        make_vector_env(Odd, EnvConfig(engine="jax"), seed=0, num=2)


def returned(**changes):
    """An environment whose step returns something else from the third on."""

    class Changing(Sound):
        observation_space = gymnasium.spaces.Dict({"a": Sound.observation_space})
        time = 0

        def reset(self, *, seed=None, options=None):
            gymnasium.Env.reset(self, seed=seed)
            return {"a": np.zeros(2, np.float32)}, {}

        def step(self, action):
            self.time += 1
            result = {"obs": {"a": np.zeros(2, np.float32)}, "reward": 0.0, "end": (False, False, {})}
            result |= changes if self.time > 2 else {}
            return (result["obs"], result["reward"], *result["end"])

    return Changing


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"obs": {"b": np.zeros(2, np.float32)}},
            "observation 'a' is missing: the environment returned a dict of 1",
        ),
        (
            {"obs": {"a": np.zeros(3, np.float32)}},
            "observation 'a' is outside its space: its shape is (3,), the ",
        ),
        ({"obs": None}, "observation 'a' is missing: the environment returned None"),
        ({"reward": None}, "reward is a NoneType, not a number"),
        ({"reward": "1.0"}, "reward is a str, not a number"),
        ({"reward": 1 + 2j}, "reward is a complex ((1+2j)), not one number"),
        (
            {"end": (False, {})},
            "step() returned a tuple of 4; gymnasium wants (obs, reward, terminated, truncated, ",
        ),
    ],
    ids=["key", "shape", "none", "no reward", "text", "complex", "old api"],
)
def test_a_check_names_each_problem_once(changes, said):
    (problem,) = check_env(lambda: make_env(returned(**changes))).problems
    assert problem.startswith(said)
