import importlib.metadata
import os
import subprocess
import sys

import gymnasium
import pytest

from dreamworld.config import EnvConfig
from dreamworld.envs import make_env, make_vector_env, render
from dreamworld.errors import UserError


@pytest.fixture
def clean(monkeypatch):
    for key in ("MUJOCO_GL", "DREAMWORLD_GL"):
        monkeypatch.delenv(key, raising=False)
    return monkeypatch


def fake(monkeypatch, working):
    monkeypatch.setattr(render, "probe", lambda backend: "" if backend in working else f"no {backend} here")


def test_egl_works_here():
    assert render.probe("egl") == ""


def test_a_backend_that_does_not_work_says_why():
    assert render.probe("osmesa") == "" or "Error" in render.probe("osmesa")
    assert "invalid value for environment variable MUJOCO_GL: nonsense" in render.probe("nonsense")


def test_egl_comes_before_osmesa(clean):
    fake(clean, {"egl", "osmesa"})
    assert render.choose_backend(pixels=True) == "egl" == os.environ["MUJOCO_GL"]


def test_osmesa_is_the_second_choice(clean):
    fake(clean, {"osmesa"})
    assert render.choose_backend(pixels=True) == "osmesa"


def test_without_a_backend_pixels_are_an_error_that_says_what_to_install(clean):
    fake(clean, set())
    with pytest.raises(UserError, match=r"apt-get install libegl1.*libosmesa6.*egl: no egl here") as error:
        render.choose_backend(pixels=True)
    assert "\n" not in str(error.value)


def test_without_a_backend_vectors_turn_rendering_off(clean):
    fake(clean, set())
    assert render.choose_backend(pixels=False) == "disable" == os.environ["MUJOCO_GL"]


def test_a_value_that_is_set_is_kept_and_tried_before_it_is_needed(clean):
    fake(clean, {"egl"})
    clean.setenv("MUJOCO_GL", "osmesa")
    assert render.choose_backend(pixels=False) == "osmesa"
    with pytest.raises(UserError, match="MUJOCO_GL=osmesa does not work: no osmesa here"):
        render.choose_backend(pixels=True)
    clean.setenv("MUJOCO_GL", "disable")
    with pytest.raises(UserError, match="MUJOCO_GL=disable turns rendering off"):
        render.choose_backend(pixels=True)


def test_children_do_not_probe_again(clean):
    fake(clean, {"egl"})
    render.choose_backend(pixels=True)
    clean.setattr(render, "probe", lambda backend: pytest.fail("probed again"))
    assert render.choose_backend(pixels=True) == "egl"


def test_a_fresh_process_renders_without_any_variable_set():
    env = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "DREAMWORLD_GL")}
    code = (
        "from dreamworld.config import DMCConfig, EnvConfig; from dreamworld.envs import make_env;"
        "env = make_env('dmc_cartpole_balance', EnvConfig(dmc=DMCConfig(obs='vision')));"
        "print(env.reset(0).obs['image'].std() > 10)"
    )
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert result.stdout.strip() == "True", result.stderr


@pytest.mark.parametrize("platform", ["darwin", "win32"])
@pytest.mark.parametrize("pixels", [True, False])
def test_systems_with_a_backend_of_their_own_are_left_alone(clean, platform, pixels):
    clean.setattr(render, "probe", lambda backend: pytest.fail("probed"))
    clean.setattr(sys, "platform", platform)
    assert render.choose_backend(pixels) == {"darwin": "cgl", "win32": "wgl"}[platform]
    render.prepare()
    assert "MUJOCO_GL" not in os.environ
    assert render.backends() == {}


def test_make_exports_no_backend(repo):
    assert "MUJOCO_GL" not in (repo / "Makefile").read_text()


MODULE = """
import os
import sys
sys.path.insert(0, {tests!r})
import toys
from gymnasium.envs.registration import register
SEEN = os.environ.get("MUJOCO_GL")
class Env(toys.Counter):
    def __init__(self, **options):
        super().__init__()
        assert SEEN == {wanted!r}, SEEN
if "Seen-v0" not in __import__("gymnasium").registry:
    register("Seen-v0", Env)
"""


@pytest.fixture
def module(clean, tmp_path):
    """`module(wanted)`: a module of the user's that asserts which backend was chosen before its import."""
    fake(clean, {"egl"})
    for key in ("DISPLAY", "WAYLAND_DISPLAY"):
        clean.delenv(key, raising=False)
    clean.syspath_prepend(tmp_path)

    def write(wanted):
        (tmp_path / "seen_env.py").write_text(MODULE.format(tests=os.path.dirname(__file__), wanted=wanted))
        clean.delitem(sys.modules, "seen_env", raising=False)
        gymnasium.registry.pop("Seen-v0", None)

    return write


@pytest.mark.parametrize("name", ["seen_env:Env", "gym_seen_env:Seen-v0"])
def test_a_backend_is_chosen_before_a_users_module_is_imported(module, name):
    module("egl")
    make_env(name).close()


def test_a_factory_that_imports_when_it_is_called_finds_the_choice(module):
    module("egl")
    make_env(lambda: importlib.import_module("seen_env").Env()).close()


def test_a_users_own_choice_and_a_display_are_respected(module, clean):
    clean.setenv("MUJOCO_GL", "osmesa")
    module("osmesa")
    make_env("seen_env:Env").close()
    clean.delenv("MUJOCO_GL")
    clean.setenv("DISPLAY", ":0")
    module(None)
    make_env("seen_env:Env").close()


def test_workers_find_the_choice_though_they_import_the_factory_first(module):
    module("egl")
    os.environ["MUJOCO_GL"] = "egl"
    make = importlib.import_module("seen_env").Env
    del os.environ["MUJOCO_GL"]
    env = make_vector_env(make, EnvConfig(num=1, engine="process", workers=1), seed=0)
    env.close()


def test_entry_points_of_packages_are_loaded_after_the_choice(module, clean):
    module("egl")
    point = importlib.metadata.EntryPoint("seen", "seen_env:Env", "dreamworld.envs")
    clean.setattr(importlib.metadata, "entry_points", lambda group: [point])
    make_env("seen").close()


def test_without_mujoco_nothing_is_chosen(module, clean):
    module(None)
    clean.setattr(render, "has_mujoco", lambda: False)
    make_env("seen_env:Env").close()
