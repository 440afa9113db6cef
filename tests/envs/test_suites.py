import os
import subprocess
import sys

import numpy as np
import pytest

from dreamworld.config import EnvConfig
from dreamworld.envs import make_env
from dreamworld.errors import UserError


def step(env):
    random = np.random.default_rng(0)
    return env.step({key: space.sample(random) for key, space in env.act_space.items()})


@pytest.mark.parametrize("name", ["Empty-5x5", "empty_5x5", "MiniGrid-Empty-5x5-v0", "BabyAI-GoToObj-v0"])
def test_minigrid_shows_pixels_and_direction(name):
    env = make_env(f"minigrid_{name}", EnvConfig(size=(48, 64)))
    assert set(env.reset(0).obs) == {"image", "direction"}
    row = step(env)
    assert row.obs["image"].shape == env.obs_space["image"].shape == (48, 64, 3)
    assert env.obs_space["direction"].classes == 4
    frame = env.render()
    assert frame is not None and frame.ndim == 3


@pytest.mark.parametrize("name", ["catch", "catch_0", "deep_sea_3", "cartpole_swingup_1", "memory_len_2"])
def test_bsuite_names_have_a_number_or_take_the_first(name):
    env = make_env(f"bsuite_{name}")
    env.reset(0)
    assert set(step(env).obs) == {"vector"}


def test_bsuite_seeds_reproduce():
    env = make_env("bsuite_catch_0")
    starts = [env.reset(seed).obs["vector"].tolist() for seed in (1, None, None, 1, None, None)]
    assert starts[:3] == starts[3:]
    assert len({str(start) for start in starts}) > 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("minigrid_Emty-5x5", "did you mean minigrid_Empty-5x5"),
        ("bsuite_catch_77", "did you mean bsuite_catch_"),
        ("bsuite_cach", "did you mean bsuite_catch"),
        ("memorymaze_9x9", "memorymaze_9x9 needs memory_maze, gym, which is not installed"),
    ],
)
def test_names_that_can_not_be_built_say_why(name, text):
    with pytest.raises(UserError, match=text):
        make_env(name)


MAZE = """
import numpy as np
from dreamworld.envs import make_env
from dreamworld.envs.check import check_env
env = make_env("memorymaze_9x9")
assert env.reset(1).obs["image"].shape == (64, 64, 3)
report = check_env(lambda: make_env("memorymaze_9x9"), steps=50)
assert not report.problems, report.problems
print("steps", report.text())
"""


@pytest.mark.soak
def test_memory_maze_in_an_environment_of_its_own(tmp_path):
    """It needs the unmaintained gym, which changes what other packages (crafter) do when it is present."""
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([*install, "memory-maze", "gym", "gym-notices"], check=True)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", MAZE], env=env, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    assert "steps" in result.stdout
