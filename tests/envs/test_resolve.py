"""Names, packages and options are looked up without making an environment, as making one would judge them."""

import subprocess
import sys

import pytest

from dreamworld.config import EnvConfig
from dreamworld.envs import families, make_env
from dreamworld.envs.families import FAMILIES
from dreamworld.envs.resolve import CHECKS, resolve, resolve_apart
from dreamworld.errors import UserError


def test_every_family_is_looked_up():
    assert set(CHECKS) == {family.prefix for family in FAMILIES}


@pytest.mark.parametrize(
    "name",
    [
        *(family.example for family in FAMILIES if family.prefix != "memorymaze_"),
        "atari_james_bond",
        "bsuite_catch/3",
        "bsuite_catch",
        "dmc_cup_catch",
        "minigrid_empty_5x5",
        "gym_CartPole-v1",
    ],
)
def test_what_can_be_made_is_accepted(name):
    resolve(name, EnvConfig())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nonsense", ""),
        ("atari_pongg", ""),
        ("atari100k_zaxxon", ""),
        ("dmc_walker_wlak", ""),
        ("crafter_rewrad", ""),
        ("gym_CartPol-v1", ""),
        ("gym_CartPole-v1", "gravty=1"),
        ("gym_no_such_module:X-v0", ""),
        ("minigrid_Emty-5x5", ""),
        ("bsuite_catch/99", ""),
        ("bsuite_cath", ""),
        ("jax_cath", ""),
        ("jax_catch", "rows=many"),
        ("jax_catch", "rws=3"),
        ("atari_pong", "gray=true"),
        ("no_such_module:Env", ""),
        ("os:system", "command=ls"),
        ("os:nothing", ""),
        ("a,b", ""),
    ],
)
def test_what_can_not_be_made_is_refused_as_making_it_would_be(name, options):
    config = EnvConfig(options=options)
    with pytest.raises(UserError):
        make_env(name, config)
    with pytest.raises(UserError) as caught:
        resolve(name, config)
    assert "\n" not in str(caught.value)


def test_a_missing_package_names_the_extra(monkeypatch):
    absent = [family._replace(packages=("not_installed_xyz",)) for family in FAMILIES]
    monkeypatch.setattr(families, "FAMILIES", tuple(absent))
    for family in absent:
        with pytest.raises(UserError, match="not_installed_xyz, which is not installed: pip install"):
            resolve(family.example, EnvConfig())


def test_many_are_looked_up_in_one_other_process(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "print('noise')\nclass Env:\n    def __init__(self, size): pass\n"
        "    def step(self): pass\n    def reset(self): pass\n"
    )
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "deadly.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.chdir(tmp_path)
    good = ("mine:Env", EnvConfig(options="size=3"))
    found = resolve_apart(
        [good, ("mine:Env", EnvConfig()), ("broken:Env", EnvConfig()), ("crafter_x", EnvConfig())]
    )
    assert [name for name, _ in found] == ["mine:Env", "broken:Env", "crafter_x"]
    assert "size" in found[0][1] and "ZeroDivisionError" in found[1][1] and "crafter_reward" in found[2][1]
    found = resolve_apart([good, ("deadly:Env", EnvConfig()), good])
    assert found == [("deadly:Env", "deadly:Env: importing it ended the process: exit status 3")]


def test_names_of_most_families_load_no_jax():
    code = """
import sys
from dreamworld.config import EnvConfig
from dreamworld.envs.resolve import resolve
for name in ("gym_CartPole-v1", "crafter_reward", "atari_pong"):
    resolve(name, EnvConfig())
print("jax" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
