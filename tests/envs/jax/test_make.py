import dataclasses
import subprocess
import sys

import pytest

from dreamworld.envs.jax import JAX_ENVS, make_jax_env
from dreamworld.envs.jax.darkroom import DarkRoom
from dreamworld.errors import UserError
from dreamworld.types import JaxEnv


@pytest.mark.parametrize("name", JAX_ENVS)
def test_every_name_builds_with_and_without_prefix(name):
    env = make_jax_env(name)
    assert isinstance(env, JaxEnv)
    assert env == make_jax_env(name.removeprefix("jax_"))
    assert hash(env) == hash(make_jax_env(name))
    assert dataclasses.is_dataclass(env)


def test_the_noisy_tv_is_the_only_difference_of_its_variant():
    plain, noisy = DarkRoom(), DarkRoom(noisy_tv=True)
    assert (plain, noisy) == (make_jax_env("jax_darkroom"), make_jax_env("jax_darkroom_noisytv"))


def test_options_reach_the_environment():
    assert make_jax_env("jax_balls", n=5, size=64).obs_space["image"].shape == (64, 64, 3)
    assert make_jax_env("jax_balls", n=5, obs="vector").obs_space["vector"].shape == (20,)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("jax_pong", {}, "unknown JAX environment 'jax_pong': choose from jax_catch, jax_cartpole"),
        ("jax_balls", {"balls": 3}, "jax_balls has no option 'balls': choose from n, obs, action"),
        ("jax_darkroom", {"noisy_tv": True}, "jax_darkroom has no option 'noisy_tv'"),
        ("jax_balls", {"n": 0}, "jax_balls: n must be a whole number from 1 to 16, got 0"),
        (
            "jax_balls",
            {"n": 9, "radius": 0.2},
            "jax_balls: radius must be a number from 0.01 to 0.15, got 0.2",
        ),
        ("jax_balls", {"size": 40}, "jax_balls: size must be a multiple of 16 from 16 to 128 pixels, got 40"),
        ("jax_catch", {"obs": "pixels"}, "jax_catch: obs must be one of vector, image, got 'pixels'"),
        ("jax_dodge", {"density": "high"}, "jax_dodge: density must be a number from 0 to 1, got 'high'"),
        ("jax_cartpole", {"time_limit": 0}, "jax_cartpole: time_limit must be a whole number from 1"),
    ],
)
def test_bad_input_is_one_clear_line(name, options, text):
    with pytest.raises(UserError) as caught:
        make_jax_env(name, **options)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_listing_the_names_loads_no_jax():
    code = (
        "import sys, dreamworld.envs.jax as e; assert len(e.JAX_ENVS) == 7; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_documented_example_runs(repo, capsys):
    text = (repo / "docs" / "jax_environments.md").read_text()
    exec(text.split("```python")[1].split("```")[0], {})
    assert "(64, 64, 3) 0.0 False False" in capsys.readouterr().out
