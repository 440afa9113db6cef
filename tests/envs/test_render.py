import os
import subprocess
import sys

import pytest

from dreamworld.envs import render
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
