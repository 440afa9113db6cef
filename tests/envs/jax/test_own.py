"""The environment that docs/jax_environments.md shows is complete: it is checked, and steps in the vmap and fused."""

import re
import sys

import jax
import numpy as np
import pytest

from dreamworld.config import EnvConfig
from dreamworld.envs import make_env, make_vector_env
from dreamworld.envs.check import check_env
from dreamworld.envs.vector.auto import as_jax_env
from dreamworld.types import JaxEnv


@pytest.fixture
def documented(repo, tmp_path, monkeypatch):
    """The name of the documented environment, importable."""
    text = (repo / "docs" / "jax_environments.md").read_text()
    (code,) = re.findall(r"```python\n# my_jax_env.py\n(.*?)```", text, re.DOTALL)
    (tmp_path / "my_jax_env.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_jax_env", raising=False)
    return "my_jax_env:Cart"


def test_the_documented_environment_has_no_problems(documented):
    report = check_env(lambda: make_env(documented, EnvConfig(time_limit=50)), steps=120)
    assert report.problems == [], report.text()


def test_the_documented_environment_runs_as_one_vmap(documented):
    env = make_vector_env(documented, EnvConfig(time_limit=20, num=3), seed=0)
    assert env.engine == "jax"
    step, random = env.reset(0), np.random.default_rng(0)
    for _ in range(20):
        step = env.step({key: space.sample(random, 3) for key, space in env.act_space.items()})
    assert step.is_last.all() and not step.is_terminal.any()
    own = as_jax_env(documented, EnvConfig())
    assert isinstance(own, JaxEnv)
    state, _ = own.reset(jax.random.PRNGKey(0))
    assert state.shape == (2,)
