"""Which engine is chosen, and that it says why."""

import functools
import re

import gymnasium
import numpy as np
import pytest
import vector_toys as toys

from dreamworld.config import AtariConfig, DMCConfig, EnvConfig
from dreamworld.envs.vector.auto import choose, measure_cost
from dreamworld.errors import UserError


def engine(target, num=16, **options):
    return choose(target, EnvConfig(workers=2, **options), num)


def test_jax_environments_run_in_one_vmap_unless_wrapped():
    assert engine("jax_catch")[0] == "jax"
    assert engine("jax_catch", time_limit=5)[0] == "jax"
    name, reason = engine("jax_catch", stack=4)
    assert name == "inprocess" and "env.stack" in reason


def test_atari_runs_on_its_threads_only_where_they_do_what_is_published():
    assert engine("atari_pong", atari=AtariConfig(resize="area"))[0] == "atari"
    assert engine("atari100k_pong", num=1, atari=AtariConfig(resize="area"))[0] == "atari"
    assert engine("atari_pong")[0] == "process"
    assert engine("atari_pong", stack=4, atari=AtariConfig(resize="area"))[0] == "process"


def test_expensive_suites_run_in_workers_without_being_built_here():
    for target in ("crafter_reward", "dmc_walker_walk"):
        name, reason = engine(target, dmc=DMCConfig(obs="vision"))
        assert name == "process" and "known" in reason


def test_one_environment_runs_here():
    assert engine("crafter_reward", num=1) == ("inprocess", "one environment")


def test_measured_cost_decides_between_here_and_workers():
    name, reason = engine(toys.make())
    assert name == "inprocess" and "measured" in reason
    name, reason = engine(toys.make(step_s=2e-3))
    assert name == "process" and "in 2 workers" in reason
    assert choose(toys.make(step_s=2e-3), EnvConfig(workers=1), 16)[0] == "inprocess"


def test_measured_cost_is_that_of_a_row():
    # A reset in every second row costs nothing, so half of what a step takes.
    assert 1e-3 <= (measure_cost(toys.make(step_s=2e-3, length=1), EnvConfig()).cost_s or 0) < 10e-3
    assert 2e-3 < (measure_cost(toys.make(step_s=2e-3, length=1000), EnvConfig()).cost_s or 0) < 20e-3


def test_factory_that_workers_can_not_import_runs_here():
    name, reason = engine(lambda: toys.Counter(step_s=2e-3))
    assert name == "inprocess" and "import" in reason


def test_engine_and_reason_are_told_by_the_environment():
    env = toys.make_vector_env(toys.make(), EnvConfig(), seed=0, num=2)
    assert env.engine == "inprocess" and "measured" in env.engine_reason
    assert (
        toys.make_vector_env(toys.make(), EnvConfig(engine="inprocess"), seed=0, num=2).engine_reason
        == "asked for"
    )


def test_wrapper_options_apply_in_every_engine_that_takes_them():
    env = toys.make_vector_env(toys.make(length=50), EnvConfig(time_limit=2), seed=0, num=2)
    rows = toys.roll(env, 3)
    assert rows[2].is_last.all() and not rows[2].is_terminal.any()
    with pytest.raises(UserError, match=r"env\.stack"):
        toys.make_vector_env("jax_catch", EnvConfig(engine="jax", stack=2), seed=0, num=2)


def test_an_environment_object_is_refused_where_several_are_needed():
    with pytest.raises(UserError, match="pass its class or a factory"):
        toys.make_vector_env(toys.Counter(), EnvConfig(engine="inprocess"), seed=0, num=2)


def test_jax_engine_refuses_a_host_environment():
    with pytest.raises(UserError, match="needs a JAX environment"):
        toys.make_vector_env(toys.make(), EnvConfig(engine="jax"), seed=0, num=2)


def test_class_and_partial_are_factories():
    for factory in (toys.Counter, functools.partial(toys.Counter, length=3)):
        env = toys.make_vector_env(factory, EnvConfig(), seed=0, num=2)
        assert env.reset(0).is_first.all()
        assert np.isfinite(env.step(toys.zeros(env)).reward).all()


def test_the_example_of_the_documentation_runs(repo, capsys):
    text = (repo / "docs/vector_environments.md").read_text()
    exec(text.split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out.startswith("inprocess - 4 environments")


def test_a_failing_step_while_measuring_is_survived_as_in_training(tmp_path):
    name, reason = engine(toys.make(fault="raise", at=3, flag=str(tmp_path / "once")))
    assert name == "inprocess" and "(measured)" in reason
    times = re.findall(r"([\d.,]+) ms", reason)
    assert len(times) == 3 and all(len(time.lstrip("0.,")) <= 2 or "." not in time for time in times), (
        "two digits"
    )
    assert reason.endswith("; it raised RuntimeError: broken at step 3 meanwhile")
    env = toys.make_vector_env(toys.make(fault="raise", at=3), EnvConfig(workers=1), seed=0, num=2)
    try:
        rows = toys.roll(env, 4)
        assert env.failures == 2 and rows[3].is_last.all()
    finally:
        env.close()


@pytest.mark.parametrize("fault", ["raise", "reset"])
def test_what_can_not_be_measured_runs_in_workers_and_says_why(fault):
    name, reason = engine(toys.make(fault=fault, at=1))
    assert name == "process"
    where = "step 1" if fault == "raise" else "reset"
    assert (
        reason
        == f"it raised RuntimeError: broken at {where} while it was measured, and workers keep failures apart"
    )


def test_an_environment_that_does_not_close_is_measured_all_the_same():
    class Stuck(toys.Counter):
        def close(self):
            raise OSError("can't close")

    assert measure_cost(Stuck, EnvConfig()).cost_s


def test_what_can_not_be_built_is_not_survived():
    class Unbuildable(toys.Counter):
        def __init__(self):
            raise OSError("built wrong")

    with pytest.raises(OSError, match="built wrong"):
        measure_cost(Unbuildable, EnvConfig())


def test_a_value_that_is_refused_while_measuring_is_survived():
    class Picture(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 1, (16, 16, 3), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros((16, 16, 3), np.float32), {}

        def step(self, action):
            return np.full((16, 16, 3), np.nan, np.float32), 0.0, False, False, {}

    cost_s, problem = measure_cost(Picture, EnvConfig())
    assert cost_s is None and problem.startswith("observation 'image' holds nan")
