import subprocess
import sys
import time

import pytest

from dreamworld.envs.families import FAMILIES
from dreamworld.scripts import envs


def test_the_list_names_every_family_and_what_to_install(capsys, monkeypatch):
    assert envs.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for family in FAMILIES:
        (line,) = [line for line in lines if line.startswith(family.example + " ")]
        assert line.rstrip().endswith("yes") or family.install in line
    (maze,) = [line for line in lines if line.startswith("memorymaze_9x9")]
    assert maze.endswith("no: pip install 'dreamworld[memorymaze]'")
    assert any(line.startswith("my_package.my_module:MyEnv") for line in lines)


def test_names_of_a_family(capsys):
    assert envs.main(["list", "atari100k"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 26
    assert envs.main(["list", "dmcc"]) == 2
    assert "did you mean dmc" in capsys.readouterr().err
    assert envs.main(["list", "memorymaze"]) == 2
    assert "dreamworld[memorymaze]" in capsys.readouterr().err


def test_a_check_exits_with_0_when_all_is_well(capsys):
    assert envs.main(["check", "gym_CartPole-v1", "--check_steps", "50"]) == 0
    out = capsys.readouterr().out
    assert "50 steps" in out and "0 problems found" in out


def test_a_check_takes_presets_and_overrides_and_exits_with_1_on_problems(capsys, monkeypatch):
    monkeypatch.setattr("dreamworld.envs.check.END_S", 0.5)
    arguments = ["check", "crafter_reward", "--check_steps", "20", "--env.size", "84", "84"]
    assert envs.main(arguments) == 1
    assert "84x84: the encoder takes multiples of 16" in capsys.readouterr().out
    assert envs.main(["check", "atari_pong", "--configs", "atari", "--check_steps", "20"]) == 0
    assert "96x96x1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["check"], "give the name of an environment"),
        (["check", "atari_pongg"], "did you mean atari_pong"),
        (["check", "atari_pong", "--env.sise", "3"], "env.size"),
        (["check", "atari_pong", "--steps", "3"], "did you mean --check_steps?"),
        (["check", "atari_pong" + "x" * 9000], "(9,013 characters)"),
        (["chekc", "x"], "not understood"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(capsys, arguments, text):
    assert envs.main(arguments) == 2
    error = capsys.readouterr().err
    assert text in error and len(error.splitlines()) == 1


def test_listing_loads_nothing_heavy():
    code = (
        "import sys; from dreamworld.scripts import envs; envs.main([]);"
        "print(sorted(set(sys.modules) & {'jax', 'gymnasium', 'dm_control', 'ale_py', 'crafter', 'mujoco'}))"
    )
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert time.perf_counter() - start < 5  # 0.5 s on an idle machine
