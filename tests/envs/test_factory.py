import subprocess
import sys

import numpy as np
import pytest

from dreamworld.config import EnvConfig
from dreamworld.envs import families as families_module
from dreamworld.envs import make_env, make_vector_env
from dreamworld.envs.base import Env
from dreamworld.envs.families import FAMILIES, family_names, find_family, missing_packages
from dreamworld.errors import UserError

BUILT_HERE = [
    family for family in FAMILIES if family.prefix != "memorymaze_"
]  # the soak test builds that one


@pytest.mark.parametrize("family", BUILT_HERE, ids=lambda family: family.prefix)
def test_every_family_builds_its_example(family):
    assert find_family(family.example) is family
    env = make_env(family.example)
    assert isinstance(env, Env)
    first = env.reset(0)
    random = np.random.default_rng(0)
    row = env.step({key: space.sample(random) for key, space in env.act_space.items()})
    assert first[1:4] == (0.0, True, False) and not row.is_first
    for key, space in env.obs_space.items():
        assert row.obs[key].shape == space.shape and row.obs[key].dtype == space.dtype
    env.close()


@pytest.mark.parametrize("family", BUILT_HERE, ids=lambda family: family.prefix)
def test_every_family_lists_its_names(family):
    names = family_names(family)
    assert len(names) >= 2 and len(set(names)) == len(names)
    assert all(find_family(name) is family for name in names)


def test_longer_prefixes_come_first():
    assert find_family("atari100k_pong").prefix == "atari100k_"  # type: ignore[union-attr]
    assert find_family("gym_my_package:Id-v0").prefix == "gym_"  # type: ignore[union-attr]
    assert find_family("my_package:MyEnv") is None


def test_a_missing_package_names_the_extra(monkeypatch):
    absent = [family._replace(packages=("not_installed_xyz",)) for family in FAMILIES]
    monkeypatch.setattr(families_module, "FAMILIES", tuple(absent))
    with pytest.raises(
        UserError, match=r"not_installed_xyz, which is not installed: pip install 'dreamworld\[atari\]'"
    ):
        make_env("atari_pong")
    assert missing_packages(absent[0]) == ["not_installed_xyz"]


def test_suites_without_options_refuse_them():
    with pytest.raises(
        UserError, match=r"atari_pong takes no options, got \['gray'\]; its settings are in env"
    ):
        make_env("atari_pong", gray=True)


def test_options_wrap_in_an_order_that_makes_sense():
    config = EnvConfig(
        repeat=2, time_limit=3, resize=True, gray=True, stack=2, size=(32, 48), clip_reward=1.0
    )
    env = make_env("toys:Own", config)
    assert env.obs_space["camera/front"].shape == (32, 48, 2)
    env.reset(0)
    action = {"action": np.zeros(2, np.float32), "gear": np.array(0)}
    rows = [env.step(action) for _ in range(3)]
    assert [row.is_last for row in rows] == [False, False, True]
    assert [row.reward for row in rows] == [1, 1, 1] and rows[0].log["log/reward"] == 6  # 2 + 4, then clipped
    assert rows[0].log["log/count"] == 2


def test_atari_and_dmc_repeat_once_only():
    env = make_env("atari_pong", EnvConfig(repeat=3))
    env.reset(0)
    env.step({"action": np.array(0)})
    assert env._frames == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["gym_CartPole-v1", "crafter_reward", "atari_pong", "dmc_cartpole_balance"])
def test_what_workers_import_loads_no_jax(name, repo):
    code = (
        "import sys; from dreamworld.envs import make_env;"
        f"env = make_env({name!r}); env.reset(0);"
        "print(sorted(m for m in sys.modules if m in ('jax', 'flax', 'optax', 'torch', 'tensorflow')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=repo / "tests" / "envs", capture_output=True, text=True, check=True
    )
    assert result.stdout.strip().splitlines()[-1] == "[]"


def test_environments_say_in_one_line_what_they_show_and_take():
    one = make_env("jax_catch", EnvConfig(time_limit=9))
    plain = "JaxHostEnv(shows vector: float32 (50,); takes action: 3 classes)"
    assert repr(one) == plain.replace("JaxHostEnv", "TimeLimit") + f" of {plain}"
    said = "(2 environments; shows vector: float32 (50,); takes action: 3 classes)"
    configs = {"JaxVector": EnvConfig(num=2, engine="jax"), "InProcess": EnvConfig(num=2, engine="inprocess")}
    for name, config in configs.items():
        several = make_vector_env("jax_catch", config, seed=0)
        assert repr(several) == name + said
        several.close()
